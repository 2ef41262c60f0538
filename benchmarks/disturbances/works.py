"""The tasks to disturb: their inputs and earlier results, the work, and the results."""

import hashlib
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

import rephase.cli
from rephase.config import load_config
from rephase.crystal.map_files import write_cif
from rephase.crystal.peaks import Peaks
from rephase.crystal.reflections.files import write_hklf4
from rephase.crystal.reflections.simulation import simulate_reflections
from rephase.errors import PipelineError, RephaseError, StoreError
from rephase.labs.crystals.data import PerturbedData, open_perturbed
from rephase.labs.crystals.models import MODELS
from rephase.learning.training import fit, trained_model
from rephase.random_crystals.crystals import RandomCrystalOptions, random_crystals
from rephase.runs import read_run

State = dict[str, str]
"""Checksums of the results of a task, by name."""
SMALL = [
    "crystals.data.crystals=[Ni]",
    "crystals.data.unseen=[]",
    "crystals.data.h_max=[2, 2, 2]",
    "crystals.models={cnn3d: {options: {width: 4}}}",
]
_UUID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # random names that plotly gives to parts of a page
GENERATION = load_config("test", [*SMALL, "crystals.data.n_per_crystal=4000", "crystals.data.chunk=40"])
TRAINING = load_config("test", [*SMALL, "crystals.data.n_per_crystal=40", "crystals.training.epochs=12"])


class Work(NamedTuple):
    """A task in a folder.

    Parameters
    ----------
    prepare
        Function that writes the inputs, and the results of an earlier call if there can be any.
    do
        Function that does the task.
    state
        Function that returns the results, loaded by rephase if rephase reads them.
    part
        Words in the command line of the processes that share the task, if one of them is to be killed alone.
    is_replaced
        Whether the task starts such a process again, so that it ends well without it.
    """

    name: str
    prepare: Callable[[Path], None]
    do: Callable[[Path], None]
    state: Callable[[Path], State]
    part: str = ""
    is_replaced: bool = False


def checksum(content: bytes) -> str:
    """Return a short checksum."""
    return hashlib.sha256(content).hexdigest()[:16]


def of_arrays(arrays: dict[str, np.ndarray] | dict[str, torch.Tensor]) -> State:
    """Return checksums of arrays with their types and shapes."""
    every = {name: np.asarray(values) for name, values in arrays.items()}
    return {name: checksum(f"{a.dtype} {a.shape}".encode() + a.tobytes()) for name, a in every.items()}


def command(*arguments: str | Path) -> None:
    """Run a command of rephase in this process, which ends with it."""
    sys.modules["__main__"] = rephase.cli  # processes that it starts import this module, which would be the benchmark
    sys.argv = ["rephase", *map(str, arguments)]
    rephase.cli.main()


def nothing(folder: Path) -> None:
    """Make the empty folder of a task that needs no inputs."""
    folder.mkdir(parents=True, exist_ok=True)


def _generate(folder: Path) -> None:
    open_perturbed(folder / "data.zarr", GENERATION.crystals.data, workers=2)


def _generated(folder: Path) -> State:
    """Return the stored chunks and the arrays; opening the store instead would continue an unfinished one."""
    chunks = sorted(path for path in (folder / "data.zarr").rglob("c/**/*") if path.is_file())
    if len(chunks) < 2 * GENERATION.crystals.data.n_per_crystal // GENERATION.crystals.data.chunk:
        raise StoreError("the store is not finished")
    data = open_perturbed(folder / "data.zarr", GENERATION.crystals.data)
    files = {str(path.relative_to(folder)): checksum(path.read_bytes()) for path in chunks}
    return files | of_arrays({"F": data.F, "lattice": data.lattice})


def _data(folder: Path) -> PerturbedData:
    return open_perturbed(folder / "data.zarr", TRAINING.crystals.data)


def _with_data(folder: Path) -> None:
    nothing(folder)
    _data(folder)


def _train(folder: Path) -> None:
    fit(MODELS, "cnn3d", _data(folder), TRAINING.crystals, folder / "training", device="cpu", progress=False)


def _trained(folder: Path) -> State:
    model = trained_model(MODELS, "cnn3d", _data(folder), TRAINING.crystals, folder / "training", device="cpu")
    return of_arrays(model.state_dict())


def _measured(folder: Path) -> None:
    """Write a reflection list to 1 Å of a small crystal, with its cell and group beside it."""
    nothing(folder)
    options = RandomCrystalOptions(space_groups=("P 1 21/c 1",), n_atoms=(6, 7))
    crystal = random_crystals(1, generator=torch.Generator().manual_seed(0), options=options).crystal(0)
    reflections, _ = simulate_reflections(crystal, 1.0)
    write_hklf4(folder / "sample.hkl", reflections)
    none = Peaks(np.zeros((0, 3)), np.zeros(0), ())
    write_cif(folder / "sample.cif", reflections.cell, reflections.group, none)


def _solve(d_min: float, folder: Path) -> None:
    command("solve", folder / "sample.hkl", "--out", folder / "out", "--effort", "0.02", "--d-min", str(d_min))


def _complete(d_min: float, folder: Path) -> None:
    command("complete", folder / "sample.hkl", "--out", folder / "out", "--model", "wilson", "--d-min", str(d_min))


def _results(folder: Path) -> State:
    """Return the result files, without rephase's own files, whose names start with a dot."""
    paths = (folder / "out").iterdir() if (folder / "out").is_dir() else ()
    return {path.name: checksum(_UUID.sub(b"", path.read_bytes())) for path in paths if not path.name.startswith(".")}


def write_sweep(folder: Path) -> None:
    """Write a sweep over two seeds."""
    nothing(folder)
    overrides = [*SMALL, "crystals.data.n_per_crystal=20"]
    lines = ["base: test", f"overrides: {overrides!r}", "only: ['01']", "seeds: [0, 1]"]
    (folder / "sweep.yaml").write_text("\n".join(lines))


def sweep_in(folder: Path, *options: str) -> None:
    """Run the sweep of a folder, two points at a time."""
    command("sweep", folder / "sweep.yaml", "--out", folder / "sweep", "--jobs", "2", "--device", "cpu", *options)


def swept(folder: Path) -> State:
    """Return the arrays of every point."""
    status = folder / "sweep" / "status.csv"
    if not status.is_file() or "waiting" in pd.read_csv(status)["state"].tolist():
        raise PipelineError("the sweep has not ended")
    points = sorted(path for path in (folder / "sweep").iterdir() if (path / "config.yaml").is_file())
    arrays = {f"{path.name} {key}": value for path in points for key, value in read_run(path).arrays("example").items()}
    return of_arrays(arrays) | {"status.csv": checksum(status.read_bytes())}


def _run(folder: Path) -> None:
    settings = [part for setting in (*SMALL, "crystals.data.n_per_crystal=20") for part in ("--set", setting)]
    command("run", "--config", "test", *settings, "--only", "01", "--device", "cpu", "--out", folder / "run")


def _ran(folder: Path) -> State:
    return of_arrays(read_run(folder / "run").arrays("example"))


def state_or_nothing(work: Work, folder: Path) -> State | None:
    """Return the results of a task; None if rephase says that there are none yet."""
    try:
        return work.state(folder)
    except (RephaseError, FileNotFoundError):
        return None


def prepare_results(do: Callable[[Path], None], folder: Path) -> None:
    """Write measured data, and the results of an earlier call."""
    _measured(folder)
    do(folder)


WORKS = {
    work.name: work
    for work in (
        Work("generation", nothing, _generate, _generated),
        Work("training", _with_data, _train, _trained),
        Work("sweep", write_sweep, sweep_in, swept),
        Work("solve", partial(prepare_results, partial(_solve, 1.1)), partial(_solve, 1.0), _results),
        Work("complete", partial(prepare_results, partial(_complete, 0.95)), partial(_complete, 0.9), _results),
        Work("run", nothing, _run, _ran),
    )
}
