"""The coupling blocks of FrEIA that images are drawn from; importing them needs the extra ``posteriors``."""

from functools import partial

import torch
from FrEIA.framework import SequenceINN
from FrEIA.modules import ConditionalAffineTransform, GLOWCouplingBlock, InvertibleModule
from torch import nn

from rephase.learning.convolutions import Conv2d


class Roll(InvertibleModule):  # type: ignore[misc]  # FrEIA has no types
    """Rotates the channels by a third of their number, so that each block of a chain leaves others unchanged."""

    def forward(
        self, x_or_z: tuple[torch.Tensor, ...], c: object = None, rev: bool = False, jac: bool = True
    ) -> tuple[tuple[torch.Tensor, ...], float]:
        """Return the channels in their new order, with a log-determinant of 0."""
        (x,) = x_or_z
        by = max(1, x.shape[1] // 3)
        return (x.roll(-by if rev else by, 1),), 0.0

    def output_dims(self, input_dims: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """Shape of the output, the same as of the input."""
        return input_dims


def chain_blocks(shape: tuple[int, ...], n_seen: int, width: int, n_blocks: int, clamp: float) -> SequenceINN:
    """Make coupling blocks for tensors of a shape, conditioned on `n_seen` channels."""
    chain, kernel = SequenceINN(*shape), 3 if shape[-1] > 1 else 1
    seen = {"cond": 0, "cond_shape": (n_seen, *shape[1:]), "clamp": clamp}
    chain.append(ConditionalAffineTransform, subnet_constructor=partial(_network, width, 1), **seen | {"clamp": 4.0})
    for _ in range(n_blocks):
        chain.append(GLOWCouplingBlock, subnet_constructor=partial(_network, width, kernel), **seen)
        chain.append(Roll)
    return chain


def _network(width: int, kernel: int, n_in: int, n_out: int) -> nn.Sequential:
    """Make convolutions that return 0 before training, so that a flow starts as the identity."""
    last = Conv2d(width, n_out, 1)
    for weights in last.parameters():
        nn.init.zeros_(weights)
    return nn.Sequential(
        Conv2d(n_in, width, kernel, padding=kernel // 2), nn.SiLU(), Conv2d(width, width, 1), nn.SiLU(), last
    )
