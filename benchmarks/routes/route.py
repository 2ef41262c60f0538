"""What a route to phases has to offer, and the starts and random crystals that all routes share."""

import torch

from rephase.config.phasing import PhasingData, PhasingTraining
from rephase.crystal.phases import unit_phasor
from rephase.labs.phasing.data import Part
from rephase.labs.phasing.losses import mixed_with_true
from rephase.solvers.learned.starts import random_starts

GROUP = "P 1 21/c 1"  # some routes have its phases, 0 and π, and its eight origins built in
TRAINING = PhasingTraining(n_free=14)
N_STEPS = 24  # of the network, or of the flow, from each start


class Route(torch.nn.Module):
    """A way to find phases that is trained on random crystals; its parameters are what it has learned.

    ``learning_rate`` is the largest of the training. ``weights_of`` names another route whose weights it uses: then it
    is not trained.
    """

    learning_rate = 0.003
    weights_of: str | None = None

    def loss(self, part: Part) -> torch.Tensor:
        """Return the mean loss of crystals that share a grid, from random starts of its own."""
        raise NotImplementedError

    def answer(self, part: Part, start: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return phasors [n, h, k, l] found from starts of the same shape, and their merit [n]: high is good."""
        raise NotImplementedError

    def answers(self, part: Part, n_starts: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Return phasors [n_starts, n, h, k, l] and their merit [n_starts, n]; `generator` draws the starts."""
        spheres, operations = part.data.spheres, part.without_group
        found = [self.answer(part, random_starts(spheres, operations, generator)) for _ in range(n_starts)]
        phasors, merit = (torch.stack(each) for each in zip(*found))
        return phasors, merit


def data_of(n_validation: int, seed: int) -> PhasingData:
    """Return the random crystals: those on which the shipped network was trained, in one space group."""
    return PhasingData(
        space_groups=(GROUP,),
        d_min=(1.9, 2.1),
        missing=0.1,
        shapes=((12, 16, 20), (14, 20, 28), (18, 24, 32)),
        n_validation=n_validation,
        seed=seed,
    )


def training_starts(part: Part, near: float = TRAINING.near) -> torch.Tensor:
    """Draw starts as the product's training does: half without the group, a share of all `near` the truth."""
    is_free = torch.rand(len(part)) < TRAINING.free
    start = random_starts(part.data.spheres, part.operations.without_group(is_free))
    return mixed_with_true(start, part.true, near)


def imposed(part: Part, phasors: torch.Tensor) -> torch.Tensor:
    """Give phasors [n, h, k, l] the length 1 where an amplitude is measured."""
    return torch.where(part.data.is_measured, unit_phasor(phasors), phasors)
