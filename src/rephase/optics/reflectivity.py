"""X-rays reflected by a flat stack of layers at grazing angles: Fresnel's coefficients and Parratt's recursion.

Waves are scalar, exp(i k.r) with the time dependence exp(-i w t); media have n = 1 - delta + i beta. Vacuum is above.
The perpendicular wave number is ``k_z = k sqrt(n^2 - cos^2 alpha)``, and with
``r_j = (k_zj - k_z,j+1)/(k_zj + k_z,j+1)`` for each interface, from the substrate upwards::

    R_j = (r_j + R_(j+1) p) / (1 + r_j R_(j+1) p),   p = exp(2i k_z,j+1 d_(j+1))

For a rough interface r_j is multiplied by exp(-2 k_zj k_z,j+1 s^2).

Parratt (1954), doi:10.1103/PhysRev.95.359; Névot & Croce (1980), doi:10.1051/rphysap:01980001503076100.
"""

import math
from typing import NamedTuple

import torch

from rephase.errors import OpticsError
from rephase.optics.detector import wavelength_nm

_LEAST_ABSORPTION = 1e-15  # beta; without it, the root has no finite gradient at the critical angle of a clear medium


class Stack(NamedTuple):
    """Layers from the top down; the last is the semi-infinite substrate.

    Attributes
    ----------
    delta, beta
        [sample, layer], refractive index 1 - delta + i beta; beta is 0 or more.
    thickness
        [sample, layer - 1] nm.
    roughness
        [sample, layer] nm, standard deviation of the height of each layer's top.
    """

    delta: torch.Tensor
    beta: torch.Tensor
    thickness: torch.Tensor
    roughness: torch.Tensor


def substrate(delta: torch.Tensor, beta: torch.Tensor) -> Stack:
    """Return a smooth substrate without layers; `delta` and `beta` are [sample]."""
    return Stack(delta[:, None], beta[:, None], delta.new_zeros(len(delta), 0), torch.zeros_like(delta)[:, None])


def reflected_amplitude(stack: Stack, sine: torch.Tensor, energy_ev: float) -> torch.Tensor:
    """Compute the complex amplitude R of the wave that the whole stack reflects, at its top.

    Parameters
    ----------
    stack
        Stacks [sample].
    sine
        Sine of the grazing angles, [angle] or [sample, angle], above 0.
    energy_ev
        Photon energy in eV.

    Returns
    -------
    torch.Tensor
        [sample, angle], complex.

    Raises
    ------
    OpticsError
        Parts of the stack do not fit together or are impossible, or angles or the energy are not above 0.
    """
    _check(stack, sine)
    k = 2 * math.pi / wavelength_nm(energy_ev)
    beta = stack.beta.clamp(min=_LEAST_ABSORPTION)
    layers = torch.complex(-2 * stack.delta + stack.delta**2 - beta**2, 2 * beta * (1 - stack.delta))
    above = torch.cat([torch.zeros_like(layers[:, :1]), layers], 1)[:, None]  # n^2 - 1
    k_z = k * (sine.expand(len(layers), -1)[..., None] ** 2 + above).sqrt()
    here, below = k_z[..., :-1], k_z[..., 1:]
    # as a difference of squares, which keeps more digits far above the critical angle
    fresnel = k**2 * (above[..., :-1] - above[..., 1:]) / (here + below) ** 2
    fresnel = fresnel * torch.exp(-2 * here * below * stack.roughness[:, None] ** 2)
    passes = torch.exp(2j * here[..., 1:] * stack.thickness[:, None])
    total = fresnel[..., -1]
    for layer in reversed(range(passes.shape[-1])):
        back = total * passes[..., layer]
        total = (fresnel[..., layer] + back) / (1 + fresnel[..., layer] * back)
    return total


def reflectivity(stack: Stack, alpha_deg: torch.Tensor, energy_ev: float) -> torch.Tensor:
    """Return the reflected fraction of the photons [sample, angle] at grazing angles `alpha_deg` [angle] in degrees.

    Errors are those of `reflected_amplitude`.

    Examples
    --------
    >>> silicon = substrate(torch.tensor([7.6e-6]), torch.tensor([1.7e-7]))  # at 8.05 keV
    >>> reflectivity(silicon, torch.tensor([0.1, 0.5]), 8048.0)
    tensor([[0.9779, 0.0031]])
    """
    return reflected_amplitude(stack, alpha_deg.deg2rad().sin(), energy_ev).abs().square()


def _check(stack: Stack, sine: torch.Tensor) -> None:
    n, layers = stack.delta.shape if stack.delta.ndim == 2 else (0, 0)
    expected = {"delta": (n, layers), "beta": (n, layers), "thickness": (n, layers - 1), "roughness": (n, layers)}
    for name, values in zip(stack._fields, stack):
        if not layers or values.shape != expected[name]:
            raise OpticsError(f"{name} has shape {tuple(values.shape)}: expected [sample, layer], thickness one less")
        if not torch.isfinite(values).all() or (name != "delta" and (values < 0).any()):
            raise OpticsError(f"{name} has values that are negative or not finite: expected 0 or more")
    if not ((sine > 0) & (sine <= 1)).all():
        raise OpticsError("grazing angles: expected above 0 and at most 90 degrees, above the sample's horizon")
