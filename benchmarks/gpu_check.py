"""The GPU against the CPU: rates, agreement, shares of what the card can do, and the sizes of pieces; in four minutes.

    make gpu-check                                  # on a machine with a GPU, without a network: see docs/how-to
    rephase bench gpu_check -- --out FOLDER
    rephase bench gpu_check -- --rehearse           # everything tiny, on the CPU: whether it runs

The first table compares kernels, trials of the solver, simulators and training steps with one core of the CPU:
``difference`` is the largest one between the results, relative to the largest value; ``share_of_peak`` is the share of
the arithmetic or of the memory bandwidth that large matrix products and copies reach in the same run, from the least
work that an item needs; ``of_layers`` is the time of a network's layers alone, as plain PyTorch, over that of a step.
The second table has the best size of a piece of each kind of work beside that of `rephase.devices.WORK`, and what the
best one gains. Both are also written to ``gpu_check.json``, after each part. A part that fails or takes longer than its
time is reported, and the others go on. Without a GPU the status is 2.
"""

import argparse
import faulthandler
import importlib.metadata
import importlib.util
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

PRESENT = ("torch", "numpy", "scipy", "pandas")
"""Modules that a machine with a GPU and torch is expected to have."""
CARRIED = {
    "gemmi": "gemmi",
    "Dans_Diffraction": "Dans_Diffraction",
    "pydantic": "pydantic",
    "pydantic_core": "pydantic-core",
    "annotated_types": "annotated-types",
    "typing_inspection": "typing-inspection",
    "typing_extensions": "typing-extensions",
    "yaml": "PyYAML",
    "zarr": "zarr",
    "numcodecs": "numcodecs",
    "google_crc32c": "google-crc32c",
    "donfig": "donfig",
    "packaging": "packaging",
    "filelock": "filelock",
    "tqdm": "tqdm",
    "zuko": "zuko",
}
"""Other modules that this benchmark imports, and the packages that have them: the list of ``make wheels``."""
_ALL, _END = 195, 215  # seconds after which no part begins, and after which the process ends whatever it does
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the CPU that is compared, and of its workers


def check_needs() -> str:
    """Return what is missing for this benchmark, in one line; empty if nothing is."""
    missing = [name for name in (*PRESENT, *CARRIED) if importlib.util.find_spec(name) is None]
    if missing:
        extra = " ".join(name for name in missing if name in PRESENT)
        command = f"make wheels WITH='{extra}'" if extra else "make wheels"
        return f"missing modules: {', '.join(missing)}; `{command}` elsewhere collects them in a folder to carry here"
    return ""


def wheels(extra: list[str]) -> str:
    """Return the packages to carry, and some more, each with the version that is installed here."""
    return "\n".join(f"{name}=={importlib.metadata.version(name)}" for name in (*CARRIED.values(), *extra))


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `TimeoutError` in this thread after some seconds."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"took longer than its {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def parts() -> dict[str, tuple[float, Callable]]:
    """Return the parts by name: seconds, and a function of a setup that returns rows."""
    from gpu import kernels, trainings

    def of(*names: str) -> Callable:
        return partial(kernels.kernel_rows, names)

    return {
        "grid kernel": (12, of("grid kernel, 28 atoms", "grid kernel, strained")),
        "direct sums": (12, of("direct sums to 1.0 Å", "lists to 1.0 Å")),
        "trials at 1.5 Å": (20, partial(kernels.trial_rows, 1.5)),
        "trials at 1.0 Å": (20, partial(kernels.trial_rows, 1.0)),
        "direct methods": (15, kernels.direct_methods_rows),
        "simulators": (25, of("SAXS", "GISAXS", "holography", "ptychography", "droplets", "bodies")),
        "U-Net": (30, partial(trainings.training_rows, "U-Net")),
        "ResNet": (25, partial(trainings.training_rows, "ResNet-18")),
        "flow": (20, partial(trainings.training_rows, "flow")),
        "pieces of kernels": (30, kernels.kernel_scans),
        "pieces of lists": (10, kernels.list_scans),
        "pieces of predictions": (15, trainings.prediction_scans),
        "random crystals": (25, kernels.random_crystal_rows),
        "streamed crystals": (15, trainings.streamed_rows),
        "pieces of random crystals": (25, kernels.random_crystal_scans),
    }


def printed(rows: list[dict], names: tuple[str, ...]) -> str:
    """Return a table of some columns, with three digits."""

    def cell(value: object) -> str:
        return "" if value is None or value != value else f"{value:.3g}" if isinstance(value, float) else str(value)

    table = [list(names)] + [[cell(row.get(name)) for name in names] for row in rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(names))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip() for row in table)


def run_parts(setup: object, path: Path, start: float) -> list[str]:
    """Run each part in its time, write all rows after each; return what did not work."""
    rows, failed = [], []
    for name, (seconds, part) in parts().items():
        left = _ALL - (time.perf_counter() - start)
        begun = time.perf_counter()
        try:
            if left < 5:
                raise TimeoutError("no time was left")
            with time_limit(left if setup.is_rehearsal else min(seconds, left)):
                for row in part(setup):  # those before an error are kept
                    rows.append(row)
        except Exception as error:
            failed.append(f"{name}: {type(error).__name__}: {error}")
            if not isinstance(error, TimeoutError):
                traceback.print_exc()
        print(f"{name}: {time.perf_counter() - begun:.1f} s", file=sys.stderr, flush=True)
        path.write_text(json.dumps({"peaks": setup.peaks, "rows": rows, "failed": failed}, indent=1))
    kernels, pieces = [row for row in rows if "kernel" in row], [row for row in rows if "work" in row]
    names = "kernel", "unit", "cpu_per_s", "gpu_per_s", "ratio", "difference", "share_of_peak", "of", "of_layers"
    print(printed(kernels, names), "\n\n" + printed(pieces, ("work", "unit", "table", "best", "gain")), sep="")
    return failed


def main() -> int:
    """Measure, print the tables and write them; return the status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rehearse", action="store_true", help="run everything, tiny, on the CPU")
    parser.add_argument("--out", type=Path, help="folder of gpu_check.json; by default runs/bench")
    parser.add_argument("--wheels", nargs="*", metavar="NAME", help="only list the packages to carry, and these")
    options = parser.parse_args()
    if options.wheels is not None:
        print(wheels(options.wheels))
        return 0
    start = time.perf_counter()
    if reason := check_needs():
        print(f"gpu_check: {reason}")
        return 2
    import torch

    if not (torch.cuda.is_available() or options.rehearse):
        print(f"gpu_check: torch {torch.__version__} sees no GPU; --rehearse runs everything tiny on the CPU")
        return 2
    from gpu.measuring import CPU, Setup
    from gpu.peaks import measured_peaks

    from rephase.devices import WORK, pick_device
    from rephase.paths import RUNS

    torch.set_num_threads(1)
    device = CPU if options.rehearse else pick_device("cuda")
    setup = Setup(device, options.rehearse, {})
    setup.peaks.update(measured_peaks(setup))
    folder = options.out or RUNS / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    name = "CPU, a rehearsal" if options.rehearse else torch.cuda.get_device_name(device)
    print(f"{name}, torch {torch.__version__}, {len(os.sched_getaffinity(0))} cores")
    units = {"copy": "GB/s"}
    print(", ".join(f"{key} {value:.3g} {units.get(key, 'TFLOP/s')}" for key, value in setup.peaks.items()))
    faulthandler.dump_traceback_later(_END, exit=True)
    failed = run_parts(setup, folder / "gpu_check.json", start)
    scanned = {row["work"] for row in json.loads((folder / "gpu_check.json").read_text())["rows"] if "work" in row}
    print("\nnot scanned:", ", ".join(work for work in WORK if work not in scanned))
    for line in failed:
        print("FAILED", line)
    faulthandler.cancel_dump_traceback_later()
    print(f"{time.perf_counter() - start:.0f} s; {folder / 'gpu_check.json'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
