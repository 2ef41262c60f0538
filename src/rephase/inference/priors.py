"""Priors of parameters that lie in a box, and the map of the box to an unbounded space."""

import math
from typing import NamedTuple

import numpy as np
import torch

from rephase.errors import ConfigError

_EDGE = 1e-6  # of the unit interval: smallest distance to a bound, so that |z| is at most 4.76


class Parameter(NamedTuple):
    """A quantity between two bounds, with a uniform or log-uniform prior."""

    name: str
    unit: str
    low: float
    high: float
    is_log: bool = False


class BoxPrior:
    """Independent parameters, each uniform or log-uniform between its bounds.

    ``z = Phi^-1(s)``, with s the fraction of the way from the lower to the upper bound and Phi the cumulative normal
    distribution: under the prior z is normal with variance 1, and for any z the parameters are within their bounds.

    Parameters
    ----------
    parameters
        The parameters, at least one.

    Raises
    ------
    ConfigError
        Bounds are not finite or not in rising order, or not above 0 for a log-uniform prior.
    """

    def __init__(self, *parameters: Parameter):
        for name, _, low, high, is_log in parameters:
            if not (math.isfinite(low) and math.isfinite(high) and low < high and (low > 0 or not is_log)):
                above = " above 0" if is_log else ""
                raise ConfigError(f"{name} = ({low}, {high}): expected two finite numbers{above} in rising order")
        self.parameters = parameters

    def __len__(self) -> int:
        return len(self.parameters)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters in order."""
        return tuple(p.name for p in self.parameters)

    @property
    def units(self) -> tuple[str, ...]:
        """Units of the parameters in order."""
        return tuple(p.unit for p in self.parameters)

    def draw(self, n: int, rng: np.random.Generator) -> torch.Tensor:
        """Draw parameters [n, parameter], float32."""
        return self._at(torch.as_tensor(rng.random((n, len(self))))).float()

    def to_normal(self, u: torch.Tensor) -> torch.Tensor:
        """Map parameters [..., parameter] to unbounded z; values outside the bounds count as at the bound."""
        low, width, is_log = self._scales(u)
        stretched = torch.where(is_log, torch.where(is_log, u, 1.0).log(), u)
        return torch.special.ndtri(((stretched - low) / width).clamp(_EDGE, 1 - _EDGE))

    def from_normal(self, z: torch.Tensor) -> torch.Tensor:
        """Map z [..., parameter] to parameters."""
        return self._at(torch.special.ndtr(z))

    def log_density(self, z: torch.Tensor) -> torch.Tensor:
        """Logarithm of the prior density of z [..., parameter]: [...]."""
        return -(z.square() + math.log(2 * math.pi)).sum(-1) / 2

    def outside(self, u: torch.Tensor) -> tuple[str, ...]:
        """Return the names of the parameters for which some u [..., parameter] is outside the bounds, or NaN."""
        low, high = (u.new_tensor([getattr(p, end) for p in self.parameters]) for end in ("low", "high"))
        beyond = ~((u >= low) & (u <= high)).flatten(0, -2).all(0)
        return tuple(name for name, is_out in zip(self.names, beyond.tolist()) if is_out)

    def _at(self, share: torch.Tensor) -> torch.Tensor:
        low, width, is_log = self._scales(share)
        stretched = low + width * share
        bounds = [(p.low, p.high) for p in self.parameters]
        lowest, highest = share.new_tensor(bounds).unbind(1)
        return torch.where(is_log, stretched.exp(), stretched).clamp(lowest, highest)  # against rounding

    def _scales(self, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return lower bounds and widths, in the logarithm if log-uniform, and which are log-uniform; [parameter]."""
        is_log = torch.tensor([p.is_log for p in self.parameters], device=like.device)
        ends = [[math.log(end) if p.is_log else end for end in (p.low, p.high)] for p in self.parameters]
        low, high = like.new_tensor(ends).unbind(1)
        return low, high - low, is_log
