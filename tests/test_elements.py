"""Elements from electrons, bonds and formula."""

import numpy as np
import pytest
import torch

from rephase.crystal.cell import Cell
from rephase.crystal.peaks import UNASSIGNED
from rephase.crystal.reflections.simulation import simulate_reflections
from rephase.crystal.reflections.statistics import absolute_amplitude
from rephase.crystal.symmetry import find_symmetry
from rephase.random_crystals.crystals import RandomCrystalOptions, random_crystals
from rephase.refinement.atoms.factors import AtomList
from rephase.refinement.contacts import find_contacts
from rephase.refinement.elements import assign_elements, count_electrons
from rephase.refinement.geometry import REACH, geometry_scores, mean_geometry

CELL, GROUP = Cell(9.0, 9.0, 9.0), find_symmetry("P 1")
# Acetonitrile and acetone: positions in Å
NITRILE = np.array([[0.0, 0.0, 0.0], [1.46, 0.0, 0.0], [2.60, 0.0, 0.0]])
KETONE = np.array([[0.0, 5.0, 4.0], [1.29, 4.24, 4.0], [2.58, 5.0, 4.0], [1.29, 3.02, 4.0]])
ELEMENTS = ("C", "C", "N", "C", "C", "C", "O")
NUMBERS = {"C": 6.0, "N": 7.0, "O": 8.0, "F": 9.0, "S": 16.0, "Cl": 17.0, "Br": 35.0}


def molecules(electrons):
    xyz = (np.concatenate([NITRILE, KETONE]) + 1.0) / 9.0
    return AtomList(xyz, np.array(electrons, float), np.full(7, 0.03))


def true_electrons(elements):
    return np.array([NUMBERS[element] for element in elements])


@pytest.mark.parametrize("scale", [0.85, 1.0, 1.2])
@pytest.mark.parametrize("formula", [None, {"C": 5, "N": 1, "O": 1, "H": 9}])
def test_electrons_give_elements_at_any_scale(scale, formula):
    atoms = molecules(scale * true_electrons(ELEMENTS))
    found = assign_elements(atoms, np.full(7, 0.1), CELL, GROUP, formula=formula)
    assert found.elements == ELEMENTS
    assert found.scale == pytest.approx(scale, abs=0.05)


def test_bonds_decide_where_electrons_do_not():
    atoms = molecules([6.3, 6.2, 6.7, 6.2, 6.3, 6.4, 6.8])
    found = assign_elements(atoms, np.full(7, 1.0), CELL, GROUP, formula={"C": 5, "N": 1, "O": 1})
    assert found.elements == ELEMENTS


def test_atoms_beyond_the_formula_get_an_element_and_faded_ones_none():
    atoms = molecules([6.0, 6.0, 7.0, 6.0, 6.0, 6.0, 8.0])
    extra = AtomList(np.array([[0.9, 0.9, 0.95], [0.2, 0.9, 0.8]]), np.array([8.0, 1.2]), np.array([0.05, 0.2]))
    found = assign_elements(atoms.joined(extra), np.full(9, 0.1), CELL, GROUP, formula={"C": 5, "N": 1, "O": 1})
    assert found.elements == (*ELEMENTS, "O", UNASSIGNED)
    assert found.is_atom.tolist() == [True] * 8 + [False]


def test_a_special_position_takes_part_of_the_formula():
    cell, group = Cell(6.0, 6.5, 7.0), find_symmetry("P -1")
    atoms = AtomList(
        np.array([[0, 0, 0], [0.3, 0.3, 0.3], [0.3, 0.6, 0.8]]), np.array([26.5, 17, 17.0]), np.full(3, 0.02)
    )
    found = assign_elements(atoms, np.full(3, 0.5), cell, group, formula={"Fe": 1, "Cl": 4})
    assert found.elements == ("Fe", "Cl", "Cl")


def test_doubtful_atoms_are_named():
    sure = assign_elements(molecules(true_electrons(ELEMENTS)), np.full(7, 0.02), CELL, GROUP)
    unsure = assign_elements(molecules(true_electrons(ELEMENTS)), np.full(7, 3.0), CELL, GROUP)
    assert unsure.doubtful.sum() > sure.doubtful.sum()


def test_geometry_prefers_the_true_elements():
    contacts = find_contacts(molecules(np.ones(7)).xyz_frac, CELL, GROUP, REACH)
    candidates, chosen = ("C", "N", "O", "F"), np.array([0, 0, 1, 0, 0, 0, 2])
    scores = geometry_scores(contacts, candidates, chosen)
    assert candidates[scores[2].argmax()] == "N"  # 1.14 Å from carbon
    assert candidates[scores[6].argmax()] == "O"  # 1.22 Å
    assert scores[4, 0] > scores[4, 2] + 3  # three neighbours: carbon, not oxygen
    swapped = ["O" if element == "N" else "N" if element == "O" else element for element in ELEMENTS]
    assert mean_geometry(contacts, ELEMENTS) > mean_geometry(contacts, swapped)


@pytest.mark.parametrize("group", ["P 1 21/c 1", "C 1 2 1"])
def test_counted_electrons_are_those_of_the_crystal(group):
    options = RandomCrystalOptions(space_groups=(group,), n_atoms=(8, 12))
    made = random_crystals(1, generator=torch.Generator().manual_seed(1), options=options, dtype=torch.float64)
    crystal = made.crystal(0)
    sites = crystal.asymmetric_unit
    is_heavy = np.array(sites.elements) != "H"
    sites = sites.take(np.flatnonzero(is_heavy))
    data, _ = simulate_reflections(crystal, 1.0)
    amplitude = 1.3 * absolute_amplitude(data)  # a wrong scale
    start = AtomList(sites.xyz_frac, 1.3 * true_electrons(sites.elements), sites.u_iso + 0.01)
    assigned = assign_elements(start, np.full(len(start), 0.3), data.cell, data.group)
    atoms, sd = count_electrons(data, amplitude, start, assigned.elements)
    again = assign_elements(atoms, sd, data.cell, data.group)
    right = np.mean([found == true for found, true in zip(again.elements, sites.elements)])
    assert right >= 0.85
    assert np.median(np.abs(atoms.electrons / again.scale - true_electrons(sites.elements))) < 0.3
