"""How many crystals a network solves from random starts: for the log of a training."""

from typing import NamedTuple

import torch

from rephase.config.phasing import PhasingSearch
from rephase.crystal.phases import unit_phasor
from rephase.crystal.reflections.simulation import SOLVED, WELL_SOLVED
from rephase.labs.phasing.data import Part, PhasingBatch, parts
from rephase.labs.phasing.losses import aligned, phasor_misfit
from rephase.solvers.learned.network import RecurrentNetwork
from rephase.solvers.learned.starts import random_starts

SEEN = "crystals_seen"  # column of the log of a training: crystals so far
SHARES = ("solved_first", "well_solved_first", "solved_any", "mean_map_cc", "chance_map_cc")


class Attempts(NamedTuple):
    """Attempts at crystals, [n_starts, n]; crystals that share a grid are together.

    ``map_cc`` of the measured reflections at the end, and ``chance`` at the start; the ``confidence`` of the network,
    and the ``misfit``, its loss.
    """

    map_cc: torch.Tensor
    chance: torch.Tensor
    confidence: torch.Tensor
    misfit: torch.Tensor

    def shares(self) -> dict[str, torch.Tensor]:
        """Return means over the crystals by the names in `SHARES`, for columns of a log.

        The fractions that are solved by the most confident attempt, well solved by it, and solved by any attempt; the
        mean ``map_cc`` of all attempts and of random phases.
        """
        first = self.map_cc.gather(0, self.confidence.argmax(0)[None])[0]
        columns = (first >= SOLVED, first >= WELL_SOLVED, self.map_cc.amax(0) >= SOLVED, self.map_cc, self.chance)
        return {name: column.float().mean() for name, column in zip(SHARES, columns, strict=True)}


@torch.no_grad()
def attempts(
    network: RecurrentNetwork, batch: PhasingBatch, search: PhasingSearch, generator: torch.Generator
) -> Attempts:
    """Start a network from random phases without symmetry, and compare its answers with the truth at any origin."""
    found = [_attempts(network, part, search, generator) for part in parts(batch)]
    return Attempts(*(torch.cat(each, dim=1) for each in zip(*found)))


def _attempts(network: RecurrentNetwork, part: Part, search: PhasingSearch, generator: torch.Generator) -> Attempts:
    found = []
    for _ in range(search.n_starts):
        start = random_starts(part.data.spheres, part.without_group, generator)
        phasors = network(part.data, start, search.n_steps)
        true = aligned(part, phasors)
        chance, end = map_cc(part, start), map_cc(part, phasors)
        found.append((end, chance, part.data.confidence(phasors), phasor_misfit(phasors, true, part.data)))
    return Attempts(*(torch.stack(each) for each in zip(*found)))


def map_cc(part: Part, phasors: torch.Tensor) -> torch.Tensor:
    """Return the correlation [n] of two maps with the measured amplitudes, at the best origin and hand."""
    spheres, data = part.data.spheres, part.data
    phases = unit_phasor(phasors)
    true = aligned(part, phases)
    weight = data.amplitude.square() * spheres.weight * data.is_measured
    return (weight * (phases * true.conj()).real).sum((1, 2, 3)) / weight.sum((1, 2, 3))
