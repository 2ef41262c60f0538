"""`complete`: every route, how sure it is, files; and what is refused."""

import itertools
import json
import re
from dataclasses import replace

import gemmi
import numpy as np
import pytest
import torch

from rephase.crystal.cell import Cell
from rephase.crystal.map_files import read_density
from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.simulation import simulate_reflections
from rephase.crystal.reflections.statistics import absolute_amplitude, unique_hkl
from rephase.crystal.symmetry import cell_of, find_symmetry, rows_of
from rephase.errors import ConfigError, GridError, ReflectionError, SymmetryError, WeightsError
from rephase.labs.completion.complete import complete
from rephase.labs.completion.grids import MonoclinicGrid
from rephase.labs.completion.pictures import completion_overview
from rephase.random_crystals.crystals import RandomCrystalOptions, random_crystals
from rephase.solvers.solution import Solution

D_CUT, D_MIN = 1.8, 1.2  # Å, of the small networks


def crystals(group, n, n_atoms=(5, 8), *, fit=True):
    """Random crystals, those that fit the grid of the small networks first, or those that do not."""
    options = RandomCrystalOptions(space_groups=(group,), n_atoms=n_atoms)
    made = random_crystals(4 * n, generator=torch.Generator().manual_seed(0), options=options, dtype=torch.float64)
    fits = MonoclinicGrid((16, 12, 14)).holds(made.lattice, D_MIN)
    return [made.crystal(int(i)) for i in torch.argsort(fits != fit, stable=True)[:n]]


@pytest.fixture(scope="module")
def crystal():
    """The most cubic of some, because the networks were trained on few cells."""
    axes = lambda crystal: crystal.cell.parameters[:3]  # noqa: E731
    return min(crystals("P 1 21/c 1", 6), key=lambda crystal: max(axes(crystal)) / min(axes(crystal)))


@pytest.fixture(scope="module")
def sample(crystal):
    """Everything, its true F, and what is measured."""
    everything, truth = simulate_reflections(crystal, D_MIN)
    return everything, truth, everything.cut(D_CUT)


@pytest.fixture(scope="module")
def by_atoms():
    """A crystal to 0.8 Å from its data to 1.2 Å, and the true amplitudes."""
    everything, truth = simulate_reflections(crystals("P 1 21/c 1", 1, (10, 14))[0], 0.8)
    return complete(everything.cut(1.2), effort=0.1), truth


@pytest.fixture(scope="module")
def routes(sample, unet_weights):
    return {model: complete(sample[2], model=model, d_min=D_MIN) for model in ("wilson", str(unet_weights))}


def with_true_phases(data, truth):
    phi = np.angle(truth.F[rows_of(data.hkl, truth.hkl)])
    return Solution(data, absolute_amplitude(data), phi, np.ones(len(phi)), 0.0, np.inf, 1, 1, "solved")


def within_sigma(completion, truth):
    true = np.abs(truth.F[rows_of(completion.hkl, truth.hkl)])
    return (np.abs(completion.amplitude - true) <= completion.sigma)[~completion.is_observed]


def r_missing(completion, truth):
    true, missing = np.abs(truth.F[rows_of(completion.hkl, truth.hkl)]), ~completion.is_observed
    return np.abs(completion.amplitude - true)[missing].sum() / true[missing].sum()


def test_every_reflection_is_there_and_the_measured_ones_are_the_data(routes, sample):
    everything, _, data = sample
    for completion in routes.values():
        assert sorted(map(tuple, completion.hkl)) == sorted(map(tuple, everything.hkl))
        assert completion.is_observed.sum() == len(data)
        own = data.amplitudes()
        rows = rows_of(data.hkl, completion.hkl)
        assert completion.amplitude[rows] == pytest.approx(own.amplitude, rel=1e-9)
        assert completion.sigma[rows] == pytest.approx(own.sigma, rel=1e-9)
        assert (completion.amplitude > 0).all()
        assert (completion.sigma > 0).all()
        assert completion.phi is completion.fom is None
        assert not completion.outside


def test_gaps_are_filled_as_well():
    r_factors = []
    for crystal in crystals("P 1 21/c 1", 6):
        data, truth = simulate_reflections(crystal, D_CUT)
        completion = complete(data.take(np.arange(len(data)) % 10 > 0), model="wilson", d_min=D_CUT)
        assert (~completion.is_observed).sum() == -(-len(data) // 10)
        r_factors.append(r_missing(completion, truth))
    assert np.mean(r_factors) < 0.8


def test_scale_of_the_data_is_the_scale_of_the_answer(sample, unet_weights, routes):
    data = replace(sample[2], intensity=1e4 * sample[2].intensity, sigma=1e4 * sample[2].sigma)
    for model, completion in routes.items():
        again = complete(data, model=model, d_min=D_MIN)
        assert again.amplitude == pytest.approx(100 * completion.amplitude, rel=1e-3)
        assert again.sigma == pytest.approx(100 * completion.sigma, rel=1e-3)


def test_wilson_is_as_sure_as_it_says():
    shares = []
    for crystal in itertools.chain(crystals("P 1 21/c 1", 6, (8, 25)), crystals("C 1 2 1", 6, (8, 25))):
        everything, truth = simulate_reflections(crystal, 0.8)
        shares.append(within_sigma(complete(everything.cut(1.5), model="wilson"), truth).mean())
    assert 0.60 < np.mean(shares) < 0.76


def test_atoms_know_far_more_than_wilson_and_how_much(by_atoms):
    completion, truth = by_atoms
    wilson = complete(completion.reflections, model="wilson")
    assert r_missing(completion, truth) < 0.3 * r_missing(wilson, truth)
    assert 0.5 < within_sigma(completion, truth).mean() < 0.9
    assert completion.summary()["relative_sigma"] < 0.3 * wilson.summary()["relative_sigma"]
    assert completion.summary()["verdict"] == "solved"


def test_figures_of_merit_are_mean_cosines_of_the_phase_errors():
    """On the mean of some crystals: a single one may be better or worse than it should be by a tenth."""
    found = []
    for crystal in crystals("P 1 21/c 1", 4, (10, 14)):
        everything, truth = simulate_reflections(crystal, 0.8)
        data = everything.cut(1.5)
        completion = complete(data, solution=with_true_phases(data, truth), effort=0.1)
        true = truth.F[rows_of(completion.hkl, truth.hkl)]
        for part in (completion.is_observed, ~completion.is_observed):
            found.append((completion.fom[part].mean(), np.cos(completion.phi - np.angle(true))[part].mean()))
    fom, cosine = np.reshape(found, (-1, 2, 2)).mean(0).T
    assert fom == pytest.approx(cosine, abs=0.08)


def test_figures_of_merit_are_high_where_phases_are_sure(by_atoms):
    completion, _ = by_atoms
    assert ((completion.fom >= 0) & (completion.fom <= 1)).all()
    assert completion.fom[completion.is_observed].mean() > 0.9
    strong = completion.amplitude > np.median(completion.amplitude)
    for part in (completion.is_observed, ~completion.is_observed):
        assert completion.fom[part & strong].mean() > completion.fom[part & ~strong].mean() + 0.02


def test_the_map_of_all_is_sharper(by_atoms):
    completion, _ = by_atoms
    before, after = completion.maps
    assert before.shape == after.shape
    assert after.max() > 1.3 * before.max()
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.7


@pytest.mark.parametrize("order", [(0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
def test_a_network_takes_other_settings(sample, routes, unet_weights, order):
    """The axes in any order: the reflections keep their amplitudes."""
    data, basis = sample[2], np.eye(3, dtype=int)[:, list(order)]
    basis = basis * round(np.linalg.det(basis))
    cell = cell_of(data.cell.orthogonalisation @ basis)
    group = find_symmetry(data.group.in_basis(basis).triplets)
    moved = Reflections(data.hkl @ basis, data.intensity, data.sigma, cell, group)
    found, expected = complete(moved, model=str(unet_weights), d_min=D_MIN), routes[str(unet_weights)]
    rows = rows_of(group.representative(expected.hkl @ basis), found.hkl)
    assert (rows >= 0).all()
    assert found.amplitude[rows] == pytest.approx(expected.amplitude, rel=1e-3)
    assert found.summary()["axes"] == "for the network: P 1 21/c 1"


def test_what_a_network_was_not_trained_for_is_said(sample, unet_weights):
    _, _, data = sample
    path = str(unet_weights)
    holey = complete(data.take(np.arange(len(data)) % 5 > 0), model=path, d_min=D_MIN)
    said = re.search(r"(\d+)% of the reflections to 1\.8\d* Å missing", holey.summary()["outside_training"])
    assert 16 <= int(said[1]) <= 24
    assert "Å missing (trained on 0%)" in holey.summary()["outside_training"]
    coarse = complete(data.cut(2.2), model=path, d_min=D_MIN)
    assert (
        f"d_min of the data = {coarse.reflections.d_min:.4g} Å (trained on 1.8–1.8)"
        in coarse.summary()["outside_training"]
    )
    a, b, c, _, beta, _ = data.cell.parameters
    small = replace(data, cell=Cell(0.7 * a, 0.7 * b, 0.7 * c, 90, beta, 90))
    assert "volume = " in complete(small.cut(1.3), model=path, d_min=D_MIN).summary()["outside_training"]
    other, _ = simulate_reflections(crystals("P 1 21 1", 1)[0], D_CUT)
    assert "space group P 1 21 1 (trained on P 1 21/c 1, C 1 2 1)" in complete(other, model=path, d_min=D_MIN).outside


def test_files(by_atoms, routes, tmp_path):
    completion, _ = by_atoms
    completion.write(tmp_path)
    mtz = gemmi.read_mtz_file(str(tmp_path / "completed.mtz"))
    assert mtz.column_labels() == ["H", "K", "L", "F", "SIGF", "FLAG", "PHI", "FOM"]
    assert mtz.column_with_label("FLAG").array.sum() == completion.is_observed.sum()
    assert mtz.column_with_label("F").array == pytest.approx(completion.amplitude, rel=1e-6)
    assert mtz.column_with_label("SIGF").array == pytest.approx(completion.sigma, rel=1e-6)
    for name, density in zip(("before", "after"), completion.maps):
        found = read_density(tmp_path / f"density_{name}.ccp4")
        assert np.abs(found.density - density).max() < 1e-5 * density.max()
    assert json.loads((tmp_path / "completion.json").read_text()) == completion.summary()
    routes["wilson"].write(tmp_path / "wilson")
    assert gemmi.read_mtz_file(str(tmp_path / "wilson" / "completed.mtz")).column_labels()[3:] == ["F", "SIGF", "FLAG"]


def test_patterson_maps_where_no_phases_are_known(routes, tmp_path):
    completion = routes["wilson"]
    assert completion.kind_of_map == "patterson"
    completion.write(tmp_path)
    for name in ("before", "after"):
        density = read_density(tmp_path / f"patterson_{name}.ccp4").density
        assert density.argmax() == 0
        mate = density
        for axis in range(3):
            mate = np.roll(np.flip(mate, axis), 1, axis)
        assert np.abs(density - mate).max() < 1e-4 * density.max()


def test_the_picture_shows_amplitudes_and_both_maps(by_atoms, routes):
    for completion in (by_atoms[0], routes["wilson"]):
        axes = completion_overview(completion).axes
        assert [ax.get_title() for ax in axes[1:3]] == [
            f"{completion.kind_of_map}, {w}" for w in ("measured", "completed")
        ]
        assert axes[3].get_ylabel().endswith("Å³)")  # of the colour bar
        assert [len(line.get_xdata()) for line in axes[0].lines[:2]] == [
            completion.is_observed.sum(),
            (~completion.is_observed).sum(),
        ]


def test_a_map_without_any_trust_is_empty_and_drawn(by_atoms):
    completion = replace(by_atoms[0], fom=np.zeros(len(by_atoms[0].hkl)))
    assert all((values == 0).all() for values in completion.maps)
    completion_overview(completion).canvas.draw()


def test_a_group_without_a_space_group_and_wrong_numbers_are_refused(sample):
    _, truth, data = sample
    with pytest.raises(ReflectionError, match="no space group; give space_group="):
        complete(replace(data, symmetry=None))
    with pytest.raises(ReflectionError, match="were measured; give a smaller d_min"):
        complete(data, model="wilson", d_min=D_CUT)
    with pytest.raises(ConfigError, match=r"d_min = 0\.1: expected at least 0\.4 Å"):
        complete(data, d_min=0.1)
    with pytest.raises(ConfigError, match="did you mean 'wilson'"):
        complete(data, model="wilsn")
    with pytest.raises(ConfigError, match="effort"):
        complete(data, effort=0)
    with pytest.raises(ReflectionError, match="give the solution that `solve` returns for these data"):
        complete(data.take(np.arange(len(data)) > 0), d_min=D_MIN, solution=with_true_phases(data, truth))


def test_what_a_network_cannot_do_is_refused(sample, unet_weights):
    everything, _, data = sample
    path = str(unet_weights)
    with pytest.raises(WeightsError, match=r"d_min = 0\.8 Å: the weights .* were trained to 1\.2 Å"):
        complete(data, model=path)
    triclinic, _ = simulate_reflections(crystals("P -1", 1)[0], D_CUT)
    with pytest.raises(SymmetryError, match="expected a monoclinic space group"):
        complete(triclinic, model=path, d_min=D_MIN)
    orthorhombic, _ = simulate_reflections(crystals("P 21 21 21", 1)[0], D_CUT)
    with pytest.raises(SymmetryError, match="expected a monoclinic space group"):
        complete(orthorhombic, model=path, d_min=D_MIN)
    large, _ = simulate_reflections(crystals("P 1 21/c 1", 1, (24, 25), fit=False)[0], 2.0)
    with pytest.raises(GridError, match=r"ends at \(7, 11, 13\); a grid \(\d+, \d+, \d+\) would do"):
        complete(large, model=path, d_min=D_MIN)
    with pytest.raises(ReflectionError, match="leaves no reflection"):  # none on the grid
        complete(everything.take(everything.d_hkl < 1.3), model=path, d_min=1.31)
    cell, group = Cell(8.3, 13.0, 15.4, 90, 95, 90), find_symmetry("P 1 21/c 1")
    hkl = unique_hkl(cell, group, 3.6)
    coarse = Reflections(hkl, np.full(len(hkl), 100.0), np.ones(len(hkl)), cell, group)
    with pytest.raises(ReflectionError, match=r"0 reflections with d below 3\.5 Å: networks need at least 20"):
        complete(coarse, model=path, d_min=D_MIN)
