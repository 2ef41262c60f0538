"""The loss of the learned solver: the distance of phasors from the true ones at the best origin and hand."""

import math
from collections.abc import Iterator

import torch

from rephase.crystal.phases import unit_phasor
from rephase.crystal.symmetry import find_symmetry
from rephase.labs.phasing.data import Part
from rephase.solvers.learned.network import RecurrentNetwork, State
from rephase.solvers.learned.spheres import Measured, Spheres
from rephase.solvers.learned.starts import Operations, operations_of

SHARE_OF_E = 0.4  # of |E|^2 in the weights of the loss; the rest is |F|^2
_N_ORIGINS = 6  # points of the grid from which the best origin is looked for
_N_ASCENTS = 3  # steps of Newton's method from each
_SAME = 1e-3  # largest difference of equal translations


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
    true, _ = aligned(part, found[-1].detach(), any_origin=True)
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
def aligned(part: Part, phasors: torch.Tensor, *, any_origin: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Move true phasors to the hand and the origin at which they agree best with given ones.

    The loss allows any origin: symmetric phasors cannot reach the truth where the group has none, but a network whose
    loss allowed only those of the group learned much more slowly. Scores allow only those of the group.

    Parameters
    ----------
    part
        Crystals that share a grid.
    phasors
        Phasors [n, h, k, l] on half grids.
    any_origin
        Whether the origin may be any point of the cell.

    Returns
    -------
    true, agreement
        The moved phasors [n, h, k, l], and ``sum w Re(x t*)`` with weights of sum 1, [n].
    """
    weight, spheres = part.data.weight(SHARE_OF_E), part.data.spheres
    operations = operations_of(find_symmetry("P 1"), len(part), spheres.lattice) if any_origin else part.operations
    n_points = 1 if any_origin else _N_ORIGINS
    hands = [
        _best_shift(weight * phasors * true.conj(), spheres, operations, is_other=is_other, n_points=n_points)
        for is_other, true in ((False, part.true), (True, part.true.conj()))
    ]
    is_other = hands[1][1] > hands[0][1]
    shift = torch.where(is_other[:, None], hands[1][0], hands[0][0])
    true = torch.where(is_other[:, None, None, None], part.true.conj(), part.true)
    return true * _turn(-shift, spheres), torch.maximum(hands[0][1], hands[1][1])


def _best_shift(
    product: torch.Tensor, spheres: Spheres, operations: Operations, *, is_other: bool, n_points: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the allowed shifts u [n, 3] that maximise ``Re sum P(h) exp(2 pi i h.u)``, and the sums [n].

    `product` [n, h, k, l] is P on half grids, with the weight of a pair of Friedel mates where only one is there. The
    best `n_points` of the grid near allowed ones are moved onto these, and refined along polar axes by Newton's method.
    The sum is -inf if no shift is allowed.
    """
    counted_once = torch.where(spheres.hkl[..., 2] == 0, product, product / 2)  # irfftn adds the mates
    correlation = torch.fft.irfftn(counted_once, s=spheres.shape, dim=(1, 2, 3)).flatten(1)
    size = torch.tensor(spheres.shape, device=product.device)
    points = torch.cartesian_prod(*(torch.arange(n, device=product.device) / n for n in spheres.shape))
    points = points.to(operations.translations)
    is_near = torch.ones_like(correlation, dtype=torch.bool)
    for rotation, translation, there in _each(operations):
        moved = points - points @ rotation.mT - 2 * is_other * translation[:, None]
        reach = (torch.eye(3).to(rotation) - rotation).abs() @ (0.5 / size) + _SAME
        is_near &= ((moved - moved.round()).abs() < reach[:, None]).all(2) | ~there[:, None]
    value, best = torch.where(is_near, correlation, -torch.inf).topk(n_points, dim=1)
    shift, is_allowed = _allowed(points[best], operations, is_other=is_other)
    is_allowed &= value > -torch.inf
    shift, sums = _refined(product, shift, spheres, operations.polar)
    sums = torch.where(is_allowed, sums, -torch.inf)
    first = sums.argmax(1, keepdim=True)
    return shift.gather(1, first[..., None].expand(-1, -1, 3))[:, 0], sums.gather(1, first)[:, 0]


def _refined(
    product: torch.Tensor, shift: torch.Tensor, spheres: Spheres, polar: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Move shifts [n, k, 3] along polar axes to a maximum of the sum; return them and the sums [n, k]."""
    size, hkl = shift.new_tensor(spheres.shape), spheres.hkl.flatten(0, 2).to(shift)
    squares = (hkl[:, :, None] * hkl[:, None]).flatten(1)
    own = product.flatten(1)[:, None]
    for _ in range(_N_ASCENTS):
        turned = own * _turn(shift.flatten(0, 1), spheres).flatten(1).unflatten(0, shift.shape[:2])
        gradient = -2 * math.pi * turned.imag @ hkl
        curvature = 4 * math.pi**2 * (turned.real @ squares).unflatten(2, (3, 3))
        ridge = 0.05 * curvature.abs().amax((2, 3)) + torch.finfo(shift.dtype).tiny
        curvature = curvature + ridge[..., None, None] * torch.eye(3, dtype=shift.dtype, device=shift.device)
        step = torch.linalg.solve(curvature, gradient)
        step = torch.minimum(torch.maximum(step, -0.5 / size), 0.5 / size)
        shift = shift + step @ polar.mT
    turned = own * _turn(shift.flatten(0, 1), spheres).flatten(1).unflatten(0, shift.shape[:2])
    return shift, turned.real.sum(2)


def _allowed(points: torch.Tensor, operations: Operations, *, is_other: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Move points u [n, k, 3] to the nearest that the origin may move to; return them, and whether there is one.

    A structure that is moved by u has the operations (R, t + u - R u), and (R, -t + u - R u) in the other hand: they
    must be those of the group. So u - R u, plus -2 t in the other hand, are lattice vectors m, and the mean of
    R u + m, plus 2 t, over the operations is such a point.
    """
    total, count = torch.zeros_like(points), operations.is_there.sum(1)[:, None, None]
    for rotation, translation, there in _each(operations):
        twice = 2 * is_other * translation[:, None]
        image = points @ rotation.mT
        total += (image + twice + (points - image - twice).round()) * there[:, None, None]
    points = total / count
    is_allowed = torch.ones(points.shape[:2], dtype=torch.bool, device=points.device)
    for rotation, translation, there in _each(operations):
        moved = points - points @ rotation.mT - 2 * is_other * translation[:, None]
        is_allowed &= ((moved - moved.round()).abs() < _SAME).all(2) | ~there[:, None]
    return points, is_allowed


def _each(operations: Operations) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Yield rotation [n, 3, 3], translation [n, 3] and whether it is there [n], operation by operation."""
    yield from zip(*(each.unbind(1) for each in operations))


def _turn(shift: torch.Tensor, spheres: Spheres) -> torch.Tensor:
    """Return exp(2 pi i h.u) of shifts u [n, 3] on half grids, [n, h, k, l]."""
    angle = 2 * math.pi * torch.einsum("ni,hkli->nhkl", shift, spheres.hkl.to(shift))
    return torch.complex(angle.cos(), angle.sin())
