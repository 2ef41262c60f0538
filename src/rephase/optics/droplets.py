"""Wide-angle diffraction of droplets by the multislice Fourier transform (MSFT).

The droplet is cut into slices across the beam. The earlier slices attenuate and delay the light that reaches a slice,
and the wave that a slice adds travels on to the detector as if through vacuum::

    dsigma/dOmega(s) = |k/(2 pi) sum_j exp(-i q_z z_j) integral exp(-i (q_x x + q_y y)) (T_j - T_(j-1)) dx dy|^2
    T_j(x, y) = exp(i k (n - 1) integral_(z < z_j) rho dz),   q = k (s - e_z)

with rho the density relative to that of helium and s the direction of a pixel. With ``q_z = 0`` the sum is the exit
wave: the projection that small angles show, symmetric under inversion if n is real and close to 1. The curvature of
the Ewald sphere, q_z = k (cos theta - 1), breaks that symmetry.

Waves are scalar; refraction, reflection and multiple scattering are left out. Compared with Mie's solution for spheres
of helium at 19.4 eV (n = 1.084) with radii of 141 to 554 nm, the dark rings are at most 3 % off and the image is 15 to
35 % too weak; at n = 0.985 + 0.02i these errors are 1 and 4 %.

Barke et al. (2015), doi:10.1038/ncomms7187; Langbehn et al. (2018), doi:10.1103/PhysRevLett.121.255301, supplement.
"""

import math

import torch

from rephase.devices import at_once
from rephase.errors import OpticsError
from rephase.optics.detector import FERMI, Detector, wavelength_nm
from rephase.optics.droplet_shapes import Droplets, relative_density, spheroids
from rephase.optics.form_factors import phasor
from rephase.optics.helium import refractive_index

ENERGY_EV = 19.4
"""Photon energy in eV, one of those of the FERMI experiments on helium droplets; helium is clear below 1s-2p."""
_OVERSAMPLING = 6  # of the wave on its own grid, before it is interpolated to the pixels


def scatter(
    droplets: Droplets,
    detector: Detector = FERMI,
    *,
    energy_ev: float = ENERGY_EV,
    index: complex | None = None,
    offset: torch.Tensor | None = None,
    sampling: float = 4.0,
) -> torch.Tensor:
    """Compute the scattering cross section into each pixel: expected photons per incident photon per nm^2.

    Parameters
    ----------
    droplets
        Droplets in the beam, one per shot; a partner's wave is added, and neither shadows the other.
    detector
        Detector, for the positions of its pixels. Its mask, gain and saturation are used by
        `rephase.optics.detector.expose`.
    energy_ev
        Photon energy in eV.
    index
        Complex refractive index n of the medium; by default that of liquid helium.
    offset
        [droplet, 2] pixels (x, y), displacement of the beam of each shot from the detector's centre.
    sampling
        Cells per wavelength along each axis. With the default the intensity is correct within about 1.5 %.

    Returns
    -------
    torch.Tensor
        Intensity [droplet, row, column] in nm^2, with the dtype and device of the droplets; zeros for no droplet.

    Raises
    ------
    OpticsError
        Helium's index is unknown at the photon energy, there are fewer than two cells per wavelength, the `offset` has
        another shape or lies outside the detector, or a droplet is larger than 100 wavelengths.
    """
    wavelength = wavelength_nm(energy_ev)
    index = refractive_index(energy_ev) if index is None else index
    if not (math.isfinite(sampling) and sampling >= 2):
        raise OpticsError(f"sampling = {sampling}: expected two cells per wavelength or more; the default is 4")
    extent = droplets.extent()
    if extent.amax() > 50 * wavelength or droplets.partner_radius.amax() > 50 * wavelength:
        raise OpticsError(f"a droplet is {2 * float(extent.amax()):.0f} nm large: expected at most 100 wavelengths")
    if offset is not None and (offset.shape != (len(extent), 2) or not (offset.abs() <= detector.n_pixels / 4).all()):
        raise OpticsError(f"offset: expected [{len(extent)}, 2] and at most {detector.n_pixels / 4:g} pixels")
    like = droplets.semi_axes
    centred = detector.directions(like.dtype, like.device)
    beam = _Beam(2 * math.pi / wavelength, index, sampling)
    intensity = like.new_zeros(len(like), detector.n_pixels, detector.n_pixels)
    order = extent.amax(1).argsort()
    for rows in order.split(at_once("droplets", like.device)):
        part = droplets.take(rows)
        look = centred if offset is None else detector.directions(like.dtype, like.device, offset[rows])
        intensity[rows] = _wave(part, look, beam).abs().square() * detector.solid_angles(look)
    return intensity


class _Beam:
    """Wave number k in 1/nm, refractive index of the medium, and cells per wavelength."""

    def __init__(self, k: float, index: complex, sampling: float):
        self.k, self.index = k, index
        self.cell = 2 * math.pi / k / sampling


def _wave(droplets: Droplets, directions: torch.Tensor, beam: _Beam) -> torch.Tensor:
    """Return the scattered amplitude in nm at the pixels, complex [droplet, row, column], partners included."""
    wave = _single_wave(droplets, directions, beam)
    paired = (droplets.partner_radius > 0).nonzero()[:, 0]
    if len(paired):
        look = directions if len(directions) == 1 else directions[paired]
        partners = spheroids(droplets.partner_radius[paired, None].repeat(1, 3))
        apart = droplets.partner_offset[paired]
        path = torch.einsum("bc,bijc->bij", apart, look.expand(len(paired), -1, -1, -1)) - apart[:, 2, None, None]
        wave[paired] += _single_wave(partners, look, beam) * phasor(-beam.k * path)
    return wave


def _single_wave(droplets: Droplets, directions: torch.Tensor, beam: _Beam) -> torch.Tensor:
    extent = droplets.extent().clamp(min=0.5 * beam.cell)
    n_side, n_slices = (
        math.ceil(2 * float(size) / beam.cell) + 2 for size in (extent[:, :2].amax(), extent[:, 2].amax())
    )
    aperture = float(directions[..., :2].abs().amax())  # sine of the largest angle along either axis
    steep = aperture / math.sqrt(1 - aperture**2)
    reach = float((extent[:, :2].amax(1) + steep * extent[:, 2]).amax())  # nm, of the wave's origin from the axis
    half = max(8, math.ceil(_OVERSAMPLING * aperture * reach * beam.k / math.pi))
    nodes = torch.arange(-half - 2, half + 3, dtype=extent.dtype, device=extent.device)  # two more for cubics
    wave = _sliced_wave(droplets, extent, (n_side, n_slices), nodes * (aperture / half), beam)
    points = directions[..., :2] * (half / (aperture * (half + 2)))
    return _interpolate(wave, points.expand(len(wave), -1, -1, -1))


def _interpolate(wave: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Interpolate waves [droplet, y, x] on grids from -1 to 1 at points [droplet, row, column, xy]."""
    parts = torch.view_as_real(wave).permute(0, 3, 1, 2)
    found = torch.nn.functional.grid_sample(parts, points, mode="bicubic", align_corners=True)
    return torch.complex(found[:, 0], found[:, 1])


def _sliced_wave(
    droplets: Droplets, extent: torch.Tensor, cells: tuple[int, int], sine: torch.Tensor, beam: _Beam
) -> torch.Tensor:
    """Return the amplitude in nm on a grid of transverse directions `sine`, complex [droplet, sine y, sine x]."""
    n_side, n_slices = cells
    step = 2 * extent / extent.new_tensor([n_side, n_side, n_slices])
    x, y, z = (_middles(n, step[:, axis]) for axis, n in enumerate((n_side, n_side, n_slices)))
    edge = step.mean(1)
    from_x, from_y = (phasor(-beam.k * t[:, None, :] * sine[:, None]) for t in (x, y))
    q_z = beam.k * ((1 - sine[:, None] ** 2 - sine**2).clamp(min=0).sqrt() - 1)
    onward = phasor(q_z * step[:, 2, None, None])
    crossed = torch.zeros_like(x[:, None] * y[:, :, None])  # nm of helium before the slice
    total = torch.zeros_like(onward)
    for j in range(n_slices):
        density = relative_density(droplets, x[:, None, :], y[:, :, None], z[:, j, None, None], edge)
        thickness = density * step[:, 2, None, None]
        rows = from_y @ _added(thickness, crossed, beam)
        total.mul_(onward).baddbmm_(
            rows, from_x.mT
        )  # in place: allocating memory at each slice would take a third of the time
        crossed = crossed + thickness
    area = beam.k / (2 * math.pi) * step[:, 0] * step[:, 1]
    return total * phasor(-q_z * z[:, -1, None, None]) * area[:, None, None]


def _added(thickness: torch.Tensor, crossed: torch.Tensor, beam: _Beam) -> torch.Tensor:
    """Return T_j - T_(j-1), the contribution of a slice after `crossed` nm of helium; exact even if n - 1 is tiny."""
    decay, turn = -beam.k * beam.index.imag, beam.k * (beam.index.real - 1)
    angle = turn * thickness
    real = torch.expm1(decay * thickness) * angle.cos() - 2 * (angle / 2).sin() ** 2
    change = torch.complex(real, torch.exp(decay * thickness) * angle.sin())
    return torch.polar(torch.exp(decay * crossed), turn * crossed) * change


def _middles(n: int, step: torch.Tensor) -> torch.Tensor:
    """Return the centres of `n` cells around 0, [droplet, n]."""
    return step[:, None] * (torch.arange(n, dtype=step.dtype, device=step.device) - (n - 1) / 2)
