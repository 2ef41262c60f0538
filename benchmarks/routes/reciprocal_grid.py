"""Signs on the grid of indices, after PhAI: a convolutional network, recycled from random signs."""

import torch

from rephase.labs.phasing.data import Part
from rephase.labs.phasing.losses import SHARE_OF_E
from rephase.learning.convolutions import Conv3d
from routes.route import Route, training_starts
from routes.standard import SHAPE, quadrant

_WIDTH, _N_BLOCKS, _N_CYCLES = 32, 4, 5


class ReciprocalGrid(Route):
    """Logits of the two classes 0 and π of each reflection, from |E|, |F|, resolution, and the present signs.

    References
    ----------
    Larsen, Rekis & Madsen (2024), doi:10.1126/science.adn2777.
    """

    learning_rate = 0.002

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = Conv3d(6, _WIDTH, 3, padding=1), Conv3d(_WIDTH, 1, 1)
        self.blocks = torch.nn.Sequential(*(Block() for _ in range(_N_BLOCKS)))

    def logits(self, fields: torch.Tensor, sign: torch.Tensor) -> torch.Tensor:
        """Return the logits [n, h, k, l] of a positive F, given signs of the same shape between -1 and 1."""
        seen = torch.cat([fields, fields[:, :1] * sign[:, None], sign[:, None]], dim=1)
        return self.leave(self.blocks(self.enter(seen)))[:, 0]

    def cycles(self, part: Part, start: torch.Tensor, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what is known of each reflection [n, field, h, k, l], and the signs after cycles from a start."""
        data, where = part.data, quadrant(part)
        known = (data.E, data.amplitude, data.is_measured.float(), data.spheres.s * data.spheres.inside)
        fields = torch.stack([where.fold(each) for each in known], dim=1)
        sign = where.fold(start.real * where.sign).sign()
        for _ in range(n):
            sign = torch.tanh(self.logits(fields, sign) / 2)  # the mean of the two classes
        return fields, sign

    def loss(self, part: Part) -> torch.Tensor:
        """Return the cross-entropy at the best of the eight origins, after a random number of cycles without gradient.

        The weights are those of the product's loss.
        """
        with torch.no_grad():
            fields, sign = self.cycles(part, training_starts(part), int(torch.randint(_N_CYCLES, ())))
        logits, where = self.logits(fields, sign), quadrant(part)
        true = where.fold(part.true.real * where.sign).sign() * shifts()[:, None]
        weight = where.fold(part.data.weight(SHARE_OF_E))
        losses = (weight * torch.nn.functional.softplus(-logits * true)).sum((2, 3, 4)) / weight.sum((1, 2, 3))
        return losses.amin(0).mean()

    def answer(self, part: Part, start: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the signs after all cycles, and how far they are from 0."""
        where, (_, sign) = quadrant(part), self.cycles(part, start, _N_CYCLES)
        phasors = (where.unfold(sign) * where.sign).to(torch.complex64)
        return phasors, part.data.confidence(phasors)


class Block(torch.nn.Module):
    """A convolution, and a linear map along each axis of the grid, as the phases of distant indices are related."""

    def __init__(self) -> None:
        super().__init__()
        self.near = Conv3d(_WIDTH, _WIDTH, 3, padding=1)
        self.norm, self.point = torch.nn.GroupNorm(4, _WIDTH), Conv3d(_WIDTH, _WIDTH, 1)
        self.along = torch.nn.ModuleList(torch.nn.Linear(n, n) for n in SHAPE)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return fields [n, channel, h, k, l] of the same kind."""
        y = self.near(torch.nn.functional.gelu(self.norm(x)))
        for axis, linear in enumerate(self.along, start=2):
            y = y + linear(y.transpose(axis, -1)).transpose(axis, -1)
        added: torch.Tensor = self.point(torch.nn.functional.gelu(y))
        return x + added


def shifts() -> torch.Tensor:
    """Return the signs [8, h, k, l] by which F changes at each of the eight origins of the group."""
    h, k, l = torch.meshgrid(*(torch.arange(n) for n in SHAPE), indexing="ij")  # h counts from -10, which is even
    return torch.stack([1.0 - 2.0 * ((h * (o & 1) + k * (o >> 1 & 1) + l * (o >> 2)) % 2) for o in range(8)])
