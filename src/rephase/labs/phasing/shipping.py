"""Weights of the networks that a run has trained, finished or not, with their cards."""

from collections.abc import Iterator
from pathlib import Path

from rephase.labs.phasing.models import PHASING_MODELS, TrainedNetwork
from rephase.labs.phasing.steps import trainings
from rephase.learning.cards import training_command, training_facts
from rephase.learning.training import loss_curve, trained_model
from rephase.learning.weights import Weights
from rephase.runs import Run
from rephase.solvers.learned.cards import PhasingCard

_SCORES = ["solved_first", "well_solved_first", "solved_any", "mean_map_cc", "chance_map_cc"]
_SEEN = "crystals_seen"


def trained_weights(run: Run) -> Iterator[Weights[TrainedNetwork, PhasingCard]]:
    """Yield the networks that a run has trained, at their best epochs so far, each with its card."""
    for training in trainings(run):
        if (training.folder / "best.ckpt").is_file():
            data = training.data()
            model = trained_model(
                PHASING_MODELS, training.name, data, run.config.phasing, training.folder, device=run.device
            )
            yield Weights(model, phasing_card(run, training.name, training.folder))


def phasing_card(run: Run, name: str, folder: Path) -> PhasingCard:
    """Make the card of a network; its figures are those of the best epoch on the validation crystals."""
    log = loss_curve(folder, [*_SCORES, _SEEN])
    best = log.loc[log["validation_loss"].idxmin()]
    figures = {"validation": {score: round(float(best[score]), 5) for score in (*_SCORES, "validation_loss")}}
    shown = run.config.model_dump(mode="json", include={"seed": True, "phasing": True})
    shown["phasing"]["models"] = {name: shown["phasing"]["models"][name]}
    return PhasingCard(
        **training_facts(run, run.config.phasing, name, figures),
        data=run.config.phasing.data,
        n_seen=int(best[_SEEN]),
        command=training_command("phasing", shown, command="train"),
    )
