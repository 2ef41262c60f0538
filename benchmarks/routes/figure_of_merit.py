"""A network that only judges classical trials: it learns to predict how right they are."""

import itertools

import torch

from rephase.labs.phasing.data import Part
from rephase.labs.phasing.losses import aligned, mixed_with_true
from rephase.labs.phasing.scores import map_cc
from rephase.solvers import RECIPES
from rephase.solvers.learned.network import RecurrentNetwork
from routes.classical import N_PROPOSALS, best, trials
from routes.route import TRAINING, Route

_N_CANDIDATES, _N_STEPS = 4, 2  # classical trials of a crystal of the training; steps of the network


class FigureOfMerit(Route):
    """The recurrent network, read after two steps from given phases.

    The merit comes from means and maxima of its hidden maps, from its confidence, and from the classical misfit.
    """

    def __init__(self) -> None:
        super().__init__()
        self.network = RecurrentNetwork(width=24, n_layers=2)
        self.head = torch.nn.Sequential(torch.nn.Linear(2 * 24 + 2, 24), torch.nn.GELU(), torch.nn.Linear(24, 1))

    def forward(self, part: Part, phasors: torch.Tensor, misfit: torch.Tensor) -> torch.Tensor:
        """Predict the map_cc [m, n] of lists of phases [m, n, h, k, l] with their misfits [m, n]."""
        found = []
        for of_each, each in zip(misfit, phasors):
            state = next(itertools.islice(self.network.states(part.data, each), _N_STEPS, None))
            maps, confidence = state.hidden.flatten(2), part.data.confidence(state.phasors)
            features = [maps.mean(2), maps.amax(2), confidence[:, None], of_each[:, None]]
            found.append(self.head(torch.cat(features, dim=1))[:, 0])
        return torch.stack(found)

    def loss(self, part: Part) -> torch.Tensor:
        """Return the error of the predictions, and that of their differences between lists of one crystal."""
        recipe = RECIPES["raar"][int(torch.randint(len(RECIPES["raar"]), ()))]
        phasors, misfit = trials(part, (recipe,), _N_CANDIDATES, torch.default_generator)
        with torch.no_grad():
            nearer = [mixed_with_true(each, aligned(part, each), TRAINING.near) for each in phasors]
            phasors = torch.stack(nearer) * part.data.is_measured
            true = torch.stack([map_cc(part, each) for each in phasors])
        error = self(part, phasors, misfit) - true
        return (error.square() + (error - error.mean(0)).square()).mean()

    def answers(self, part: Part, n_starts: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the best classical trials by the network's prediction."""
        phasors, misfit = trials(part, RECIPES["raar"], n_starts * N_PROPOSALS, generator)
        return best(phasors, self(part, phasors, misfit), n_starts)
