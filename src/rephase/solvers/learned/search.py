"""Trials with a trained network: it improves phases of any origin in the group, and says how sure it is of them."""

import math
from typing import NamedTuple

import torch

from rephase.crystal.cell import Cell
from rephase.crystal.phases import unit_phasor
from rephase.crystal.symmetry import find_symmetry
from rephase.devices import at_once
from rephase.solvers.grids import HalfGrid, fast_size
from rephase.solvers.learned.network import RecurrentNetwork
from rephase.solvers.learned.spheres import Spheres, measured, points_needed
from rephase.solvers.learned.starts import operations_of, random_starts
from rephase.solvers.problem import PhaseProblem
from rephase.solvers.strategy import Recipe, finish_in_group
from rephase.solvers.trials import Trials, joined

_STEPS_IN_GROUP = (4, 4, 8)  # after each average over the operations
# A part of the lists, and at least two, go on with rounds of these steps as long as each adds so much confidence. What
# is right in part becomes complete, often in the third round only, and what is wrong stays as it is (docs/results.md).
MOST_ROUNDS, _PART_GOING_ON, _FEWEST_GOING_ON, _GAIN = 5, 0.25, 2, 0.005
_ROUNDS = 1.5  # lists in all rounds for each in the first: 1.4 to 1.8 for four crystals at 1.5 and 2 Å
_SAME_TRIPLETS = 0.95  # part of the largest third moment of a map; a test shows that true maps stay below
# Cycles of a channel of a layer in one step for a voxel of the network's grid: process time of `LearnedSearch.trials`
# beyond that of `n_proposals` trials of its recipe, in turn in one run on one thread, in units of what `plan_trials`
# counts for these: 1.6 to 2.2 with each recipe, for three groups of 4 and 8 operations to 2 Å, 11,520 to 25,600 voxels
_CYCLES_OF_CHANNEL = 1.8
# Measured with 24 and 48 channels, 2 and 4 layers; of a voxel: tables and starts, a channel, its filter in a layer
_BYTES_PER_VOXEL, _BYTES_OF_CHANNEL, _BYTES_OF_FILTER = 400, 25, 4


class LearnedSearch(NamedTuple):
    """A search of `pursue` in which a network improves and ranks the best of many classical trials.

    A network alone believes in its own mistakes. Those of a classical search are others, so the two judge each other:
    the misfit chooses the trials of which the network is asked, and its confidence ranks what it makes of them.

    Parameters
    ----------
    network
        On the device of the problem.
    recipe
        Of the classical trials.
    n_proposals
        Classical trials for each one that the network takes on; of all in a batch, those of smallest misfit.
    n_rounds
        Most rounds of the network; 1: no list goes on.
    """

    network: RecurrentNetwork
    recipe: Recipe
    n_proposals: int
    n_rounds: int = MOST_ROUNDS

    def shortened(self, part: float) -> "LearnedSearch":
        """Return the same search with a fraction `part` of the classical trials, or one that is shorter."""
        n = part * self.n_proposals
        return self._replace(n_proposals=max(1, int(n)), recipe=self.recipe if n >= 1 else self.recipe.shortened(n))

    def extra_bytes(self, cell: Cell, d_min: float, device: torch.device) -> int:
        """Estimate the memory of the network for the lists that it takes at once, to within a factor of two."""
        n_voxels, network = _n_voxels(cell, d_min), self.network
        of_channel = _BYTES_OF_CHANNEL + _BYTES_OF_FILTER * len(network.layers)
        of_voxel = _BYTES_PER_VOXEL + of_channel * (network.width + network.n_gradients)
        return _lists_at_once(n_voxels, device) * n_voxels * of_voxel

    def extra_cycles(self, cell: Cell, d_min: float) -> float:
        """Return the cost of the steps of the network on its own grid, in cycles of one voxel."""
        of_step = self.network.width * len(self.network.layers) * _CYCLES_OF_CHANNEL
        n_rounds = min(_ROUNDS, 1 + _PART_GOING_ON * (self.n_rounds - 1))
        return n_rounds * sum(_STEPS_IN_GROUP) * of_step * _n_voxels(cell, d_min)

    @torch.no_grad()
    def proposals(self, problem: PhaseProblem, n: int, generator: torch.Generator) -> Trials:
        """Run ``n_proposals`` classical trials for each of `n`."""
        n_maps = max(1, at_once("search maps", problem.device) // self.recipe.space(problem).n_voxels)
        left, parts = n * self.n_proposals, []
        while left:
            parts.append(self.recipe.trials(problem, min(left, n_maps), generator))
            left -= len(parts[-1].F)
        return joined(parts)

    def improved(self, problem: PhaseProblem, proposed: Trials, n: int) -> Trials:
        """Give the `n` classical trials of smallest misfit to the network."""
        return self.finished(problem, proposed.take(proposed.misfit.argsort()[:n]).F)

    @torch.no_grad()
    def finished(self, problem: PhaseProblem, F: torch.Tensor) -> Trials:
        """Let the network move lists F [n, n_refl] to the group and improve them.

        The misfit of each is that of the density of what the network has made of it.
        """
        found = NetworkSphere(problem, self.network).in_rounds(F, self.n_rounds)
        misfit = finish_in_group(problem, found.F, problem.amplitude, 1).misfit
        return Trials(found.F, misfit, found.confidence)


class Candidates(NamedTuple):
    """Symmetric lists F [n, n_refl] of a problem, and the ``confidence`` of the network in them [n], 0 to 1.

    Measured reflections have their amplitudes, unmeasured ones inside the sphere of the data those that the network
    found; finer ones are zero.
    """

    F: torch.Tensor
    confidence: torch.Tensor


class NetworkSphere:
    """A network on the sphere of the data of a problem.

    Parameters
    ----------
    problem
        The measured amplitudes.
    network
        On the device of the problem.
    """

    def __init__(self, problem: PhaseProblem, network: RecurrentNetwork):
        self.problem, self.network, self.space = problem, network, problem.within_data
        like, known = network.gain, self.space.amplitude.to(network.gain)
        lattice = like.new_tensor(self.space.reduced.cell.orthogonalisation)[None]
        d_min = like.new_tensor([self.space.d_min])
        self.spheres = Spheres(_shape(lattice, d_min), lattice, d_min)
        self.grid = HalfGrid(self.space.hkl, self.spheres.shape)
        is_measured = self.grid.put(torch.ones_like(known))[None] > 0
        self.data = measured(self.spheres, self.grid.put(known)[None], is_measured)
        self._largest_moment = self._third_moment(torch.ones_like(known, dtype=torch.complex64)[None])[0]
        self.n_at_once = _lists_at_once(self.spheres.n_voxels, problem.device)

    @torch.no_grad()
    def from_random(self, n: int, n_steps: int, generator: torch.Generator) -> torch.Tensor:
        """Take steps from `n` random starts; return lists F [n, n_refl] of the problem, each at its own origin.

        The starts have no symmetry: a structure that appears at the wrong place among fixed symmetry elements cannot
        move. `generator` is on the CPU.
        """
        found = []
        for first in range(0, n, self.n_at_once):
            operations = operations_of(find_symmetry("P 1"), min(self.n_at_once, n - first), self.network.gain)
            start = random_starts(self.spheres, operations, generator)
            found.append(self._lists(self.network(self.data, start, n_steps)))
        return self.problem.from_within_data(torch.cat(found))

    def in_rounds(self, F: torch.Tensor, n_rounds: int = MOST_ROUNDS) -> Candidates:
        """Improve lists F [n, n_refl] as `in_group` does, the most promising ones as long as they gain confidence."""
        found = self.in_group(F)
        n_going_on = max(_FEWEST_GOING_ON, int(_PART_GOING_ON * len(F)))
        rows = found.confidence.topk(min(len(F), n_going_on)).indices
        for _ in range(1, n_rounds):
            again = self.in_group(found.F[rows])
            gains = again.confidence > found.confidence[rows] + _GAIN
            rows = rows[gains]
            if not len(rows):
                break
            found.F[rows], found.confidence[rows] = again.F[gains], again.confidence[gains]
        return found

    @torch.no_grad()
    def in_group(self, F: torch.Tensor) -> Candidates:
        """Move lists F [n, n_refl] of the problem to the origin of the group; improve and average them in turn."""
        parts = [self._in_group(part) for part in self.problem.to_within_data(F).split(self.n_at_once)]
        found, confidence = (torch.cat(each) for each in zip(*parts))
        return Candidates(self.problem.from_within_data(found), confidence)

    def _in_group(self, F: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return lists [n, n_refl] of the sphere, and the confidence of the last steps [n]."""
        group, n_known = self.space.group, self.space.n_known
        F, _ = group.move_to_origin(F, n_known, self.space.grid.shape)
        for n_steps in _STEPS_IN_GROUP:
            phasors = self.network(self.data, self.grid.put(group.average(F)), n_steps)
            F = self._lists(phasors)
        F = group.average(F)
        known = unit_phasor(F[:, :n_known])
        F[:, :n_known] = self.space.amplitude * known
        return F, self.data.confidence(phasors).masked_fill(self.is_of_one_atom(known), 0.0)

    def is_of_one_atom(self, phasors: torch.Tensor) -> torch.Tensor:
        """Whether phasors [n, n_known] are those of a single atom in the primitive cell, [n]."""
        return self._third_moment(phasors) > _SAME_TRIPLETS * self._largest_moment

    def _third_moment(self, phasors: torch.Tensor) -> torch.Tensor:
        """Return the third moments [n] of E maps with phasors [n, n_known]: the sum of |EEE| cos over the triplets.

        It is largest if every triplet phase is zero, as with one atom in the primitive cell. This "uranium solution"
        is consistent in itself, and a network is as confident of it as of a right one.
        """
        return self.grid.to_map(self.space.E * phasors).pow(3).sum((1, 2, 3))

    def _lists(self, phasors: torch.Tensor) -> torch.Tensor:
        """Return lists [n, n_refl] with the measured amplitudes, and those of the phasors where there is none."""
        kept = torch.where(self.data.is_measured, unit_phasor(phasors), phasors)
        return self.grid.get(self.data.scale * self.data.amplitude * kept).to(torch.complex64)


def _shape(lattice: torch.Tensor, d_min: torch.Tensor) -> tuple[int, int, int]:
    """Return the grid for a lattice [1, 3, 3] and a resolution limit [1], both in Å."""
    n_h, n_k, n_l = map(fast_size, points_needed(lattice.norm(dim=1), d_min)[0].tolist())
    return n_h, n_k, n_l


def _n_voxels(cell: Cell, d_min: float) -> int:
    """Return the points of the grid for data to `d_min` (Å) in a reduced cell."""
    return math.prod(_shape(torch.as_tensor(cell.orthogonalisation)[None], torch.tensor([d_min])))


def _lists_at_once(n_voxels: int, device: torch.device) -> int:
    return max(1, at_once("phasing maps", device) // n_voxels)
