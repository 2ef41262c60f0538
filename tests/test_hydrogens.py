"""Riding hydrogen atoms, on molecules with known geometry and on published structures."""

from dataclasses import replace

import numpy as np
import pytest

from rephase.crystal.cell import Cell
from rephase.crystal.density import density_of
from rephase.crystal.peaks import distances
from rephase.crystal.structures import read_crystal
from rephase.crystal.symmetry import find_symmetry
from rephase.refinement.hydrogens import place_hydrogens, ride
from rephase.refinement.parameters import riding_u
from rephase.refinement.sites import Sites

CELL = Cell(12.0, 12.0, 12.0)
P1 = find_symmetry("P 1")
BENZENE = [[1.39 * np.cos(t), 1.39 * np.sin(t), 0.0] for t in np.radians(np.arange(0, 360, 60))]
ETHANOL = [[1.512, 0, 0], [0, 0, 0], [1.43 * np.cos(np.radians(108)), 1.43 * np.sin(np.radians(108)), 0]]
ISOBUTANE = [[0, 0, 0], *(1.53 * np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1]]) / np.sqrt(3))]


def model(elements, xyz, cell=CELL):
    """Atoms at Cartesian positions in Å."""
    xyz_frac = (np.array(xyz, float) + 5) @ np.linalg.inv(cell.orthogonalisation).T
    labels = [f"{element}{i}" for i, element in enumerate(elements, 1)]
    return Sites.isotropic(labels, elements, xyz_frac, np.full(len(elements), 0.03), cell)


def counts(sites):
    """Hydrogen atoms on each label that carries any."""
    return {
        label: n for i, label in enumerate(sites.labels) if (n := int(((sites.parent == i) & sites.is_hydrogen).sum()))
    }


def map_of(xyz, cell=CELL):
    """Map of hydrogen atoms at Cartesian positions to 0.8 Å."""
    h = np.stack(np.meshgrid(*[np.arange(-15, 16)] * 3, indexing="ij"), -1).reshape(-1, 3)
    h = np.unique(P1.representative(h[cell.d_spacing(h) > 0.8]), axis=0)
    s2 = 1 / (4 * cell.d_spacing(h) ** 2)
    xyz_frac = (np.array(xyz, float) + 5) @ np.linalg.inv(cell.orthogonalisation).T
    F = np.exp(2j * np.pi * h @ xyz_frac.T).sum(1) * np.exp(-15 * s2)
    return density_of(h[np.isfinite(s2)], F[np.isfinite(s2)], cell, P1)


def positions(sites, cell=CELL):
    return sites.xyz_frac @ cell.orthogonalisation.T - 5


def test_benzene_points_away_from_its_centre():
    sites = place_hydrogens(model("CCCCCC", BENZENE), CELL, P1)
    hydrogen = sites.is_hydrogen
    np.testing.assert_allclose(positions(sites)[hydrogen], np.array(BENZENE) * (1.39 + 0.95) / 1.39, atol=1e-6)
    assert set(sites.afix[hydrogen]) == {43}
    assert [sites.labels[i] for i in sites.parent[hydrogen]] == ["C1", "C2", "C3", "C4", "C5", "C6"]
    np.testing.assert_allclose(sites.u_equivalent(CELL)[hydrogen], 1.2 * 0.03)


@pytest.mark.parametrize(("temperature", "distance"), [(100, 0.95), (230, 0.94), (293, 0.93)])
def test_warm_crystals_have_shorter_distances(temperature, distance):
    sites = place_hydrogens(model("CCCCCC", BENZENE), CELL, P1, temperature=temperature)
    first = sites.xyz_frac[sites.is_hydrogen][0] - sites.xyz_frac[0]
    assert np.linalg.norm(first @ CELL.orthogonalisation.T) == pytest.approx(distance)


@pytest.mark.parametrize(
    ("elements", "xyz", "expected", "afix"),
    [
        ("CC", [[0, 0, 0], [1.53, 0, 0]], {"C1": 3, "C2": 3}, {33}),
        ("CC", [[0, 0, 0], [1.32, 0, 0]], {"C1": 2, "C2": 2}, {93}),
        ("CC", [[0, 0, 0], [1.18, 0, 0]], {"C1": 1, "C2": 1}, {163}),
        ("CCN", [[0, 0, 0], [1.46, 0, 0], [2.60, 0, 0]], {"C1": 3}, {33}),
        ("CO", [[0, 0, 0], [1.21, 0, 0]], {}, set()),
        ("CCO", ETHANOL, {"C1": 3, "C2": 2}, {23, 33}),
        ("CCCC", ISOBUTANE, {"C1": 1, "C2": 3, "C3": 3, "C4": 3}, {13, 33}),
        ("BC", [[0, 0, 0], [1.58, 0, 0]], {"C2": 3}, {33}),
        ("O", [[0, 0, 0]], {}, set()),
    ],
    ids=["ethane", "ethene", "ethyne", "acetonitrile", "CO", "ethanol", "isobutane", "methylborane", "water"],
)
def test_bonds_say_what_carbon_carries(elements, xyz, expected, afix):
    sites = place_hydrogens(model(elements, xyz), CELL, P1)
    assert counts(sites) == expected
    assert set(sites.afix[sites.is_hydrogen]) == afix


def test_methine_makes_equal_angles_with_three_bonds():
    sites = place_hydrogens(model("CCCC", ISOBUTANE), CELL, P1)
    (hydrogen,) = np.flatnonzero((sites.afix == 13) & sites.is_hydrogen)
    np.testing.assert_allclose(positions(sites)[hydrogen], 1.00 * np.array([-1, -1, 1]) / np.sqrt(3), atol=1e-6)


def test_ethane_is_staggered():
    ethanol = place_hydrogens(model("CCO", ETHANOL), CELL, P1)
    xyz = positions(ethanol)[ethanol.is_hydrogen & (ethanol.parent == 0)]
    assert np.abs(np.linalg.norm(xyz - ETHANOL[0], axis=1) - 0.98).max() < 1e-9
    assert xyz[:, 1].min() == pytest.approx(-0.98 * np.sin(np.radians(109.5)), abs=1e-6)  # opposite to oxygen


def test_without_evidence_nitrogen_and_oxygen_carry_nothing():
    assert counts(place_hydrogens(model("CN", [[0, 0, 0], [1.47, 0, 0]]), CELL, P1)) == {"C1": 3}


def test_a_formula_limits_hydrogen_atoms():
    ethanol = model("CCO", ETHANOL)  # the cell has room for 96 atoms: one formula unit
    assert counts(place_hydrogens(ethanol, CELL, P1, formula="C94 H6 O2")) == {"C1": 3, "C2": 2, "O3": 1}
    assert counts(place_hydrogens(ethanol, CELL, P1, formula="C94 H5 O2")) == {"C1": 3, "C2": 2}
    assert counts(place_hydrogens(ethanol, CELL, P1, formula="C94 O2")) == {}


def test_hydroxyl_points_to_an_acceptor():
    oxygen = np.array(ETHANOL[2])
    towards = np.cos(np.radians(70.5)) * oxygen / 1.43 + np.sin(np.radians(70.5)) * np.array([0, 0, 1])
    sites = model(["C", "C", "O", "Cl"], [*ETHANOL, oxygen + 3.1 * towards])
    sites = place_hydrogens(sites, CELL, P1, formula="C8 H24 O4 Cl4")
    (hydrogen,) = np.flatnonzero(sites.afix == 83)
    np.testing.assert_allclose(positions(sites)[hydrogen], oxygen + 0.84 * towards, atol=0.02)


def test_a_map_shows_water():
    true = 0.84 * np.array([[1, 0, 0], [np.cos(np.radians(105)), np.sin(np.radians(105)), 0]])
    sites = place_hydrogens(model("O", [[0, 0, 0]]), CELL, P1, difference_density=map_of(true))
    found = positions(sites)[sites.is_hydrogen]
    assert np.linalg.norm(found[:, None] - true, axis=-1).min(0).max() < 0.15
    assert sites.parent.tolist() == [-1, 0, 0]


def test_a_map_turns_methyl_and_shows_amino_hydrogen():
    start = place_hydrogens(model("CN", [[0, 0, 0], [1.47, 0, 0]]), CELL, P1)
    turn = np.radians(25)
    rotation = [[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]]
    methyl = positions(start)[start.is_hydrogen] @ np.transpose(rotation)
    amino = np.array([1.47, 0, 0]) + 0.91 * np.array([[0.334, 0.943, 0], [0.334, -0.471, 0.816]])
    density = map_of(np.concatenate([methyl, amino]))
    sites = place_hydrogens(start, CELL, P1, difference_density=density)
    assert counts(sites) == {"C1": 3, "N2": 2}
    found = positions(sites)[sites.is_hydrogen]
    assert np.linalg.norm(found[:, None] - np.concatenate([methyl, amino]), axis=-1).min(0).max() < 0.1


def test_images_by_symmetry_are_neighbours_and_not_repeated():
    """Butane about an inversion centre, and CH2 of propane on a twofold axis."""
    cell = Cell(10.0, 10.0, 10.0)
    centred = Sites.isotropic(["C1", "C2"], "CC", np.array([[0.0765, 0, 0], [0.126, 0.145, 0]]), np.full(2, 0.03), cell)
    assert counts(place_hydrogens(centred, cell, find_symmetry("P -1"))) == {"C1": 2, "C2": 3}
    on_axis = Sites.isotropic(["C1", "C2"], "CC", np.array([[0, 0, 0], [0.125, 0.088, 0]]), np.full(2, 0.03), cell)
    placed = place_hydrogens(on_axis, cell, find_symmetry("P 1 2 1"))
    assert counts(placed) == {"C1": 1, "C2": 3}


def test_hydrogen_atoms_that_break_the_symmetry_are_left_out():
    cell = Cell(10.0, 10.0, 10.0)
    sites = Sites.isotropic(["C1", "O1"], "CO", np.array([[0, 0, 0], [0, 0.142, 0]]), np.full(2, 0.03), cell)
    with pytest.warns(UserWarning, match="no hydrogen atoms on C1: they would break the symmetry"):
        assert counts(place_hydrogens(sites, cell, find_symmetry("P 1 2 1"))) == {}


def test_atoms_of_different_parts_are_not_bonded():
    two = model("CCC", [[0, 0, 0], [1.53, 0, 0], [1.45, 0.5, 0]])
    two = replace(two, part=np.array([0, 1, 2]), occupancy=np.array([1, 0.6, 0.4]))
    sites = place_hydrogens(two, CELL, P1)
    assert counts(sites) == {"C1": 6, "C2": 3, "C3": 3}
    on_first = sites.is_hydrogen & (sites.parent == 0)
    assert (
        sorted(zip(sites.part[on_first].tolist(), sites.occupancy[on_first].tolist()))
        == [(1, 0.6)] * 3 + [(2, 0.4)] * 3
    )


def test_riding_restores_the_geometry_after_a_shift():
    start = place_hydrogens(model("CCO", ETHANOL), CELL, P1)
    assert distances(ride(start, CELL, P1).xyz_frac - start.xyz_frac, CELL).max() < 1e-6
    moved = start.xyz_frac.copy()
    moved[0, 2] += 0.01
    ridden = ride(replace(start, xyz_frac=moved), CELL, P1)
    xyz = positions(ridden)
    hydrogens = np.flatnonzero(ridden.is_hydrogen & (ridden.parent == 0))
    carbon = np.flatnonzero(~ridden.is_hydrogen)[1]
    assert xyz.shape == positions(start).shape
    bond = xyz[carbon] - xyz[0]
    cosines = (xyz[hydrogens] - xyz[0]) @ bond / np.linalg.norm(bond) / np.linalg.norm(xyz[hydrogens] - xyz[0], axis=1)
    np.testing.assert_allclose(np.degrees(np.arccos(cosines)), 109.5, atol=1e-6)


@pytest.mark.parametrize(
    ("element", "afix", "factor"),
    [("C", 43, 1.2), ("C", 137, 1.5), ("N", 33, 1.5), ("O", 147, 1.5), ("O", 3, 1.5), ("N", 3, 1.2), ("N", 93, 1.2)],
)
def test_methyl_hydroxyl_and_water_have_larger_displacements(element, afix, factor):
    pair = model([element, "H"], [[0, 0, 0], [0.9, 0, 0]])
    pair = riding_u(replace(pair, parent=np.array([-1, 0]), afix=np.array([0, afix])), CELL)
    u = pair.u_equivalent(CELL)
    assert u[1] == pytest.approx(factor * u[0])


@pytest.mark.parametrize("name", ["2015798", "2219444", "7102386", "1000007", "2217757"])
def test_published_hydrogen_atoms_on_carbon_come_back(cod_file, name):
    crystal = read_crystal(cod_file(f"{name}.cif"))
    unit, group = crystal.asymmetric_unit, find_symmetry(crystal.space_group)
    published = Sites.isotropic(unit.labels, unit.elements, unit.xyz_frac, unit.u_iso, crystal.cell)
    placed = place_hydrogens(published, crystal.cell, group)
    true, found = (sites.xyz_frac[sites.is_hydrogen] for sites in (published, placed))
    assert len(true) == len(found)
    assert distances(true[:, None] - found, crystal.cell).min(1).max() < 0.25
