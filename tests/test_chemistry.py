"""Chemistry of right and wrong models."""

from dataclasses import replace

import numpy as np
import pytest

from rephase.crystal.cell import Cell
from rephase.crystal.symmetry import find_symmetry
from rephase.refinement.chemistry import check_chemistry
from rephase.refinement.sites import Sites

CELL, GROUP = Cell(6.5, 6.5, 3.2), find_symmetry("P 1")
ANGLES = np.radians(60 * np.arange(6))


def benzene(radius=1.39, elements="CCCCCC"):
    """A ring of six atoms in a cell of 135.2 Å^3."""
    xyz = np.column_stack([radius * np.cos(ANGLES), radius * np.sin(ANGLES), np.zeros(6)]) / (6.5, 6.5, 3.2) + 0.5
    labels = [f"{element}{i}" for i, element in enumerate(elements, 1)]
    return Sites.isotropic(labels, list(elements), xyz, np.full(6, 0.03), CELL)


def with_atom(element, offset):
    extra = Sites.isotropic(["X1"], [element], (0.5 + np.array([offset]) / (6.5, 6.5, 3.2)), np.array([0.03]), CELL)
    return benzene().joined(extra)


def test_a_ring_is_sensible():
    result = check_chemistry(benzene(), CELL, GROUP)
    assert result.sensible == 1
    assert result.remarks == ()
    assert result.geometry > 0


def test_faults_are_counted_and_named():
    short = check_chemistry(with_atom("C", (1.39, 0.6, 0.9)), CELL, GROUP)
    assert short.n_short == 2
    assert "X1" in short.remarks[0]
    crowded = check_chemistry(replace(benzene(), elements=("F", *"CCCCC")), CELL, GROUP)
    assert crowded.n_crowded == 1
    assert crowded.sensible == pytest.approx(5 / 6)
    narrow = check_chemistry(with_atom("C", (2.29, 1.32, 0.0)), CELL, GROUP)
    assert narrow.n_angles == 1  # 51.5° at the new atom, 1.6 Å from two others


@pytest.mark.parametrize(("element", "n"), [("C", 1), ("O", 0), ("Cl", 0)])
def test_only_atoms_of_chains_are_missed_by_themselves(element, n):
    cell = Cell(12.0, 12.0, 12.0)
    alone = Sites.isotropic(["X1"], [element], np.array([[0.5, 0.5, 0.5]]), np.array([0.03]), cell)
    assert check_chemistry(alone, cell, GROUP).n_isolated == n


def test_random_atoms_are_worse_than_a_molecule():
    xyz = np.random.default_rng(0).random((6, 3))
    wrong = Sites.isotropic(benzene().labels, benzene().elements, xyz, np.full(6, 0.03), CELL)
    result = check_chemistry(wrong, CELL, GROUP)
    assert result.sensible < 0.8
    assert result.geometry < check_chemistry(benzene(), CELL, GROUP).geometry - 2
