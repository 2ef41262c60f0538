"""Flat detectors behind the sample: directions of their pixels, masks, and the conversion of photons to counts."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch

from rephase.crystal.cell import wavelength
from rephase.errors import OpticsError, check_positive


@dataclass(frozen=True)
class Detector:
    """A flat, square detector perpendicular to the beam, with a round hole for it.

    Attributes
    ----------
    n_pixels
        Number of pixels along each side.
    max_angle_deg
        Scattering angle in degrees at the middle of an edge, for a centred beam; below 60.
    hole_deg
        Half the opening angle of the central hole, in degrees; 0 for no hole.
    dead
        Areas that do not measure, each (first row, row after the last, first column, column after the last).
    centre
        Position of the direct beam, (x, y) in pixels from the centre of the image.
    gain
        Counts per photon.
    saturation
        Largest count that a pixel can show.

    Raises
    ------
    OpticsError
        A value is impossible for a detector.
    """

    n_pixels: int = 224
    max_angle_deg: float = 30.0
    hole_deg: float = 3.0
    dead: tuple[tuple[int, int, int, int], ...] = ()
    centre: tuple[float, float] = (0.0, 0.0)
    gain: float = 1.0
    saturation: float = 65535.0

    def __post_init__(self) -> None:
        if self.n_pixels < 8:
            raise OpticsError(f"n_pixels = {self.n_pixels}: expected at least 8 along each side")
        if not 0 < self.max_angle_deg < 60:
            raise OpticsError(f"max_angle_deg = {self.max_angle_deg}: expected above 0 and below 60 degrees")
        if not 0 <= self.hole_deg < self.max_angle_deg:
            raise OpticsError(f"hole_deg = {self.hole_deg}: expected 0 to below max_angle_deg = {self.max_angle_deg}")
        for area in self.dead:
            if not (0 <= area[0] < area[1] <= self.n_pixels and 0 <= area[2] < area[3] <= self.n_pixels):
                raise OpticsError(f"dead area {area}: expected rows and columns within 0 to {self.n_pixels}")
        for name in ("gain", "saturation"):
            check_positive(name, getattr(self, name), remedy="give counts", error=OpticsError)
        if not all(abs(shift) <= self.n_pixels / 4 for shift in self.centre):
            raise OpticsError(f"centre = {self.centre}: expected at most {self.n_pixels / 4:g} pixels off centre")

    @cached_property
    def pitch(self) -> float:
        """Edge of a pixel divided by the distance of the detector."""
        return 2 * math.tan(math.radians(self.max_angle_deg)) / self.n_pixels

    def mask(self, device: torch.device | str = "cpu") -> torch.Tensor:
        """Return which pixels measure, boolean [row, column]: those outside the hole and the dead areas."""
        x = self._coordinates(torch.float64, device)
        measured = x[:, None] ** 2 + x**2 >= math.tan(math.radians(self.hole_deg)) ** 2
        for top, bottom, left, right in self.dead:
            measured[top:bottom, left:right] = False
        return measured

    def directions(
        self, dtype: torch.dtype, device: torch.device | str = "cpu", offset: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return unit vectors from the sample to the pixels, [shot, row, column, xyz]; one shot without an `offset`.

        Parameters
        ----------
        dtype, device
            Dtype and device of the result.
        offset
            [shot, 2] pixels (x, y), additional displacement of the beam from `centre` in each shot.
        """
        shift = torch.tensor([self.centre], dtype=dtype, device=device)
        shift = self.pitch * (shift if offset is None else shift + offset)
        pixel = self._coordinates(dtype, device)
        x, y = pixel - shift[:, :1], pixel - shift[:, 1:]
        shape = (len(shift), self.n_pixels, self.n_pixels)
        flat = torch.stack([x[:, None].expand(shape), y[:, :, None].expand(shape), x.new_ones(shape)], -1)
        return flat / flat.norm(dim=-1, keepdim=True)

    def solid_angles(self, directions: torch.Tensor) -> torch.Tensor:
        """Return the solid angle in sr of each pixel, [shot, row, column]: pitch^2 cos^3 of the scattering angle."""
        return self.pitch**2 * directions[..., 2] ** 3

    def _coordinates(self, dtype: torch.dtype, device: torch.device | str) -> torch.Tensor:
        """Return the pixel centres along one side, divided by the distance of the detector."""
        return self.pitch * (torch.arange(self.n_pixels, dtype=dtype, device=device) - (self.n_pixels - 1) / 2)


FERMI = Detector()
"""Wide angles, after the experiment on helium nanodroplets: Langbehn et al. (2018), doi:10.1103/PhysRevLett.121.255301.
The size of its hole is a guess."""
XFEL = Detector(max_angle_deg=2.5, hole_deg=0.2)
"""Small angles, after shots of single viruses at 1.2 keV: Kassemeyer et al. (2012), doi:10.1364/OE.20.004149."""


def wavelength_nm(energy_ev: float) -> float:
    """Return the wavelength in nm of photons of `energy_ev`; `OpticsError` if that is not a positive number."""
    check_positive("energy_ev", energy_ev, remedy="give the photon energy in eV, e.g. 19.4", error=OpticsError)
    return wavelength(energy_ev / 1000) / 10


def expose(
    intensity: torch.Tensor,
    detector: Detector,
    n_photons: torch.Tensor | float,
    *,
    background: torch.Tensor | float = 0.0,
    generator: torch.Generator,
) -> torch.Tensor:
    """Draw counts of single shots: ``min(gain Poisson(n_photons I / sum I + background), saturation)``, 0 where masked.

    Parameters
    ----------
    intensity
        [shot, row, column], on any scale; an image of zeros has no signal.
    detector
        Detector with as many pixels as the images.
    n_photons
        Expected photons in a whole image, including masked pixels: a number, or [shot]. For a fluence F in photons per
        nm^2, this is F times the sum of an intensity in nm^2.
    background
        Expected background photons per pixel: a number, or an array that broadcasts with the images.
    generator
        Generator of the noise, on the device of the images.

    Returns
    -------
    torch.Tensor
        Raw counts, float32 [shot, row, column].

    Raises
    ------
    OpticsError
        The images differ in size from the detector, or intensities, photons or background are negative or not finite.
    """
    n = detector.n_pixels
    if intensity.ndim != 3 or intensity.shape[1:] != (n, n):
        raise OpticsError(
            f"intensity has shape {tuple(intensity.shape)}: expected [shot, {n}, {n}] as the detector has"
        )
    # float32 holds no more than 24 bits of a sum over 50,000 pixels
    intensity = intensity.double()
    photons, background = (
        torch.as_tensor(t, dtype=torch.float64, device=intensity.device) for t in (n_photons, background)
    )
    for name, values in (("intensity", intensity), ("n_photons", photons), ("background", background)):
        if not (torch.isfinite(values).all() and (values >= 0).all()):
            raise OpticsError(f"{name} has values that are negative or not finite: expected numbers of photons")
    total = intensity.sum((1, 2))
    scale = torch.where(total > 0, photons / total.clamp(min=torch.finfo(torch.float64).tiny), 0.0)
    expected = scale[:, None, None] * intensity + background
    counts = detector.gain * torch.poisson(expected, generator=generator)
    return (counts.clamp(max=detector.saturation) * detector.mask(intensity.device)).float()


def focus_fluence(
    n: int, peak: float, *, decades: float, generator: torch.Generator, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """Draw the fluence [n] at particles in random positions of a Gaussian focus, in the unit of `peak`.

    The area where a Gaussian ``peak exp(-r^2/s^2)`` is above F grows with ln(peak/F). The logarithm of the fluence is
    therefore uniform, here over a range of `decades` below the peak.
    """
    check_positive("peak", peak, remedy="give the fluence at the centre of the focus", error=OpticsError)
    check_positive("decades", decades, remedy="give the number of decades below the peak", error=OpticsError)
    uniform = torch.rand(n, generator=generator, device=generator.device, dtype=dtype)
    return peak * 10 ** (-decades * uniform)
