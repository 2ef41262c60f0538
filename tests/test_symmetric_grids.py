"""FFT grids that every operation of a space group maps onto itself, in the axes that make them smallest."""

import math

import numpy as np
import pytest

from rephase import read_crystal
from rephase.crystal.cell import Cell
from rephase.crystal.symmetry import find_symmetry, reduced_cell
from rephase.solvers.symmetric_grids import symmetric_grid, symmetric_shape

CELLS = {
    "R -3 m": (4, 4, 80, 90, 90, 120),
    "R 3": (24, 24, 7, 90, 90, 120),
    "I 41/a c d": (6, 6, 40, 90, 90, 90),
    "F d d d": (6, 10, 40, 90, 90, 90),
    "I b c a": (6, 10, 40, 90, 90, 90),
    "C 1 2/c 1": (40, 6, 9, 90, 103, 90),
    "P 31": (9, 9, 30, 90, 90, 120),
    "P 41 3 2": (9, 9, 9, 90, 90, 90),
    "P -1": (6, 9, 13, 81, 84, 77),
}


def points_needed(lengths):
    return np.ceil(2 * lengths / 1.2).astype(int) + 1


def grid_of(parameters, symmetry):
    """The reduced cell of a lattice, the group in its axes, and the grid."""
    reduced = reduced_cell(Cell(*parameters), symmetry)
    group = symmetry.in_basis(reduced.basis)
    return reduced, group, symmetric_grid(reduced.cell, group, points_needed)


@pytest.mark.parametrize(
    ("group", "fewest", "expected"),
    [
        ("P 21 21 21", (9, 11, 13), (10, 12, 16)),
        ("P 41", (9, 11, 13), (12, 12, 16)),  # equal along a and b; quarters along c
        ("P 31", (9, 9, 10), (10, 10, 12)),  # thirds along c
        ("P 1", (9, 11, 13), (10, 12, 16)),
    ],
)
def test_a_grid_suits_the_group(group, fewest, expected):
    assert symmetric_shape(fewest, find_symmetry(group)) == expected


@pytest.mark.parametrize("name", CELLS)
def test_every_operation_maps_the_points_onto_points(name):
    _, _, grid = grid_of(CELLS[name], find_symmetry(name))
    shape = np.array(grid.shape)
    corners = np.concatenate([np.zeros((1, 3)), np.eye(3)]) / shape
    for rotation, translation in zip(grid.symmetry.rotations, grid.symmetry.translations):
        images = (corners @ rotation.T + translation) * shape
        np.testing.assert_allclose(images, np.rint(images), atol=1e-6)


@pytest.mark.parametrize("name", CELLS)
def test_the_axes_are_those_of_the_same_lattice_with_enough_points(name):
    reduced, group, grid = grid_of(CELLS[name], find_symmetry(name))
    assert round(np.linalg.det(grid.basis)) == 1
    assert grid.cell.volume == pytest.approx(reduced.cell.volume)
    assert set(group.in_basis(grid.basis).triplets) == set(grid.symmetry.triplets)
    assert (np.array(grid.shape) >= points_needed(np.array(grid.cell.parameters[:3]))).all()


@pytest.mark.parametrize("name", ["R -3 m", "R 3", "I 41/a c d", "F d d d", "I b c a", "C 1 2/c 1"])
def test_a_long_axis_does_not_make_the_others_equal(name):
    reduced, group, grid = grid_of(CELLS[name], find_symmetry(name))
    needed = points_needed(np.array(reduced.cell.parameters[:3]))
    assert math.prod(grid.shape) < math.prod(symmetric_shape(needed, group)) / 1.5
    assert math.prod(grid.shape) < 2.1 * math.prod(needed)


@pytest.mark.parametrize("name", ["P 31", "P 41 3 2", "P -1"])
def test_axes_are_kept_that_are_not_mixed(name):
    _, _, grid = grid_of(CELLS[name], find_symmetry(name))
    assert (grid.basis == np.eye(3)).all()


def test_the_grid_of_a_real_layered_crystal_is_small(cod_file):
    crystal = read_crystal(cod_file("9000029.cif"))  # 3.1 x 3.1 x 83 Å
    reduced, group, grid = grid_of(crystal.cell.parameters, find_symmetry(crystal.space_group))
    needed = points_needed(np.array(reduced.cell.parameters[:3]))
    assert math.prod(symmetric_shape(needed, group)) > 20 * math.prod(grid.shape)
