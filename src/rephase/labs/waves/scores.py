"""Scores of retrieved waves and objects, after the ambiguities of the measurement are removed.

Waves are complex [batch, row, column]. `weight`, [row, column] or one per wave, is the weight of each pixel: 0 outside
the illuminated area.
"""

import math

import torch

from rephase.learning.similarity import structural_similarity

_REFINEMENTS = 10


def align_wave(pred: torch.Tensor, true: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
    """Align the prediction with the truth in global phase, phase ramp, and choice of the wave or its twin.

    The twin is the conjugate image (twin image), rotated by 180 degrees about the middle of the field; it has the same
    far field.
    The result is unchanged by any of the three in `pred`, except for rounding.

    Parameters
    ----------
    pred, true
        Predicted and true waves, complex, [batch, row, column].
    weight
        Weights of the pixels, 0 or above; by default 1.
    """
    weight = torch.ones_like(true.real) if weight is None else weight.to(true.real).expand(true.shape)
    same, twin = (_without_ramp(hand, true, weight) for hand in (pred, pred.flip((-2, -1)).conj()))
    is_twin = _squared_error(twin, true, weight) < _squared_error(same, true, weight)
    return torch.where(is_twin[:, None, None], twin, same)


def wave_error(aligned: torch.Tensor, true: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
    """Relative error [batch] of a wave from `align_wave`, ``(sum |pred - true|^2 / sum |true|^2)^1/2``."""
    weight = torch.ones_like(true.real) if weight is None else weight
    return (_squared_error(aligned, true, weight) / (weight * true.abs().square()).sum((1, 2))).sqrt()


def amplitude_ssim(pred: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Structural similarity [batch] of the amplitudes, over the range of the true ones; uniform window of 7 pixels."""
    return _similarity(pred.abs(), true.abs())


def phase_ssim(aligned: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Structural similarity [batch] of the phases of a wave from `align_wave`, over the range of the true ones.

    Each phase is taken within pi of the true one, so that wraps do not count as errors.
    """
    phase = true.angle()
    return _similarity(phase + (aligned * true.conj()).angle(), phase)


def ring_correlation(pred: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Fourier ring correlation [batch, ring], ``Re sum a b* / (sum |a|^2 sum |b|^2)^1/2`` over rings of the spectrum.

    Ring i holds the frequencies that round to i cycles along the shorter side, up to half of its pixels. If both waves
    share strong low frequencies, it is high whatever their quality: report an error or a similarity with it.

    References
    ----------
    Saxton & Baumeister (1982), doi:10.1111/j.1365-2818.1982.tb00405.x.
    """
    rows, columns = true.shape[-2:]
    fy, fx = (torch.fft.fftfreq(n, device=true.device) for n in (rows, columns))
    ring = (min(rows, columns) * torch.hypot(fy[:, None], fx)).round().long().flatten()
    n_rings = min(rows, columns) // 2 + 1
    inside = ring < n_rings
    a, b = (torch.fft.fft2(wave).flatten(1)[:, inside] for wave in (pred, true))
    products = torch.stack([(a * b.conj()).real, a.abs().square(), b.abs().square()])
    sums = products.new_zeros(3, len(true), n_rings).index_add(-1, ring[inside], products)
    return sums[0] / (sums[1] * sums[2]).sqrt().clamp_min(torch.finfo(sums.dtype).tiny)


def _squared_error(pred: torch.Tensor, true: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return (weight * (pred - true).abs().square()).sum((1, 2))


def _similarity(pred: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    extent = true.amax((1, 2), keepdim=True) - true.amin((1, 2), keepdim=True)
    return structural_similarity(pred / extent, true / extent, periodic=False)


def _without_ramp(pred: torch.Tensor, true: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Align `pred` in phase and ramp, starting from the peak of the spectrum of the product of the waves.

    Each step maximises a parabola below ``Re sum weight true* pred exp(i plane)``, which therefore never falls.
    """
    product = weight * true * pred.conj()
    rows, columns = (torch.linspace(-0.5, 0.5, n, dtype=weight.dtype, device=true.device) for n in true.shape[-2:])
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    basis = torch.stack([torch.ones_like(y), y, x], dim=-1).flatten(0, 1)
    inverse = torch.linalg.pinv(torch.einsum("pi,bp,pj->bij", basis, product.abs().flatten(1), basis), hermitian=True)
    plane = _coarse_plane(product)
    for _ in range(_REFINEMENTS):
        turned = product.flatten(1) * torch.exp(-1j * (plane @ basis.T))
        turned = turned * torch.sgn(turned.sum(1, keepdim=True)).conj()
        plane = plane + (inverse @ (turned.imag @ basis)[..., None])[..., 0]
    ramp = torch.exp(1j * (plane @ basis.T)).unflatten(1, true.shape[-2:])
    return pred * ramp * torch.sgn((product * ramp.conj()).sum((1, 2), keepdim=True))


def _coarse_plane(product: torch.Tensor) -> torch.Tensor:
    """Phase and slopes, in radians over the field, of the strongest plane wave, [batch, 3], to a quarter of a cycle."""
    n_rows, n_columns = product.shape[-2:]
    peak = torch.fft.fft2(product, s=(2 * n_rows, 2 * n_columns)).abs().flatten(1).argmax(1)
    rows, columns = (
        torch.fft.fftfreq(2 * n, dtype=product.real.dtype, device=product.device) for n in (n_rows, n_columns)
    )
    down, right = rows[peak // (2 * n_columns)], columns[peak % (2 * n_columns)]
    slopes = torch.stack([torch.zeros_like(down), down * (n_rows - 1), right * (n_columns - 1)], dim=1)
    return 2 * math.pi * slopes
