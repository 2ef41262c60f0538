"""Cards of the weights of networks that find phases."""

import math
from collections.abc import Sequence
from typing import Literal

import torch

from rephase.config.phasing import PhasingData
from rephase.crystal.symmetry import Symmetry, find_symmetry
from rephase.learning.cards import Card
from rephase.learning.weights import Kind
from rephase.random_crystals.crystals import SPACE_GROUPS
from rephase.solvers.choice import is_within
from rephase.solvers.learned.network import RecurrentNetwork
from rephase.solvers.learned.spheres import points_needed
from rephase.solvers.problem import PhaseProblem

_MORE_MISSING = 0.05  # of the reflections than in the training, where each was left out at random
_SMALLER = 0.8  # part of the fewest atoms of the training that the volume may suggest


class PhasingCard(Card):
    """Card of the weights of a network that finds phases.

    Parameters
    ----------
    data
        The random crystals of the training: groups, sizes, resolution limits, noise and gaps.
    n_seen
        Number of crystals that the network has seen, in its start too.
    start_sha256
        Checksum of the weights from which the training started; empty for random ones.
    limits
        What the network cannot do, in words.
    """

    kind: Literal["phases"] = "phases"
    data: PhasingData
    n_seen: int
    start_sha256: str = ""
    limits: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """Empty: one network serves every grid."""
        return ()

    def unlearned(self, problem: PhaseProblem, group: Symmetry) -> list[str]:
        """Say what of a problem was not in the training: resolution, size, gaps, or the group in these axes."""
        (finest, coarsest), (fewest, most) = self.data.d_min, self.data.n_atoms
        n_atoms = problem.n_atoms / len(group.point_group)
        lengths = torch.tensor(problem.reduced.cell.parameters[:3], dtype=torch.float64)
        needed = points_needed(lengths, torch.tensor(problem.d_min, dtype=torch.float64)).tolist()
        largest = max(self.data.shapes, key=math.prod)
        found = []
        if not is_within(self.data.d_min, problem.d_min):
            found.append(f"d_min = {problem.d_min:.2f} Å (trained on {finest:g} to {coarsest:g} Å)")
        if not _SMALLER * fewest <= n_atoms <= most:
            found.append(f"about {n_atoms:.0f} atoms in the asymmetric unit (trained on {fewest} to {most})")
        if math.prod(needed) > math.prod(largest):
            found.append(f"a cell of {_product(needed)} points (trained on up to {_product(largest)})")
        missing = problem.within_data.missing
        if missing > self.data.missing + _MORE_MISSING:
            found.append(f"{missing:.0%} missing reflections (trained on up to {self.data.missing:.0%})")
        numbers = _numbers(self.data)
        if group.table_entry is not None and group.table_entry.number not in numbers:
            found.append(f"the space group {group.symbol} (none of the {len(numbers)} of the training)")
        return found


def _numbers(data: PhasingData) -> set[int]:
    """Numbers of the space groups of a training."""
    entries = [find_symmetry(symbol).table_entry for symbol in data.space_groups or SPACE_GROUPS]
    return {entry.number for entry in entries if entry is not None}


def _product(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


PHASES: Kind[RecurrentNetwork, PhasingCard] = Kind("phases", {"recurrent": RecurrentNetwork}, PhasingCard)


def limits_of(data: PhasingData) -> str:
    """Say what a network cannot do whose last training had such crystals."""
    (finest, coarsest), (fewest, most) = data.d_min, data.n_atoms
    special = "some" if data.on_special else "none"
    return (
        f"Its last training had random organic crystals with resolution limits from {finest:g} to {coarsest:g} Å and "
        f"{fewest} to {most} non-hydrogen atoms in the asymmetric unit, {special} on special positions, in "
        f"{len(_numbers(data))} space groups, with up to {data.missing:.0%} of the reflections missing. Elsewhere, "
        "without the space group, and for few reflections, it may improve phases, but its confidence proves nothing. "
        "It takes no known phases. It solves fewer acentric crystals than centric ones, and can be confident of a "
        "wrong solution that many trials reach."
    )
