"""Bonds over symmetry, molecules in one piece, and the order of atoms."""

import numpy as np
import pytest

from rephase.crystal.cell import Cell
from rephase.crystal.symmetry import find_symmetry
from rephase.refinement.atoms.factors import lengths
from rephase.refinement.bonds import connect, find_bonds, molecule_of, order_atoms
from rephase.refinement.contacts import find_contacts
from rephase.refinement.sites import Sites, cartesian_u, rotated_u

CELL = Cell(18.0, 13.0, 14.0, 90.0, 100.0, 90.0)


def sites_of(elements, xyz_frac, cell=CELL):
    return Sites.isotropic(elements, elements, np.array(xyz_frac, float), np.full(len(elements), 0.03), cell)


def chain(n, start=(0.9, 0.3, 0.5)):
    """A zigzag of carbon atoms, 1.5 Å apart along a, then an oxygen atom."""
    steps = np.array([[1.25 * i, 0.83 * (i % 2), 0.0] for i in range(n)])
    return np.array(start) + steps @ np.linalg.inv(CELL.orthogonalisation).T


def test_contacts_reach_images_of_the_atom_itself():
    cell = Cell(4.0, 10.0, 10.0)
    contacts = find_contacts(np.array([[0.1, 0.2, 0.3]]), cell, find_symmetry("P 1"), 8.5)
    assert sorted(contacts.distance.round(6)) == [4.0, 4.0, 8.0, 8.0]


def test_an_atom_on_a_centre_is_one_neighbour():
    xyz = np.array([[0.0, 0.0, 0.0], [1.8 / 8, 0.0, 0.0]])
    contacts = find_contacts(xyz, Cell(8.0, 9.0, 10.0), find_symmetry("P -1"), 2.0)
    assert np.bincount(contacts.first).tolist() == [2, 1]  # both images for the centre, one atom for each image


def test_a_bond_over_a_centre_of_symmetry_is_found():
    bonds = find_bonds(sites_of(["C"], [[0.5 + 0.75 / 8, 0.5, 0.5]]), Cell(8.0, 9.0, 10.0), find_symmetry("P -1"))
    assert bonds.distance == pytest.approx([1.5])


def test_parts_of_disorder_and_hydrogen_atoms_are_not_bonded_to_each_other():
    sites = sites_of(["C", "C", "H", "H"], np.array([[0, 0, 0], [1.5, 0, 0], [0, 0.97, 0], [0, 0.6, 0.8]]) / 8)
    cell = Cell(8.0, 8.0, 8.0)
    pairs = find_bonds(sites, cell, find_symmetry("P 1"))
    assert {(int(a), int(b)) for a, b in zip(pairs.first, pairs.second)} == {
        (0, 1), (1, 0), (0, 2), (2, 0), (0, 3), (3, 0)
    }  # fmt: skip
    sites.part[:2] = 1, 2
    assert molecule_of(find_bonds(sites, cell, find_symmetry("P 1")), 4).tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("group", ["P 1 21/c 1", "C 1 2/c 1", "P -1", "P 1"])
def test_scattered_atoms_become_molecules_in_the_cell(group):
    symmetry, rng = find_symmetry(group), np.random.default_rng(3)
    whole = np.concatenate([chain(6, (0.06, 0.1, 0.13)), chain(3, (0.08, 0.45, 0.12))])
    sites = sites_of(["C"] * 5 + ["O"] + ["C"] * 3, whole)
    operation = rng.integers(len(symmetry.triplets), size=9)
    moved = np.einsum("nij,nj->ni", symmetry.rotations[operation], whole) + symmetry.translations[operation]
    scattered = sites_of(sites.elements, moved + rng.integers(-2, 3, (9, 3)))
    connected = connect(scattered, CELL, symmetry)
    steps = np.diff(connected.xyz_frac, axis=0) @ CELL.orthogonalisation.T
    assert np.linalg.norm(steps, axis=1)[[0, 1, 2, 3, 4, 6, 7]] == pytest.approx(np.full(7, 1.5), abs=0.01)
    for part in (connected.xyz_frac[:6], connected.xyz_frac[6:]):
        assert np.allclose(part.mean(0) % 1.0, part.mean(0))
    images = np.einsum("oij,nj->oni", symmetry.rotations, scattered.xyz_frac) + symmetry.translations[:, None]
    assert lengths(images - connected.xyz_frac, CELL).min(0) == pytest.approx(np.zeros(9), abs=1e-9)


def test_a_network_stays_as_connected_as_its_atoms_allow():
    cell, symmetry = Cell(3.0, 9.0, 9.0), find_symmetry("P 1")  # an endless chain of two atoms along a
    connected = connect(sites_of(["C", "C"], [[0.1, 0.5, 0.5], [1.6, 0.5, 0.5]], cell), cell, symmetry)
    assert abs(np.diff(connected.xyz_frac[:, 0])) == pytest.approx([0.5])


def test_no_atoms_need_no_move():
    assert len(connect(sites_of([], np.zeros((0, 3))), CELL, find_symmetry("P 1"))) == 0


def test_displacements_turn_with_the_atoms():
    cell = Cell(6.0, 6.0, 9.0, 90.0, 90.0, 120.0)
    third = np.array([[[0, -1, 0], [1, -1, 0], [0, 0, 1]]])  # three-fold axis along c
    U = np.array([[0.05, 0.02, 0.03, 0.004, 0.01, 0.015]])
    turn = cell.orthogonalisation @ third[0] @ np.linalg.inv(cell.orthogonalisation)
    expected = turn @ cartesian_u(U, cell)[0] @ turn.T
    assert np.allclose(cartesian_u(rotated_u(U, third, cell), cell)[0], expected)
    assert np.allclose(rotated_u(rotated_u(rotated_u(U, third, cell), third, cell), third, cell), U)


def test_heavy_atoms_come_first_then_the_chain_with_its_hydrogen_atoms():
    xyz = chain(4, (0.2, 0.3, 0.5))
    hydrogen = xyz[1] + np.array([0, 0, 0.95]) @ np.linalg.inv(CELL.orthogonalisation).T
    far = np.array([0.7, 0.8, 0.9])
    sites = sites_of(["O", "H", "C", "C", "S", "O"], [far, hydrogen, xyz[2], xyz[1], xyz[0], xyz[3]])
    ordered = order_atoms(sites, CELL, find_symmetry("P 1"))
    assert ordered.elements in (("S", "C", "H", "C", "O", "O"), ("S", "O", "C", "C", "H", "O"))
    assert np.allclose(ordered.xyz_frac[-1], far)  # the smaller molecule comes last
