"""The recurrent network of the product, from random starts of its own, and the same network inside RAAR."""

import torch

from rephase.labs.phasing.data import Part
from rephase.labs.phasing.losses import unrolled_loss
from rephase.solvers.learned.network import RecurrentNetwork, State
from routes.route import N_STEPS, TRAINING, Route, imposed, training_starts

_BETA = 0.75  # as in the recipes of `rephase solve --solver raar`


class Recurrent(Route):
    """The network of ``rephase solve --solver learned``, with its loss through several steps at once."""

    def __init__(self) -> None:
        super().__init__()
        self.network = RecurrentNetwork(width=24, n_layers=2)

    def loss(self, part: Part) -> torch.Tensor:
        """Return the product's loss."""
        n_free = int(torch.randint(TRAINING.n_free + 1, ()))
        return unrolled_loss(self.network, part, training_starts(part), n_free=n_free, n_steps=TRAINING.n_steps)

    def answer(self, part: Part, start: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return where the steps of the network lead, and its confidence."""
        phasors = self.network(part.data, start, N_STEPS)
        return phasors, part.data.confidence(phasors)


class InsideRaar(Recurrent):
    """RAAR whose projection on densities is a step of the trained network without its memory."""

    weights_of = "recurrent"

    def answer(self, part: Part, start: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the network's step from the last iterate, and its confidence.

        An iterate x becomes ``β/2 (R_S R_P x + x) + (1 - β) P x``, where P imposes the amplitudes, S is the network,
        and R are the reflections. All act on phasors: x is relative to the measured amplitudes.
        """
        filters, (x, hidden) = self.network.filters(part.data.spheres), self.network.start(part.data, start)
        for _ in range(N_STEPS):
            p = imposed(part, x)
            towards = 2 * p - x
            shortened = towards / towards.abs().clamp(min=1)  # no measured amplitude is exceeded
            s = self.network.step(part.data, State(shortened, hidden), filters).phasors
            x = _BETA / 2 * (2 * s - towards + x) + (1 - _BETA) * p
        found = self.network.step(part.data, State(imposed(part, x), hidden), filters).phasors
        return found, part.data.confidence(found)
