"""Statistics of computed crystals, whose scale, B and |E| are known, and of the two measured sets."""

import numpy as np
import pytest

from rephase.crystal.cell import Cell
from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.files import read_reflections
from rephase.crystal.reflections.shell_table import d_min_supported, shell_table
from rephase.crystal.reflections.statistics import normalise, unique_hkl, wilson
from rephase.crystal.shells import shell_index, shell_limits, smooth_mean
from rephase.crystal.structure_factors import structure_factors
from rephase.crystal.structures import Atoms, Crystal
from rephase.crystal.symmetry import find_symmetry
from rephase.errors import ReflectionError

CELL, B_ISO, SCALE = Cell(11.0, 12.0, 13.0), 3.0, 7.0
COMPOSITION = {"C": 64.0, "O": 24.0}


def merged_data(symbol, d_min=0.85, noise=1e-3, seed=0):
    """Random carbon and oxygen atoms, all with B = 3 Å^2, repeated by the group; intensities times 7."""
    group, rng = find_symmetry(symbol), np.random.default_rng(seed)
    n_sites = round(88 / len(group.triplets))
    elements = np.array(["C"] * round(n_sites * 64 / 88) + ["O"] * (n_sites - round(n_sites * 64 / 88)))
    sites = rng.random((n_sites, 3))
    xyz = ((np.einsum("oij,aj->aoi", group.rotations, sites) + group.translations) % 1.0).reshape(-1, 3)
    elements = tuple(np.repeat(elements, len(group.triplets)).tolist())
    n = len(elements)
    atoms = Atoms(elements, elements, (0,) * n, xyz, np.ones(n), np.full(n, B_ISO / (8 * np.pi**2)))
    hkl = unique_hkl(CELL, group, d_min)
    F = structure_factors(Crystal("random", CELL, symbol, atoms, atoms), hkl, energy_kev=17.44)
    intensity, sigma = SCALE * np.abs(F) ** 2, noise * SCALE * np.mean(np.abs(F) ** 2)
    measured = intensity + rng.normal(size=len(hkl)) * sigma
    return Reflections(hkl, measured, np.full(len(hkl), sigma), CELL, group)


@pytest.mark.parametrize("symbol", ["P 1", "P -1", "P 21 21 21", "P 1 21/c 1", "C 1 2/c 1", "P n a 21", "I 1 2 1"])
def test_wilson_finds_scale_and_b(symbol):
    found = [wilson(merged_data(symbol, seed=seed).merge().reflections, COMPOSITION) for seed in range(5)]
    assert np.mean([one.b_iso for one in found]) == pytest.approx(B_ISO, abs=0.25)
    assert np.exp(np.mean(np.log([one.scale for one in found]))) == pytest.approx(SCALE, rel=0.12)
    assert (found[0].table["n"] >= 30).all()


def test_wilson_without_a_composition_assumes_an_organic_crystal():
    found = wilson(merged_data("P 21 21 21").merge().reflections)
    assert found.b_iso == pytest.approx(B_ISO, abs=0.6)
    assert found.scale == pytest.approx(SCALE, rel=0.5)


@pytest.mark.parametrize(
    ("symbol", "expected"),
    [("P -1", 0.968), ("P 1 21/c 1", 0.968), ("C 1 2/c 1", 0.968), ("P 1", 0.736), ("P 21", 0.736)],
)
def test_normalised_amplitudes_follow_wilsons_statistics(symbol, expected):
    """<|E^2 - 1|> of general reflections is 0.968 with a centre and 0.736 without (Wilson 1949)."""
    means = []
    for seed in range(5):
        data = merged_data(symbol, seed=seed)
        E = normalise(data)
        general = data.group.is_centric(data.hkl) == (expected > 0.9)
        means.append(np.abs(E[general] ** 2 - 1).mean())
        assert (E**2).mean() == pytest.approx(1, abs=1e-3)
    assert np.mean(means) == pytest.approx(expected, abs=0.035)


def test_normalised_amplitudes_have_mean_one_in_every_shell():
    data = merged_data("P 21 21 21")
    squared = normalise(data) ** 2
    limits = shell_limits(data.d_hkl.max(), data.d_min, 5)
    shell = shell_index(data.d_hkl, limits)
    means = [squared[shell == i].mean() for i in range(5)]
    assert means == pytest.approx(np.ones(5), abs=0.08)


def test_epsilon_is_taken_off():
    """Axial reflections of P 2 2 2 have twice the mean intensity, their |E|^2 has not."""
    E2, axial = [], []
    for seed in range(12):
        data = merged_data("P 2 2 2", seed=seed)
        E2.append(normalise(data) ** 2)
        axial.append(data.group.epsilon(data.hkl) > 1)
    assert np.concatenate(E2)[np.concatenate(axial)].mean() == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize(
    ("symbol", "cell"),
    [
        ("P 1", CELL),
        ("P 21/c", CELL),
        ("F m -3 m", Cell(8, 8, 8)),
        ("C 2/c", Cell(20, 6, 9, 90, 110, 90)),
        ("P 31", Cell(9, 9, 9, 90, 90, 120)),
    ],
)
def test_unique_reflections_stand_for_the_whole_sphere(symbol, cell):
    group, d_min = find_symmetry(symbol), 1.3
    unique = unique_hkl(cell, group, d_min)
    cube = np.indices((41, 41, 41)).reshape(3, -1).T - 20
    cube = cube[(cube != 0).any(1)]
    n_sphere = ((cell.d_spacing(cube) >= d_min) & ~group.is_absent(cube)).sum()
    assert group.multiplicity(unique).sum() == n_sphere


def test_shell_table_of_complete_data():
    data = merged_data("P 21 21 21")
    hkl, _ = data.group.expand(data.hkl, data.intensity)
    lookup = {tuple(h): i for i, h in enumerate(data.hkl.tolist())}
    index = np.array([lookup[tuple(h)] for h in data.group.representative(hkl).tolist()])
    signs = np.random.default_rng(0).choice([-1, 1], len(index))
    intensity = data.intensity[index] * (1 + 0.05 * signs)
    merged = Reflections(hkl, intensity, np.full(len(hkl), data.sigma[0]), CELL, data.group).merge()
    table = shell_table(merged, 6)
    assert table["completeness"].tolist() == [1.0] * 6
    assert table["n"].sum() == table["n_possible"].sum() == len(data)
    assert table["redundancy"].mean() == pytest.approx(len(hkl) / len(data), rel=0.1)
    assert table["r_int"].mean() == pytest.approx(merged.r_int, rel=0.1)
    assert 0.03 < merged.r_int < 0.05
    assert table["d_min"].iloc[-1] == pytest.approx(data.d_min)
    assert (table["d_max"].to_numpy()[1:] == table["d_min"].to_numpy()[:-1]).all()
    assert table["e2_minus_1"].mean() == pytest.approx(0.76, abs=0.05)


def test_shells_count_what_is_missing():
    data = merged_data("P 1 21/c 1")
    rng = np.random.default_rng(0)
    kept = (data.d_hkl < 5) & (rng.random(len(data)) < np.where(data.d_hkl < 1.0, 0.3, 0.9))
    table = shell_table(data.take(kept).merge(), 8)
    assert table["n_possible"].sum() == len(unique_hkl(CELL, data.group, data.take(kept).d_min))
    assert table["completeness"].iloc[-1] == pytest.approx(0.3, abs=0.05)
    assert table["completeness"].iloc[2] == pytest.approx(0.9, abs=0.06)


def test_supported_resolution_and_why():
    whole = merged_data("P 1 21/c 1")
    found = d_min_supported(whole.merge())
    assert (found.d_min, found.reason) == (whole.d_min, "the data are strong and complete to their limit")
    weak = Reflections(whole.hkl, whole.intensity, np.where(whole.d_hkl < 1.0, 1e5, 1.0), CELL, whole.group)
    found = d_min_supported(weak.merge())
    assert found.d_min == pytest.approx(1.0, abs=0.03)
    assert "<I/σ> = 0." in found.reason
    sparse = whole.take((whole.d_hkl > 1.1) | (np.arange(len(whole)) % 4 == 0))
    found = d_min_supported(sparse.merge())
    assert found.d_min == pytest.approx(1.1, abs=0.03)
    assert "completeness 2" in found.reason
    hopeless = Reflections(whole.hkl, whole.intensity, np.full(len(whole), 1e7), CELL, whole.group)
    assert "no shell" in d_min_supported(hopeless.merge()).reason


def test_smooth_mean_follows_a_falling_intensity():
    rng = np.random.default_rng(0)
    d_hkl = rng.uniform(0.8, 1.0, 20000) ** -1
    expected = 100 * np.exp(-2 * d_hkl**-2)
    found = smooth_mean(d_hkl, expected * rng.exponential(size=20000))
    assert np.abs(found / expected - 1).max() < 0.15
    assert (smooth_mean(d_hkl, rng.normal(size=20000)) > 0).all()


def test_a_scale_needs_intensity():
    hkl = unique_hkl(CELL, find_symmetry("P 1"), 2.0)
    intensity = np.where(np.arange(len(hkl)) == 0, 1.0, -1.0)
    with pytest.raises(ReflectionError, match="is not above 0; no scale"):
        wilson(Reflections(hkl, intensity, np.ones(len(hkl)), CELL))


def test_measured_sets_are_complete(cod_file):
    for name in ("2012000", "2200000"):
        merged = read_reflections(cod_file(f"{name}.hkl")).merge()
        table = shell_table(merged)
        assert table["completeness"].iloc[1:].min() > 0.97
        assert 2.5 < wilson(merged.reflections).b_iso < 5
        assert d_min_supported(merged).d_min == pytest.approx(merged.reflections.d_min)
