"""The commands: ``rephase run | sweep | figures | solve | complete | weights | fetch-cod | bench``."""

import glob
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from rephase.errors import ConfigError, nearest_name
from rephase.files.writing import ResultSet, only_writer, writable_folder
from rephase.paths import BENCHMARKS, NEEDED, RUNS, WEIGHTS

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help="Recover lost phases."
)

Device = Annotated[str, typer.Option(help="auto, cpu or cuda")]
Measured = Annotated[Path, typer.Argument(metavar="FILE", help="reflections: COD or CIF, SHELX .hkl, .fcf, MTZ")]
CellText = Annotated[str, typer.Option(help="cell a,b,c,alpha,beta,gamma (Å, degrees), where the file has none")]
GroupText = Annotated[str, typer.Option(help="space group, symbol or number, where the file has none, e.g. 'P 21/c'")]
Column = Annotated[str, typer.Option(help="label of the column of data, where an MTZ or a CIF has several")]
Effort = Annotated[
    float, typer.Option(help="most time to spend, in units of about a minute; 10 tries ten times as long")
]
Seed = Annotated[int, typer.Option(help="seed of the random starts", min=0, max=2**63 - 1)]


@app.command()
def run(
    config: Annotated[str, typer.Option(help="a YAML file, or the name of one in configs/")] = "quick",
    set_: Annotated[list[str] | None, typer.Option("--set", help="path.to.key=value; may be repeated")] = None,
    out: Annotated[
        Path | None, typer.Option(help="run folder", show_default="one of the configuration's own in runs/")
    ] = None,
    only: Annotated[str, typer.Option(help="numbers of notebooks, e.g. 01,02, or all", show_default="01-06,08")] = "",
    device: Device = "auto",
    workers: Annotated[int, typer.Option(help="parallel workers that build data")] = 2,
) -> None:
    """Run the notebooks headless and write results, figures and a report."""
    from rephase.pipeline import run_notebooks

    numbers = [number for number in only.split(",") if number]
    finished = run_notebooks(config, set_ or [], out=out, only=numbers, device=device, workers=workers)
    typer.echo(f"report: {finished.folder / 'report.html'}")


@app.command()
def sweep(
    source: Annotated[str, typer.Argument(help="a YAML file, or the name of one in configs/sweeps/")],
    engine: Annotated[str, typer.Option(help="local, dask, or the address of a Dask scheduler")] = "local",
    jobs: Annotated[int, typer.Option(help="runs at the same time")] = 1,
    device: Device = "auto",
    out: Annotated[Path | None, typer.Option(help="folder of the sweep")] = None,
) -> None:
    """Run a configuration over lists and grids of parameters and seeds, into one table."""
    import pandas as pd

    from rephase.sweeps import run_sweep

    folder = run_sweep(source, engine=engine, jobs=jobs, device=device, out=out)
    failed = pd.read_csv(folder / "status.csv").dropna(subset="error")
    for _, point in failed.iterrows():
        typer.echo(f"failed: {point['folder']}: {point['error']}", err=True)
    typer.echo(f"table: {folder / 'results.csv'}")
    raise typer.Exit(1 if len(failed) else 0)


@app.command()
def figures(folder: Annotated[Path, typer.Argument(help="a run folder")]) -> None:
    """Draw every figure of a run again from its saved results, as PDF and PNG."""
    from rephase.figures import draw_all
    from rephase.runs import read_run

    run = read_run(folder)
    writable_folder(run.folder / "figures", name="RUN")
    for name, outcome in draw_all(run).items():
        typer.echo(f"{name}: {outcome}")


@app.command()
def solve(
    file: Measured,
    out: Annotated[Path | None, typer.Option(help="folder of the results", show_default="runs/solve/NAME")] = None,
    d_min: Annotated[float | None, typer.Option(help="resolution limit (Å); finer reflections are ignored")] = None,
    cell: CellText = "",
    space_group: GroupText = "",
    formula: Annotated[
        str, typer.Option(help="formula unit, e.g. 'C20 H22 N2 O3', which assigns elements to peaks")
    ] = "",
    column: Column = "",
    wavelength: Annotated[
        float | None, typer.Option(help="wavelength (Å) for solution.res, where the file has none")
    ] = None,
    solver: Annotated[
        str, typer.Option(help="iteration: raar, charge_flipping, difference_map, hio, low_density_elimination")
    ] = "raar",
    effort: Effort = 1.0,
    seed: Seed = 0,
    phases: Annotated[Path | None, typer.Option(help="known phases: MTZ with PHI (FOM), or CIF")] = None,
    fragment: Annotated[Path | None, typer.Option(help="a part of the structure: CIF, or SHELX .res")] = None,
    device: Device = "auto",
) -> None:
    """Solve a crystal: phases, density and peaks from measured intensities."""
    from rephase.crystal.peaks import parse_formula
    from rephase.crystal.reflections.files import read_reflections
    from rephase.crystal.reflections.phase_lists import read_phases
    from rephase.crystal.structures import read_crystal
    from rephase.labs.solving.pictures import write_figures
    from rephase.solvers.solution import RESULTS
    from rephase.solvers.solve import solve as solve_crystal

    if formula:
        parse_formula(formula)  # before the work, not after it
    data = read_reflections(
        file, cell=_numbers(cell), space_group=space_group or None, column=column or None, wavelength=wavelength
    )
    known = read_phases(phases) if phases else None
    model = read_crystal(fragment) if fragment else None
    results = ResultSet(out or RUNS / "solve" / file.stem, RESULTS, _read_with(file, phases, fragment))
    with only_writer(results.folder):
        with _trial_bar() as report:
            solution = solve_crystal(
                data, d_min=d_min, solver=solver, effort=effort, seed=seed, phases=known, fragment=model,
                device=device, report=report,
            )  # fmt: skip
        with results.staged() as stage:
            solution.write_files(stage, formula=formula or None)
            write_figures(solution, stage)
    _say(solution.summary(), results.folder)


@app.command()
def complete(
    file: Measured,
    out: Annotated[Path | None, typer.Option(help="folder of the results", show_default="runs/complete/NAME")] = None,
    model: Annotated[
        str, typer.Option(help="atoms, wilson, the name of shipped weights of a network, or a file of weights")
    ] = "atoms",
    d_min: Annotated[float, typer.Option(help="resolution limit (Å) of the completed data")] = 0.8,
    cell: CellText = "",
    space_group: GroupText = "",
    column: Column = "",
    effort: Effort = 1.0,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Complete a data set: amplitudes that were not measured, each with its uncertainty, and maps."""
    from rephase.crystal.reflections.files import read_reflections
    from rephase.labs.completion.complete import RESULTS
    from rephase.labs.completion.complete import complete as complete_crystal
    from rephase.labs.completion.pictures import write_figures
    from rephase.labs.completion.routes import check_route

    check_route(model)
    data = read_reflections(file, cell=_numbers(cell), space_group=space_group or None, column=column or None)
    results = ResultSet(out or RUNS / "complete" / file.stem, RESULTS, _read_with(file, Path(model)))
    with only_writer(results.folder):
        with _trial_bar(is_shown=model == "atoms") as report:
            completion = complete_crystal(
                data, model=model, d_min=d_min, effort=effort, seed=seed, device=device, report=report
            )
        with results.staged() as stage:
            completion.write_files(stage)
            write_figures(completion, stage)
    _say(completion.summary(), results.folder)


@app.command()
def weights(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="a run folder with trained models")],
    out: Annotated[Path | None, typer.Option(help="folder of the weights", show_default="data/weights")] = None,
    suffix: Annotated[str, typer.Option(help="text that is added to the name of each model")] = "",
) -> None:
    """Write the best weights of a run's models, with cards: for `complete` and notebooks 24, 31, 33 and 34."""
    from rephase.runs import read_run
    from rephase.shipping import ship_weights

    run, where = read_run(folder), writable_folder(out or WEIGHTS, name="--out")
    for path in ship_weights(run, where, suffix=suffix):
        typer.echo(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


def _say(summary: dict[str, str | float | int], folder: Path) -> None:
    """Print a summary, and where everything is."""
    for key, value in summary.items():
        typer.echo(f"{key}: {value}")
    typer.echo(f"written: {folder}")


def _read_with(*files: Path | None) -> list[Path]:
    """Files that a command reads, and those beside them that start with the same word: readers look into some."""
    given = [file for file in files if file is not None]
    beside = [file.parent.glob(f"{glob.escape(file.name.split('.')[0])}.*") for file in given]
    return [*given, *chain.from_iterable(beside)]


def _numbers(text: str) -> tuple[float, ...] | None:
    """Numbers separated by commas; None for nothing."""
    try:
        return tuple(float(part) for part in text.split(",")) if text else None
    except ValueError:
        raise ConfigError(f"--cell {text!r}: expected six numbers, e.g. 7.6,10.0,13.7,90,99,90") from None


@contextmanager
def _trial_bar(*, is_shown: bool = True) -> Iterator[Callable[[int, int, int], None]]:
    """A progress bar of trials that also shows how many agree."""
    with tqdm(unit="trial", desc="solving", disable=not is_shown, delay=1e-3) as bar:  # from the first trial on

        def report(n_trials: int, n_agree: int, max_trials: int) -> None:
            bar.total = max_trials
            bar.set_postfix(agree=n_agree, refresh=False)
            bar.update(n_trials - bar.n)

        yield report


@app.command()
def fetch_cod(
    ids: Annotated[list[str] | None, typer.Argument(help="COD numbers, seven digits each")] = None,
    list_: Annotated[Path | None, typer.Option("--list", help="a file of numbers, one a line, # comments")] = None,
    out: Annotated[Path | None, typer.Option(help="folder of the CIFs; runs/cod if none is given")] = None,
    pause: Annotated[float, typer.Option(help="seconds between requests")] = 1.0,
    timeout: Annotated[float, typer.Option(help="seconds that one request may take")] = 60.0,
    url: Annotated[str, typer.Option(help="folder of NUMBER.cif; the public database if none is given")] = "",
) -> None:
    """Download crystals of the Crystallography Open Database by number."""
    from rephase.formats import cod

    numbers = [*(ids or []), *(cod.read_numbers(list_) if list_ else [])]
    folder = writable_folder(out or RUNS / "cod", name="--out")
    report = cod.fetch_cod(
        numbers, folder, base_url=url or cod.COD, pause=pause, timeout=timeout, progress=partial(tqdm, unit="file")
    )
    for number, reason in report.failed.items():
        typer.echo(f"failed: {number}: {reason}", err=True)
    typer.echo(f"fetched: {len(report.fetched)}")
    typer.echo(f"already there: {len(report.already_there)}")
    typer.echo(f"failed: {len(report.failed)}")
    typer.echo(f"written: {folder}")
    raise typer.Exit(1 if report.failed else 0)


@app.command()
def bench(
    name: Annotated[str, typer.Argument(help="a file of benchmarks/; none lists them")] = "",
    options: Annotated[list[str] | None, typer.Argument(help="options of the benchmark, after --")] = None,
) -> None:
    """Run a benchmark against its peers."""
    known = sorted(path.stem for path in BENCHMARKS.glob("*.py"))
    if not known:
        raise ConfigError(f"no benchmarks in {BENCHMARKS}{NEEDED}")
    if not name:
        typer.echo("\n".join(known))
        return
    if name not in known:
        raise ConfigError(f"no benchmark {name!r}; {nearest_name(name, known)}")
    raise typer.Exit(
        subprocess.run([sys.executable, str(BENCHMARKS / f"{name}.py"), *(options or [])], check=False).returncode
    )
