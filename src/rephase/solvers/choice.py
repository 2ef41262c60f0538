"""The searches of a solver by its name: classical recipes, a trained network, or both in turn."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from rephase.crystal.symmetry import Symmetry
from rephase.errors import ConfigError, nearest_name
from rephase.solvers import RECIPES, recipes_for
from rephase.solvers.problem import PhaseProblem
from rephase.solvers.strategy import Search

if TYPE_CHECKING:  # their import takes half a second, which most searches do not need
    from rephase.learning.weights import Weights
    from rephase.solvers.learned.cards import PhasingCard
    from rephase.solvers.learned.network import RecurrentNetwork

SHIPPED = "recurrent"  # weights that are used by default
LEARNED = ("learned", "auto")
SOLVERS = (*RECIPES, *LEARNED)


class Solver(NamedTuple):
    """A solver by its name, and the network that it needs, if it needs one."""

    name: str
    network: "Weights[RecurrentNetwork, PhasingCard] | None" = None

    def searches(self, d_min: float, symmetry: Symmetry) -> tuple[Search, ...]:
        """Return the searches for a space group and the resolution limit `d_min` in Å.

        ``learned`` always asks the network about the trials of the classical recipes; ``auto`` does at the resolutions
        of its training.
        """
        if self.network is None:
            return recipes_for(self.name, d_min, symmetry)
        recipes = recipes_for("classical", d_min, symmetry)
        if self.name == "auto" and not self.network.card.has_learned(d_min):
            return recipes
        from rephase.solvers.learned.search import LearnedSearch

        return tuple(LearnedSearch(self.network.model, recipe) for recipe in recipes)

    def warn_of_the_unknown(self, problem: PhaseProblem, group: Symmetry) -> None:
        """Warn if the network is used for a problem, of a group in the axes of the data, outside its training.

        Warns
        -----
        UserWarning
            The data are finer or coarser, the asymmetric unit or the cell larger, or the group is another.
        """
        if self.network is None or (self.name == "auto" and not self.network.card.has_learned(problem.d_min)):
            return
        card = self.network.card
        if unlearned := card.unlearned(problem, group):
            warnings.warn(
                f"the network {card.model!r} was not trained for {', '.join(unlearned)}; solver='classical' "
                "(--solver classical) does not depend on it",
                stacklevel=3,
            )


def solver_for(name: str, weights: str | Path = SHIPPED, *, device: torch.device | str = "cpu") -> Solver:
    """Return a solver, with the network that it needs.

    Raises
    ------
    ConfigError
        There is no such solver.
    WeightsError
        There are no such weights, or they are damaged or of another kind.
    """
    if name not in SOLVERS:
        raise ConfigError(f"solver {name!r} is not known; {nearest_name(name, SOLVERS)}")
    if name not in LEARNED:
        return Solver(name)
    from rephase.learning.weights import load_weights
    from rephase.solvers.learned.cards import PHASES

    return Solver(name, load_weights(weights, PHASES, device=device))
