"""Two-point angular cross-correlation of diffraction images: polar transform, C(q1, q2, Δ), and maps for networks."""

import math
from typing import NamedTuple

import torch

_LEAST_MEASURED = 0.5  # fraction of the weight of the four pixels around a point for it to count as measured


class PolarImage(NamedTuple):
    """Images on rings around the beam.

    ``intensity`` [batch, q, phi] is 0 where not measured; ``mask`` [batch, q, phi] is True = measured. Ring i has the
    radius ``(i + 1/2) r_max / n_q`` in pixels, point j the angle ``2π j / n_phi`` from +x towards +y.
    """

    intensity: torch.Tensor
    mask: torch.Tensor


class Correlation(NamedTuple):
    """Correlation of two rings, 0 without measured pairs, and ``n_pairs``, the number of measured pairs in its mean.

    Both are [batch, q1, q2, delta], or [batch, q, delta] for each ring with itself; ``Δ = 2π j / n_phi``.
    """

    value: torch.Tensor
    n_pairs: torch.Tensor


def to_polar(
    image: torch.Tensor,
    mask: torch.Tensor,
    *,
    n_q: int,
    n_phi: int,
    centre: torch.Tensor | None = None,
    r_max: float | None = None,
) -> PolarImage:
    """Interpolate images on rings, bilinearly between the measured ones of the four nearest pixels.

    A point counts as measured if these have at least half of the weight; a point outside the image never does.

    Parameters
    ----------
    image
        Intensities [batch, y, x], float.
    mask
        True = measured, [batch, y, x].
    n_q, n_phi
        Number of rings, and of points on each.
    centre
        Row and column of the beam in pixels from the centre of the first pixel, [2] or [batch, 2]; by default the
        centre of the image.
    r_max
        Outer radius in pixels; by default half of the shorter side.
    """
    n_y, n_x = image.shape[-2:]
    size = torch.tensor([n_y, n_x]).to(image)
    centre = (size - 1) / 2 if centre is None else centre.to(image)
    r_max = min(n_y, n_x) / 2 if r_max is None else r_max
    radius = (torch.arange(n_q).to(image) + 0.5) * (r_max / n_q)
    phi = torch.arange(n_phi).to(image) * (2 * math.pi / n_phi)
    offset = radius[:, None, None] * torch.stack([phi.sin(), phi.cos()], dim=-1)
    place = centre.expand(len(image), 2)[:, None, None] + offset
    relative = (2 * place + 1) / size - 1  # grid_sample's own units: -1 and 1 are the outer edges of the image
    channels = torch.stack([torch.where(mask, image, 0), mask.to(image.dtype)], dim=1)
    weighted, weight = torch.nn.functional.grid_sample(channels, relative.flip(-1), align_corners=False).unbind(1)
    measured = weight >= _LEAST_MEASURED
    return PolarImage(torch.where(measured, weighted / weight.clamp_min(_LEAST_MEASURED), 0), measured)


def correlate(polar: PolarImage) -> Correlation:
    """Compute the two-point angular cross-correlation of every ring with every other.

    ``C(q1, q2, Δ) = Σ_φ δ(q1, φ) δ(q2, φ + Δ) / n(q1, q2, Δ)``, ``δ = I / <I>_φ - 1``: the fluctuation of a ring about
    its own mean, in units of this mean, which removes the radial profile and the intensity of the shot. Means and sums
    run over measured points only, and n counts the pairs in which both were measured: the correlation of the masks.
    Without a mask C is the usual ``(<I I'> - <I><I'>) / (<I><I'>)`` (Altarelli et al. 2010,
    doi:10.1103/PhysRevB.82.104207). Rings whose mean is not above 0 have no pairs.

    C is unchanged by a rotation of the image, and ``C(q1, q2, Δ) = C(q2, q1, -Δ)``. It contains shot noise wherever
    both points are interpolated from the same pixels: at ``C(q, q, 0)`` on every ring, and on inner rings, which are
    sampled more finely than the pixels, also at small Δ, up to one or two pixels along the ring.

    Returns
    -------
    Correlation
        Correlation of all pairs of rings, [batch, q1, q2, delta].
    """
    fluctuation, counted = _spectra(polar)
    pairs = [(spectrum[:, :, None], spectrum[:, None]) for spectrum in (fluctuation, counted)]
    return _mean_product(*pairs, n_phi=polar.mask.shape[-1])


def correlate_rings(polar: PolarImage) -> Correlation:
    """Compute only C(q, q, Δ) of `correlate`, [batch, q, delta]."""
    fluctuation, counted = _spectra(polar)
    return _mean_product((fluctuation, fluctuation), (counted, counted), n_phi=polar.mask.shape[-1])


def correlation_map(
    image: torch.Tensor, mask: torch.Tensor, *, n_q: int, n_delta: int, centre: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Reduce images to maps C(q, q, Δ) with 0 ≤ Δ < π, which a network takes instead of the images.

    An n-fold pattern has ridges at multiples of 2π/n. The other half, Δ ≥ π, would repeat it: C(q, q, Δ) is even.

    Parameters
    ----------
    image, mask, centre
        As in `to_polar`.
    n_q, n_delta
        Number of points of the map along q and Δ.

    Returns
    -------
    tuple
        The map [batch, n_q, n_delta], and a mask of the same shape: True where it has measured pairs.
    """
    value, n_pairs = correlate_rings(to_polar(image, mask, n_q=n_q, n_phi=2 * n_delta, centre=centre))
    return value[..., :n_delta], n_pairs[..., :n_delta] > 0


def _spectra(polar: PolarImage) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the Fourier transforms along φ of the fluctuations and of the mask, [batch, q, m]."""
    mask, intensity = polar.mask, polar.intensity
    mean = (intensity * mask).sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp_min(1)
    counted = mask & (mean > 0)
    fluctuation = torch.where(counted, intensity / torch.where(mean > 0, mean, 1) - 1, 0)
    return torch.fft.rfft(fluctuation), torch.fft.rfft(counted.to(intensity.dtype))


def _mean_product(
    fluctuation: tuple[torch.Tensor, torch.Tensor], counted: tuple[torch.Tensor, torch.Tensor], *, n_phi: int
) -> Correlation:
    total, n_pairs = (torch.fft.irfft(first.conj() * second, n=n_phi) for first, second in (fluctuation, counted))
    n_pairs = n_pairs.round()
    return Correlation(torch.where(n_pairs > 0, total / n_pairs.clamp_min(1), 0), n_pairs.long())
