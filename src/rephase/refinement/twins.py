"""The twin law that explains the intensities of a model, and its instructions for SHELXL."""

from typing import NamedTuple

import numpy as np

from rephase.refinement.agreement import Share, twin_fraction
from rephase.refinement.model import Model

_FRACTION, _IN_SU = 0.04, 6.0  # smallest twin fraction that a model shows, and in units of its uncertainty
_EXPLAINED = 0.25  # R1 of a twin with its fraction: up to 0.20 in twins of 8 to 35 %, from 0.29 with wrong models
_LOWERED = 0.9  # ratio of R1 with the fraction to R1 without; a symmetry that the group lacks lowers nothing


class Twin(NamedTuple):
    """A twin: ``law`` [3, 3] takes h to h' = law h, ``share`` is the smaller domain."""

    law: np.ndarray
    share: Share

    @property
    def instructions(self) -> tuple[str, str]:
        """TWIN and BASF of SHELXL."""
        return instructions(self.law, self.share.fraction)


def find_twin(model: Model, laws: np.ndarray) -> Twin | None:
    """Return the twin of the largest fraction by one of the laws [n, 3, 3]; None if no law explains the intensities."""
    twins = [Twin(law, share) for law in laws if (share := twin_fraction(model, law)) is not None and _is_twin(share)]
    return max(twins, key=lambda twin: twin.share.fraction, default=None)


def instructions(law: np.ndarray, fraction: float) -> tuple[str, str]:
    """Return the TWIN and BASF instructions of SHELXL for a law [3, 3]."""
    return f"TWIN {' '.join(str(int(x)) for x in law.ravel())} 2", f"BASF {fraction:.2f}"


def _is_twin(share: Share) -> bool:
    """Whether a fraction is significant and explains the intensities; wrong models also fit better with one."""
    is_significant = share.fraction > max(_FRACTION, _IN_SU * share.su)
    return is_significant and share.r1 < min(_EXPLAINED, _LOWERED * share.r1_without)
