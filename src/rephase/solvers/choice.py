"""The searches of a solver by its name: classical recipes, a trained network, or both in turn."""

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from rephase.crystal.symmetry import Symmetry
from rephase.errors import ConfigError, nearest_name
from rephase.solvers import RECIPES, recipes_for
from rephase.solvers.strategy import Search

if TYPE_CHECKING:  # their import takes half a second, which most searches do not need
    from rephase.learning.weights import Weights
    from rephase.solvers.learned.cards import PhasingCard
    from rephase.solvers.learned.network import RecurrentNetwork

SHIPPED = "recurrent"  # weights that are used by default
LEARNED = ("learned", "auto")
SOLVERS = (*RECIPES, *LEARNED)


def check_solver(solver: str) -> None:
    """Raise `ConfigError` if there is no such solver."""
    if solver not in SOLVERS:
        raise ConfigError(f"solver {solver!r} is not known; {nearest_name(solver, SOLVERS)}")


def network_for(
    solver: str, weights: str | Path = SHIPPED, *, device: torch.device | str = "cpu"
) -> "Weights[RecurrentNetwork, PhasingCard] | None":
    """Load the network that a solver needs, if it needs one.

    Raises
    ------
    WeightsError
        There are no such weights, or they are damaged or of another kind.
    """
    if solver not in LEARNED:
        return None
    from rephase.learning.weights import load_weights
    from rephase.solvers.learned.cards import PHASES

    return load_weights(weights, PHASES, device=device)


def searches_for(
    solver: str, d_min: float, symmetry: Symmetry, network: "Weights[RecurrentNetwork, PhasingCard] | None"
) -> tuple[Search, ...]:
    """Return the searches of a solver for a space group and the resolution limit `d_min` in Å.

    ``learned`` always takes the network; ``auto`` takes it in turn with the classical recipes, and these alone for data
    that are finer than any of its training.
    """
    if network is None:
        return recipes_for(solver, d_min, symmetry)
    from rephase.solvers.learned.search import LearnedSearch

    recipes = recipes_for("classical", d_min, symmetry)
    learned = LearnedSearch(network.model, recipes[0])
    if solver == "learned":
        return (learned,)
    if d_min < network.card.data.d_min[0]:
        return recipes
    return tuple(itertools.chain.from_iterable((learned, recipe) for recipe in recipes))
