"""Hydrogen bonds, by hand-made contacts."""

from dataclasses import replace

import numpy as np
import pytest

from rephase.crystal.cell import Cell
from rephase.crystal.symmetry import find_symmetry
from rephase.refinement.hydrogen_bonds import find_hydrogen_bonds, symmetry_codes
from rephase.refinement.sites import Sites

CELL = Cell(10.0, 10.0, 10.0)


def hydroxyl(elements, xyz):
    """An oxygen atom, its hydrogen atom, and others, at positions in Å."""
    labels = [f"{element}{i}" for i, element in enumerate(elements)]
    sites = Sites.isotropic(labels, elements, np.array(xyz) / 10, np.full(len(elements), 0.03), CELL)
    return replace(sites, parent=np.array([-1, 0] + [-1] * (len(elements) - 2)))


def test_a_straight_bond():
    found = find_hydrogen_bonds(hydroxyl("OHN", [[1, 0, 0], [1.84, 0, 0], [3.8, 0, 0]]), CELL, find_symmetry("P 1"))
    assert (found.donor.tolist(), found.hydrogen.tolist(), found.acceptor.tolist()) == ([0], [1], [2])
    assert found.donor_hydrogen[0] == pytest.approx(0.84)
    assert found.hydrogen_acceptor[0] == pytest.approx(1.96)
    assert found.donor_acceptor[0] == pytest.approx(2.8)
    assert found.angle[0] == pytest.approx(180)
    assert found.code == (".",)


@pytest.mark.parametrize("acceptor", [[1.4, 2.0, 0], [4.5, 0, 0]], ids=["bent", "far"])
def test_no_bond(acceptor):
    found = find_hydrogen_bonds(hydroxyl("OHN", [[1, 0, 0], [1.84, 0, 0], acceptor]), CELL, find_symmetry("P 1"))
    assert len(found.donor) == 0
    assert found.code == ()


def test_carbon_accepts_none_and_chloride_from_further_away():
    xyz = [[1, 0, 0], [1.84, 0, 0], [4.6, 0, 0]]
    assert len(find_hydrogen_bonds(hydroxyl("OHC", xyz), CELL, find_symmetry("P 1")).donor) == 0
    far = find_hydrogen_bonds(hydroxyl(["O", "H", "Cl"], xyz), CELL, find_symmetry("P 1"))
    assert far.donor_acceptor == pytest.approx([3.6])


@pytest.mark.parametrize(
    ("centre", "ligand", "length", "n_ligands", "accepts"),
    [
        ("Cl", "O", 1.43, 4, False),
        ("Cl", "Cu", 2.3, 2, True),
        ("S", "O", 1.47, 4, False),
        ("S", "C", 1.8, 2, True),
        ("N", "C", 1.5, 4, False),
        ("N", "C", 1.45, 3, True),
    ],
)
def test_only_atoms_with_a_lone_pair_accept(centre, ligand, length, n_ligands, accepts):
    """Perchlorate, sulfate and ammonium accept no bond at their centre; chloride between two metals does."""
    away = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]][:n_ligands]) / np.sqrt(3)
    xyz = [[1, 5, 5], [1.84, 5, 5], [3.9, 5, 5], *(np.array([3.9, 5, 5]) + length * away)]
    found = find_hydrogen_bonds(hydroxyl(["O", "H", centre, *[ligand] * n_ligands], xyz), CELL, find_symmetry("P 1"))
    assert (2 in found.acceptor) == accepts


def test_the_acceptor_is_an_image():
    """-x, -y, -z and a step along a bring nitrogen from x = 6.7 Å to 3.3 Å."""
    sites = hydroxyl("OHN", [[0.5, 0, 0], [1.34, 0, 0], [6.7, 0, 0]])
    found = find_hydrogen_bonds(sites, CELL, find_symmetry("P -1"))
    assert found.code == ("2_655",)
    assert found.donor_acceptor == pytest.approx([2.8])
    image = found.rotation[0] @ sites.xyz_frac[2] + found.shift[0]
    np.testing.assert_allclose(image, [0.33, 0, 0], atol=1e-9)


def test_codes_follow_the_order_of_the_operations():
    group = find_symmetry("P 21/c")
    shift = group.translations[3] + [0, -1, 2]
    assert symmetry_codes(group.rotations[3:4], shift[None], group) == ("4_547",)
