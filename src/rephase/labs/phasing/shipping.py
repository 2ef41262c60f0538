"""Weights of the networks that a run has trained, finished or not, with their cards."""

from collections.abc import Iterator
from pathlib import Path

from rephase.config.phasing import PhasingConfig
from rephase.labs.phasing.data import PhasingBatch
from rephase.labs.phasing.models import PHASING_MODELS, START, TrainedNetwork
from rephase.labs.phasing.scores import SEEN, SHARES
from rephase.labs.phasing.steps import trainings
from rephase.learning.cards import training_command, training_facts
from rephase.learning.checkpoints import read_checkpoint
from rephase.learning.training import Training, loss_curve, trained_model
from rephase.learning.weights import Weights
from rephase.runs import Run
from rephase.solvers.learned.cards import PhasingCard, limits_of


def trained_weights(run: Run) -> Iterator[Weights[TrainedNetwork, PhasingCard]]:
    """Yield the networks that a run has trained, at their best epochs so far, each with its card."""
    for training in trainings(run):
        if (training.folder / "best.ckpt").is_file():
            data = training.data()
            model = trained_model(
                PHASING_MODELS, training.name, data, run.config.phasing, training.folder, device=run.device
            )
            yield Weights(model, phasing_card(run, training))


def phasing_card(run: Run, training: Training[TrainedNetwork, PhasingBatch]) -> PhasingCard:
    """Make the card of a network; its figures are those of the best epoch on the validation crystals."""
    name, log = training.name, loss_curve(training.folder, training.logged)
    best = log.loc[log["validation_loss"].idxmin()]
    figures = {"validation": {score: round(float(best[score]), 5) for score in (*SHARES, "validation_loss")}}
    phasing = _portable(run.config.phasing)
    config = run.config.model_copy(update={"phasing": phasing})
    shown = config.model_dump(mode="json", include={"seed": True, "phasing": True})
    del shown["phasing"]["example"]
    shown["phasing"]["models"] = {name: shown["phasing"]["models"][name]}
    return PhasingCard(
        **training_facts(run, phasing, name, figures),
        data=phasing.data,
        n_seen=int(best[SEEN]),
        start_sha256=read_checkpoint(training.folder / "best.ckpt").get(START, ""),
        limits=limits_of(phasing.data),
        command=training_command("phasing", shown, command="train"),
    )


def _portable(phasing: PhasingConfig) -> PhasingConfig:
    """Leave out the folders of this machine from the file with which the training started."""
    training, start = phasing.training, Path(phasing.training.start or "")
    if not start.is_absolute():
        return phasing
    inside = start.is_relative_to(Path.cwd())
    shown = start.relative_to(Path.cwd()) if inside else Path(start.name)
    return phasing.model_copy(update={"training": training.model_copy(update={"start": shown.as_posix()})})
