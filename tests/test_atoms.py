"""Atoms fitted to amplitudes: derivatives, restraints, whole fits, and their predictions of finer reflections."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from rephase.crystal.cell import Cell
from rephase.crystal.density import density_of
from rephase.crystal.reflections.simulation import random_phases, simulate_reflections
from rephase.crystal.reflections.statistics import absolute_amplitude, expected_intensity
from rephase.crystal.structure_factors import structure_factors
from rephase.crystal.structures import read_crystal
from rephase.crystal.symmetry import find_symmetry, rows_of
from rephase.errors import ConfigError, GridError, ReflectionError
from rephase.random_crystals.crystals import RandomCrystalOptions, random_crystals
from rephase.refinement.atoms.errors import INFLATIONS, Trust, calibrated
from rephase.refinement.atoms.factors import AtomFactors, AtomList, lengths
from rephase.refinement.atoms.fit import expected_structure_factors, fit_atoms
from rephase.refinement.atoms.refinement import Amplitudes, refine
from rephase.refinement.atoms.restraints import close_pairs, site_projectors, usual_restraints
from rephase.refinement.atoms.rice import amplitude_moments, figure_of_merit, log_likelihood

GROUPS = ["P 1 21/c 1", "C 1 2 1", "P 1 21 1", "C 1 2/c 1"]
NUMBERS = {"C": 6.0, "N": 7.0, "O": 8.0, "F": 9.0, "S": 16.0, "Cl": 17.0, "Br": 35.0}


def molecular_crystal(group, seed=3):
    options = RandomCrystalOptions(space_groups=(group,), n_atoms=(8, 12))
    generator = torch.Generator().manual_seed(seed)
    return random_crystals(1, generator=generator, options=options, dtype=torch.float64).crystal(0)


def heavy_atoms(crystal):
    """The true atoms without hydrogens."""
    sites = crystal.asymmetric_unit
    heavy = sites.take(np.flatnonzero(np.array(sites.elements) != "H"))
    return AtomList(heavy.xyz_frac, np.array([NUMBERS[element] for element in heavy.elements]), heavy.u_iso)


def map_of(data, truth, phi=None):
    """The observed part, its amplitudes, and the map with its true phases unless others are given."""
    phi = np.angle(truth.F[rows_of(data.hkl, truth.hkl)]) if phi is None else phi
    amplitude = absolute_amplitude(data)
    return data, amplitude, density_of(data.hkl, amplitude * np.exp(1j * phi), data.cell, data.group)


class Case:
    """A crystal to 0.8 Å, what is observed of it to 1.5 Å, and the model of that."""

    def __init__(self, group):
        self.crystal = molecular_crystal(group)
        self.everything, self.truth = simulate_reflections(self.crystal, 0.8)
        self.data = self.everything.cut(1.5)
        self.model = fit_atoms(*map_of(self.data, self.truth))
        self.missing = self.everything.d_hkl < 1.5

    def r_missing(self, amplitude):
        true = np.abs(self.truth.F)[self.missing]
        return np.abs(amplitude[self.missing] - true).sum() / true.sum()


@pytest.fixture(scope="module", params=GROUPS[:2])
def case(request):
    return Case(request.param)


@pytest.mark.parametrize("group", GROUPS)
def test_factors_are_those_of_the_crystal(group):
    crystal = molecular_crystal(group)
    heavy = np.flatnonzero(np.array(crystal.atoms.elements) != "H")
    hkl = np.indices((5, 4, 6)).reshape(3, -1).T - (2, 0, 1)
    hkl = hkl[(hkl != 0).any(1)]
    expected = structure_factors(replace(crystal, atoms=crystal.atoms.take(heavy)), hkl, energy_kev=None)
    found = AtomFactors(hkl, crystal.cell, find_symmetry(group)).F(heavy_atoms(crystal))
    assert np.allclose(found, expected, atol=1e-8 * np.abs(expected).max())


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("parameter", range(5))
def test_derivatives_are_differences(group, parameter):
    crystal, step = molecular_crystal(group), 1e-5
    factors = AtomFactors(np.array([[1, 2, 3], [3, 1, -2], [4, 0, 2]]), crystal.cell, find_symmetry(group))
    atoms = heavy_atoms(crystal)
    atoms = replace(atoms, electrons=atoms.electrons + 0.3)  # between two elements, where f has no corner

    def moved(by):
        columns = np.column_stack([atoms.xyz_frac, atoms.electrons, atoms.u_iso])
        columns[2, parameter] += by
        return factors.F(AtomList(columns[:, :3], columns[:, 3], columns[:, 4]))

    _, derivatives = factors.derivatives(atoms)
    difference = (moved(step) - moved(-step)) / (2 * step)
    assert np.allclose(derivatives[parameter, 2], difference, atol=1e-5 * np.abs(difference).max())


def test_derivatives_of_restraints_are_differences():
    cell, group = Cell(8.0, 9.0, 10.0, 90.0, 100.0, 90.0), find_symmetry("P 1 21/c 1")
    xyz = np.array([[0.05, 0.02, 0.03], [0.20, 0.05, 0.01], [0.30, 0.22, 0.1], [0.15, 0.21, 0.2]])
    atoms = AtomList(xyz, np.array([6.0, 7.0, 5.0, 8.0]), np.array([0.02, 0.03, 0.05, 0.04]))
    restraints = usual_restraints(atoms, cell, group, electrons_sd=1.5)
    assert len(restraints.pairs.first) >= 3
    derivatives, step = restraints.derivatives(atoms), 1e-6
    for parameter in range(5):
        for atom in range(4):
            sides = []
            for sign in (1, -1):
                columns = np.column_stack([atoms.xyz_frac, atoms.electrons, atoms.u_iso])
                columns[atom, parameter] += sign * step
                sides.append(restraints.residuals(AtomList(columns[:, :3], columns[:, 3], columns[:, 4])))
            difference = (sides[0] - sides[1]) / (2 * step)
            assert np.allclose(derivatives[:, parameter, atom], difference, atol=1e-4 * max(1, abs(difference).max()))


def test_close_pairs_reach_over_the_edge_of_the_cell():
    cell, group = Cell(10.0, 10.0, 10.0), find_symmetry("P -1")
    pairs = close_pairs(np.array([[0.02, 0.5, 0.5], [0.95, 0.5, 0.5]]), cell, group, 1.0)
    assert pairs.distance == pytest.approx([0.7, 0.3])  # over the edge; by the centre
    images = np.einsum("mij,j->mi", pairs.rotation, [0.95, 0.5, 0.5]) + pairs.shift
    assert np.linalg.norm(([0.02, 0.5, 0.5] - images) * 10.0, axis=1) == pytest.approx([0.7, 0.3])


def test_an_atom_stays_on_its_axis():
    cell, group = Cell(10.0, 8.0, 12.0, 90.0, 105.0, 90.0), find_symmetry("C 1 2 1")
    projectors = site_projectors(np.array([[0.0, 0.3, 0.5], [0.1, 0.2, 0.3]]), cell, group)
    assert np.allclose(projectors[0], np.diag([0, 1, 0]))
    assert np.allclose(projectors[1], np.eye(3))


@pytest.mark.parametrize("group", GROUPS)
def test_refinement_returns_to_the_truth(group):
    crystal, rng = molecular_crystal(group), np.random.default_rng(0)
    atoms, symmetry = heavy_atoms(crystal), find_symmetry(group)
    data, _ = simulate_reflections(crystal, 1.0)
    factors = AtomFactors(data.hkl, crystal.cell, symmetry)
    observed = Amplitudes(3.0 * np.abs(factors.F(atoms)), np.full(len(data), 1e-3))
    shift = 0.1 * rng.normal(size=atoms.xyz_frac.shape) @ np.linalg.inv(crystal.cell.orthogonalisation).T
    start = AtomList(atoms.xyz_frac + shift, np.full(len(atoms), 6.6), np.full(len(atoms), 0.05))
    restraints = usual_restraints(start, crystal.cell, symmetry, electrons_sd=30.0)
    fit = refine(factors, observed, start, restraints, n_steps=60)
    assert fit.r_factor < 0.005
    assert fit.scale == pytest.approx(3.0, rel=0.05)
    assert np.all(np.diag(fit.covariance) >= -1e-12)


def test_the_fit_finds_every_atom(case):
    images = np.einsum("oij,nj->oni", case.data.group.rotations, case.model.atoms.xyz_frac)
    images += case.data.group.translations[:, None]
    away = lengths(heavy_atoms(case.crystal).xyz_frac[:, None, None] - images, case.crystal.cell).min((1, 2))
    # F_calc knows no polar origin: in C 1 2 1 all atoms may drift along b together
    assert away.max() < (0.1 if case.data.group.is_centrosymmetric else 0.25)
    assert case.model.r_factor < 0.09


def test_amplitudes_of_finer_reflections_are_predicted(case):
    plain = case.model.scale * np.abs(case.model.structure_factors(case.everything.hkl))
    expected, sigma = expected_structure_factors(case.model, case.data, case.everything.hkl).amplitudes()
    is_centric = case.data.group.is_centric(case.everything.hkl)
    intensity = expected_intensity(case.data, case.everything.hkl)
    wilson, _ = amplitude_moments(np.zeros(len(intensity)), intensity, is_centric)
    assert case.r_missing(plain) < 0.35
    assert case.r_missing(expected) < 0.35
    assert case.r_missing(wilson) > 0.4
    within = (np.abs(expected - np.abs(case.truth.F)) <= sigma)[case.missing].mean()
    assert 0.3 < within < 0.95  # of one crystal


def test_equivalents_are_equal(case):
    hkl = case.everything.hkl[::7]
    images, _ = case.data.group.equivalents(hkl)
    amplitude, sigma = expected_structure_factors(case.model, case.data, hkl).amplitudes()
    for image in (*images, -images[-1]):
        again = expected_structure_factors(case.model, case.data, image).amplitudes()
        assert np.allclose(again, (amplitude, sigma), rtol=1e-8)


def test_systematic_absences_are_zero():
    case = Case("P 1 21/c 1")
    hkl = np.array([[0, 3, 0], [1, 0, 3], [1, 2, 3]])
    amplitude, sigma = expected_structure_factors(case.model, case.data, hkl).amplitudes()
    assert amplitude[:2].tolist() == sigma[:2].tolist() == [0, 0]
    assert amplitude[2] > 0


def test_nothing_trusted_is_wilson(case):
    model = replace(case.model, trust=Trust(0.0, 1.0))
    hkl = case.everything.hkl
    amplitude, _ = expected_structure_factors(model, case.data, hkl).amplitudes()
    ratio = amplitude**2 / expected_intensity(case.data, hkl)
    is_centric = case.data.group.is_centric(hkl)
    assert np.allclose(ratio, np.where(is_centric, 2 / np.pi, np.pi / 4))


@pytest.mark.parametrize("group", GROUPS[:2])
def test_a_wrong_solution_does_little_harm(group):
    everything, truth = simulate_reflections(molecular_crystal(group), 0.8)
    data = everything.cut(1.5)
    phi = random_phases(data.hkl, data.group, 1, np.random.default_rng(0))[0]
    model = fit_atoms(*map_of(data, truth, phi), effort=0.1)
    assert model.r_free > 0.25  # else the fit went on to the truth
    missing, true = everything.d_hkl < 1.5, np.abs(truth.F)
    hkl, is_centric = everything.hkl, data.group.is_centric(everything.hkl)
    wilson, _ = amplitude_moments(np.zeros(len(hkl)), expected_intensity(data, hkl), is_centric)
    r_of = lambda amplitude: np.abs(amplitude - true)[missing].sum() / true[missing].sum()  # noqa: E731
    assert r_of(expected_structure_factors(model, data, hkl).amplitudes()[0]) < r_of(wilson) + 0.03
    assert r_of(model.scale * np.abs(model.structure_factors(hkl))) > r_of(wilson) + 0.03  # so it was needed


def test_wilson_falls_with_resolution_as_the_data_do():
    data, _ = simulate_reflections(molecular_crystal("P 1 21/c 1"), 0.9)
    low = data.cut(1.4)
    ratio = data.intensity / expected_intensity(low, data.hkl)
    for inside in (data.d_hkl >= 1.4, data.d_hkl < 1.4):
        assert 0.5 < ratio[inside].mean() < 2.0


@pytest.mark.parametrize("size", [0.0, 0.7, 3.0, 40.0])
@pytest.mark.parametrize("variance", [0.3, 4.0])
@pytest.mark.parametrize("is_centric", [False, True])
def test_moments_of_an_amplitude(size, variance, is_centric):
    """Against |F + error| integrated over the plane, or the line, of the error."""
    sd = np.sqrt(variance if is_centric else variance / 2)
    density = lambda x: np.exp(-(x**2) / (2 * sd**2)) / np.sqrt(2 * np.pi) / sd  # noqa: E731
    x = np.linspace(-9 * sd, 9 * sd, 2001)
    if is_centric:
        values, weight = np.abs(size + x), density(x)
    else:
        values, weight = np.abs(size + x[:, None] + 1j * x), density(x)[:, None] * density(x)
    weight = weight / weight.sum()
    mean = (values * weight).sum()
    sigma = np.sqrt((values**2 * weight).sum() - mean**2)
    found = amplitude_moments(np.array([size]), np.array([variance]), np.array([is_centric]))
    assert found[0][0] == pytest.approx(mean, rel=2e-4)
    assert found[1][0] == pytest.approx(sigma, rel=1e-3)


@pytest.mark.parametrize("is_centric", [False, True])
def test_figure_of_merit_is_the_mean_cosine_of_the_phase_error(is_centric):
    """Against phases with the probability of the error that they need."""
    F, amplitude, variance = 2.0, 1.3, 1.5
    phi = np.array([0, np.pi]) if is_centric else np.linspace(-np.pi, np.pi, 720, endpoint=False)
    weight = np.exp(-(np.abs(amplitude * np.exp(1j * phi) - F) ** 2) / ((1 + is_centric) * variance))
    found = figure_of_merit(*(np.array([x]) for x in (amplitude, F, variance, is_centric)))
    assert found[0] == pytest.approx((weight * np.cos(phi)).sum() / weight.sum())


@pytest.mark.parametrize("is_centric", [False, True])
def test_the_likelihood_is_a_density_with_that_mean(is_centric):
    centric = np.array([is_centric])
    density = lambda x: float(np.exp(log_likelihood(np.array([x]), np.array([2.0]), np.array([1.5]), centric))[0])  # noqa: E731
    mean, _ = amplitude_moments(np.array([2.0]), np.array([1.5]), centric)
    assert quad(density, 1e-9, 20)[0] == pytest.approx(1, abs=1e-6)
    assert quad(lambda x: x * density(x), 1e-9, 20)[0] == pytest.approx(mean[0], abs=1e-6)


def test_trust_is_found_again():
    rng = np.random.default_rng(0)
    F, variance, centric = rng.normal(size=4000) * 10, np.full(4000, 2.0), np.ones(4000, bool)
    wilson = np.full(4000, 100.0)
    grid = np.broadcast_to(F, (len(INFLATIONS), 4000)), INFLATIONS[:, None] * variance
    good = calibrated(np.abs(F + rng.normal(size=4000) * np.sqrt(10.0)), *grid, wilson, centric)
    assert good.correlation >= 0.99
    assert 3 < good.inflation < 8  # 10 / 2
    useless = calibrated(np.abs(10 * rng.normal(size=4000)), *grid, wilson, centric)
    assert useless.correlation <= 0.2


def test_bad_input_is_refused(case):
    with pytest.raises(GridError, match=r"hkl of shape \(3,\)"):
        case.model.structure_factors(np.array([1, 2, 3]))
    with pytest.raises(GridError, match="integers"):
        expected_structure_factors(case.model, case.data, np.array([[0.5, 1, 2]]))
    with pytest.raises(ConfigError, match="effort"):
        fit_atoms(*map_of(case.data, case.truth), effort=0)
    other, _ = simulate_reflections(molecular_crystal("P 1 21 1", seed=4), 1.5)
    with pytest.raises(ReflectionError, match="give the data that it was fitted to"):
        expected_structure_factors(case.model, other, case.data.hkl)


def test_a_real_crystal_is_completed(cod_file):
    crystal = read_crystal(cod_file("2204271.cif"))  # cobalt, 8 atoms without hydrogens
    everything, truth = simulate_reflections(crystal, 0.8)
    data = everything.cut(1.5)
    model = fit_atoms(*map_of(data, truth))
    amplitude, _ = expected_structure_factors(model, data, everything.hkl).amplitudes()
    missing, true = everything.d_hkl < 1.5, np.abs(truth.F)
    assert np.abs(amplitude - true)[missing].sum() / true[missing].sum() < 0.2
    assert model.atoms.electrons.max() == pytest.approx(27, abs=3)
