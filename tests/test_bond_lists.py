"""Bonds and angles with uncertainties: by hand, and against structures drawn at random within their uncertainties."""

from dataclasses import replace

import numpy as np
import pytest

from rephase.crystal.cell import Cell
from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.statistics import unique_hkl
from rephase.crystal.symmetry import find_symmetry
from rephase.refinement.bond_lists import bond_angles, bond_lengths, bond_torsions, hydrogen_bonds
from rephase.refinement.model import Model, Statistics, Uncertainties
from rephase.refinement.sites import Sites

TRICLINIC = Cell(7.0, 8.0, 9.0, 75.0, 82.0, 103.0)


def model_of(atoms, su, cell, symbol="P 1", parent=None) -> Model:
    """Atoms at Cartesian positions in Å, with uncertainties of their fractions [n] or [n, 3]."""
    elements = [element for element, _ in atoms]
    xyz = np.array([place for _, place in atoms]) @ np.linalg.inv(cell.orthogonalisation).T
    n, symmetry = len(atoms), find_symmetry(symbol)
    labels = [f"{element}{i}" for i, element in enumerate(elements, 1)]
    sites = Sites.isotropic(labels, elements, xyz, np.full(n, 0.03), cell)
    sites = (
        sites if parent is None else replace(sites, parent=np.array(parent), afix=np.where(np.array(parent) < 0, 0, 43))
    )
    hkl = unique_hkl(cell, symmetry, 1.5)
    ones = np.ones(len(hkl))
    data = Reflections(hkl, ones, ones, cell, symmetry, is_merged=True)
    sigma = np.broadcast_to(np.reshape(su, (n, -1)), (n, 3))
    zeros = Uncertainties(sigma, np.zeros((n, 6)), np.zeros(n), np.zeros(n))
    statistics = Statistics(0.03, 0.03, 0.08, 1.0, 1, 1, 1, 0, 0.1, -0.1, 0.05, 0.0, 1.0)
    return Model(sites, zeros, data, ones, ones, 1.0, 0.0, 0.0, (0.05, 0.0), statistics)


CHAIN = [("C", [3.0, 3.0, 3.0]), ("C", [4.5, 3.0, 3.0]), ("O", [5.1, 4.2, 3.2])]


def test_a_bond_along_an_axis_by_hand():
    model = model_of(CHAIN[:2], [0.001, 0.002], Cell(10.0, 10.0, 10.0, su=(0.02, 0.03, 0.04, 0, 0, 0)))
    bonds = bond_lengths(model)
    assert bonds.atoms.tolist() == [[0, 1]]
    assert bonds.value == pytest.approx([1.5])
    assert bonds.su == pytest.approx([np.sqrt(0.01**2 + 0.02**2 + (0.15 * 0.02) ** 2)], rel=1e-4)
    assert bonds.code == (".",)


def test_an_angle_by_hand():
    atoms = [("O", [4.5, 3, 3]), ("C", [3, 3, 3]), ("O", [3, 4.5, 3])]
    angles = bond_angles(model_of(atoms, [[0.001, 0.002, 0.003], [0, 0, 0], [0, 0, 0]], Cell(10.0, 10.0, 10.0)))
    assert angles.value == pytest.approx([90])
    assert angles.su == pytest.approx([np.degrees(0.02 / 1.5)])  # the oxygen atom moves along y only


@pytest.mark.parametrize(("symbol", "n_bonds"), [("P 1", 2), ("P -1", 3)])
def test_uncertainties_are_those_of_a_sample(symbol, n_bonds):
    """The second atom is bonded to its own image in P -1: both ends move together."""
    centre = TRICLINIC.orthogonalisation @ np.full(3, 0.5)
    atoms = [(e, centre + step) for e, step in (("C", [2, 0.6, 0.2]), ("C", [0.7, 0.1, 0.2]), ("O", [2.6, 1.7, 0.5]))]
    su = np.array([[5, 3, 4], [2, 6, 3], [4, 4, 2]]) * 1e-4
    model = model_of(atoms, su, TRICLINIC, symbol)
    rng = np.random.default_rng(0)
    sample = [
        replace(model, sites=replace(model.sites, xyz_frac=model.sites.xyz_frac + su * rng.normal(size=(3, 3))))
        for _ in range(400)
    ]
    for listed, n in ((bond_lengths, n_bonds), (bond_angles, n_bonds - 1), (bond_torsions, 2 * (n_bonds - 2))):
        values = np.abs([listed(each).value for each in sample])  # a torsion of 180° is one of -180° too
        exact = listed(model)
        assert len(exact.value) == n
        np.testing.assert_allclose(exact.su, values.std(0), rtol=0.15, atol=1e-9)


def test_equal_axes_change_together():
    a = 4.0 + 1e-9
    diagonal = [("C", [0.5, 0.5, 0.5]), ("C", [1.5, 1.5, 0.5])]
    model = model_of(diagonal, [0, 0], Cell(a, a, 9.0, su=(0.01, 0.01, 0, 0, 0, 0)))
    assert bond_lengths(model).su == pytest.approx([np.sqrt(2) * 0.01 / 4])


def test_riding_hydrogen_atoms_have_no_uncertainty():
    atoms = [*CHAIN, ("H", [2.6, 3.0, 3.9])]
    model = model_of(atoms, [0.001, 0.001, 0.001, 0], Cell(10.0, 10.0, 10.0, su=(0.01,) * 6), parent=[-1, -1, -1, 0])
    bonds, angles = bond_lengths(model), bond_angles(model)
    assert (bonds.su > 0).tolist() == [3 not in row for row in bonds.atoms.tolist()]
    assert (angles.su > 0).tolist() == [3 not in row for row in angles.atoms.tolist()]
    assert len(angles.value) == 2


def test_a_straight_angle_through_a_centre_is_exact():
    model = model_of([("Cu", [0, 0, 0]), ("O", [1.2, 1.3, 0.5])], [0, 1e-3], Cell(10.0, 10.0, 10.0), "P -1")
    angles = bond_angles(model)
    assert angles.value == pytest.approx([180.0])
    assert angles.su.tolist() == [0.0]
    assert sorted(code[0] for code in angles.codes) == [".", "2_555"]
    assert bond_lengths(model).atoms.tolist() == [[0, 1], [0, 1]]


def test_bonds_of_disorder_parts_make_no_angle():
    atoms = [("C", [3, 3, 3]), ("F", [4.3, 3, 3]), ("F", [3, 4.3, 3])]
    model = model_of(atoms, [0, 0, 0], Cell(10.0, 10.0, 10.0))
    assert len(bond_angles(model).value) == 1
    apart = replace(model, sites=replace(model.sites, part=np.array([0, 1, 2])))
    assert len(bond_angles(apart).value) == 0


def test_a_torsion_by_hand():
    """Clockwise along the middle bond is positive: from +y (above) to +z (to the right of a viewer along +x)."""
    turn = np.radians(60)
    places = [[3, 4.5, 3], [3, 3, 3], [4.5, 3, 3], [4.5, 3 + 1.5 * np.cos(turn), 3 + 1.5 * np.sin(turn)]]
    model = model_of([("C", place) for place in places], np.outer([0, 0, 0, 1], [0, 0, 1e-3]), Cell(10.0, 10.0, 10.0))
    torsions = bond_torsions(model)
    assert torsions.atoms.tolist() == [[0, 1, 2, 3]]
    assert torsions.value == pytest.approx([60])
    assert torsions.su == pytest.approx([np.degrees(0.01 * np.cos(turn) / 1.5)])
    assert torsions.codes == ((".",),) * 4
    apart = replace(model, sites=replace(model.sites, part=np.array([1, 0, 0, 2])))
    assert len(bond_torsions(apart).value) == 0


def test_a_hydrogen_bond_has_the_uncertainty_of_its_ends():
    atoms = [("O", [2, 2, 2]), ("H", [2.8, 2, 2]), ("N", [4.8, 2, 2])]
    found, su = hydrogen_bonds(model_of(atoms, [1e-3, 0, 1e-3], Cell(10.0, 10.0, 10.0), parent=[-1, 0, -1]))
    assert found.donor_acceptor == pytest.approx([2.8])
    assert su == pytest.approx([np.sqrt(2) * 0.01])
