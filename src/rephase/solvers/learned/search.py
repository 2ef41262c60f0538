"""Candidates for the phases of measured reflections, from random starts of a trained network."""

import math
from typing import NamedTuple

import torch

from rephase.crystal.cell import Cell
from rephase.crystal.phases import unit_phasor
from rephase.crystal.symmetry import Symmetry
from rephase.devices import at_once
from rephase.solvers.grids import HalfGrid
from rephase.solvers.learned.network import RecurrentNetwork
from rephase.solvers.learned.spheres import Spheres, measured, points_needed
from rephase.solvers.learned.starts import operations_of, random_starts
from rephase.solvers.problem import PhaseProblem
from rephase.solvers.strategy import Recipe, Trials, polish
from rephase.solvers.symmetric_grids import SymmetricGrid, symmetric_grid

_N_STEPS = 24
_CYCLES_OF_CHANNEL = 6  # time of a channel of a layer in one step, relative to a cycle of a classical search
# Measured with 24 and 48 channels, 2 and 4 layers; of a voxel: tables and starts, a channel, its filter in a layer
_BYTES_PER_VOXEL, _BYTES_OF_CHANNEL, _BYTES_OF_FILTER = 400, 25, 4


class LearnedSearch(NamedTuple):
    """A search of `pursue` whose trials are starts of a network, finished by a classical recipe."""

    network: RecurrentNetwork
    finishing: Recipe
    n_steps: int = _N_STEPS

    @property
    def beyond(self) -> bool:
        """False: the network works on the sphere of the data."""
        return False

    @property
    def n_cycles(self) -> int:
        """Cost of a trial before its finish, in cycles of a map of `space`."""
        return round(self.n_steps * self.network.width * len(self.network.layers) * _CYCLES_OF_CHANNEL)

    def shortened(self, part: float) -> "LearnedSearch":
        """Return the same search with a fraction `part` of the steps."""
        steps = max(1, int(part * self.n_steps))
        return self._replace(n_steps=steps, finishing=self.finishing.shortened(part))

    def extra_bytes(self, cell: Cell, symmetry: Symmetry, d_min: float, device: torch.device) -> int:
        """Estimate the memory of the network for the starts that it runs at once, to within a factor of two."""
        n_voxels, network = math.prod(grid_of(cell, symmetry, d_min).shape), self.network
        of_channel = _BYTES_OF_CHANNEL + _BYTES_OF_FILTER * len(network.layers)
        of_voxel = _BYTES_PER_VOXEL + of_channel * (network.width + network.n_gradients)
        return _starts_at_once(n_voxels, device) * n_voxels * of_voxel

    def space(self, problem: PhaseProblem) -> PhaseProblem:
        """Return the problem on the sphere of the data."""
        return problem.within_data

    def trials(self, problem: PhaseProblem, n: int, generator: torch.Generator) -> Trials:
        """Run `n` random starts of the network, and finish them in the group."""
        return polish(problem, search(problem, self.network, n, self.n_steps, generator).F, self.finishing)


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
    symmetric = grid_of(space.reduced.cell, space.symmetry, space.d_min)
    lattice, d_min = like.new_tensor(symmetric.cell.orthogonalisation)[None], like.new_tensor([space.d_min])
    spheres = Spheres(symmetric.shape, lattice, d_min)
    grid = HalfGrid(space.hkl @ space.hkl.new_tensor(symmetric.basis), spheres.shape)
    known = space.amplitude.to(like)
    data = measured(spheres, grid.put(known)[None], grid.put(torch.ones_like(known))[None] > 0)
    at_a_time = _starts_at_once(spheres.n_voxels, problem.device)
    found = []
    for first in range(0, n, at_a_time):
        operations = operations_of(symmetric.symmetry, min(at_a_time, n - first), like)
        phasors = network(data, random_starts(spheres, operations, generator), n_steps)
        lists = grid.get(data.scale * data.amplitude * torch.where(data.is_measured, unit_phasor(phasors), phasors))
        found.append((lists.to(torch.complex64), data.confidence(phasors)))
    F, confidence = (torch.cat(each) for each in zip(*found))
    order = confidence.argsort(descending=True)
    return Candidates(problem.from_within_data(F[order]), confidence[order])


def _starts_at_once(n_voxels: int, device: torch.device) -> int:
    return max(1, at_once("phasing maps", device) // n_voxels)


def grid_of(cell: Cell, symmetry: Symmetry, d_min: float) -> SymmetricGrid:
    """Return the grid of the network for data to `d_min` in Å in a reduced cell; the group maps it onto itself."""
    limit = torch.tensor(d_min, dtype=torch.float64)
    return symmetric_grid(cell, symmetry, lambda lengths: points_needed(torch.as_tensor(lengths), limit).numpy())
