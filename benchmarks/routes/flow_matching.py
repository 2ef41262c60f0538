"""Flow matching: a network is the velocity of maps on their way from random phases to the true ones."""

import torch

from rephase.crystal.phases import unit_phasor
from rephase.labs.phasing.data import Part
from rephase.labs.phasing.losses import aligned
from rephase.solvers.learned.network import Channels, Layer
from routes.route import N_STEPS, Route, training_starts

_WIDTH, _N_LAYERS, _N_BASIS = 24, 4, 16


class FlowMatching(Route):
    """The layers of the recurrent network, without memory, and with the time as an input.

    The true map is moved to the origin and hand that agree best with the start, so that paths cross less.

    References
    ----------
    Lipman et al. (2023), arXiv:2210.02747.
    """

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = Channels(8, _WIDTH), Channels(_WIDTH, 1)
        self.layers = torch.nn.ModuleList(Layer(_WIDTH, _N_BASIS) for _ in range(_N_LAYERS))

    def velocity(self, part: Part, x: torch.Tensor, t: torch.Tensor, filters: list[torch.Tensor]) -> torch.Tensor:
        """Return the velocity of coefficients x [n, h, k, l], relative to E, at times [n] between 0 and 1."""
        data, phases = part.data, unit_phasor(x)
        e, f = data.spheres.to_maps(data.E * phases), data.spheres.to_maps(data.amplitude * phases)
        own = data.spheres.to_maps(data.E * x)
        constants = [value[:, None, None, None].expand_as(e) for value in (t, data.spheres.d_min - 1.7)]
        seen = [own, e, f, (e.square() - 1) / 2, (f - 1).relu(), (e - 2).relu(), *constants]
        maps = self.enter(torch.stack(seen, dim=1))
        for layer, of_layer in zip(self.layers, filters):
            maps = layer(maps, of_layer, data.spheres)
        return data.spheres.from_maps(self.leave(maps)[:, 0]) / data.E.clamp(min=0.1)

    def filters(self, part: Part) -> list[torch.Tensor]:
        """Return the filters of the layers."""
        return [layer.filter(part.data.spheres) for layer in self.layers]

    def loss(self, part: Part) -> torch.Tensor:
        """Return the error of the velocity between a start and the true map at random times."""
        start = unit_phasor(training_starts(part, near=0)) * part.data.spheres.inside
        true = aligned(part, start)
        t = torch.rand(len(part))
        share = t[:, None, None, None]
        found = self.velocity(part, (1 - share) * start + share * true, t, self.filters(part))
        weight = part.data.weight(1.0)
        return (weight * (found - (true - start)).abs().square()).sum((1, 2, 3)).mean()

    def answer(self, part: Part, start: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the end of Euler steps, each of which imposes the measured amplitudes on the end that it predicts.

        The merit is the mean agreement, over the second half of the way, of predicted ends with themselves after that.
        """
        x, filters, merit = unit_phasor(start) * part.data.spheres.inside, self.filters(part), torch.zeros(len(part))
        weight = part.data.weight(0.4) * part.data.is_measured
        for step in range(N_STEPS):
            t = step / N_STEPS
            end = x + (1 - t) * self.velocity(part, x, torch.full((len(part),), t), filters)
            kept = torch.where(part.data.is_measured, unit_phasor(end), end)
            if t >= 0.5:
                merit -= (weight * (end - kept).abs().square()).sum((1, 2, 3)) * 2 / N_STEPS
            x = x + (kept - x) / (N_STEPS - step)
        return x, merit
