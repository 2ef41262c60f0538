"""Projections of complex waves on measured amplitudes and on known objects, and iteration steps between the two."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from rephase.errors import OpticsError

Projection = Callable[[torch.Tensor], torch.Tensor]
Step = Callable[[torch.Tensor, Projection, Projection], torch.Tensor]


def with_amplitude(wave: torch.Tensor, amplitude: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Replace the amplitudes of a wave by measured ones; it is unchanged where `mask` is False or the wave is 0."""
    scale = torch.where(wave == 0, 1, amplitude / wave.abs().clamp_min(torch.finfo(amplitude.dtype).tiny))
    return wave * (scale if mask is None else torch.where(mask, scale, 1))


def alternate(wave: torch.Tensor, measured: Projection, known: Projection) -> torch.Tensor:
    """Alternate the projections, ``known(measured(wave))``: error reduction."""
    return known(measured(wave))


def reflect(wave: torch.Tensor, measured: Projection, known: Projection, *, beta: float = 0.9) -> torch.Tensor:
    """Relaxed averaged alternating reflections, ``beta/2 (R_known R_measured + 1) wave + (1 - beta) measured(wave)``.

    The step of `rephase.solvers.iterations.raar` for any two projections of waves (Luke 2005,
    doi:10.1088/0266-5611/21/1/004).
    """
    there = measured(wave)
    mirrored = 2 * there - wave
    return beta / 2 * (2 * known(mirrored) - mirrored + wave) + (1 - beta) * there


@dataclass(frozen=True)
class KnownObject:
    """Projection of exit waves ``exp(i phase - absorption)`` on the prior knowledge of the object.

    Attributes
    ----------
    support
        Boolean, broadcasts with the waves: False where the beam is empty and the wave is 1.
    phase
        Smallest and largest phase in radians, within [-pi, pi], as larger phases wrap.
    absorption
        Smallest and largest absorption; the default of (0, 0) is a pure phase object.

    Raises
    ------
    OpticsError
        A range is not in rising order, phases are outside [-pi, pi], or the support is empty.
    """

    support: torch.Tensor | None = None
    phase: tuple[float, float] = (-torch.pi, torch.pi)
    absorption: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        for name in ("phase", "absorption"):
            low, high = getattr(self, name)
            if not low <= high:
                raise OpticsError(f"{name} = ({low}, {high}): expected the smaller value first")
        if not -torch.pi <= self.phase[0] <= self.phase[1] <= torch.pi:
            raise OpticsError(
                f"phase = {self.phase}: expected values within [-pi, pi], as larger phases wrap; narrow the range"
            )
        if self.support is not None and not self.support.any():
            raise OpticsError("support is False everywhere: expected True where the object may be")

    def __call__(self, wave: torch.Tensor) -> torch.Tensor:
        """Clip the phases and amplitudes of a wave to the allowed ranges."""
        amplitude = wave.abs().clamp(*(torch.exp(-torch.tensor(end)).item() for end in self.absorption[::-1]))
        bounded = torch.polar(amplitude, wave.angle().clamp(*self.phase))
        return bounded if self.support is None else torch.where(self.support, bounded, 1)
