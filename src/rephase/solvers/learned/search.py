"""Candidates for the phases of measured reflections, from random starts of a trained network."""

from typing import NamedTuple

import torch

from rephase.crystal.phases import unit_phasor
from rephase.crystal.symmetry import find_symmetry
from rephase.devices import at_once
from rephase.solvers.grids import HalfGrid, fast_size
from rephase.solvers.learned.network import RecurrentNetwork
from rephase.solvers.learned.spheres import Spheres, measured, points_needed
from rephase.solvers.learned.starts import operations_of, random_starts
from rephase.solvers.problem import PhaseProblem
from rephase.solvers.strategy import Recipe, Trials, polish

_N_STEPS = 24
_STEPS_IN_GROUP = (4, 4, 8)  # after each average over the operations
_CYCLES_OF_CHANNEL = 6  # time of a channel of a layer in one step, relative to a cycle of a classical search


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
        n_steps = self.n_steps + sum(_STEPS_IN_GROUP)
        return round(n_steps * self.network.width * len(self.network.layers) * _CYCLES_OF_CHANNEL)

    def shortened(self, part: float) -> "LearnedSearch":
        """Return the same search with a fraction `part` of the steps."""
        steps = max(1, int(part * self.n_steps))
        return self._replace(n_steps=steps, finishing=self.finishing.shortened(part))

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
    """Start a network `n` times from random phases, and return what it finds to the group.

    The starts have no symmetry: a structure that appears at the wrong place among fixed symmetry elements cannot move.

    Parameters
    ----------
    problem
        The measured amplitudes; `rephase.solvers.strategy.polish` finishes the candidates for the same problem.
    network
        On the device of the problem.
    n, n_steps
        Starts, and steps from each before the origin of the group is looked for.
    generator
        Of the random numbers, on the CPU.
    """
    sphere = NetworkSphere(problem, network)
    at_a_time = max(1, at_once("phasing maps", problem.device) // sphere.spheres.n_voxels)
    found = []
    for first in range(0, n, at_a_time):
        found.append(sphere.in_group(sphere.free(min(at_a_time, n - first), n_steps, generator)))
    F, confidence = (torch.cat(each) for each in zip(*found))
    order = confidence.argsort(descending=True)
    return Candidates(F[order], confidence[order])


class NetworkSphere:
    """A network on the sphere of the data of a problem.

    Parameters
    ----------
    problem, network
        As for `search`.
    """

    def __init__(self, problem: PhaseProblem, network: RecurrentNetwork):
        self.problem, self.network, self.space = problem, network, problem.within_data
        like, known = network.gain, self.space.amplitude.to(network.gain)
        lattice = like.new_tensor(self.space.reduced.cell.orthogonalisation)[None]
        d_min = like.new_tensor([self.space.d_min])
        n_h, n_k, n_l = map(fast_size, points_needed(lattice, d_min)[0].tolist())
        self.spheres = Spheres((n_h, n_k, n_l), lattice, d_min)
        self.grid = HalfGrid(self.space.hkl, self.spheres.shape)
        is_measured = self.grid.put(torch.ones_like(known))[None] > 0
        self.data = measured(self.spheres, self.grid.put(known)[None], is_measured)

    def free(self, n: int, n_steps: int, generator: torch.Generator) -> torch.Tensor:
        """Take steps from `n` random starts without symmetry; return lists F [n, n_refl] of the sphere."""
        operations = operations_of(find_symmetry("P 1"), n, self.network.gain)
        return self._lists(self.network(self.data, random_starts(self.spheres, operations, generator), n_steps))

    def in_group(self, F: torch.Tensor) -> Candidates:
        """Move lists [n, n_refl] of the sphere to the origin of the group; average and improve them in turn.

        Returns lists of the whole problem, in the same order, with the confidence of the last steps.
        """
        group, n_known = self.space.group, self.space.n_known
        F, _ = group.move_to_origin(F, n_known, self.space.grid.shape)
        for n_steps in _STEPS_IN_GROUP:
            phasors = self.network(self.data, self.grid.put(group.average(F)), n_steps)
            F = self._lists(phasors)
        return Candidates(self.problem.from_within_data(group.average(F)), self.data.confidence(phasors))

    def _lists(self, phasors: torch.Tensor) -> torch.Tensor:
        """Return lists [n, n_refl] with the measured amplitudes, and those of the phasors where there is none."""
        kept = torch.where(self.data.is_measured, unit_phasor(phasors), phasors)
        return self.grid.get(self.data.scale * self.data.amplitude * kept).to(torch.complex64)
