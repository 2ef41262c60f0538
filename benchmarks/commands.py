"""Clock time and peak memory of every command, and how long the program takes to start.

    rephase bench commands

Commands run in processes of their own, with the smallest configuration (``configs/test.yaml``) or a random crystal of
P 1 21/c 1 with ten atoms in its molecule. ``first trial`` is the time from the call of ``rephase solve`` to the
start of its search, where the call ends. The peers of the
start are Python that does nothing, and Python that imports torch.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # of the commands, too

import itertools
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import yaml
from measuring.processes import run_command
from measuring.tables import plain_rows
from measuring.timing import Comparison, Task, measure
from speed_of_solve import random_crystal, written

from rephase.crystal.reflections.simulation import simulate_reflections

_CLI = [sys.executable, "-m", "rephase.cli"]
_UNTIL_THE_SEARCH = """
import os
import rephase.solvers.solve
rephase.solvers.solve.pursue = lambda *_, **__: os._exit(0)
from rephase.cli import main
main()
"""
_SWEEP = {"base": "test", "only": ["02", "03"], "grid": {"crystals.training.epochs": [1]}, "seeds": [0]}


@cache
def folder() -> tempfile.TemporaryDirectory:
    """Make a folder for inputs and results, which is removed when this process ends."""
    return tempfile.TemporaryDirectory()


@cache
def reflections(d_min: float) -> list[str]:
    """Write the reflections of a random crystal; return the arguments that a command needs to read them."""
    place = Path(folder().name) / f"{d_min}"
    place.mkdir()
    return written(simulate_reflections(random_crystal(10), d_min)[0], place)


@cache
def finished_run() -> str:
    """Make a run whose figures can be drawn; return its folder."""
    place = f"{folder().name}/run"
    run_command([*_CLI, "run", "--config", "test", "--only", "01,02,03", "--out", place])
    return place


@cache
def sweep_file() -> str:
    """Write the smallest sweep."""
    file = Path(folder().name) / "sweep.yaml"
    file.write_text(yaml.safe_dump(_SWEEP))
    return str(file)


_numbers = itertools.count()


def new_out() -> list[str]:
    """Return the option that names a new folder for results, so that nothing is taken from an earlier round."""
    return ["--out", f"{folder().name}/out-{next(_numbers)}"]


def command(words: Callable[[], list[str]]) -> Callable[[int], Task]:
    """Return a program of a comparison that runs a command; what is needed for it is made before."""

    def prepare(_: int) -> Task:
        words()
        return Task(lambda: run_command(words()))

    return prepare


def python(code: str, *words: str) -> Callable[[int], Task]:
    """Return a program of a comparison that runs a line of Python."""
    return command(lambda: [sys.executable, "-c", code, *words])


NOTHING, TORCH = {"python alone": python("pass")}, {"import torch": python("import torch")}
COMPARISONS = (
    Comparison("import rephase", python("import rephase"), NOTHING),
    Comparison("rephase --help", command(lambda: [*_CLI, "--help"]), NOTHING),
    Comparison(
        "rephase solve, first trial",
        command(lambda: [sys.executable, "-c", _UNTIL_THE_SEARCH, "solve", *reflections(1.0), *new_out()]),
        TORCH,
    ),
    Comparison("rephase solve", command(lambda: [*_CLI, "solve", *reflections(1.0), *new_out()])),
    Comparison("rephase complete", command(lambda: [*_CLI, "complete", *reflections(1.2), *new_out()])),
    Comparison(
        "rephase run, notebook 02", command(lambda: [*_CLI, "run", "--config", "test", "--only", "02", *new_out()])
    ),
    Comparison("rephase sweep, one run", command(lambda: [*_CLI, "sweep", sweep_file(), *new_out()])),
    Comparison("rephase figures", command(lambda: [*_CLI, "figures", finished_run()])),
)


def main() -> None:
    """Measure every command and print the table."""
    print(plain_rows([row for comparison in COMPARISONS for row in measure(comparison, {})]))


if __name__ == "__main__":
    main()
