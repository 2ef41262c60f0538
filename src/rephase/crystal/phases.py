"""Phases: wrapping and differences, the enantiomorph (the other hand), origin shifts, and alignment over both."""

import math
from typing import NamedTuple

import numpy as np
import torch

from rephase.crystal.symmetry import Origins
from rephase.devices import at_once

_N_MAXIMA, _ASCENT_STEPS = 8, 4


def wrap(phi: torch.Tensor) -> torch.Tensor:
    """Map phases in radians to [-π, π)."""
    wrapped = torch.remainder(phi + math.pi, 2 * math.pi) - math.pi
    return torch.where(wrapped >= math.pi, -wrapped, wrapped)  # rounding can reach +π


def phase_difference(phi: torch.Tensor, phi_reference: torch.Tensor) -> torch.Tensor:
    """Wrapped difference in radians, [-π, π)."""
    return wrap(phi - phi_reference)


def unit_phasor(F: torch.Tensor) -> torch.Tensor:
    """exp(i phi) of complex numbers; 0 for 0. The function is differentiable near 0."""
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
    """The aligned F, the fractional shift [batch, 3], and where the other hand was chosen."""

    F: torch.Tensor
    shift_frac: torch.Tensor
    is_other_hand: torch.Tensor


def align_hand(F: torch.Tensor, F_reference: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return F or its other hand F(-h), whichever is closer in phase to the reference, for each of [batch, h, k, l]."""
    other = friedel_mate(F)
    agreement = [(weight * (unit_phasor(f) * unit_phasor(F_reference).conj()).real).sum((1, 2, 3)) for f in (F, other)]
    return torch.where((agreement[1] > agreement[0])[:, None, None, None], other, F)


def align(F: torch.Tensor, F_reference: torch.Tensor, weight: torch.Tensor) -> Alignment:
    """Move F to the origin and hand in which its phases agree best with a reference.

    Maximises ``sum_h w(h) cos(phi(h) + 2 pi h.t - phi_reference(h))`` over every shift t and both hands. An FFT gives
    the sum on a grid of shifts, and the highest of its maxima are refined. The result does not change when F is shifted
    or inverted, so an error measured after alignment does not depend on origin and hand.

    Parameters
    ----------
    F, F_reference
        Complex [batch, h, k, l] in FFT order.
    weight
        Weight of each reflection, real or boolean, [batch, h, k, l].

    Returns
    -------
    Alignment
    """
    hands = torch.stack([F, friedel_mate(F)], dim=1)
    product = unit_phasor(hands) * (unit_phasor(F_reference).conj() * weight)[:, None]
    with torch.no_grad():
        hand, shift = _best_candidate_and_shift(product.flatten(2), grid_indices(F.shape[-3:], F))
    chosen = hands[torch.arange(len(F), device=F.device), hand]
    return Alignment(shift_origin(chosen, shift), shift, hand == 1)


def align_list(
    F: torch.Tensor,
    F_reference: torch.Tensor,
    hkl: torch.Tensor,
    origins: Origins,
    weight: torch.Tensor,
    *,
    both_hands: bool = True,
) -> Alignment:
    """Move lists of F to the allowed origin and hand in which they agree best with a reference.

    Maximises ``sum_h w(h) cos(phi(h) + 2 pi h.t - phi_reference(h))`` over both hands and the allowed shifts of a space
    group, by FFT along its polar axes. The other hand is F*, which equals F(-h) without anomalous scattering.

    Parameters
    ----------
    F
        Complex [n_trials, n_refl].
    F_reference
        Complex [n_refl], or [n_trials, n_refl]: one reference per trial.
    hkl
        Miller indices [n_refl, 3]: one per class of equivalents, or all equivalents.
    origins
        Allowed origins of the space group of both lists; those of P 1 for phases without symmetry.
    weight
        Weight of each reflection, real, [n_refl] or [n_trials, n_refl]; with |F F_reference| times the multiplicity,
        the sum is proportional to the correlation of the two maps.
    both_hands
        Whether the other hand is allowed.
    """
    hkl = hkl.to(F.real)
    shifts, polar = hkl.new_tensor(origins.shifts), hkl.new_tensor(origins.polar)
    hand_shift = hkl.new_tensor(np.zeros(3) if origins.other_hand is None else origins.other_hand)
    discrete = torch.cat([shifts, shifts + hand_shift]) if both_hands else shifts
    is_other = torch.arange(len(discrete), device=F.device) >= len(shifts)
    shifted = torch.where(is_other[:, None], F.conj()[:, None], F[:, None]) * _phasor(hkl, discrete)
    reference = (unit_phasor(F_reference).conj() * weight).expand(len(F), -1)
    product = unit_phasor(shifted) * reference[:, None]
    candidate, along = _best_candidate_and_shift(product, hkl @ polar.T)
    best, along = shifted[torch.arange(len(F), device=F.device), candidate], along @ polar
    return Alignment(best * _phasor(hkl, along), discrete[candidate] + along, is_other[candidate])


def _best_candidate_and_shift(product: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Candidate [batch] and shift t [batch, n_axes] that maximise Re sum D(h) exp(2 pi i h.t).

    D is [batch, candidate, n_refl], h are integers [n_refl, n_axes]. The highest grid maxima are refined, since only
    the refined values show which is best.
    """
    if index.shape[1] == 0:
        candidate = (product.real.sum(-1) * (1 - 1e-6 * _order(product))).argmax(-1)
        return candidate, index.new_zeros(len(product), 0)
    extent = 2 * index.long().abs().amax(0) + 1
    fine = [2 ** math.ceil(math.log2(max(4, 2 * m))) for m in extent.tolist()]
    n_products = max(1, at_once("shift grids", product.device) // (product.shape[1] * math.prod(fine)))
    found = [_highest_point(part, index, fine) for part in product.split(n_products)]
    return torch.cat([candidate for candidate, _ in found]), torch.cat([shift for _, shift in found])


def _highest_point(product: torch.Tensor, index: torch.Tensor, fine: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Candidate [batch] and shift [batch, n_axes] of the highest refined maximum, from a grid of `fine` points."""
    candidate, shift = _highest_maxima(product, index, fine)
    rows = torch.arange(len(product), device=product.device)[:, None]
    for n_kept, n_steps in ((2, 1), (1, _ASCENT_STEPS)):
        shift, score = _ascend(product[rows, candidate], index, shift, n_steps)
        best = (score * (1 - 1e-6 * candidate)).topk(n_kept).indices  # if equal, the first: the given hand
        candidate, shift = candidate.gather(1, best), shift[rows, best]
    return candidate[:, 0], shift[:, 0]


def _order(product: torch.Tensor) -> torch.Tensor:
    return torch.arange(product.shape[1], device=product.device)


def _highest_maxima(product: torch.Tensor, index: torch.Tensor, fine: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """The highest local maxima over all candidates: candidate [batch, n_maxima] and shift [batch, n_maxima, n_axes]."""
    n, n_candidates, n_axes = *product.shape[:2], index.shape[1]
    cells = torch.zeros(len(index), dtype=torch.long, device=product.device)
    for coordinate, size in zip(index.long().T, fine):
        cells = cells * size + coordinate % size
    padded = torch.zeros((n, n_candidates, math.prod(fine)), dtype=product.dtype, device=product.device)
    padded.index_add_(2, cells, product)  # reflections may share their indices along the polar axes
    axes = tuple(range(2, 2 + n_axes))
    sums = torch.fft.ifftn(padded.unflatten(2, fine), dim=axes, norm="forward").real  # "forward" leaves it unscaled
    around = sums
    for axis in axes:  # the largest of 27 neighbours, axis by axis, periodic
        around = torch.maximum(around, torch.maximum(around.roll(1, axis), around.roll(-1, axis)))
    heights = torch.where(sums >= around, sums, -torch.inf).flatten(1)
    maxima = heights.topk(min(_N_MAXIMA, heights.shape[1])).indices
    candidate = maxima
    point: list[torch.Tensor] = []
    for size in reversed(fine):  # as torch.unravel_index, which imports SymPy for half a second
        candidate, place = candidate // size, candidate % size
        point.insert(0, place / size)
    return candidate, torch.stack(point, dim=-1).to(index.dtype)


def _ascend(
    terms: torch.Tensor, index: torch.Tensor, shift: torch.Tensor, n_steps: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Maximise Re sum D(h) exp(2 pi i h.t) from each shift [..., 3]; return the new shifts and their sums [...]."""
    score = (terms * _phasor(index, shift)).real.sum(-1)
    for _ in range(n_steps):
        for step in _ascent_steps(terms * _phasor(index, shift), index):
            value = (terms * _phasor(index, shift + step)).real.sum(-1)
            better = value > score
            shift = torch.where(better[..., None], shift + step, shift)
            score = torch.where(better, value, score)
    return shift, score


def _phasor(index: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """exp(2 pi i h.t), [..., n_refl]."""
    angle = 2 * math.pi * shift @ index.T
    return torch.complex(angle.cos(), angle.sin())


def _ascent_steps(turned: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Two steps towards the maximum of Re sum T(h) exp(2 pi i h.t) near t = 0: Newton's step, and one that ascends.

    The second step uses |T| as curvature. As |cos''| <= 1, this bounds the true curvature everywhere.
    """
    gradient = -2 * math.pi * turned.imag @ index
    products = (index[:, :, None] * index[:, None, :]).flatten(1)
    n_axes = index.shape[1]
    identity = torch.eye(n_axes, dtype=index.dtype, device=index.device)
    steps = []
    for density in (turned.real, turned.abs()):
        curvature = 4 * math.pi**2 * (density @ products).unflatten(-1, (n_axes, n_axes))
        ridge = 1e-6 * curvature.abs().amax((-2, -1))[..., None, None] + torch.finfo(index.dtype).tiny
        steps.append(torch.linalg.solve(curvature + ridge * identity, gradient).clamp(-0.05, 0.05))
    return steps[0], steps[1]


def phase_error(F: torch.Tensor, F_true: torch.Tensor) -> torch.Tensor:
    """|Δφ| in degrees, [0, 180]."""
    return torch.rad2deg((unit_phasor(F) * unit_phasor(F_true).conj()).angle().abs())


def phase_misfit(E_pred: torch.Tensor, E_true: torch.Tensor) -> torch.Tensor:
    """1 - cos(phi_pred - phi_true) of every reflection: 0 for a correct phase, 1 on average for a random one."""
    return 1 - (unit_phasor(E_pred) * unit_phasor(E_true).conj()).real
