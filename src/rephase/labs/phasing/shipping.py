"""Weights of the networks that a run has trained, finished or not, with their cards."""

from collections.abc import Iterator
from pathlib import Path

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
    phasing, facts = run.config.phasing, training_facts(run, run.config.phasing, name, figures)
    shown = run.config.model_dump(mode="json", include={"seed": True, "phasing": True})
    for options in (facts["training"], shown["phasing"]["training"]):
        if options.get("start"):
            options["start"] = _portable(Path(options["start"]))
    del shown["phasing"]["example"]
    shown["phasing"]["models"] = {name: shown["phasing"]["models"][name]}
    return PhasingCard(
        **facts,
        data=phasing.data,
        n_seen=int(best[SEEN]),
        start_sha256=read_checkpoint(training.folder / "best.ckpt").get(START, ""),
        limits=limits_of(phasing.data),
        command=training_command("phasing", shown, command="train"),
    )


def _portable(path: Path) -> str:
    """Name a file without the folders of this machine."""
    if path.is_relative_to(Path.cwd()):
        return path.relative_to(Path.cwd()).as_posix()
    return Path(*path.parts[-2:]).as_posix() if path.is_absolute() else path.as_posix()
