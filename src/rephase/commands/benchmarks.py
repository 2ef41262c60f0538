"""The command ``rephase bench``."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from rephase.errors import ConfigError, nearest_name
from rephase.paths import BENCHMARKS

SUITE = "suite"
ACCURACY = (  # the others are benchmarks of speed, which the suite runs
    "chaos",
    "complete",
    "convolution_gradients",
    "fuzz_readers",
    "gpu_check",
    "instruction_files",
    "learned_solver",
    "models",
    "phasing_routes",
    "phasing_scaling",
    "phasing_variants",
    "published_models",
    "solve",
    "solver_ideas",
)


def bench(
    name: Annotated[
        str,
        typer.Argument(help="name of a benchmark; without one, every benchmark of speed is run", show_default=False),
    ] = "",
    options: Annotated[list[str] | None, typer.Argument(help="options of the benchmark, after --")] = None,
    lists: Annotated[bool, typer.Option("--list", help="list the benchmarks")] = False,
    against: Annotated[
        Path | None, typer.Option(help="bench.json of an earlier run of all; the status is 1 if something is slower")
    ] = None,
) -> None:
    """Measure speed and memory beside other programs, or run one benchmark."""
    if not BENCHMARKS.is_dir():
        raise ConfigError("benchmarks are not part of the package; work in a checkout of rephase")
    known = sorted(path.stem for path in BENCHMARKS.glob("*.py"))
    if lists:
        return typer.echo(_listed(known))
    if name and against:
        raise ConfigError(f"--against {against}: expected no NAME, because all benchmarks of speed are compared")
    if name and name not in known:
        raise ConfigError(f"no benchmark {name!r}; {nearest_name(name, known)}")
    words = [*(options or []), *(["--against", str(against)] if against else [])]
    file = BENCHMARKS / f"{name or SUITE}.py"
    raise typer.Exit(subprocess.run([sys.executable, str(file), *words], check=False).returncode)


def _listed(known: list[str]) -> str:
    """Return the names with the first line of each file, by kind."""
    kinds = {
        "speed, run by `rephase bench`": [SUITE, *(name for name in known if name not in (*ACCURACY, SUITE))],
        "accuracy, each run by `rephase bench NAME -- OPTIONS`": list(ACCURACY),
    }
    width = max(map(len, known))
    lines = []
    for kind, names in kinds.items():
        lines += [f"{kind}:", *(f"  {name:{width}}  {_summary(name)}" for name in names)]
    return "\n".join(lines)


def _summary(name: str) -> str:
    """Return the first line of a benchmark's description."""
    text = ast.get_docstring(ast.parse((BENCHMARKS / f"{name}.py").read_text(encoding="utf-8")))
    return (text or "").partition("\n")[0]
