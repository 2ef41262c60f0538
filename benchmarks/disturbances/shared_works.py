"""The tasks that several processes share: workers of Dask, the ranks of a training, the shards of a data set."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from disturbances.works import SMALL, State, Work, checksum, command, nothing, of_arrays, sweep_in, swept, write_sweep
from rephase.errors import StoreError, TrainingError
from rephase.labs.crystals.data import open_perturbed
from rephase.learning.checkpoints import read_checkpoint
from rephase.learning.training import loss_curve
from rephase.runs import read_run

_N_SHARDS = 2
_TRAINED = [*SMALL, "crystals.data.n_per_crystal=40", "crystals.training.epochs=12"]
_BUILT = [*SMALL, "crystals.data.n_per_crystal=100", "crystals.data.chunk=5"]


def _options(folder: Path, overrides: list[str], *more: str) -> list[str]:
    given = [part for override in overrides for part in ("--set", override)]
    return ["--config", "test", *given, "--out", str(folder / "run"), *more]


def _train(folder: Path) -> None:
    command("train", *_options(folder, _TRAINED, "--device", "cpu"))


def _execute(folder: Path) -> None:
    """Run one notebook, whose kernel takes most of the time: that of the training, which also builds the data."""
    command("run", *_options(folder, _TRAINED, "--device", "cpu", "--only", "04"))


def _train_together(folder: Path) -> None:
    command("train", *_options(folder, _TRAINED, "--device", "cpu", "--devices", "2", "--strategy", "ddp"))


def _trained(folder: Path) -> State:
    """Return the weights of the last and of the best epoch, and the losses of all epochs."""
    training = folder / "run" / "checkpoints" / "cnn3d"
    if not (training / "finished").is_file():
        raise TrainingError(f"{training}: not finished")
    weights = {
        f"{name} {key}": value
        for name in ("last", "best")
        for key, value in read_checkpoint(training / f"{name}.ckpt")["state_dict"].items()
    }
    return of_arrays(weights) | {"losses": checksum(loss_curve(training).to_csv().encode())}


def _executed(folder: Path) -> State:
    """Return the weights, the losses and the scores."""
    return _trained(folder) | {"results": checksum(read_run(folder / "run").results().to_csv().encode())}


def _build(folder: Path) -> None:
    command("data", *_options(folder, _BUILT, "--only", "02", "--jobs", str(_N_SHARDS)))


def _built(folder: Path) -> State:
    """Return the bytes of every chunk; opening the store instead would continue an unfinished one."""
    store = folder / "run" / "data" / "perturbed.zarr"
    chunks = sorted(path for path in store.rglob("c/**/*") if path.is_file())
    config = read_run(folder / "run").config.crystals.data
    if len(chunks) < 2 * config.n_per_crystal // config.chunk:
        raise StoreError("the store is not finished")
    open_perturbed(store, config)
    return {str(path.relative_to(folder)): checksum(path.read_bytes()) for path in chunks}


def _sweep_on_workers(folder: Path) -> None:
    sweep_in(folder, "--engine", "dask")


def _sweep_on_scheduler(folder: Path) -> None:
    with _scheduler_and_workers() as address:
        sweep_in(folder, "--engine", address)


@contextmanager
def _scheduler_and_workers() -> Iterator[str]:
    """Keep a scheduler and two workers running, each a process that is started again whenever it has ended."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    address, is_over = f"tcp://127.0.0.1:{port}", threading.Event()
    worker = ("worker", address, "--no-nanny", "--nthreads", "1", "--no-dashboard")
    commands = [("scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard"), worker, worker]
    threads = [threading.Thread(target=_keep_running, args=(each, is_over)) for each in commands]
    for thread in threads:
        thread.start()
    try:
        _wait_for(int(port))
        yield address
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def _keep_running(arguments: tuple[str, ...], is_over: threading.Event) -> None:
    kind, *others = arguments
    while not is_over.is_set():
        with subprocess.Popen([sys.executable, "-m", f"distributed.cli.dask_{kind}", *others]) as process:
            while process.poll() is None and not is_over.wait(0.1):
                pass
            process.kill()


def _wait_for(port: int) -> None:
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.05)


SHARED = {
    work.name: work
    for work in (
        Work("dask sweep", write_sweep, _sweep_on_workers, swept, part="spawn_main", is_replaced=True),
        Work("scheduled sweep", write_sweep, _sweep_on_scheduler, swept, part="dask_scheduler", is_replaced=True),
        Work("shared training", nothing, _train_together, _trained, part="rephase.cli train"),
        Work("shards", nothing, _build, _built, part="--shard"),
        Work("train command", nothing, _train, _trained),
        Work("notebooks", nothing, _execute, _executed),
    )
}
