"""The trainings of a run without its notebooks, which later find them finished."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rephase.config import load_config
from rephase.config.sections import fingerprint
from rephase.devices import check_devices
from rephase.errors import ConfigError, nearest_name
from rephase.files.writing import only_writer
from rephase.laboratories import LABORATORIES, MAIN_JOB, check_work
from rephase.learning.training import Training, check_shared, train
from rephase.ranks import ALONE, Ranks, check_ranks, first_builds
from rephase.runs import Run, open_run

Trainings = list[Training[Any, Any]]


def run_trainings(
    config: str | Path = "quick",
    overrides: list[str] | tuple[str, ...] = (),
    *,
    out: str | Path | None = None,
    only: list[str] | tuple[str, ...] = (),
    models: list[str] | tuple[str, ...] = (),
    device: str = "auto",
    workers: int = 2,
    ranks: Ranks = ALONE,
) -> Trainings:
    """Train the models of a configuration in the run folder where its notebooks look for them.

    Finished chunks of data and finished trainings are kept; a training continues from its last checkpoint. Of several
    processes, the first builds the data, while the others wait.

    Parameters
    ----------
    config, overrides, device, workers
        As in `open_run`.
    out
        Run folder; by default ``runs/NAME-FINGERPRINT`` of the configuration.
    only
        Names of laboratories, or ``["all"]``; by default those of `MAIN_JOB`.
    models
        Names of models; by default all of the configuration.
    ranks
        The processes that share each training.

    Returns
    -------
    list of Training
        The finished trainings.

    Raises
    ------
    ConfigError
        The configuration, a name or the number of processes is wrong; nothing has been trained.
    DeviceError
        There is no such device here; nothing has been trained.
    DiskError
        Another process is working on the same run, or the disk refuses a file.
    TrainingError
        Another process of the training is lost, or a training cannot continue, as in `fit`.
    OutOfTime
        The time given to the command is over; the next call continues from there.
    """
    check_ranks(ranks)
    check_devices(device, ranks.devices)
    laboratories = find_laboratories(only)
    check_work(load_config(config, overrides), laboratories)
    run, is_first = open_run(out, config, overrides, device=device, workers=workers), ranks.own() == 0
    chosen = _chosen(run, laboratories, models)
    if ranks.count > 1:
        for training in chosen:
            check_shared(training)
    sign = run.folder / "data" / f".first-{fingerprint([str(each.folder) for each in chosen])}"
    todo = [training for training in chosen if not training.is_finished]
    with only_writer(run.folder) if is_first else nullcontext():
        if todo:
            with first_builds(lambda: _build_data(run, laboratories, chosen), sign, ranks):
                for training in _unfinished(run, laboratories, chosen):
                    train(run, training, ranks=ranks)
    return chosen


def find_laboratories(only: list[str] | tuple[str, ...] = ()) -> list[str]:
    """Return the laboratories of these names, all of them for ``all``, else those of `MAIN_JOB`.

    Raises
    ------
    ConfigError
        A laboratory is unknown; the message names the nearest.
    """
    for name in only:
        if name not in (*LABORATORIES, "all"):
            raise ConfigError(f"no laboratory {name!r}; {nearest_name(name, [*LABORATORIES, 'all'])}")
    if "all" in only:
        return [*LABORATORIES]
    return list(only) or [name for name, each in LABORATORIES.items() if {*each.notebooks} & {*MAIN_JOB}]


def _chosen(run: Run, laboratories: list[str], models: list[str] | tuple[str, ...]) -> Trainings:
    """Return the trainings of these models, or all, each once: experiments share some."""
    found = {each.folder: each for name in laboratories for each in LABORATORIES[name].trainings(run)}
    known = {training.name for training in found.values()}
    for name in models:
        if name not in known:
            where = f"the laboratories {', '.join(laboratories)}"
            raise ConfigError(f"no model {name!r} is trained in {where}; {nearest_name(name, known)}")
    return [training for training in found.values() if not models or training.name in models]


def _build_data(run: Run, laboratories: list[str], chosen: Trainings) -> None:
    for training in _unfinished(run, laboratories, chosen):
        training.data()


def _unfinished(run: Run, laboratories: list[str], chosen: Trainings) -> Iterator[Training[Any, Any]]:
    """Yield the chosen trainings that are not finished; the data of one laboratory at a time stay in memory."""
    folders = {training.folder for training in chosen}
    for name in laboratories:
        for training in LABORATORIES[name].trainings(run):
            if training.folder in folders and not training.is_finished:
                yield training
