"""The loss of the learned solver: the distance of phasors from the true ones at the best origin and hand."""

import math

import torch

from rephase.crystal.phases import unit_phasor
from rephase.labs.phasing.data import Part
from rephase.solvers.learned.network import RecurrentNetwork, State
from rephase.solvers.learned.spheres import Measured, Spheres

SHARE_OF_E = 0.4  # of |E|^2 in the weights of the loss; the rest is |F|^2
_N_ASCENTS = 3  # steps of Newton's method to the best origin


def unrolled_loss(
    network: RecurrentNetwork, part: Part, start: torch.Tensor, *, n_free: int, n_steps: int
) -> torch.Tensor:
    """Return the mean loss of the last steps of the network, of which later ones count more.

    Parameters
    ----------
    network
        The network.
    part
        Crystals that share a grid.
    start
        Phasors [n, h, k, l] from which the network starts.
    n_free, n_steps
        Steps without gradient, then steps with it.
    """
    filters, state = network.filters(part.data.spheres), network.start(part.data, start)
    state = _without_gradient(network, part.data, state, filters, n_free)
    found = []
    for _ in range(n_steps):
        state = network.step(part.data, state, filters)
        found.append(state.phasors)
    true = aligned(part, found[-1].detach())
    losses = [phasor_misfit(phasors, true, part.data).mean() * number for number, phasors in enumerate(found, 1)]
    return torch.stack(losses).sum() / (n_steps * (n_steps + 1) / 2)


@torch.no_grad()
def _without_gradient(
    network: RecurrentNetwork, data: Measured, state: State, filters: list[torch.Tensor], n: int
) -> State:
    for _ in range(n):
        state = network.step(data, state, filters)
    return state


def phasor_misfit(phasors: torch.Tensor, true: torch.Tensor, data: Measured) -> torch.Tensor:
    """Return ``sum w |x - t|^2 / sum w |t|^2`` [n] of phasors x and true ones t; 1 for phasors without any confidence.

    The weights are a mixture of |E|^2 and |F|^2.
    """
    weight = data.weight(SHARE_OF_E)
    difference = phasors - true
    square = difference.real.square() + difference.imag.square()
    return (weight * square).sum((1, 2, 3)) / (weight * true.abs().square()).sum((1, 2, 3))


def mixed_with_true(start: torch.Tensor, true: torch.Tensor, share_near: float) -> torch.Tensor:
    """Mix the phases of some starts [n, h, k, l], a share at random, with the true ones, in random parts."""
    n = len(start)
    part, is_near = torch.rand(n), torch.rand(n) < share_near
    part = (part * is_near).to(start.real)[:, None, None, None]
    return part * unit_phasor(true) + (1 - part) * unit_phasor(start)


@torch.no_grad()
def aligned(part: Part, phasors: torch.Tensor) -> torch.Tensor:
    """Move true phasors to the hand and the origin at which they agree best with given ones.

    Any point of the cell may be the origin: the answers of a network obey no group. A network whose loss allowed only
    the origins of the group learned much more slowly.

    Parameters
    ----------
    part
        Crystals that share a grid.
    phasors
        Phasors [n, h, k, l] on half grids.

    Returns
    -------
    torch.Tensor
        The moved phasors, [n, h, k, l].
    """
    weight, spheres = part.data.weight(SHARE_OF_E), part.data.spheres
    hands = [_best_shift(weight * phasors * true.conj(), spheres) for true in (part.true, part.true.conj())]
    is_other = hands[1][1] > hands[0][1]
    shift = torch.where(is_other[:, None], hands[1][0], hands[0][0])
    true = torch.where(is_other[:, None, None, None], part.true.conj(), part.true)
    return true * _turn(-shift, spheres)


def _best_shift(product: torch.Tensor, spheres: Spheres) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the shifts u [n, 3] that maximise ``Re sum P(h) exp(2 pi i h.u)``, and the sums [n].

    `product` [n, h, k, l] is P on half grids, with the weight of a pair of Friedel mates where only one is there. The
    best point of the grid is refined by Newton's method.
    """
    counted_once = torch.where(spheres.hkl[..., 2] == 0, product, product / 2)  # irfftn adds the mates
    correlation = torch.fft.irfftn(counted_once, s=spheres.shape, dim=(1, 2, 3)).flatten(1)
    size = torch.tensor(spheres.shape, device=product.device)
    shift = torch.stack(torch.unravel_index(correlation.argmax(1), spheres.shape), dim=1) / size
    hkl = spheres.hkl.flatten(0, 2).to(shift)
    squares = (hkl[:, :, None] * hkl[:, None]).flatten(1)
    for _ in range(_N_ASCENTS):
        turned = (product * _turn(shift, spheres)).flatten(1)
        gradient = -2 * math.pi * turned.imag @ hkl
        curvature = 4 * math.pi**2 * (turned.real @ squares).unflatten(1, (3, 3))
        ridge = 0.05 * curvature.abs().amax((1, 2)) + torch.finfo(shift.dtype).tiny
        curvature = curvature + ridge[:, None, None] * torch.eye(3, dtype=shift.dtype, device=shift.device)
        step = torch.linalg.solve(curvature, gradient)
        shift = shift + torch.minimum(torch.maximum(step, -0.5 / size), 0.5 / size)
    return shift, (product * _turn(shift, spheres)).real.sum((1, 2, 3))


def _turn(shift: torch.Tensor, spheres: Spheres) -> torch.Tensor:
    """Return exp(2 pi i h.u) of shifts u [n, 3] on half grids, [n, h, k, l]."""
    angle = 2 * math.pi * torch.einsum("ni,hkli->nhkl", shift, spheres.hkl.to(shift))
    return torch.complex(angle.cos(), angle.sin())
