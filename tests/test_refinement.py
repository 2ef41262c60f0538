"""Least squares on F^2: derivatives, models refined back, uncertainties, extinction, weights, published models."""

from dataclasses import replace

import gemmi
import numpy as np
import pytest

from rephase.crystal.cell import Cell
from rephase.crystal.peaks import distances
from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.files import read_reflections
from rephase.crystal.structures import read_crystal
from rephase.crystal.symmetry import find_symmetry
from rephase.paths import ROOT
from rephase.refinement.extinction import extinction_path, extinguished
from rephase.refinement.factors import SiteFactors
from rephase.refinement.hydrogens import place_hydrogens, ride
from rephase.refinement.parameters import applied, free_parameters, on_special_positions, riding_u
from rephase.refinement.published_sites import sites_of
from rephase.refinement.refine import RefinementOptions, finished, refine
from rephase.refinement.sites import Sites, cartesian_u, components, isotropic_u
from rephase.refinement.weights import fitted_weighting, weights

WAVELENGTH = 0.71073
CELLS = {
    "P 1 21/c 1": Cell(6.0, 7.0, 8.0, 90, 105, 90),
    "P 1": Cell(4.0, 5.0, 6.0, 80, 85, 95),
    "P 1 21 1": Cell(5.0, 6.0, 7.0, 90, 100, 90),
    "C 1 2/c 1": Cell(9.0, 6.0, 8.0, 90, 105, 90),
    "P n a 21": Cell(7.0, 6.0, 8.0),
    "R -3:H": Cell(9.0, 9.0, 8.0, 90, 90, 120),
}
AS_GIVEN = RefinementOptions(weighting=(0.0, 0.0), refines_extinction=False)


def indices(cell, group, d_min):
    """One of each class of equivalents, Friedel mates apart, without absences."""
    top = [int(length / d_min) + 1 for length in cell.parameters[:3]]
    hkl = np.stack(np.meshgrid(*[np.arange(-m, m + 1) for m in top], indexing="ij"), -1).reshape(-1, 3)
    hkl = hkl[hkl.any(1)]
    hkl = hkl[(cell.d_spacing(hkl) >= d_min) & ~group.is_absent(hkl)]
    return np.unique(group.representative(hkl, friedel=False), axis=0)


def a_structure(name, rng, n=5):
    """Anisotropic atoms of several elements on a grid of separate places in the asymmetric unit."""
    cell, group = CELLS[name], find_symmetry(name)
    elements = ("S", "O", "C", "N", "Cl")[:n]
    xyz = np.array([[0.11, 0.08, 0.13], [0.31, 0.17, 0.07], [0.12, 0.21, 0.33], [0.29, 0.06, 0.24], [0.2, 0.37, 0.18]])
    sites = Sites.isotropic(elements, elements, xyz[:n], rng.uniform(0.02, 0.04, n), cell)
    sites = replace(sites, U=sites.U + rng.normal(size=(n, 6)) * 0.002, is_anisotropic=np.ones(n, bool))
    return sites, cell, group


def data_of(sites, cell, group, *, d_min=0.8, scale=2.0, extinction=0.0, noise=0.0, rng=None):
    hkl = indices(cell, group, d_min)
    squared = np.abs(SiteFactors(hkl, cell, group, sites.elements, WAVELENGTH).F(sites)) ** 2
    path = extinction_path(cell.d_spacing(hkl), WAVELENGTH)
    intensity = scale**2 * extinguished(squared, extinction, path).intensity
    sigma = np.full(len(hkl), (noise or 0.01) * intensity.mean())
    measured = intensity + (rng.normal(size=len(hkl)) * sigma if noise else 0)
    return Reflections(hkl, measured, sigma, cell, group, wavelength=WAVELENGTH, is_merged=True)


def perturbed(sites, cell, rng, shift=0.03):
    move = rng.normal(size=(len(sites), 3)) * shift / np.array(cell.parameters[:3])
    return replace(sites, xyz_frac=sites.xyz_frac + move, U=isotropic_u(sites.u_equivalent(cell), cell))


@pytest.mark.parametrize("name", ["P 1 21/c 1", "C 1 2/c 1", "P 1 21 1", "R -3:H"])
def test_structure_factors_are_those_of_gemmi(name):
    sites, cell, group = a_structure(name, np.random.default_rng(0))
    small = gemmi.SmallStructure()
    small.cell = gemmi.UnitCell(*cell.parameters)
    small.spacegroup = gemmi.SpaceGroup(name)
    small.setup_cell_images()
    for element, xyz, (u11, u22, u33, u23, u13, u12) in zip(sites.elements, sites.xyz_frac, sites.U):
        site = gemmi.SmallStructure.Site()
        site.element, site.fract, site.occ = gemmi.Element(element), gemmi.Fractional(*xyz), 1.0
        site.aniso = gemmi.SMat33d(u11, u22, u33, u12, u13, u23)
        small.add_site(site)
    small.change_occupancies_to_crystallographic()
    calculator = gemmi.StructureFactorCalculatorX(small.cell)
    hkl = indices(cell, group, 1.0)[::5]
    expected = [calculator.calculate_sf_from_small_structure(small, [int(i) for i in row]) for row in hkl]
    found = SiteFactors(hkl, cell, group, sites.elements, None).F(sites)
    np.testing.assert_allclose(found, expected, atol=2e-3)


@pytest.mark.parametrize("name", CELLS)
def test_derivatives_are_those_of_finite_differences(name):
    sites, cell, group = a_structure(name, np.random.default_rng(1))
    sites = replace(sites, occupancy=np.linspace(0.5, 0.9, len(sites)))
    factors = SiteFactors(indices(cell, group, 1.2), cell, group, sites.elements, 1.5418)
    slopes = np.concatenate([chunk.slopes for chunk in factors.chunks(sites)], axis=-1)
    step = 1e-5
    for slot in range(10):
        change = np.zeros((len(sites), 10))
        change[1, slot] = step
        rise = np.abs(factors.F(applied(sites, change))) ** 2 - np.abs(factors.F(applied(sites, -change))) ** 2
        np.testing.assert_allclose(slopes[1, slot], rise / (2 * step), atol=2e-5 * np.abs(slopes[1, slot]).max())


@pytest.mark.parametrize("name", CELLS)
def test_a_structure_is_refined_back_from_a_perturbed_start(name):
    rng = np.random.default_rng(2)
    sites, cell, group = a_structure(name, rng)
    data = data_of(sites, cell, group)
    model = refine(perturbed(sites, cell, rng), data, options=AS_GIVEN)
    apart = (model.sites.xyz_frac - sites.xyz_frac) @ cell.orthogonalisation.T
    apart -= apart.mean(0) * bool(len(group.origins.polar))  # the origin along polar axes is free
    assert np.abs(apart).max() < 2e-3
    assert model.r1 < 2e-3
    assert model.scale == pytest.approx(2.0, rel=2e-3)


def test_site_symmetry_limits_positions_and_displacements():
    cell, group = CELLS["R -3:H"], find_symmetry("R -3:H")
    sites = Sites.isotropic(
        ["Na", "O", "I"],
        ["Na", "O", "I"],
        np.array([[0.01, 0, 0], [0, 0, 0.3], [1 / 3, 2 / 3, 2 / 3]]),
        np.full(3, 0.02),
        cell,
    )
    sites = replace(
        sites, is_anisotropic=np.ones(3, bool), xyz_frac=sites.xyz_frac - [[0.009, 0, 0], [0, 0, 0], [0, 0, 0]]
    )
    held = on_special_positions(sites, cell, group)
    np.testing.assert_allclose(held.xyz_frac[0], 0, atol=1e-9)
    parameters = free_parameters(held, cell, group, np.zeros(3, bool))
    assert len(parameters) == 2 + (1 + 2) + 2  # U11 = U22 = 2 U12 and U33; z along the threefold axis
    slots = parameters.slot_changes(np.ones(len(parameters)))
    np.testing.assert_allclose(slots[:, 3], slots[:, 4], atol=1e-12)
    np.testing.assert_allclose(slots[:, 8], slots[:, 3] / 2, atol=1e-12)


def test_uncertainties_are_honest():
    rng = np.random.default_rng(3)
    sites, cell, group = a_structure("P 1 21/c 1", rng)
    pulls = []
    for _ in range(8):
        model = refine(sites, data_of(sites, cell, group, noise=0.05, rng=rng), options=AS_GIVEN)
        pulls.append((model.sites.xyz_frac - sites.xyz_frac) / model.uncertainties.xyz_frac)
        assert model.statistics.goof == pytest.approx(1, abs=0.15)
    assert np.std(pulls) == pytest.approx(1, abs=0.2)


def test_extinction_is_recovered_and_left_out_without_it():
    rng = np.random.default_rng(4)
    sites, cell, group = a_structure("P 1 21/c 1", rng)
    options = AS_GIVEN._replace(refines_extinction="auto")
    model = refine(sites, data_of(sites, cell, group, extinction=0.5, noise=0.01, rng=rng), options=options)
    assert abs(model.extinction - 0.5) < 4 * model.extinction_su < 0.4
    assert refine(sites, data_of(sites, cell, group, noise=0.01, rng=rng), options=options).extinction == 0


def test_occupancies_are_recovered():
    rng = np.random.default_rng(5)
    sites, cell, group = a_structure("P 1 21 1", rng)
    data = data_of(replace(sites, occupancy=np.array([0.7, 1, 1, 1, 0.4])), cell, group)
    chosen = np.array([1, 0, 0, 0, 2])
    model = refine(sites, data, options=AS_GIVEN._replace(occupancies=chosen, n_cycles=20))
    np.testing.assert_allclose(model.sites.occupancy, [0.7, 1, 1, 1, 0.4], atol=5e-3)


def test_occupancies_of_one_variable_and_its_complement_are_refined_together():
    sites, cell, group = a_structure("P 1 21/c 1", np.random.default_rng(5))
    data = data_of(replace(sites, occupancy=np.array([0.7, 0.7, 0.3, 1, 1])), cell, group)
    start = replace(sites, occupancy=np.array([0.5, 0.5, 0.5, 1, 1]))
    chosen = np.array([1, 1, -1, 0, 0])
    model = refine(start, data, options=AS_GIVEN._replace(occupancies=chosen, n_cycles=20))
    np.testing.assert_allclose(model.sites.occupancy, [0.7, 0.7, 0.3, 1, 1], atol=1e-6)
    assert len(set(model.uncertainties.occupancy[:3].round(9))) == 1


def test_without_measured_sigma_all_weights_are_the_same():
    sites, cell, group = a_structure("P 1 21/c 1", np.random.default_rng(5))
    data = data_of(sites, cell, group, noise=0.02, rng=np.random.default_rng(1))
    other = data.sigma * np.random.default_rng(2).uniform(0.2, 5, len(data))
    found = [refine(sites, replace(data, sigma=sigma, has_sigma=False)) for sigma in (data.sigma, other)]
    np.testing.assert_allclose(found[0].sites.xyz_frac, found[1].sites.xyz_frac, atol=1e-6)
    assert found[0].weighting == (0.0, 0.0)


def test_riding_hydrogen_atoms_move_with_their_parents():
    rng = np.random.default_rng(6)
    sites, cell, group = a_structure("P 1 21/c 1", rng)
    away = np.array([[0.0, 0.0, 0.95]]) @ np.linalg.inv(cell.orthogonalisation).T
    hydrogen = Sites.isotropic(["H1"], ["H"], sites.xyz_frac[2] + away, np.array([0.03]), cell)
    whole = sites.joined(replace(hydrogen, afix=np.array([3])))
    whole = riding_u(replace(whole, parent=np.array([-1, -1, -1, -1, -1, 2])), cell)
    data = data_of(whole, cell, group)
    start = replace(whole, xyz_frac=whole.xyz_frac + np.array([0.005, 0, 0]) * (np.arange(6) % 3 == 2)[:, None])
    model = refine(start, data, options=AS_GIVEN)
    np.testing.assert_allclose(model.sites.xyz_frac[5] - model.sites.xyz_frac[2], away[0], atol=1e-9)
    np.testing.assert_allclose(model.sites.xyz_frac, whole.xyz_frac, atol=1e-4)
    u = model.sites.u_equivalent(cell)
    assert u[5] == pytest.approx(1.2 * u[2])
    assert model.statistics.n_parameters == 5 * 9 + 1
    assert not model.uncertainties.xyz_frac[5].any()


def test_hydrogen_atoms_are_idealised_after_their_parents_moved():
    cell, group = CELLS["P 1 21/c 1"], find_symmetry("P 1 21/c 1")
    bent = np.array([[1.0, 1.0, 1.0], [2.53, 1.0, 1.0], [3.04, 2.44, 1.0]]) @ np.linalg.inv(cell.orthogonalisation).T
    heavy = Sites.isotropic(["C1", "C2", "C3"], ["C", "C", "C"], bent, np.full(3, 0.03), cell)
    true = place_hydrogens(heavy, cell, group)
    start = place_hydrogens(perturbed(heavy, cell, np.random.default_rng(8), shift=0.08), cell, group)
    assert start.afix.tolist() == true.afix.tolist()
    model = finished(refine(start, data_of(true, cell, group), options=AS_GIVEN))
    assert distances(model.sites.xyz_frac - ride(model.sites, cell, group).xyz_frac, cell).max() < 1e-6
    found, expected = (sites.xyz_frac[sites.afix == 23] for sites in (model.sites, true))
    assert distances(found[:, None] - expected, cell).min(1).max() < 0.01  # torsions of the methyl groups stay


def test_a_finished_refinement_moves_nothing_and_has_no_hidden_restraints():
    rng = np.random.default_rng(9)
    sites, cell, group = a_structure("P n a 21", rng)
    data = data_of(sites, cell, group, noise=0.02, rng=rng)
    draft = refine(perturbed(sites, cell, rng), data, options=RefinementOptions(n_cycles=3))
    assert draft.is_restrained
    s = draft.statistics
    assert s.n_restraints > 1
    model = finished(draft)
    assert not model.is_restrained
    assert model.statistics.n_restraints == 1  # the origin along c
    assert model.statistics.shift < 0.01
    assert model.weighting == draft.weighting


def test_restraints_stay_where_displacements_would_be_negative():
    rng = np.random.default_rng(7)
    sites, cell, group = a_structure("P 1 21/c 1", rng)
    light = replace(sites, elements=("O", *sites.elements[1:]))
    draft = refine(light, data_of(sites, cell, group), options=AS_GIVEN._replace(warns=False))
    assert finished(draft).is_restrained


def test_negative_displacements_are_named():
    rng = np.random.default_rng(7)
    sites, cell, group = a_structure("P 1 21/c 1", rng)
    data = data_of(sites, cell, group)
    light = replace(sites, elements=("O", *sites.elements[1:]), labels=("O9", *sites.labels[1:]))
    with pytest.warns(UserWarning, match="O9"):
        model = refine(light, data, options=AS_GIVEN)
    assert np.linalg.eigvalsh(cartesian_u(model.sites.U, cell)).min() > 0.0009


def test_weights_by_hand():
    found = weights(np.array([9.0, -1.0]), np.array([1.0, 2.0]), np.array([6.0, 3.0]), (0.1, 0.5))
    assert found[0] == pytest.approx(1 / (1 + 0.7**2 + 3.5))  # P = (9 + 12) / 3 = 7
    assert found[1] == pytest.approx(1 / (4 + 0.2**2 + 1.0))  # P = (0 + 6) / 3 = 2


def test_weights_make_the_variance_even():
    rng = np.random.default_rng(8)
    calculated = rng.exponential(100, 5000)
    spread = np.sqrt(1 + (0.05 * calculated) ** 2)
    a, _ = fitted_weighting(calculated + rng.normal(size=5000) * spread, np.ones(5000), calculated, 0)
    assert a == pytest.approx(0.05, rel=0.25)


def test_statistics_by_hand():
    sites, cell, group = a_structure("P 1 21/c 1", np.random.default_rng(9))
    data = data_of(sites, cell, group)
    wrong = replace(data, intensity=data.intensity * np.where(np.arange(len(data)) % 2, 1.21, 0.81))
    model = refine(sites, wrong, options=AS_GIVEN._replace(n_cycles=0))
    observed, calculated = np.sqrt(wrong.intensity), model.scale * np.abs(model.F)
    strong = wrong.intensity > 2 * wrong.sigma
    expected = np.abs(observed - calculated)[strong].sum() / observed[strong].sum()
    assert model.r1 == pytest.approx(expected)
    assert 0.09 < model.r1 < 0.11
    np.testing.assert_array_equal(model.sites.xyz_frac, sites.xyz_frac)


def test_components_invert_cartesian_tensors():
    sites, cell, _ = a_structure("P 1", np.random.default_rng(10))
    np.testing.assert_allclose(components(cartesian_u(sites.U, cell), cell), sites.U, atol=1e-12)


@pytest.mark.parametrize(("name", "r1", "theta_max"), [("2019572", 0.0117, 26.99), ("2240189", 0.0414, 27.494)])
@pytest.mark.filterwarnings("ignore::UserWarning")  # of the files: no σ, no refined hydrogen atoms
def test_published_models_give_their_r1(name, r1, theta_max):
    path = ROOT.parent / "shared" / "measured" / f"{name}.cif"
    if not path.is_file():
        pytest.skip("the measured sets are not here")
    data = read_reflections(path).merge(friedel=False).reflections
    data = data.take(data.d_hkl > 0.999 * WAVELENGTH / (2 * np.sin(np.radians(theta_max))))
    options = RefinementOptions(n_cycles=0, refines_extinction=False)
    assert refine(sites_of(read_crystal(path)), data, options=options).r1 == pytest.approx(r1, abs=0.006)
