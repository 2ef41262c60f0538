"""Cards of the weights of networks that find phases."""

from typing import Literal

from rephase.config.phasing import PhasingData
from rephase.learning.cards import Card
from rephase.learning.weights import Kind
from rephase.solvers.learned.network import RecurrentNetwork


class PhasingCard(Card):
    """Card of the weights of a network that finds phases.

    Parameters
    ----------
    data
        The random crystals of the training: groups, sizes, resolution limits, noise and gaps.
    n_seen
        Number of crystals that the network has seen.
    """

    kind: Literal["phases"] = "phases"
    data: PhasingData
    n_seen: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Empty: one network serves every grid."""
        return ()


PHASES: Kind[RecurrentNetwork, PhasingCard] = Kind("phases", {"recurrent": RecurrentNetwork}, PhasingCard)
