"""Files that rephase itself writes, and its inputs: configurations, weights with cards, and all of a run folder."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd

from fuzzing.checkpoint_edits import CHECKPOINT_EDITS, SAFETENSORS_EDITS
from fuzzing.crystal_targets import write_text
from fuzzing.text_edits import TEXT_EDITS, Edit
from fuzzing.tree_edits import JSON_EDITS, YAML_EDITS
from fuzzing.trials import Target
from rephase.config import load_config, load_sweep
from rephase.crystal.peaks import parse_formula
from rephase.formats.cod import read_numbers
from rephase.labs.completion.cards import AMPLITUDES
from rephase.labs.crystals.data import open_perturbed
from rephase.labs.crystals.models import MODELS
from rephase.labs.crystals.steps import build_data
from rephase.labs.images.cards import IMAGES
from rephase.labs.scattering.cards import POSTERIORS
from rephase.learning.training import fit
from rephase.learning.weights import Kind, load_weights, shipped_weights
from rephase.paths import CONFIGS, WEIGHTS
from rephase.report import write_report
from rephase.runs import open_run, read_run
from rephase.runs.status import Outcome, executed, read_status, seal, write_status
from rephase.sweeps import sweep_points

SETTING = "crystals.data.perturbation.strain.sigma_strain=0.02\n"
SMALL = [
    "crystals.data.crystals=[Ni]",
    "crystals.data.unseen=[]",
    "crystals.data.n_per_crystal=20",
    "crystals.data.h_max=[1, 1, 1]",
    "crystals.training.epochs=1",
]


def write_weights(name: str, folder: Path) -> Path:
    """Copy shipped weights and their card, without the checksum of the card itself, so that its content is read."""
    for suffix in (".json", ".safetensors"):
        shutil.copy(WEIGHTS / f"{name}{suffix}", folder)
    card = json.loads((folder / f"{name}.json").read_text())
    card.pop("card_sha256", None)
    (folder / f"{name}.json").write_text(json.dumps(card, indent=1))
    return folder / f"{name}.safetensors"


def write_card(name: str, folder: Path) -> Path:
    """Write the card beside shipped weights."""
    return write_weights(name, folder).with_suffix(".json")


def write_run(changed: str, folder: Path) -> Path:
    """Write a run with data, a trained model, a table, arrays, a status and a notebook; one file without checksum."""
    run = open_run(folder / "run", "test", SMALL, device="cpu")
    data = build_data(run)
    fit(MODELS, "linear", data, run.config.crystals, run.checkpoints("linear"), device="cpu", progress=False)
    row = {
        "experiment": "x",
        "model": "linear",
        "split": "test",
        "metric": "phase_loss_aligned",
        "unit": "rad",
        "value": 0.5,
        "n": 4,
        "seed": 0,
    }
    metrics = ("phase_loss_aligned", "phase_loss_naive", "mean_phase_error", "map_cc", "ssim")
    run.save_table("results_linear", pd.DataFrame([row | {"metric": metric} for metric in metrics]))
    run.save_arrays("example", before=np.ones((3, 3, 3), complex), after=np.zeros((3, 3, 3)), reciprocal=np.eye(3))
    failed = Outcome(seconds=2.0, error="E: x", cell=3)
    write_status(run.folder, {"01_x": Outcome(seconds=1.0, finished="0123abcd"), "02_x": failed})
    cells = [nbformat.v4.new_markdown_cell("# 01 · x"), nbformat.v4.new_code_cell("1 + 1", execution_count=1)]
    cells[1].outputs = [nbformat.v4.new_output("execute_result", {"text/plain": "2"}, execution_count=1)]
    (run.folder / "notebooks").mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=cells), executed(run.folder, "01_x"))
    seal(executed(run.folder, "01_x"))
    path = folder / "run" / changed
    path.with_name(f".{path.name}.sha256").unlink(missing_ok=True)
    return path


def write_unfinished(folder: Path) -> Path:
    """Write the last checkpoint of a training that is not marked as finished."""
    path = write_run("checkpoints/linear/last.ckpt", folder)
    path.with_name("finished").unlink()
    return path


def run_folder(path: Path) -> Path:
    """Return the folder of the run to which a file belongs."""
    return next(parent for parent in path.parents if parent.name == "run")


def use_config(path: Path) -> None:
    """Resolve a configuration."""
    load_config(path).fingerprint()


def use_sweep(path: Path) -> None:
    """Resolve every point of a sweep."""
    sweep_points(load_sweep(path)[0])


def use_setting(path: Path) -> None:
    """Use the value of a --set."""
    load_config("test", [path.read_bytes().decode("utf-8", errors="replace").rstrip("\n")])


def use_source(path: Path) -> None:
    """Use the text as the name of a configuration and of a crystal."""
    load_config(path.read_bytes().decode("utf-8", errors="replace"))


def use_formula(path: Path) -> None:
    """Parse a formula unit."""
    parse_formula(path.read_bytes().decode("utf-8", errors="replace"))


def use_numbers(path: Path) -> None:
    """Read COD numbers."""
    read_numbers(path)


def use_weights(kind: Kind, path: Path) -> None:
    """Load weights and check that they are finite."""
    model = load_weights(path.with_suffix(".safetensors"), kind).model
    assert all(bool(value.isfinite().all()) for value in model.state_dict().values()), "weights that are not finite"


def use_run(path: Path) -> None:
    """Read the configuration and the tables of a run."""
    read_run(run_folder(path)).write_results()


def use_arrays(path: Path) -> None:
    """Read arrays by name."""
    for values in read_run(run_folder(path)).arrays("example").values():
        np.abs(values).sum()


def use_report(path: Path) -> None:
    """Write the report, as after a notebook."""
    run = read_run(run_folder(path))
    write_report(run, read_status(run.folder))


def use_store(path: Path) -> None:
    """Open the dataset of the run again."""
    config = load_config("test", SMALL)
    data = open_perturbed(run_folder(path) / "data" / "perturbed.zarr", config.crystals.data)
    data[[0, len(data) - 1]]


def use_training(path: Path) -> None:
    """Load the trained model, and call the training again."""
    folder, config = run_folder(path), load_config("test", SMALL)
    data = open_perturbed(folder / "data" / "perturbed.zarr", config.crystals.data)
    model = fit(
        MODELS, "linear", data, config.crystals, folder / "checkpoints" / "linear", device="cpu", progress=False
    )
    assert all(bool(value.isfinite().all()) for value in model.state_dict().values())


def first_weights(kind: Kind) -> str:
    """Return the smallest shipped weights of a kind."""
    return min(shipped_weights(kind), key=lambda name: (WEIGHTS / f"{name}.safetensors").stat().st_size)


_KINDS = {"amplitudes": AMPLITUDES, "images": IMAGES, "posteriors": POSTERIORS}
_CONFIG, _SWEEP = (path.read_text() for path in (CONFIGS / "test.yaml", CONFIGS / "sweeps" / "tasks.yaml"))
_IN_RUN: dict[str, tuple[str, Callable[[Path], None], tuple[Edit, ...]]] = {
    "config.yaml of a run": ("config.yaml", use_run, YAML_EDITS),
    "status.json": ("status.json", use_report, JSON_EDITS),
    "environment.json": ("environment.json", use_report, JSON_EDITS),
    "notebook of a run": ("notebooks/01_x.ipynb", use_report, JSON_EDITS),
    "table of a run": ("tables/results_linear.csv", use_run, TEXT_EDITS),
    "arrays of a run": ("arrays/example.npz", use_arrays, TEXT_EDITS),
    "zarr.json": ("data/perturbed.zarr/zarr.json", use_store, JSON_EDITS),
    "zarr.json of F": ("data/perturbed.zarr/F/zarr.json", use_store, JSON_EDITS),
    "identity.json": ("checkpoints/linear/identity.json", use_training, JSON_EDITS),
    "best.ckpt": ("checkpoints/linear/best.ckpt", use_training, CHECKPOINT_EDITS),
}
TARGETS = {
    "configuration": Target(partial(write_text, "good.yaml", _CONFIG), use_config, YAML_EDITS),
    "sweep": Target(partial(write_text, "sweep.yaml", _SWEEP), use_sweep, YAML_EDITS),
    "setting": Target(partial(write_text, "setting", SETTING), use_setting, (*YAML_EDITS[-16:], *TEXT_EDITS)),
    "name of a configuration": Target(partial(write_text, "name", "test"), use_source),
    "formula": Target(partial(write_text, "formula", "C20 H22.5 N2 O3 Cu"), use_formula),
    "COD numbers": Target(partial(write_text, "numbers", "2012000 # x\n2012001\n"), use_numbers),
    "last.ckpt": Target(write_unfinished, use_training, CHECKPOINT_EDITS),
    **{name: Target(partial(write_run, changed), use, edits) for name, (changed, use, edits) in _IN_RUN.items()},
}
for _name, _kind in _KINDS.items():
    _file, _use = first_weights(_kind), partial(use_weights, _kind)
    TARGETS[f"weights: {_name}"] = Target(partial(write_weights, _file), _use, SAFETENSORS_EDITS)
    TARGETS[f"card: {_name}"] = Target(partial(write_card, _file), _use, JSON_EDITS)
