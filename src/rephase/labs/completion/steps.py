"""Steps of notebooks 11 to 13: monoclinic crystals, baselines, models, and their scores."""

from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from rephase.config import Config
from rephase.errors import ConfigError
from rephase.files.reading import cif_files
from rephase.labs.completion.data import (
    CompletionBatch,
    FolderData,
    MonoclinicData,
    beta_of,
    fill_monoclinic,
    monoclinic_group,
    open_monoclinic,
    read_monoclinic_folder,
)
from rephase.labs.completion.models import AMPLITUDE_MODELS, MONOCLINIC_PHASE_MODELS
from rephase.labs.completion.models.amplitudes import AmplitudeModel
from rephase.labs.completion.models.baselines import AMPLITUDE_BASELINES
from rephase.labs.completion.models.phases import ChancePhases, MonoclinicPhases
from rephase.labs.completion.scores import (
    COMPLETION_METRICS,
    MAP_SCORE,
    PHASE_METRICS,
    AmplitudePredictor,
    PhasePredictor,
    complete_batch,
    evaluate_completion,
    evaluate_monoclinic_phases,
)
from rephase.labs.laboratory import DataSet
from rephase.learning.scoring import summarise
from rephase.learning.store import Shard
from rephase.learning.training import Training, train
from rephase.runs import Run
from rephase.runs.tables import left_out

_N_SHELLS = 12  # resolution shells of the mean amplitudes
_SCORES = [*COMPLETION_METRICS, MAP_SCORE]


class CompletionData(NamedTuple):
    """Random crystals, and those of the configured folder, on which no model is trained."""

    random: MonoclinicData
    folder: FolderData | None

    def test_sets(self) -> Iterator[tuple[str, MonoclinicData]]:
        """Yield the test sets: the name of a split and the data to which it belongs."""
        yield "test", self.random
        if self.folder is not None:
            yield "real", self.folder.data


def check_crystals(config: Config) -> None:
    """Raise `ConfigError` or `SymmetryError` if a space group or the folder of CIFs is invalid."""
    for symbol in config.completion.data.space_groups:
        monoclinic_group(symbol)
    folder = config.completion.data.folder
    if folder is not None and not cif_files(folder):
        raise ConfigError(
            f"completion.data.folder = {folder}: no folder with *.cif in it; null selects random crystals only"
        )


def build_data(run: Run) -> CompletionData:
    """Build or open the random crystals, and read the folder; table ``monoclinic_left_out`` lists excluded files."""
    config = run.config.completion.data
    random = _random_crystals(run)
    if config.folder is None:
        return CompletionData(random, None)
    folder = read_monoclinic_folder(Path(config.folder), config)
    run.save_table("monoclinic_left_out", folder.left_out)
    return CompletionData(random, folder)


def _random_crystals(run: Run) -> MonoclinicData:
    return open_monoclinic(_data_folder(run), run.config.completion.data, workers=run.workers)


def data_sets(run: Run) -> Iterator[DataSet]:
    """Yield the random crystals of `build_data`."""

    def build(shard: Shard) -> None:
        fill_monoclinic(_data_folder(run), run.config.completion.data, workers=run.workers, shard=shard)

    yield DataSet("monoclinic", build)


def _data_folder(run: Run) -> Path:
    return run.folder / "data" / "monoclinic.zarr"


def describe_data(run: Run, data: CompletionData) -> pd.DataFrame:
    """Describe the crystals, and save tables ``monoclinic_crystals`` and ``monoclinic_shells`` for the figure.

    Returns
    -------
    pandas.DataFrame
        For each source and space group: number of crystals, ranges of the cell (Å, degrees), mean number of
        reflections per crystal on the grid, and the percentage of them that is observed.
    """
    sources = {"random": data.random, **({} if data.folder is None else {"real": data.folder.data})}
    described = {source: _describe(part) for source, part in sources.items()}
    crystals = pd.concat([table.assign(source=source) for source, (table, _) in described.items()])
    run.save_table("monoclinic_crystals", crystals)
    run.save_table("monoclinic_shells", pd.concat([t.assign(source=source) for source, (_, t) in described.items()]))
    return crystal_ranges(run)


def crystal_ranges(run: Run) -> pd.DataFrame:
    """Describe the crystals of each source and space group, from the saved table; see `describe_data`."""
    rows = []
    for (source, group), part in run.table("monoclinic_crystals").groupby(["source", "space group"], sort=False):
        ranges = {f"{name} ({unit})": f"{part[name].min():.1f}–{part[name].max():.1f}" for name, unit in _CELL.items()}
        rows.append(
            {
                "crystals": source,
                "space group": group,
                "n": len(part),
                **ranges,
                "reflections": part["reflections"].mean().round(),
                "observed (%)": (100 * part["observed"] / part["reflections"]).mean().round(1),
            }
        )
    return pd.DataFrame(rows)


_CELL = {"a": "Å", "b": "Å", "c": "Å", "β": "°"}


def _describe(data: MonoclinicData) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row per crystal, and one row per shell: RMS |F|/scale over all crystals and reflections."""
    rows, edges = [], np.linspace(0, data.config.d_min**-2, _N_SHELLS + 1)
    n, power = np.zeros(_N_SHELLS), np.zeros(_N_SHELLS)
    for samples in torch.arange(len(data)).split(64):
        batch = data[samples]
        lengths, angles = batch.lattice.norm(dim=1), beta_of(batch.lattice)
        columns = [
            *lengths.T,
            angles,
            torch.linalg.det(batch.lattice),
            batch.mask.sum((1, 2, 3)),
            batch.observed.sum((1, 2, 3)),
        ]
        names = [*_CELL, "volume", "reflections", "observed"]
        groups = [data.symmetries[number].symbol for number in batch.group.tolist()]
        rows.append(pd.DataFrame(dict(zip(names, (c.numpy() for c in columns)))).assign(**{"space group": groups}))
        shell = np.digitize(4 * batch.s_squared[batch.mask].numpy(), edges[1:-1])
        n += np.bincount(shell, minlength=_N_SHELLS)
        power += np.bincount(shell, ((batch.F.abs() / batch.scale) ** 2)[batch.mask].numpy(), _N_SHELLS)
    middle = (edges[:-1] + edges[1:]) / 2
    shells = pd.DataFrame({"inverse_d_squared": middle, "rms_amplitude": np.sqrt(power / np.maximum(n, 1))})
    return pd.concat(rows, ignore_index=True), shells[n > 0]


def score_baselines(run: Run, data: CompletionData) -> pd.DataFrame:
    """Score the baselines, which need no training, and save their tables."""
    for name, make in AMPLITUDE_BASELINES.items():
        _score(run, data, name, make(), "cpu")
    return summary(run)


def train_and_score(run: Run, data: CompletionData, name: str) -> pd.DataFrame:
    """Train an amplitude model, score it, save its tables and loss curve, and return the scores of all so far.

    A model that is not in the configuration is skipped, so a sweep may train fewer models.
    """
    if name not in run.config.completion.models:
        return left_out("not in completion.models of this configuration", model=name)
    model = train(run, _training(run, name, lambda: data.random))
    _score(run, data, name, model, next(model.parameters()).device)
    return summary(run)


def train_and_score_phases(run: Run, data: CompletionData, name: str) -> pd.DataFrame:
    """Score chance, train a phase network, score it, save tables and loss curve, and return the scores so far.

    A network that is not in the configuration is skipped.
    """
    _score_phases(run, data, "chance", ChancePhases(), "cpu")
    if name not in run.config.completion.phases.models:
        return left_out("not in completion.phases.models of this configuration", model=name)
    model = train(run, _phase_training(run, name, lambda: data.random))
    _score_phases(run, data, name, model, next(model.parameters()).device)
    return phase_summary(run)


def phase_summary(run: Run) -> pd.DataFrame:
    """Tabulate the scores of the phase networks so far: one row per model and split, one column per metric."""
    return summarise(run.results("monoclinic_phases_results"), [*PHASE_METRICS]).round(3)


def trainings(run: Run) -> Iterator[Training[Any, CompletionBatch]]:
    """Yield the trainings of the configuration, of amplitudes and of phases, all on the random crystals."""
    data, config = cache(partial(_random_crystals, run)), run.config.completion
    yield from (_training(run, name, data) for name in config.models)
    yield from (_phase_training(run, name, data) for name in config.phases.models)


def _training(run: Run, name: str, data: Callable[[], MonoclinicData]) -> Training[AmplitudeModel, CompletionBatch]:
    config, folder = run.config.completion, run.checkpoints("completion") / name
    return Training(AMPLITUDE_MODELS, name, config, folder, data, run.config.seed, curve=f"completion_curve_{name}")


def _phase_training(
    run: Run, name: str, data: Callable[[], MonoclinicData]
) -> Training[MonoclinicPhases, CompletionBatch]:
    config, folder = run.config.completion.phases, run.checkpoints("monoclinic_phases") / name
    curve = f"monoclinic_phases_curve_{name}"
    return Training(MONOCLINIC_PHASE_MODELS, name, config, folder, data, run.config.seed, curve=curve)


def _score_phases(
    run: Run, data: CompletionData, name: str, predictor: PhasePredictor, device: torch.device | str
) -> None:
    """Save tables ``monoclinic_phases_results_NAME`` and ``monoclinic_phases_shells_NAME``."""
    scores = [
        evaluate_monoclinic_phases(name, predictor, part, splits=(split,), seed=run.config.seed, device=device)
        for split, part in data.test_sets()
    ]
    for kind, tables in zip(("results", "shells"), zip(*scores)):
        run.save_table(f"monoclinic_phases_{kind}_{name}", pd.concat(tables))


def _score(
    run: Run, data: CompletionData, name: str, predictor: AmplitudePredictor, device: torch.device | str
) -> None:
    """Save tables ``completion_results_NAME`` and ``completion_shells_NAME``, and a layer of each test set."""
    seed, scores, layers = run.config.seed, [], []
    for split, part in data.test_sets():
        scores.append(evaluate_completion(name, predictor, part, splits=(split,), seed=seed, device=device))
        layers.append({"split": np.array(split), **_layer(predictor, part, int(part.splits[split][0]), device)})
    results, shells = (pd.concat(tables) for tables in zip(*scores))
    run.save_table(f"completion_results_{name}", results)
    run.save_table(f"completion_shells_{name}", shells)
    run.save_arrays(f"completion_layer_{name}", **{key: np.stack([one[key] for one in layers]) for key in layers[0]})


def _layer(
    predictor: AmplitudePredictor, data: MonoclinicData, sample: int, device: torch.device | str
) -> dict[str, np.ndarray]:
    """Complete a crystal; return the fields of its layer hk0, [h, k] each."""
    batch = data[[sample]]
    completed = complete_batch(predictor, batch, device)
    fields = {**completed._asdict(), "observed": batch.observed}
    return {key: values[0, :, :, 0].numpy() for key, values in fields.items()}


def summary(run: Run, *, per_group: bool = False) -> pd.DataFrame:
    """Tabulate the scores so far: one row per model and split, or space group, and one column per metric."""
    return summarise(run.results("completion_results"), _SCORES, parts=per_group).round(5)
