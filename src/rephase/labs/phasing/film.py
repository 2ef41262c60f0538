"""A crystal that a network solves, step by step: the phasors of every start, and how right each of them is."""

import itertools
from typing import NamedTuple

import torch

from rephase.crystal.phases import unit_phasor
from rephase.labs.phasing.data import Part, PhasingBatch, parts
from rephase.labs.phasing.losses import aligned
from rephase.labs.phasing.scores import map_cc
from rephase.solvers.learned.network import RecurrentNetwork
from rephase.solvers.learned.starts import random_starts


class Film(NamedTuple):
    """The starts of one crystal after 0, 1, 2 ... steps.

    ``map_cc`` and ``confidence`` are [n_steps + 1, n_starts]; before the first step every confidence is 1. ``maps``
    [n_steps + 1, x, y, z] are those of the most confident start, in units of the standard deviation of the measured
    part, and ``true`` [x, y, z] is the true map at the origin and in the hand of the last of them.
    """

    map_cc: torch.Tensor
    confidence: torch.Tensor
    maps: torch.Tensor
    true: torch.Tensor


@torch.no_grad()
def film(
    network: RecurrentNetwork, batch: PhasingBatch, *, n_starts: int, n_steps: int, generator: torch.Generator
) -> Film:
    """Run starts without symmetry on the only crystal of a batch, and look at each of them after every step."""
    repeated = batch.take(torch.zeros(n_starts, dtype=torch.long, device=batch.F.device))
    runs = [_run(network, part, n_steps, generator) for part in parts(repeated)]
    phasors, agreement, confidence = (torch.cat(each, dim=1) for each in zip(*runs))
    part, first = next(parts(batch)), int(confidence[-1].argmax())
    maps = torch.cat([_map(part, each[None]) for each in phasors[:, first]])
    return Film(agreement, confidence, maps, _true_map(part, phasors[-1, first][None]))


def _run(
    network: RecurrentNetwork, part: Part, n_steps: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return phasors [n_steps + 1, n, h, k, l], and their map_cc and confidence [n_steps + 1, n]."""
    start = random_starts(part.data.spheres, part.without_group, generator)
    states = itertools.islice(network.states(part.data, start), n_steps + 1)
    seen = [(x, map_cc(part, x), part.data.confidence(x)) for x, _ in states]
    phasors, agreement, confidence = (torch.stack(each) for each in zip(*seen))
    return phasors, agreement, confidence


def _map(part: Part, phasors: torch.Tensor) -> torch.Tensor:
    """Return the map [1, x, y, z] of the measured amplitudes, and of those that were found where none is measured."""
    data = part.data
    return data.spheres.to_maps(data.amplitude * torch.where(data.is_measured, unit_phasor(phasors), phasors))


def _true_map(part: Part, phasors: torch.Tensor) -> torch.Tensor:
    """Return the true map [x, y, z] at the origin and in the hand that fit phasors best."""
    true = aligned(part, unit_phasor(phasors))
    return part.data.spheres.to_maps(part.data.amplitude * true)[0]
