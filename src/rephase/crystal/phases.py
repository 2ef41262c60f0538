"""Phases: wrapping and differences, the other hand, origin shifts, and alignment over both."""

import math
from typing import NamedTuple

import torch

_ASCENT_STEPS = 4


def wrap(phi: torch.Tensor) -> torch.Tensor:
    """Map phases in radians to [-π, π)."""
    return torch.remainder(phi + math.pi, 2 * math.pi) - math.pi


def phase_difference(phi: torch.Tensor, phi_reference: torch.Tensor) -> torch.Tensor:
    """Wrapped difference in radians, [-π, π)."""
    return wrap(phi - phi_reference)


def unit_phasor(F: torch.Tensor) -> torch.Tensor:
    """exp(i phi) of complex numbers; 0 for 0. Smooth enough near 0 to be differentiated."""
    return F / (F.real**2 + F.imag**2 + torch.finfo(F.real.dtype).tiny ** 0.5).sqrt()


def friedel_mate(grid: torch.Tensor) -> torch.Tensor:
    """Value at (-h, -k, -l) for every point of [..., h, k, l] in FFT order."""
    return grid.flip(-3, -2, -1).roll((1, 1, 1), (-3, -2, -1))


def grid_indices(shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
    """Miller indices [n_points, 3] of a grid in FFT order, in the real dtype and device of `like`."""
    axes = [torch.fft.fftfreq(n, 1 / n, dtype=like.real.dtype, device=like.device) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 3)


def shift_origin(F: torch.Tensor, shift_frac: torch.Tensor) -> torch.Tensor:
    """F of the same crystal with every atom moved by `shift_frac`: F(h) exp(2 pi i h.t).

    Parameters
    ----------
    F
        Complex [batch, h, k, l].
    shift_frac
        [batch, 3], fractional.
    """
    turns = shift_frac.to(F.real.dtype) @ grid_indices(F.shape[-3:], F).T
    return F * torch.polar(torch.ones_like(turns), 2 * math.pi * turns).reshape(F.shape)


class Alignment(NamedTuple):
    """F moved to the reference: the aligned F, the fractional shift [batch, 3], and where the other hand was taken."""

    F: torch.Tensor
    shift_frac: torch.Tensor
    is_other_hand: torch.Tensor


def align_hand(F: torch.Tensor, F_reference: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """F or its other hand F(-h), whichever is closer in phase to the reference, for each of [batch, h, k, l]."""
    other = friedel_mate(F)
    agreement = [(weight * (unit_phasor(f) * unit_phasor(F_reference).conj()).real).sum((1, 2, 3)) for f in (F, other)]
    return torch.where((agreement[1] > agreement[0])[:, None, None, None], other, F)


def align(F: torch.Tensor, F_reference: torch.Tensor, weight: torch.Tensor) -> Alignment:
    """Move F to the origin and hand in which its phases agree best with a reference.

    Maximises ``sum_h w(h) cos(phi(h) + 2 pi h.t - phi_reference(h))`` over every t of P1 and both hands: an FFT gives
    the sum on a grid of shifts, Newton's and safe ascent steps refine the best one. Unchanged by a shift or an
    inversion of F, so an error measured after it does not depend on them.

    Parameters
    ----------
    F, F_reference
        Complex [batch, h, k, l] in FFT order.
    weight
        Real or boolean [batch, h, k, l]: which reflections count, and how much.

    Returns
    -------
    Alignment
    """
    n = len(F)
    hands = torch.cat([F, friedel_mate(F)])
    product = unit_phasor(hands) * unit_phasor(F_reference).conj().repeat(2, 1, 1, 1) * weight.repeat(2, 1, 1, 1)
    with torch.no_grad():
        shift, score = _best_shift(product)
        is_other = score[n:] > score[:n] * (1 + 1e-6)
    chosen = torch.where(is_other[:, None], shift[n:], shift[:n])
    hand = torch.where(is_other[:, None, None, None], hands[n:], hands[:n])
    return Alignment(shift_origin(hand, chosen), chosen, is_other)


def _best_shift(product: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The shift t [batch, 3] that maximises Re sum product exp(2 pi i h.t), and that maximum [batch]."""
    shape = product.shape[-3:]
    fine = [2 ** math.ceil(math.log2(2 * n)) for n in shape]
    padded = torch.zeros((len(product), *fine), dtype=product.dtype, device=product.device)
    index = grid_indices(shape, product)
    h, k, l = index.long().T
    flat = product.flatten(1)
    padded[:, h, k, l] = flat
    scores = torch.fft.ifftn(padded, dim=(1, 2, 3), norm="forward").real  # norm="forward" leaves the sum unscaled
    best = scores.flatten(1).argmax(1)
    shift = torch.stack(torch.unravel_index(best, fine), dim=-1) / torch.tensor(fine, device=product.device)
    shift, score = shift.to(index.dtype), scores.flatten(1).amax(1)
    for _ in range(_ASCENT_STEPS):
        for step in _ascent_steps(flat, index, shift):
            value = (flat * _phasor(index, shift + step)).real.sum(1)
            better = value > score
            shift = torch.where(better[:, None], shift + step, shift)
            score = torch.where(better, value, score)
    return shift, score


def _phasor(index: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    angle = 2 * math.pi * shift @ index.T
    return torch.polar(torch.ones_like(angle), angle)


def _ascent_steps(flat: torch.Tensor, index: torch.Tensor, shift: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Two steps towards the maximum of Re sum_h D(h) exp(2 pi i h.t): Newton's, and one that always ascends.

    The second takes |D| for the curvature. As |cos''| <= 1, that bounds the true curvature everywhere.
    """
    terms = flat * _phasor(index, shift)
    gradient = -2 * math.pi * terms.imag @ index
    steps = []
    for density in (terms.real, terms.abs()):
        curvature = 4 * math.pi**2 * torch.einsum("br,ri,rj->bij", density, index, index)
        ridge = 1e-6 * curvature.abs().amax((1, 2))[:, None, None] + torch.finfo(index.dtype).tiny
        identity = torch.eye(3, dtype=index.dtype, device=index.device)
        steps.append(torch.linalg.solve(curvature + ridge * identity, gradient).clamp(-0.05, 0.05))
    return steps[0], steps[1]
