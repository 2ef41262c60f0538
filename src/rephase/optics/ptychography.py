"""Ptychography: a probe is scanned over an object, and each exit wave is recorded in the far or the near field.

Positions are in pixels, (row, column), from the centre of the object to the centre of the probe. They need not be
whole: a Fourier shift moves the probe by the fraction of a pixel. (pty-chi counts from one pixel further down and to
the right of the centre of an object of even size, which shifts the whole object; and it shifts the object, not the
probe, by the fraction.) Frames are ``|propagator(probe * patch)|^2``; they are in photons if the probe is in square
roots of photons.
"""

import copy
import math

import torch

from rephase.errors import OpticsError, check_positive
from rephase.optics.propagation import Propagator


class Scan:
    """Positions of the probe on the object, and the propagation of the exit waves to the detector.

    Parameters
    ----------
    positions
        [frame, 2] pixels, see above.
    object_shape, probe_shape
        Number of rows and columns; a frame has the same as the probe.
    propagator
        `FarField()`, `Fresnel(...)` or another of `rephase.optics.propagation`.

    Raises
    ------
    OpticsError
        There are no positions, or they have another shape, are not floating point or not finite, or the probe would
        extend outside the object; or the probe is larger than the object.
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
        """Fraction of a pixel [frame, 2], -1/2 to 1/2, by which the probe is shifted; differentiable in positions."""
        outside = ((first < 0) | (first > 2 * free)).any(1)
        if outside.any():
            raise OpticsError(
                f"{int(outside.sum())} of {len(positions)} positions are outside of the object, first (row, column) = "
                f"{positions[outside][0].tolist()}: expected within {free.tolist()} pixels from its centre; use an "
                f"object of {smallest_object(positions, self.probe_shape)} pixels or more, or centre the positions"
            )

    def __len__(self) -> int:
        return len(self.positions)

    def part(self, frames: torch.Tensor) -> "Scan":
        """Return the scan of some of the frames, by their numbers."""
        part = copy.copy(self)
        part.positions, part.offsets, part._first = (t[frames] for t in (self.positions, self.offsets, self._first))
        return part

    def moved(self, by: torch.Tensor) -> "Scan":
        """Return the scan with positions moved by [frame, 2] pixels, few, because the probe wraps around its frame."""
        moved = copy.copy(self)
        moved.positions, moved.offsets = self.positions + by, self.offsets + by
        return moved

    def patches(self, objects: torch.Tensor) -> torch.Tensor:
        """Return the patches under the probe, [..., frame, row, column], of objects [..., row, column]."""
        _check_shape("object", objects, self.object_shape)
        return objects.flatten(-2)[..., self._pixels]

    def put(self, patches: torch.Tensor) -> torch.Tensor:
        """Add up patches [..., frame, row, column] at their places in the object: the adjoint of `patches`."""
        n_rows, n_columns = self.object_shape
        total = patches.new_zeros(*patches.shape[:-3], n_rows * n_columns)
        return total.index_add(-1, self._pixels.flatten(), patches.flatten(-3)).unflatten(-1, (n_rows, n_columns))

    def probes(self, probe: torch.Tensor) -> torch.Tensor:
        """Return the probe of each frame, [..., frame, row, column], shifted by `offsets`."""
        _check_shape("probe", probe, self.probe_shape)
        return shifted(probe[..., None, :, :], self.offsets)

    def frames(self, objects: torch.Tensor, probe: torch.Tensor) -> torch.Tensor:
        """Compute intensities [..., frame, row, column] of objects [..., row, column] and a probe [..., row, column].

        Raises
        ------
        OpticsError
            The objects or probes have another shape than the scan.
        """
        return self.propagator(self.patches(objects) * self.probes(probe)).abs() ** 2

    @property
    def _pixels(self) -> torch.Tensor:
        """Return the number of each patch pixel in the object, [frame, row, column]; it is too large to be stored."""
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
        raise OpticsError(f"{name} of {tuple(field.shape[-2:])} pixels: expected {tuple(shape)}, the shape of the scan")


def shifted(fields: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Shift periodic complex fields [..., row, column] by offsets [..., 2] in pixels, down and to the right.

    Whole pixels roll the field; fractions use its Fourier series. The shift is unitary: opposite offsets undo it.
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
    """Return the rows and columns of the smallest object that contains the probe at every position."""
    reach = 2 * positions.detach().abs().amax(0).ceil().long()
    rows, columns = (int(n) + m for n, m in zip(reach, probe_shape))
    return rows, columns


def gaussian_probe(n: int, *, width: float, n_photons: float, curvature: float = 0.0) -> torch.Tensor:
    """Return a Gaussian beam, complex [n, n] in single precision, at the centre of the probe.

    Parameters
    ----------
    n
        Number of pixels along each side.
    width
        Radius in pixels at which the intensity has fallen to exp(-2).
    n_photons
        Sum of the intensity, the photons of a frame without an object.
    curvature
        Phase in radians at that radius, for a beam that converges or diverges.

    Raises
    ------
    OpticsError
        The width or the number of photons is not above 0.
    """
    check_positive("width", width, remedy="give pixels", error=OpticsError)
    check_positive("n_photons", n_photons, remedy="give the photons of a frame", error=OpticsError)
    x = torch.arange(n) - (n - 1) / 2
    squared = (x[:, None] ** 2 + x**2) / width**2
    probe = torch.exp((1j * curvature - 1) * squared)
    return probe * (n_photons**0.5 / probe.norm())


def raster(n_side: int, *, step: float, jitter: float, generator: torch.Generator) -> torch.Tensor:
    """Return positions [n_side^2, 2] of a centred raster, each moved at random: a strict raster repeats its errors.

    Parameters
    ----------
    n_side
        Number of positions along each side.
    step
        Distance of neighbours, in pixels.
    jitter
        Largest move along each axis, as a fraction of the step.
    generator
        Generator of the moves.

    References
    ----------
    Thibault et al. (2009), doi:10.1016/j.ultramic.2008.12.011, on the artefacts of a raster.
    """
    line = step * (torch.arange(n_side) - (n_side - 1) / 2)
    grid = torch.cartesian_prod(line, line)
    return grid + step * jitter * (2 * torch.rand(grid.shape, generator=generator) - 1)
