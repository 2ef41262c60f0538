"""Candidates for the phases of measured reflections, from random starts of a trained network."""

import itertools
import math
from typing import NamedTuple

import numpy as np
import torch

from rephase.crystal.phases import unit_phasor
from rephase.crystal.symmetry import Symmetry
from rephase.devices import at_once
from rephase.labs.phasing.data import shape_for
from rephase.labs.phasing.models.recurrent import RecurrentNetwork
from rephase.labs.phasing.models.spheres import Spheres, measured
from rephase.labs.phasing.starts import operations_of, random_starts
from rephase.solvers.grids import HalfGrid, fast_size
from rephase.solvers.problem import PhaseProblem

_N_SIZES = 6  # of each axis, among which a grid that suits the group is looked for


class Candidates(NamedTuple):
    """Symmetric lists F [n, n_refl] of a problem, the most confident first, and their ``confidence`` [n], 0 to 1.

    Measured reflections have their amplitudes, unmeasured ones inside the sphere of the data those that the network
    found; finer ones are zero.
    """

    F: torch.Tensor
    confidence: torch.Tensor


@torch.no_grad()
def search(
    problem: PhaseProblem, network: RecurrentNetwork, n: int, n_steps: int, generator: torch.Generator
) -> Candidates:
    """Start a network `n` times from random phases that obey the group.

    Parameters
    ----------
    problem
        The measured amplitudes; `rephase.solvers.strategy.polish` finishes the candidates for the same problem.
    network
        On the device of the problem.
    n, n_steps
        Starts, and steps from each.
    generator
        Of the random numbers, on the CPU.
    """
    space, like = problem.within_data, network.gain
    spheres = _spheres(space, like)
    grid = HalfGrid(space.hkl, spheres.shape)
    known = space.amplitude.to(like)
    data = measured(spheres, grid.put(known)[None], grid.put(torch.ones_like(known))[None] > 0)
    at_a_time = max(1, at_once("phasing maps", problem.device) // spheres.n_voxels)
    found = []
    for first in range(0, n, at_a_time):
        operations = operations_of(space.symmetry, min(at_a_time, n - first), like)
        phasors = network(data, random_starts(spheres, operations, generator), n_steps)
        lists = grid.get(data.scale * data.amplitude * torch.where(data.is_measured, unit_phasor(phasors), phasors))
        found.append((lists.to(torch.complex64), data.confidence(phasors)))
    F, confidence = (torch.cat(each) for each in zip(*found))
    order = confidence.argsort(descending=True)
    return Candidates(problem.from_within_data(F[order]), confidence[order])


def _spheres(problem: PhaseProblem, like: torch.Tensor) -> Spheres:
    """Return the sphere of the data on a grid that the operations of the group map onto itself."""
    lattice, d_min = like.new_tensor(problem.reduced.cell.orthogonalisation)[None], like.new_tensor([problem.d_min])
    a, b, c = shape_for(lattice, d_min)[0].tolist()
    return Spheres(symmetric_shape(problem.symmetry, (a, b, c)), lattice, d_min)


def symmetric_shape(symmetry: Symmetry, fewest: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return the smallest fast grid with at least so many points that the operations of a group map onto itself.

    If none of the next sizes does, the smallest: answers then obey the group up to aliasing.
    """
    axes = []
    for size in fewest:
        sizes = [fast_size(size)]
        while len(sizes) < _N_SIZES:
            sizes.append(fast_size(sizes[-1] + 1))
        axes.append(sizes)
    shapes = sorted(itertools.product(*axes), key=math.prod)
    a, b, c = next((shape for shape in shapes if _maps_onto_itself(symmetry, np.array(shape))), shapes[0])
    return a, b, c


def _maps_onto_itself(symmetry: Symmetry, shape: np.ndarray) -> bool:
    """Whether every operation moves a point of the grid to another one."""
    steps = symmetry.rotations * shape[:, None] / shape
    shifts = symmetry.translations * shape
    return all(np.allclose(each, np.rint(each), atol=1e-6) for each in (steps, shifts))
