"""The searches of a solver by its name: classical recipes, a trained network, or both in turn."""

import itertools
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
_TOLERANCE = 1.01  # the finest reflection of data is a little coarser than the limit at which they were cut
SOLVERS = (*RECIPES, *LEARNED)


def check_solver(solver: str) -> None:
    """Raise `ConfigError` if there is no such solver."""
    if solver not in SOLVERS:
        raise ConfigError(f"solver {solver!r} is not known; {nearest_name(solver, SOLVERS)}")


class Solver(NamedTuple):
    """A solver by its name, and the network that it needs, if it needs one."""

    name: str
    network: "Weights[RecurrentNetwork, PhasingCard] | None" = None

    def searches(self, d_min: float, symmetry: Symmetry) -> tuple[Search, ...]:
        """Return the searches for a space group and the resolution limit `d_min` in Å.

        ``learned`` always takes the network; ``auto`` takes it in turn with the classical recipes, and these alone at
        other resolutions than those of its training.
        """
        if self.network is None:
            return recipes_for(self.name, d_min, symmetry)
        if self.name == "auto" and not self.has_learned(d_min):
            return recipes_for("classical", d_min, symmetry)
        from rephase.solvers.learned.search import LearnedSearch

        recipes = recipes_for("classical", d_min, symmetry)
        learned = LearnedSearch(self.network.model, recipes[0])
        if self.name == "learned":
            return (learned,)
        return tuple(itertools.chain.from_iterable((learned, recipe) for recipe in recipes))

    def warn_of_the_unknown(self, problem: PhaseProblem) -> None:
        """Warn if the network is used for a problem outside its training.

        Warns
        -----
        UserWarning
            The data are finer or coarser, or the asymmetric unit larger, than in the training.
        """
        has_learned = self.has_learned(problem.d_min)
        if self.network is None or (self.name == "auto" and not has_learned):
            return
        card, unknown = self.network.card, []
        (finest, coarsest), (_, most) = card.data.d_min, card.data.n_atoms
        n_atoms = problem.n_atoms / len(problem.symmetry.point_group)
        if not has_learned:
            unknown.append(f"d_min = {problem.d_min:.2f} Å (trained on {finest:g} to {coarsest:g} Å)")
        if n_atoms > most:
            unknown.append(f"about {n_atoms:.0f} atoms in the asymmetric unit (trained on up to {most})")
        if unknown:
            warnings.warn(
                f"the network {card.model!r} was not trained for {', '.join(unknown)}; solver='classical' "
                "(--solver classical) does not depend on it",
                stacklevel=3,
            )

    def has_learned(self, d_min: float) -> bool:
        """Whether the solver has a network whose training had such a resolution limit in Å."""
        if self.network is None:
            return False
        finest, coarsest = self.network.card.data.d_min
        return finest / _TOLERANCE <= d_min <= coarsest * _TOLERANCE


def solver_for(name: str, weights: str | Path = SHIPPED, *, device: torch.device | str = "cpu") -> Solver:
    """Return a solver, with the network that it needs.

    Raises
    ------
    ConfigError
        There is no such solver.
    WeightsError
        There are no such weights, or they are damaged or of another kind.
    """
    check_solver(name)
    if name not in LEARNED:
        return Solver(name)
    from rephase.learning.weights import load_weights
    from rephase.solvers.learned.cards import PHASES

    return Solver(name, load_weights(weights, PHASES, device=device))
