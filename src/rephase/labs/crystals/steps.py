"""Steps of notebooks 01 to 06: each does one piece of work and saves its tables and arrays in the run folder."""

from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from rephase.crystal.cell import Cell
from rephase.crystal.phases import phase_difference
from rephase.crystal.structure_factors import GridKernel, grid_hkl
from rephase.crystal.structures import read_crystal
from rephase.labs.crystals.data import Batch, PerturbedData, fill_perturbed, open_perturbed, read_parents
from rephase.labs.crystals.models import MODELS
from rephase.labs.crystals.models.baselines import BASELINES
from rephase.labs.crystals.models.layers import PhaseModel
from rephase.labs.crystals.perturb import PERTURBATIONS, perturb
from rephase.labs.crystals.scores import METRICS, Predictor, evaluate, predict_batch
from rephase.labs.laboratory import DataSet
from rephase.learning.models import build_model, layer_table
from rephase.learning.scoring import summarise
from rephase.learning.store import Shard
from rephase.learning.training import Training, train
from rephase.runs import Run
from rephase.runs.tables import left_out

_N_EXAMPLES = 8
_NOT_LISTED = "not in crystals.models of this configuration"


_N_COMPARED = 200  # variants per crystal when perturbations are compared


def example_structure_factors(run: Run) -> pd.DataFrame:
    """Calculate F of the example crystal before and after a perturbation, the largest of a few, for notebook 01.

    Returns
    -------
    pandas.DataFrame
        The strongest reflections: hkl, d (Å), and |F| and φ (degrees) before and after.
    """
    data = run.config.crystals.data
    crystal = read_crystal(run.config.crystals.example)
    variants = perturb(crystal, _N_EXAMPLES, np.random.default_rng(data.seed), data.perturbation)
    lattice = None if variants.lattice is None else torch.as_tensor(variants.lattice)
    kernel = GridKernel(crystal, data.h_max, energy_kev=data.energy_kev, dtype=torch.float64)
    before = kernel(torch.as_tensor(crystal.atoms.xyz_frac)[None])[0].numpy()
    every = kernel(torch.as_tensor(variants.xyz_frac), lattice).numpy()
    after = every[np.abs(every - before).sum((1, 2, 3)).argmax()]
    d_hkl = crystal.cell.d_spacing(grid_hkl(data.h_max))
    reciprocal = np.linalg.inv(crystal.cell.orthogonalisation)
    run.save_arrays("example", before=before, after=after, reciprocal=reciprocal)
    table = _strongest(before, after, d_hkl, data.h_max)
    run.save_table("example", table)
    return table


def _strongest(before: np.ndarray, after: np.ndarray, d_hkl: np.ndarray, h_max: tuple[int, int, int]) -> pd.DataFrame:
    hkl = grid_hkl(h_max).reshape(-1, 3)
    order = np.argsort(-np.abs(after).ravel(), kind="stable")[1:200]
    first_of_pair = [i for i in order if tuple(hkl[i]) > tuple(-hkl[i])][:12]
    columns = {"h k l": [" ".join(map(str, hkl[i])) for i in first_of_pair], "d (Å)": d_hkl.ravel()[first_of_pair]}
    for label, F in (("before", before), ("after", after)):
        columns[f"|F| {label} (e)"] = np.abs(F).ravel()[first_of_pair]
        columns[f"φ {label} (°)"] = np.degrees(np.angle(F)).ravel()[first_of_pair]
    return pd.DataFrame(columns).round(3)


def build_data(run: Run) -> PerturbedData:
    """Build or open the dataset of the run."""
    return open_perturbed(_data_folder(run), run.config.crystals.data, workers=run.workers)


def data_sets(run: Run) -> Iterator[DataSet]:
    """Yield the data set of `build_data`."""

    def build(shard: Shard) -> None:
        fill_perturbed(_data_folder(run), read_parents(run.config.crystals.data), workers=run.workers, shard=shard)

    yield DataSet("perturbed", build)


def _data_folder(run: Run) -> Path:
    return run.folder / "data" / "perturbed.zarr"


def describe_data(run: Run, data: PerturbedData) -> pd.DataFrame:
    """Tabulate the crystals: space group, cell, samples in each split, measured and undefined reflections."""
    rows = []
    for number, crystal in enumerate(data.parents.crystals):
        share = {split: int((data.parent[samples] == number).sum()) for split, samples in data.splits.items()}
        batch = data[np.flatnonzero(data.parent.numpy() == number)[:50]]
        measured = int(batch.mask[0].sum()) - 1
        undefined = measured - float(batch.scored.sum((1, 2, 3)).float().mean())
        described = {"crystal": crystal.name, "space group": crystal.space_group, "content": crystal.formula}
        described["a, b, c (Å)"] = _lengths(crystal.cell)
        rows.append({**described, **share, "reflections": measured, "undefined phases": undefined})
    table = pd.DataFrame(rows)
    run.save_table("crystals", table)
    return table


def _lengths(cell: Cell) -> str:
    return ", ".join(f"{x:.3f}" for x in dict.fromkeys((cell.a, cell.b, cell.c)))


def compare_perturbations(run: Run) -> pd.DataFrame:
    """Measure how much each kind of perturbation changes amplitudes and phases of every training crystal.

    Returns
    -------
    pandas.DataFrame
        Means per kind: R between the amplitudes of variant and parent, and amplitude-weighted |Δφ| in degrees.
    """
    tables = []
    for kind in PERTURBATIONS:
        options = run.config.crystals.data.perturbation.model_copy(update={"kind": kind})
        parents = read_parents(run.config.crystals.data.model_copy(update={"perturbation": options}))
        for number, crystal in enumerate(parents.crystals):
            rng = np.random.default_rng([run.config.crystals.data.seed, 2, number])
            F, parent = parents.generate(number, _N_COMPARED, rng)[0], parents.F[number]
            weight = F.abs().clone()
            weight[:, 0, 0, 0] = 0
            total = weight.sum((1, 2, 3))
            change = ((F.abs() - parent.abs()).abs() * (weight > 0)).sum((1, 2, 3)) / total
            error = (phase_difference(F.angle(), parent.angle()).abs() * weight).sum((1, 2, 3)) / total
            tables.append(
                pd.DataFrame(
                    {
                        "kind": kind,
                        "crystal": crystal.name,
                        "amplitude_change": change.numpy(),
                        "phase_change_deg": np.degrees(error.numpy()),
                    }
                )
            )
    run.save_table("perturbations", pd.concat(tables, ignore_index=True))
    return perturbation_changes(run)


def perturbation_changes(run: Run) -> pd.DataFrame:
    """Mean changes of amplitudes and phases by each kind of perturbation, from the saved table."""
    table = run.table("perturbations")
    return table.groupby("kind", sort=False)[["amplitude_change", "phase_change_deg"]].mean().round(3)


def score_baselines(run: Run, data: PerturbedData) -> pd.DataFrame:
    """Score the baselines, which need no training, and save their tables."""
    for name, make in BASELINES.items():
        _score(run, data, name, make(data), "cpu")
    return summary(run)


def describe_model(run: Run, data: PerturbedData, name: str) -> pd.DataFrame:
    """List the layers of a model that the configuration builds, with shapes and parameters, as in `layer_table`.

    Saves the table ``layers_NAME``.
    A model that is not in the configuration is skipped, and the table says so.
    """
    models = run.config.crystals.models
    if name not in models:
        return left_out(_NOT_LISTED, model=name)
    model = build_model(MODELS, name, data.shape, models[name], loss=run.config.crystals.training_of(name).loss)
    table = layer_table(model, data[[0]])
    run.save_table(f"layers_{name}", table)
    return table


def model_layers(run: Run) -> pd.DataFrame:
    """Layers of every model that was described so far."""
    return pd.concat([table.assign(model=name) for name, table in run.tables("layers").items()]).set_index("model")


def train_and_score(run: Run, data: PerturbedData, name: str) -> pd.DataFrame:
    """Train a model, score it on every split, and save tables, loss curve and predictions.

    Returns the scores of all models so far. A model that is not in the configuration is skipped, so a sweep may train
    fewer models.
    """
    if name not in run.config.crystals.models:
        return left_out(_NOT_LISTED, model=name)
    model = train(run, _training(run, name, lambda: data))
    _score(run, data, name, model, next(model.parameters()).device)
    return summary(run)


def trainings(run: Run) -> Iterator[Training[PhaseModel, Batch]]:
    """Yield the trainings of the configuration, all on one dataset."""
    data = cache(partial(build_data, run))
    return (_training(run, name, data) for name in run.config.crystals.models)


def _training(run: Run, name: str, data: Callable[[], PerturbedData]) -> Training[PhaseModel, Batch]:
    config = run.config.crystals
    return Training(MODELS, name, config, run.checkpoints(name), data, run.config.seed, curve=f"curve_{name}")


def _score(run: Run, data: PerturbedData, name: str, predictor: Predictor, device: torch.device | str) -> None:
    experiment = run.config.crystals.data.perturbation.kind
    results, shells = evaluate(name, predictor, data, seed=run.config.seed, experiment=experiment, device=device)
    run.save_table(f"results_{name}", results)
    run.save_table(f"shells_{name}", shells)
    chosen = _one_sample_per_crystal(data)
    comparison = predict_batch(predictor, data[chosen], device)
    run.save_arrays(
        f"predictions_{name}",
        F_pred=comparison.F_aligned.numpy(),
        F_true=comparison.F_true.numpy(),
        density_pred=comparison.density_pred.numpy(),
        density_true=comparison.density_true.numpy(),
        crystal=np.array([data.parents.crystals[p].name for p in data.parent[chosen]]),
    )


def _one_sample_per_crystal(data: PerturbedData) -> np.ndarray:
    """Numbers of the first held-out sample of every crystal."""
    held_out = np.concatenate([data.splits["test"], data.splits["unseen"]])
    return held_out[np.unique(data.parent[held_out].numpy(), return_index=True)[1]]


def summary(run: Run, *, per_crystal: bool = False) -> pd.DataFrame:
    """Tabulate the results so far: one row per model and split, one column per metric."""
    return summarise(run.results(), [*METRICS, "undefined_phases"], parts=per_crystal).round(3)


def main_scores(run: Run) -> pd.DataFrame:
    """The scores of `summary` that compare the models best."""
    return summary(run)[["phase_loss_aligned", "phase_loss_naive", "mean_phase_error", "map_cc", "ssim"]]


def scores_by_crystal(run: Run) -> pd.DataFrame:
    """Tabulate the aligned phase loss: one row per crystal, one column per model."""
    table = summary(run, per_crystal=True)["phase_loss_aligned"].unstack("model")
    return table[[*dict.fromkeys(run.results()["model"])]].round(1)
