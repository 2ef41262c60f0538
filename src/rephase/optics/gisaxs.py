"""Grazing-incidence small-angle scattering of particles on a flat stack, in the distorted-wave Born approximation.

The beam and its reflection both illuminate each particle, which is in vacuum on top of the stack, and the scattered
waves reach the detector directly or after a reflection. With R_i and R_f, the amplitudes reflected by the stack at the
incident and exit angles::

    dsigma/dOmega = |k^2 (n^2 - 1)/(4 pi)|^2 |F(q+) + R_i F(q-) + R_f F(-q-) + R_i R_f F(-q+)|^2
    F(q_z) = integral exp(-i q.r) dr over the particle, whose base is at z = 0,   q+- = k (sin alpha_f +- sin alpha_i)

Particles are far apart: their intensities add up, and they do not change the refractive index of the vacuum. Waves are
scalar. The specular and the diffuse scattering of the stack itself are left out.

Sinha et al. (1988), doi:10.1103/PhysRevB.38.2297; Rauscher, Salditt & Spohn (1995), Phys. Rev. B 52,
16855; Renaud, Lazzari & Leroy (2009), doi:10.1016/j.surfrep.2009.07.002.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch

from rephase.devices import at_once
from rephase.errors import OpticsError, check_positive, nearest_name
from rephase.optics.detector import wavelength_nm
from rephase.optics.form_factors import (
    Spread,
    ball,
    check_sizes,
    disc,
    gauss_legendre,
    n_nodes_of_wave,
    per_sample,
    phasor,
    slab,
    spread_sizes,
)
from rephase.optics.reflectivity import Stack, reflected_amplitude

_N_DISCS = 32  # into which a body is cut, about


@dataclass(frozen=True)
class ExitAngles:
    """A detector in exit angles; a single row or column is a cut.

    Attributes
    ----------
    alpha_deg
        [row] degrees from the plane of the sample, above 0 and below 90.
    phi_deg
        [column] degrees from the plane of incidence.
    pixel_deg
        Height and width of a pixel in degrees.

    Raises
    ------
    OpticsError
        An exit angle is at or below the horizon, or the pixels have no size.
    """

    alpha_deg: torch.Tensor
    phi_deg: torch.Tensor
    pixel_deg: tuple[float, float]

    def __post_init__(self) -> None:
        if not (self.alpha_deg.ndim == self.phi_deg.ndim == 1 and len(self.alpha_deg) and len(self.phi_deg)):
            raise OpticsError("alpha_deg, phi_deg: expected two non-empty one-dimensional arrays, in degrees")
        if not ((self.alpha_deg > 0) & (self.alpha_deg < 90)).all() or not (self.phi_deg.abs() < 90).all():
            raise OpticsError("alpha_deg: expected above 0 and below 90 degrees; phi_deg: above -90 and below 90")
        for size in self.pixel_deg:
            check_positive("pixel_deg", size, remedy="give the height and width in degrees", error=OpticsError)


class Island(NamedTuple):
    """A body of revolution that stands on a plane.

    ``transform(square of q in the plane, q_z, sizes)`` is F in nm^3, complex [part, line, column, node], for q_z
    [part, line, 1, 1] and the square [line, column, 1]. ``n_discs`` is about the number of discs that it adds up.
    """

    sizes: tuple[str, ...]
    transform: Callable[[torch.Tensor, torch.Tensor, list[torch.Tensor]], torch.Tensor]
    n_discs: int = 1


def grazing_pattern(
    island: str,
    sizes: torch.Tensor,
    delta: torch.Tensor,
    beta: torch.Tensor,
    stack: Stack,
    exits: ExitAngles,
    *,
    energy_ev: float,
    incidence_deg: torch.Tensor | float,
    density: torch.Tensor | float = 1.0,
    spread: Spread | None = None,
) -> torch.Tensor:
    """Compute the photons scattered into each pixel per photon incident on the sample.

    Parameters
    ----------
    island
        Name in `ISLANDS`, which lists the names of its sizes.
    sizes
        [sample, size] nm, above 0.
    delta, beta
        [sample], refractive index 1 - delta + i beta of the particles.
    stack
        Stack of layers under the particles.
    exits
        Exit angles of the pixels.
    energy_ev
        Photon energy in eV.
    incidence_deg
        Grazing angle of the beam in degrees, a number or [sample].
    density
        Particles per nm^2, a number or [sample].
    spread
        Distribution of one of the sizes.

    Returns
    -------
    torch.Tensor
        ``density dsigma/dOmega dOmega / sin alpha_i``, [sample, row, column], with the dtype and device of `sizes`.

    Raises
    ------
    OpticsError
        The island or the size of the spread is unknown, or values have another shape or are impossible.
    """
    if island not in ISLANDS:
        raise OpticsError(f"island {island!r}: {nearest_name(island, ISLANDS)}")
    check_sizes(sizes, ISLANDS[island].sizes)
    if delta.shape != sizes.shape[:1] or beta.shape != delta.shape:
        raise OpticsError(f"delta, beta of particles: expected [{len(sizes)}], one per sample")
    if len(stack.delta) != len(sizes):
        raise OpticsError(f"{len(stack.delta)} stacks for {len(sizes)} samples: expected as many")
    k = 2 * math.pi / wavelength_nm(energy_ev)
    incident = per_sample(incidence_deg, sizes).deg2rad()[:, None]
    exit, phi = (t.to(sizes).deg2rad() for t in (exits.alpha_deg, exits.phi_deg))
    sine = torch.cat([incident.sin(), exit.sin().expand(len(sizes), -1)], 1)
    reflected = reflected_amplitude(stack, sine, energy_ev)
    varied, weights = spread_sizes(sizes, ISLANDS[island].sizes, spread)

    def mean_square(lines: torch.Tensor) -> torch.Tensor:
        sample, row = lines // len(exit), lines % len(exit)
        across = _in_plane(k, incident[sample], exit[row, None], phi)
        beams = torch.stack([torch.zeros_like(row), row + 1])  # incident and exit
        wave = _distorted_wave(
            ISLANDS[island], across, k * sine[sample, beams], reflected[sample, beams], varied[sample]
        )
        return ((wave.real**2 + wave.imag**2) * weights[sample][:, None]).sum(2)

    n_each = len(phi) * weights.shape[1] * ISLANDS[island].n_discs
    lines = torch.arange(len(sizes) * len(exit), device=sizes.device)  # rows of all patterns
    pieces = lines.split(max(1, at_once("GISAXS", sizes.device) // n_each))
    mean = torch.cat([mean_square(piece) for piece in pieces]).unflatten(0, (len(sizes), len(exit)))
    potential = k**2 / (4 * math.pi) * torch.complex(-2 * delta + delta**2 - beta**2, 2 * beta * (1 - delta)).abs()
    solid_angle = math.prod(math.radians(size) for size in exits.pixel_deg) * exit.cos()
    factor = per_sample(density, sizes) * potential**2 / incident[:, 0].sin()
    return factor[:, None, None] * solid_angle[:, None] * mean


def _in_plane(k: float, incident: torch.Tensor, exit: torch.Tensor, phi: torch.Tensor) -> torch.Tensor:
    """Return q^2 in the plane of the sample, nm^-2 [line, column], from differences that keep their digits."""
    along = -2 * ((exit + incident) / 2).sin() * ((exit - incident) / 2).sin()
    along = along - 2 * exit.cos() * (phi / 2).sin() ** 2
    return k**2 * (along**2 + (exit.cos() * phi.sin()) ** 2)


def _distorted_wave(
    island: Island, across: torch.Tensor, k_z: torch.Tensor, reflected: torch.Tensor, sizes: torch.Tensor
) -> torch.Tensor:
    """Add the four terms in nm^3, [line, column, node]; `k_z` and `reflected` are of the incident and exit beam."""
    k_i, k_f = k_z
    q_z = torch.stack([k_f + k_i, k_f - k_i])[..., None, None]
    up, down = island.transform(across[..., None], q_z, [t[:, None] for t in sizes.unbind(2)])
    r_i, r_f = reflected[..., None, None]
    # F(-q_z) is the conjugate, because bodies of revolution are symmetric under half a turn
    return up + r_i * down + r_f * down.conj() + r_i * r_f * up.conj()


def _sphere(across: torch.Tensor, q_z: torch.Tensor, sizes: list[torch.Tensor]) -> torch.Tensor:
    (radius,) = sizes
    return 4 / 3 * math.pi * radius**3 * ball((across + q_z**2) * radius**2) * phasor(-q_z * radius)


def _cylinder(across: torch.Tensor, q_z: torch.Tensor, sizes: list[torch.Tensor]) -> torch.Tensor:
    radius, height = sizes
    along = slab(q_z * height / 2) * phasor(-q_z * height / 2)
    return math.pi * radius**2 * height * disc(across * radius**2) * along


def _truncated_sphere(across: torch.Tensor, q_z: torch.Tensor, sizes: list[torch.Tensor]) -> torch.Tensor:
    radius, height = (t[..., None] for t in sizes)
    if (height > 2 * radius).any():
        raise OpticsError("height of a truncated sphere: expected at most twice its radius")
    return _revolved(across, q_z, height, lambda t: height * (1 - t) * (2 * radius - height * (1 - t)))


def _dome(across: torch.Tensor, q_z: torch.Tensor, sizes: list[torch.Tensor]) -> torch.Tensor:
    radius, height = (t[..., None] for t in sizes)
    return _revolved(across, q_z, height, lambda t: radius**2 * (1 - t**2))


def _frustum(across: torch.Tensor, q_z: torch.Tensor, sizes: list[torch.Tensor]) -> torch.Tensor:
    radius, height, top_radius = (t[..., None] for t in sizes)
    return _revolved(across, q_z, height, lambda t: (radius + (top_radius - radius) * t) ** 2)


def _revolved(
    across: torch.Tensor,
    q_z: torch.Tensor,
    height: torch.Tensor,
    square_radius: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """Compute F of a body from its squared radius at z/height: a Gauss-Legendre quadrature over discs."""
    with torch.no_grad():
        widest = (square_radius(torch.linspace(0, 1, 9).to(across)).amax() * across.amax()).sqrt()
        phase = float(height.amax() * q_z.amax() + 2 * widest)
    level, weight = gauss_legendre(n_nodes_of_wave(phase), across)
    square = square_radius(level)
    discs = math.pi * square * disc(across[..., None] * square)
    waves = torch.view_as_real(phasor(-q_z[..., None] * height * level) * (weight * height)).squeeze(2)
    return torch.view_as_complex(torch.einsum("lcnz,plnzk->plcnk", discs, waves).contiguous())


ISLANDS = {
    "sphere": Island(("radius",), _sphere),
    "cylinder": Island(("radius", "height"), _cylinder),
    "truncated_sphere": Island(("radius", "height"), _truncated_sphere, _N_DISCS),
    "dome": Island(("radius", "height"), _dome, _N_DISCS),
    "frustum": Island(("radius", "height", "top_radius"), _frustum, _N_DISCS),
}
"""Islands by name: a ball, an upright cylinder, a ball whose lower part is cut off at `height` from its top, half a
spheroid, and a cone whose tip is cut off where its radius is `top_radius`."""
