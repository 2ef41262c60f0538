"""Models built from maps: random crystals with known atoms, partial atoms, few data, wrong phases, formulas."""

from dataclasses import replace

import numpy as np
import pytest

from rephase.crystal.cell import Cell
from rephase.crystal.density import density_of
from rephase.crystal.peaks import distances
from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.statistics import absolute_amplitude
from rephase.crystal.symmetry import find_symmetry
from rephase.refinement.build import build_model, reflections_per_parameter
from rephase.refinement.factors import SiteFactors
from rephase.refinement.sites import Sites

CELL, GROUP = Cell(7.0, 8.0, 9.0, 90, 100, 90), find_symmetry("P 1 21/c 1")
# a ring of carbon with one nitrogen atom, a carbonyl group and chlorine: a planar molecule drawn by hand, in Å
RING = [[np.cos(angle) * 1.39, np.sin(angle) * 1.39, 0] for angle in np.radians([0, 60, 120, 180, 240, 300])]
MOLECULE = np.array([*RING, [2.86, 0, 0], [3.48, 1.05, 0], [-3.13, 0, 0]])
ELEMENTS = ("C", "N", "C", "C", "C", "C", "C", "O", "Cl")


def a_molecule():
    tilt = np.array([[0.8, 0.0, 0.6], [0.36, 0.8, -0.48], [-0.48, 0.6, 0.64]])
    xyz_frac = (MOLECULE @ tilt.T) @ np.linalg.inv(CELL.orthogonalisation).T + [0.27, 0.23, 0.21]
    return Sites.isotropic(ELEMENTS, ELEMENTS, xyz_frac, np.linspace(0.02, 0.035, len(ELEMENTS)), CELL)


def data_of(sites, *, d_min=0.9, cell=CELL, group=GROUP):
    top = [int(length / d_min) + 1 for length in cell.parameters[:3]]
    hkl = np.stack(np.meshgrid(*[np.arange(-m, m + 1) for m in top], indexing="ij"), -1).reshape(-1, 3)
    hkl = hkl[hkl.any(1)]
    hkl = hkl[(cell.d_spacing(hkl) >= d_min) & ~group.is_absent(hkl)]
    hkl = np.unique(group.representative(hkl), axis=0)
    F = SiteFactors(hkl, cell, group, sites.elements, None).F(sites)
    intensity = np.abs(F) ** 2
    return Reflections(hkl, intensity, 0.01 * intensity + 0.05, cell, group, is_merged=True), F


def built(data, phi, **options):
    amplitude = absolute_amplitude(data)
    density = density_of(data.hkl, amplitude * np.exp(1j * phi), data.cell, data.group)
    return build_model(data, amplitude, density, **options)


def matched(model, sites):
    """The distance in Å from each atom to the nearest of the model, and the row of this one."""
    images = np.einsum("oij,nj->oni", model.symmetry.rotations, model.sites.xyz_frac)
    images += model.symmetry.translations[:, None]
    apart = distances(sites.xyz_frac[:, None, None] - images, model.cell).min(1)
    return apart.min(1), apart.argmin(1)


def elements_of(model, rows):
    return tuple(model.sites.elements[row] for row in rows)


@pytest.mark.parametrize("formula", ["C6 N O Cl", None])
def test_a_molecule_is_built_with_its_elements(formula):
    sites = a_molecule()
    data, F = data_of(sites)
    model = built(data, np.angle(F), formula=formula)
    apart, rows = matched(model, sites)
    assert apart.max() < 0.02
    assert elements_of(model, rows) == ELEMENTS
    assert (~model.sites.is_hydrogen).sum() == len(ELEMENTS)
    chain = model.sites.take(np.flatnonzero(~model.sites.is_hydrogen & (np.array(model.sites.elements) != "Cl")))
    xyz = chain.xyz_frac @ CELL.orthogonalisation.T
    apart = np.linalg.norm(xyz[:, None] - xyz, axis=-1)
    assert [apart[i, :i].min() < 1.6 for i in range(1, 8)] == [True] * 7  # each atom is listed after a neighbour
    assert sum(apart[i, i - 1] < 1.6 for i in range(1, 8)) >= 6  # nearly always directly after it
    assert [label for label in chain.labels if label[0] == "C"] == [f"C{i}" for i in range(1, 7)]
    assert model.r1 < 0.05  # without a formula, the ring gets hydrogen atoms that these data lack


def test_a_partial_atom_has_its_occupancy():
    sites = a_molecule()
    occupancy = np.where(np.arange(len(sites)) == 8, 0.6, 1.0)
    data, F = data_of(replace(sites, occupancy=occupancy), d_min=0.8)
    model = built(data, np.angle(F), formula="C6 N O Cl")
    _, rows = matched(model, sites)
    np.testing.assert_allclose(model.sites.occupancy[rows], occupancy, atol=0.03)


def test_an_atom_on_two_sites_is_split_into_parts():
    sites = a_molecule()
    beside = sites.xyz_frac[7] + np.array([0.15, 0.1, 0.75]) @ np.linalg.inv(CELL.orthogonalisation).T
    other = replace(sites.take(np.array([7])), xyz_frac=beside[None], occupancy=np.array([0.3]))
    whole = replace(sites, occupancy=np.where(np.arange(len(sites)) == 7, 0.7, 1.0)).joined(other)
    data, F = data_of(whole, d_min=0.8)
    model = built(data, np.angle(F), formula="C6 N O Cl")
    apart, rows = matched(model, whole)
    assert apart.max() < 0.05
    np.testing.assert_allclose(model.sites.occupancy[rows[[7, 9]]], [0.7, 0.3], atol=0.05)
    assert list(model.sites.part[rows[[7, 9]]]) == [1, 2]


def test_few_data_leave_light_atoms_isotropic():
    sites = a_molecule()
    data, F = data_of(sites, d_min=1.25)
    model = built(data, np.angle(F), formula="C6 N O Cl")
    assert model.statistics.n_observed < 4 * 9 * len(ELEMENTS)
    assert not model.sites.is_anisotropic[[element != "Cl" for element in model.sites.elements]].any()
    assert model.r1 < 0.05


def test_data_without_sigma_are_weighed_alike():
    data, F = data_of(a_molecule())
    model = built(replace(data, has_sigma=False), np.angle(F), formula="C6 N O Cl")
    assert model.weighting == (0.0, 0.0)
    assert model.r1 < 0.02


@pytest.mark.filterwarnings("ignore:.*displacements")
def test_wrong_phases_give_a_large_r1():
    data, F = data_of(a_molecule())
    wrong = np.where(np.random.default_rng(0).random(len(F)) < 0.5, 0, np.pi)
    assert built(data, wrong, formula="C6 N O Cl", effort=0.05).r1 > 0.3


@pytest.mark.parametrize(
    ("symbol", "elements", "xyz_frac", "formula"),
    [
        ("P m -3 m", ("Sr", "Ti", "O"), [[0, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, 1 / 2, 0]], "SrTiO3"),
        ("F m -3 m", ("Pb", "F"), [[0, 0, 0], [1 / 4, 1 / 4, 1 / 4]], "PbF2"),
        ("P m -3 m", ("Cs", "Cl"), [[0, 0, 0], [1 / 2, 1 / 2, 1 / 2]], "CsCl"),
        ("I m -3 m", ("W",), [[0, 0, 0]], "W"),
    ],
)
def test_the_formula_gives_the_scale_of_heavy_atoms(symbol, elements, xyz_frac, formula):
    axis = {"SrTiO3": 3.905, "PbF2": 5.94, "CsCl": 4.123, "W": 3.165}[formula]
    cell, group = Cell(axis, axis, axis), find_symmetry(symbol)
    true = Sites.isotropic(elements, elements, np.array(xyz_frac), np.full(len(elements), 0.007), cell)
    data, F = data_of(true, d_min=0.45, cell=cell, group=group)
    model = built(data, np.angle(F), formula=formula)
    apart, rows = matched(model, true)
    assert apart.max() < 0.01
    assert elements_of(model, rows) == elements
    assert model.r1 < 0.01
    n_displacements = {"SrTiO3": 4, "PbF2": 2, "CsCl": 2, "W": 1}[formula]  # beside them no position is free
    of_shapes = reflections_per_parameter(model, np.ones(len(elements), bool))
    assert of_shapes == pytest.approx(model.statistics.n_observed / n_displacements)


def test_form_factors_give_the_scale_without_carbon():
    cell, group = Cell(5.64, 5.64, 5.64), find_symmetry("F m -3 m")
    salt = Sites.isotropic(("Cl", "Na"), ("Cl", "Na"), np.array([[0, 0, 0], [0.5, 0.5, 0.5]]), np.full(2, 0.015), cell)
    data, F = data_of(salt, d_min=0.6, cell=cell, group=group)
    model = built(data, np.angle(F))
    assert sorted(model.sites.elements) == ["Cl", "Na"]
    assert model.r1 < 0.01


def test_atoms_on_special_positions_of_a_cubic_crystal_are_found():
    cell, group = Cell(8.09, 8.09, 8.09), find_symmetry("F d -3 m :2")
    spinel = Sites.isotropic(  # ZnAl2O4; cations on special positions without a parameter
        ("Zn", "Al", "O"),
        ("Zn", "Al", "O"),
        np.array([[1 / 8, 1 / 8, 1 / 8], [1 / 2, 1 / 2, 1 / 2], [0.2624, 0.2624, 0.2624]]),
        np.full(3, 0.006),
        cell,
    )
    data, F = data_of(spinel, d_min=0.5, cell=cell, group=group)
    model = built(data, np.angle(F), formula="Zn Al2 O4")
    apart, rows = matched(model, spinel)
    assert apart.max() < 0.01
    assert elements_of(model, rows) == ("Zn", "Al", "O")
    assert model.n_units == 8
