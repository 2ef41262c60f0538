"""Ptychography: a probe steps over an object, and every exit wave is seen in the far or the near field.

Positions are in pixels, (row, column), of the middle of the probe from the middle of the object; they need not be
whole: the probe is moved by the rest of a pixel with a Fourier shift. (pty-chi counts from one pixel further down and
to the right of the middle of an object of even size, which moves the whole object, and moves the object, not the probe,
by the rest.) Frames are ``|propagator(probe * patch)|^2``: with a probe in square roots of photons they are in photons.
"""

import copy
import math

import torch

from rephase.errors import OpticsError, check_positive
from rephase.optics.propagation import Propagator


class Scan:
    """Where the probe goes on the object, and how the exit waves get to the detector.

    Parameters
    ----------
    positions
        [frame, 2] pixels, see above.
    object_shape, probe_shape
        Rows and columns; those of the probe are those of a frame.
    propagator
        `FarField()`, `Fresnel(...)` or another of `rephase.optics.propagation`.

    Raises
    ------
    OpticsError
        No positions, or positions of another shape, not in floating point, not finite, or at which the probe would
        reach beyond the object; a probe that is larger than the object.
    """

    def __init__(
        self,
        positions: torch.Tensor,
        *,
        object_shape: tuple[int, int],
        probe_shape: tuple[int, int],
        propagator: Propagator,
    ):
        _check_scan(positions, object_shape, probe_shape)
        self.positions, self.propagator = positions, propagator
        self.object_shape, self.probe_shape = object_shape, probe_shape
        free = positions.new_tensor([(n - m) / 2 for n, m in zip(object_shape, probe_shape)])
        corner = positions + free
        self._first = first = corner.detach().round().long()
        self.offsets = corner - first
        """[frame, 2] rest of a pixel, -1/2 to 1/2, by which the probe is moved, differentiable in the positions."""
        outside = ((first < 0) | (first > 2 * free)).any(1)
        if outside.any():
            raise OpticsError(
                f"{int(outside.sum())} of {len(positions)} positions are outside of the object, first (row, column) = "
                f"{positions[outside][0].tolist()}: expected within {free.tolist()} pixels from its middle; take an "
                f"object of {smallest_object(positions, self.probe_shape)} pixels or more, or centre the positions"
            )

    def __len__(self) -> int:
        return len(self.positions)

    def part(self, frames: torch.Tensor) -> "Scan":
        """The scan of some of the frames, by their numbers."""
        part = copy.copy(self)
        part.positions, part.offsets, part._first = (t[frames] for t in (self.positions, self.offsets, self._first))
        return part

    def moved(self, by: torch.Tensor) -> "Scan":
        """The scan with positions moved by [frame, 2] pixels, few against the rim of the probe: it wraps around."""
        moved = copy.copy(self)
        moved.positions, moved.offsets = self.positions + by, self.offsets + by
        return moved

    def patches(self, objects: torch.Tensor) -> torch.Tensor:
        """What lies under the probe, [..., frame, row, column], of objects [..., row, column]."""
        _check_shape("object", objects, self.object_shape)
        return objects.flatten(-2)[..., self._pixels]

    def put(self, patches: torch.Tensor) -> torch.Tensor:
        """Sum of patches [..., frame, row, column] where they were taken from: the adjoint of `patches`."""
        n_rows, n_columns = self.object_shape
        total = patches.new_zeros(*patches.shape[:-3], n_rows * n_columns)
        return total.index_add(-1, self._pixels.flatten(), patches.flatten(-3)).unflatten(-1, (n_rows, n_columns))

    def probes(self, probe: torch.Tensor) -> torch.Tensor:
        """The probe of each frame, [..., frame, row, column], moved by `offsets`."""
        _check_shape("probe", probe, self.probe_shape)
        return shifted(probe[..., None, :, :], self.offsets)

    def frames(self, objects: torch.Tensor, probe: torch.Tensor) -> torch.Tensor:
        """Intensities [..., frame, row, column] of objects [..., row, column] under a probe [..., row, column].

        Raises
        ------
        OpticsError
            Objects or probes of another shape than the scan has.
        """
        return self.propagator(self.patches(objects) * self.probes(probe)).abs() ** 2

    @property
    def _pixels(self) -> torch.Tensor:
        """[frame, row, column]: number of each pixel of a patch among those of the object; too large to be kept."""
        device = self._first.device
        rows, columns = (
            self._first[:, axis, None] + torch.arange(n, device=device) for axis, n in enumerate(self.probe_shape)
        )
        return rows[:, :, None] * self.object_shape[1] + columns[:, None, :]


def _check_scan(positions: torch.Tensor, object_shape: tuple[int, int], probe_shape: tuple[int, int]) -> None:
    if positions.ndim != 2 or positions.shape[1] != 2 or not torch.isfinite(positions).all():
        raise OpticsError(f"positions of shape {tuple(positions.shape)}: expected finite numbers [frame, 2]")
    if len(positions) == 0:
        raise OpticsError("positions: there are none; expected one or more, [frame, 2]")
    if not positions.is_floating_point():
        raise OpticsError(f"positions are {positions.dtype}: expected floating point; give positions.float()")
    if any(m > n for n, m in zip(object_shape, probe_shape)):
        raise OpticsError(
            f"the probe has {tuple(probe_shape)} pixels, the object {tuple(object_shape)}: expected an object at "
            "least as large as the probe; enlarge the object or cut the frames"
        )


def _check_shape(name: str, field: torch.Tensor, shape: tuple[int, int]) -> None:
    if tuple(field.shape[-2:]) != tuple(shape):
        raise OpticsError(
            f"{name} of {tuple(field.shape[-2:])} pixels: expected {tuple(shape)}, as the scan was made for"
        )


def shifted(fields: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Complex fields [..., row, column], periodic, moved by offsets [..., 2] of pixels down and to the right.

    Whole pixels roll the field; the rest comes from its Fourier series. Unitary: the opposite offsets undo it.
    """
    rows, columns = (
        torch.exp(
            -2j * math.pi * torch.fft.fftfreq(n, dtype=offsets.dtype, device=fields.device) * offsets[..., axis, None]
        )
        for axis, n in enumerate(fields.shape[-2:])
    )
    ramp = (rows[..., :, None] * columns[..., None, :]).to(fields.dtype)
    return torch.fft.ifft2(torch.fft.fft2(fields) * ramp)


def smallest_object(positions: torch.Tensor, probe_shape: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the smallest object that holds the probe at every position."""
    reach = 2 * positions.detach().abs().amax(0).ceil().long()
    rows, columns = (int(n) + m for n, m in zip(reach, probe_shape))
    return rows, columns


def gaussian_probe(n: int, *, width: float, n_photons: float, curvature: float = 0.0) -> torch.Tensor:
    """A Gaussian beam, complex [n, n] in float32, in the middle of the probe.

    Parameters
    ----------
    n
        Pixels along each side.
    width
        Radius in pixels at which the intensity has fallen to exp(-2).
    n_photons
        Sum of the intensity: photons of a frame without an object.
    curvature
        Phase in radians at that radius, of a beam that converges or diverges.

    Raises
    ------
    OpticsError
        A width or a number of photons that is not above 0.
    """
    check_positive("width", width, remedy="give pixels", error=OpticsError)
    check_positive("n_photons", n_photons, remedy="give the photons of a frame", error=OpticsError)
    x = torch.arange(n) - (n - 1) / 2
    squared = (x[:, None] ** 2 + x**2) / width**2
    probe = torch.exp((1j * curvature - 1) * squared)
    return probe * (n_photons**0.5 / probe.norm())


def raster(n_side: int, *, step: float, jitter: float, generator: torch.Generator) -> torch.Tensor:
    """Positions [n_side^2, 2] of a raster about the middle, each moved at random: a strict raster repeats its errors.

    Parameters
    ----------
    n_side
        Positions along each side.
    step
        Between neighbours, in pixels.
    jitter
        Largest move along each axis, as a share of the step.
    generator
        Of the moves.

    References
    ----------
    Thibault et al. (2009), doi:10.1016/j.ultramic.2008.12.011, on the artefacts of a raster.
    """
    line = step * (torch.arange(n_side) - (n_side - 1) / 2)
    grid = torch.cartesian_prod(line, line)
    return grid + step * jitter * (2 * torch.rand(grid.shape, generator=generator) - 1)
