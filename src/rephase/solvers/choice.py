"""The searches of a solver by its name: classical recipes, or a trained network that is asked about their trials."""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from rephase.crystal.symmetry import Symmetry
from rephase.errors import ConfigError, nearest_name
from rephase.paths import weights_file
from rephase.solvers import RECIPES, proposals_for, recipes_for
from rephase.solvers.claims import CALIBRATIONS, COARSEST_CLAIM, LARGEST_UNLEARNED, Calibration
from rephase.solvers.problem import PhaseProblem
from rephase.solvers.strategy import Search

if TYPE_CHECKING:  # their import takes half a second, which most searches do not need
    from rephase.learning.weights import Weights
    from rephase.solvers.learned.cards import PhasingCard
    from rephase.solvers.learned.network import RecurrentNetwork

SHIPPED = ("recurrent", "recurrent_fine")  # weights that are used by default, where they were trained
NETWORK_SOLVERS = ("learned", "auto")  # may ask a network
SOLVERS = (*RECIPES, *NETWORK_SOLVERS)
_TOLERANCE = 1.01  # the finest reflection of data is a little coarser than the limit at which they were cut


class Solver(NamedTuple):
    """A solver by its name in `RECIPES`, or ``learned`` or ``auto`` with a network, read from ``weights``."""

    name: str
    network: "Weights[RecurrentNetwork, PhasingCard] | None" = None
    weights: str = ""

    def searches(self, d_min: float, symmetry: Symmetry) -> tuple[Search, ...]:
        """Return the searches for a space group and the resolution limit `d_min` in Å.

        A network is asked about the trials of `proposals_for`.
        """
        if self.network is None:
            return recipes_for(self.name, d_min, symmetry)
        from rephase.solvers.learned.search import LearnedSearch

        return tuple(LearnedSearch(self.network.model, *proposals) for proposals in proposals_for(d_min))

    def warn_of_the_unknown(self, problem: PhaseProblem, group: Symmetry) -> bool:
        """Warn if the network is used for a problem, of a group in the axes of the data, outside its training.

        Returns
        -------
        bool
            Whether it warned.

        Warns
        -----
        UserWarning
            The data are finer or coarser or have more gaps, the asymmetric unit or the cell is of another size, or the
            group is another.
        """
        if self.network is None:
            return False
        unlearned = self.network.card.unlearned(problem, group)
        if unlearned:
            warnings.warn(
                f"the network {self.weights!r} was not trained for {', '.join(unlearned)}; solver='classical' "
                "(--solver classical) does not depend on it",
                stacklevel=3,
            )
        return bool(unlearned)

    def calibration_for(self, problem: PhaseProblem, n_reflections: int, *, is_unknown: bool) -> Calibration | None:
        """Return how often the network is right at the resolution limit of a problem, if that was measured.

        Where a problem is unlike those of the training (`is_unknown`), or has fewer unique reflections or more gaps
        than those of the fit, agreement decides alone if it may claim a solution. Elsewhere the probability is never
        large enough for "solved".
        """
        d_min = problem.d_min
        if self.network is None or not is_within(self.network.card.data.d_min, d_min):
            return None
        found = CALIBRATIONS.get(self.network.card.sha256)
        if found is None:
            return None
        is_beyond = n_reflections < found.n_reflections or problem.within_data.missing > found.missing
        if not (is_unknown or is_beyond):
            return found
        return found._replace(largest=LARGEST_UNLEARNED) if d_min > COARSEST_CLAIM else None


def solver_for(
    name: str, weights: str | Path | None = None, *, d_min: float | None = None, device: torch.device | str = "cpu"
) -> Solver:
    """Return a solver, with the network that it needs.

    Parameters
    ----------
    name
        One of `SOLVERS`; ``auto`` is ``classical``, without a network, at resolutions that it was not trained for.
    weights
        Name or file of the network; None: of `SHIPPED`, the one that was trained for the resolution, or nearest to it.
    d_min
        Resolution limit of the data, Å; None: unknown, so that ``auto`` has its network.
    device
        Of the network.

    Raises
    ------
    ConfigError
        There is no such solver.
    WeightsError
        There are no such weights, or they are damaged or of another kind.
    """
    if name not in SOLVERS:
        raise ConfigError(f"solver {name!r} is not known; {nearest_name(name, SOLVERS)}")
    weights = nearest_shipped(d_min) if weights is None else weights
    if name == "auto" and d_min is not None and _beyond_training(weights, d_min):
        name = "classical"
    if name not in NETWORK_SOLVERS:
        return Solver(name)
    from rephase.learning.weights import load_weights
    from rephase.solvers.learned.cards import PHASES

    return Solver(name, load_weights(weights, PHASES, device=device), str(weights))


def weights_of(name: str, weights: str | None) -> str | None:
    """Return the weights of a configuration for a solver that may ask a network, else None."""
    return weights if name in NETWORK_SOLVERS else None


def nearest_shipped(d_min: float | None) -> str:
    """Return the shipped weights that were trained for a resolution limit in Å, or for the nearest."""
    return SHIPPED[0] if d_min is None else min(SHIPPED, key=lambda name: _beyond_training(name, d_min))


def _beyond_training(weights: str | Path, d_min: float) -> float:
    """Return by how much (Å) a resolution limit is outside the training of weights; 0 if their card cannot be read.

    That is an error when they are loaded. The card is not validated here: it would take longer than most searches.
    """
    try:
        card = json.loads(weights_file(weights).with_suffix(".json").read_bytes())
        finest, coarsest = card["data"]["d_min"]
        return 0.0 if is_within((finest, coarsest), d_min) else max(finest - d_min, d_min - coarsest)
    except (OSError, ValueError, TypeError, KeyError):
        return 0.0


def is_within(limits: Sequence[float], d_min: float) -> bool:
    """Whether a resolution limit is within those of a training, the finest first, in Å."""
    finest, coarsest = limits
    return bool(finest / _TOLERANCE <= d_min <= coarsest * _TOLERANCE)
