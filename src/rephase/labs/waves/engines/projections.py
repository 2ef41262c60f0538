"""Projections of complex waves on what was measured and on what is known of the object, and the steps between both."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from rephase.errors import OpticsError

Projection = Callable[[torch.Tensor], torch.Tensor]
Step = Callable[[torch.Tensor, Projection, Projection], torch.Tensor]


def with_amplitude(wave: torch.Tensor, amplitude: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """The wave with measured amplitudes and its own phases; as it is where `mask` is False, or where it is 0."""
    scale = torch.where(wave == 0, 1, amplitude / wave.abs().clamp_min(torch.finfo(amplitude.dtype).tiny))
    return wave * (scale if mask is None else torch.where(mask, scale, 1))


def alternate(wave: torch.Tensor, measured: Projection, known: Projection) -> torch.Tensor:
    """Alternating projections, ``known(measured(wave))``: error reduction."""
    return known(measured(wave))


def reflect(wave: torch.Tensor, measured: Projection, known: Projection, *, beta: float = 0.9) -> torch.Tensor:
    """Relaxed averaged alternating reflections, ``beta/2 (R_known R_measured + 1) wave + (1 - beta) measured(wave)``.

    As `rephase.solvers.iterations.raar`, for any two projections of waves (Luke 2005, doi:10.1088/0266-5611/21/1/004).
    """
    there = measured(wave)
    mirrored = 2 * there - wave
    return beta / 2 * (2 * known(mirrored) - mirrored + wave) + (1 - beta) * there


@dataclass(frozen=True)
class KnownObject:
    """Projection of object waves ``exp(i phase - absorption)`` on what is known of the object.

    Attributes
    ----------
    support
        Boolean [row, column], or what broadcasts with the waves: False where the beam is empty and the wave 1.
    phase
        Least and largest in radians, in [-pi, pi]: stronger objects wrap.
    absorption
        Least and largest; the default of (0, 0) is a pure phase object.

    Raises
    ------
    OpticsError
        A range whose ends are the wrong way round, phases beyond [-pi, pi], or a support that is empty.
    """

    support: torch.Tensor | None = None
    phase: tuple[float, float] = (-torch.pi, torch.pi)
    absorption: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        for name in ("phase", "absorption"):
            low, high = getattr(self, name)
            if not low <= high:
                raise OpticsError(f"{name} = ({low}, {high}): expected the least value first")
        if not -torch.pi <= self.phase[0] <= self.phase[1] <= torch.pi:
            raise OpticsError(
                f"phase = {self.phase}: expected within [-pi, pi], as stronger objects wrap; make it weaker"
            )
        if self.support is not None and not self.support.any():
            raise OpticsError("support is False everywhere: expected True where the object may be")

    def __call__(self, wave: torch.Tensor) -> torch.Tensor:
        """The wave of the same phases and amplitudes, as far as these are allowed."""
        amplitude = wave.abs().clamp(*(torch.exp(-torch.tensor(end)).item() for end in self.absorption[::-1]))
        bounded = torch.polar(amplitude, wave.angle().clamp(*self.phase))
        return bounded if self.support is None else torch.where(self.support, bounded, 1)
