"""Single flipped bits in every kind of stored file: refused by name, or without effect."""

import contextlib
import io
import shutil
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import NamedTuple

from fuzzing.stored_targets import SMALL, first_weights, write_run

from disturbances.processes import Running
from disturbances.works import WORKS, State, checksum, of_arrays
from rephase.config import load_config
from rephase.errors import RephaseError
from rephase.labs.completion.cards import AMPLITUDES
from rephase.labs.crystals.data import open_perturbed
from rephase.labs.crystals.models import MODELS
from rephase.learning.training import fit
from rephase.learning.weights import load_weights
from rephase.paths import WEIGHTS
from rephase.report import write_report
from rephase.runs import read_run
from rephase.runs.status import read_status


class Stored(NamedTuple):
    """A kind of stored file: function that fills a folder, file in it, and function that loads it with rephase."""

    make: Callable[[Path], object]
    file: str
    value: Callable[[Path], State]


def _write_weights(folder: Path) -> None:
    for path in WEIGHTS.glob(f"{first_weights(AMPLITUDES)}.*"):
        shutil.copy(path, folder / f"weights{path.suffix}")


def _weights(folder: Path) -> State:
    model, card = load_weights(folder / "weights.safetensors", AMPLITUDES)
    return of_arrays(model.state_dict()) | {"card": checksum(card.model_dump_json().encode())}


def _stop_training(folder: Path) -> None:
    """Stop a training after one epoch, as a kill does."""
    work = WORKS["training"]
    work.prepare(folder)
    running = Running(work.do, folder, folder / "log")
    while not (folder / "training" / "last.ckpt").is_file():
        running.wait_until(running.seconds + 0.01)
    running.wait_until(running.seconds + 0.1)
    running.kill()


def _resumed(folder: Path) -> State:
    work = WORKS["training"]
    work.do(folder)
    return work.state(folder)


def _config(folder: Path) -> State:
    return {"config": checksum(read_run(folder / "run").config.model_dump_json().encode())}


def _report(folder: Path) -> State:
    run = read_run(folder / "run")
    return {"report": checksum(write_report(run, read_status(run.folder)).read_bytes())}


def _table(folder: Path) -> State:
    return {"table": checksum(read_run(folder / "run").results().to_csv().encode())}


def _arrays(folder: Path) -> State:
    return of_arrays(read_run(folder / "run").arrays("example"))


def _store(folder: Path) -> State:
    data = open_perturbed(folder / "run" / "data" / "perturbed.zarr", load_config("test", SMALL).crystals.data)
    return of_arrays({"F": data.F, "lattice": data.lattice})


def _fitted(folder: Path) -> State:
    config, run = load_config("test", SMALL), folder / "run"
    data = open_perturbed(run / "data" / "perturbed.zarr", config.crystals.data)
    model = fit(MODELS, "linear", data, config.crystals, run / "checkpoints" / "linear", device="cpu", progress=False)
    return of_arrays(model.state_dict())


_RUN = partial(write_run, ".")
STORED = {
    "best checkpoint": Stored(_RUN, "run/checkpoints/linear/best.ckpt", _fitted),
    "last checkpoint": Stored(_stop_training, "training/last.ckpt", _resumed),
    "identity.json": Stored(_RUN, "run/checkpoints/linear/identity.json", _fitted),
    "weights": Stored(_write_weights, "weights.safetensors", _weights),
    "card": Stored(_write_weights, "weights.json", _weights),
    "chunk of a store": Stored(_RUN, "run/data/perturbed.zarr/F/c/0/0/0/0", _store),
    "zarr.json": Stored(_RUN, "run/data/perturbed.zarr/zarr.json", _store),
    "zarr.json of an array": Stored(_RUN, "run/data/perturbed.zarr/F/zarr.json", _store),
    "arrays of a run": Stored(_RUN, "run/arrays/example.npz", _arrays),
    "table of a run": Stored(_RUN, "run/tables/results_linear.csv", _table),
    "config.yaml of a run": Stored(_RUN, "run/config.yaml", _config),
    "status.json": Stored(_RUN, "run/status.json", _report),
    "environment.json": Stored(_RUN, "run/environment.json", _report),
    "notebook of a run": Stored(_RUN, "run/notebooks/01_x.ipynb", _report),
}


def flip(name: str, n: int, seed: int, place: Path) -> list[str]:
    """Flip one bit `n` times, each in a new copy at the same place; return the problem of each, empty if none."""
    stored, random, folder = STORED[name], Random(f"{seed} {name}"), place / "read"
    good = place / "good"
    good.mkdir(parents=True)
    problems = []
    with contextlib.redirect_stderr(io.StringIO()):  # progress bars
        stored.make(good)
        shutil.copytree(good, folder)
        expected = stored.value(folder)
        for _ in range(n):
            shutil.rmtree(folder)
            shutil.copytree(good, folder)
            content = bytearray((folder / stored.file).read_bytes())
            byte, bit = random.randrange(len(content)), random.randrange(8)
            content[byte] ^= 1 << bit
            (folder / stored.file).write_bytes(content)
            problems.append(_wrong(stored, folder, expected, f"bit {bit} of byte {byte}"))
    return problems


def _wrong(stored: Stored, folder: Path, expected: State, where: str) -> str:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            found = stored.value(folder)
        except RephaseError:
            return ""
        except Exception as error:
            return f"{where}: {type(error).__name__}: {' '.join(str(error).split())[:80]}"
    is_named = any(Path(stored.file).name in str(one.message) for one in said)
    return "" if found == expected or is_named else f"{where}: other values without an error"
