"""The commands: ``rephase run | sweep | figures | solve | complete | weights | fetch-cod | bench``."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from rephase.errors import ConfigError, nearest_name
from rephase.files.writing import ResultSet, only_writer, writable_folder
from rephase.paths import BENCHMARKS, RUNS

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help="Recover lost phases."
)

Device = Annotated[str, typer.Option(help="auto, cpu or cuda")]
Measured = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="reflection file: COD or CIF, SHELX .hkl, .fcf, MTZ, XDS_ASCII, SCALEPACK, FullProf .int, CSV",
    ),
]
CellText = Annotated[str, typer.Option(help="unit cell a,b,c,alpha,beta,gamma (Å, degrees), if the file has none")]
GroupText = Annotated[str, typer.Option(help="space group, symbol or number, if the file has none, e.g. 'P 21/c'")]
Column = Annotated[str, typer.Option(help="label of the data column, if an MTZ or a CIF file has several")]
Effort = Annotated[float, typer.Option(help="upper limit of the search effort; 10 searches up to ten times as long")]
Seed = Annotated[int, typer.Option(help="seed of the random starts", min=0, max=2**63 - 1)]


@app.command()
def run(
    config: Annotated[str, typer.Option(help="a YAML file, or the name of one in configs/")] = "quick",
    set_: Annotated[list[str] | None, typer.Option("--set", help="path.to.key=value; may be repeated")] = None,
    out: Annotated[
        Path | None, typer.Option(help="run folder", show_default="runs/NAME-FINGERPRINT of the configuration")
    ] = None,
    only: Annotated[
        str, typer.Option(help="notebook numbers or laboratories, e.g. 01,02 or waves; or all", show_default="01-06,08")
    ] = "",
    device: Device = "auto",
    workers: Annotated[int, typer.Option(help="number of parallel workers that build data")] = 2,
) -> None:
    """Run the notebooks headless and write results, figures and a report."""
    from rephase.laboratories import load_installed
    from rephase.pipeline import run_notebooks

    load_installed()
    names = [name.strip() for name in only.split(",") if name.strip()]
    finished = run_notebooks(config, set_ or [], out=out, only=names, device=device, workers=workers)
    typer.echo(f"report: {finished.folder / 'report.html'}")


@app.command()
def sweep(
    source: Annotated[str, typer.Argument(help="a YAML file, or the name of one in configs/sweeps/")],
    engine: Annotated[str, typer.Option(help="local, dask, or the address of a Dask scheduler")] = "local",
    jobs: Annotated[int, typer.Option(help="number of simultaneous runs")] = 1,
    device: Device = "auto",
    out: Annotated[Path | None, typer.Option(help="sweep folder", show_default="runs/sweeps/NAME-FINGERPRINT")] = None,
) -> None:
    """Run a configuration for every combination of swept parameters and seeds, and collect the results in one table."""
    import pandas as pd

    from rephase.laboratories import load_installed
    from rephase.sweeps import run_sweep

    load_installed()
    folder = run_sweep(source, engine=engine, jobs=jobs, device=device, out=out)
    failed = pd.read_csv(folder / "status.csv").dropna(subset="error")
    for _, point in failed.iterrows():
        typer.echo(f"failed: {point['folder']}: {point['error']}", err=True)
    typer.echo(f"table: {folder / 'results.csv'}")
    raise typer.Exit(1 if len(failed) else 0)


@app.command()
def figures(folder: Annotated[Path, typer.Argument(help="a run folder")]) -> None:
    """Redraw every figure of a run from its saved results, as PDF and PNG."""
    from rephase.figures import draw_all
    from rephase.laboratories import load_installed
    from rephase.runs import read_run

    load_installed()
    run = read_run(folder)
    writable_folder(run.folder / "figures", name="RUN")
    for name, outcome in draw_all(run).items():
        typer.echo(f"{name}: {outcome}")


@app.command()
def solve(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="reflection file (COD or CIF, SHELX .hkl or the .ins beside it, .fcf, MTZ, XDS_ASCII, SCALEPACK, "
            "FullProf .int, CSV), or several, or a folder of them",
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="results folder", show_default="runs/solve/NAME")] = None,
    d_min: Annotated[float | None, typer.Option(help="resolution limit (Å); finer reflections are ignored")] = None,
    cell: CellText = "",
    space_group: GroupText = "",
    standard: Annotated[bool, typer.Option("--standard", help="change to the standard setting")] = False,
    formula: Annotated[
        str,
        typer.Option(
            help="formula unit, e.g. 'C20 H22 N2 O3', or none; assigns elements", show_default="that of the file"
        ),
    ] = "",
    column: Column = "",
    block: Annotated[str, typer.Option(help="data block of a CIF, if several have reflections")] = "",
    wavelength: Annotated[float | None, typer.Option(help="wavelength (Å), if the file has none")] = None,
    solver: Annotated[
        str, typer.Option(help="algorithm: raar, charge_flipping, difference_map, hio, low_density_elimination")
    ] = "raar",
    effort: Effort = 1.0,
    seed: Seed = 0,
    phases: Annotated[Path | None, typer.Option(help="known phases: MTZ with PHI (and FOM), or CIF")] = None,
    fragment: Annotated[Path | None, typer.Option(help="known part of the structure: CIF, or SHELX .res")] = None,
    model: Annotated[bool, typer.Option("--model/--no-model", help="build and refine the atoms")] = True,
    again: Annotated[bool, typer.Option("--again", help="of several files, also solve the finished ones")] = False,
    device: Device = "auto",
) -> None:
    """Solve crystal structures: from measured intensities to phases, density and a refined model."""
    from rephase.crystal.reflections.data_sets import all_data_sets
    from rephase.labs.solving.request import Request, solve_file

    request = Request(
        cell=_numbers(cell),
        space_group=space_group or None,
        formula=formula,
        column=column or None,
        block=block or None,
        wavelength=wavelength,
        d_min=d_min,
        solver=solver,
        effort=effort,
        seed=seed,
        phases=phases,
        fragment=fragment,
        device=device,
        standard=standard,
        model=model,
        command=("rephase", *sys.argv[1:]),
    )
    found = all_data_sets(files)
    if len(found) == 1:
        folder = out or RUNS / "solve" / found[0].stem
        with _trial_bar() as report:
            solution = solve_file(found[0], folder, request, report=report)
        _say(solution.summary(), folder)
        for hint in solution.hints:
            typer.echo(f"hint: {hint}")
        return typer.echo(f"page: {folder / 'solve.html'}")
    from rephase.labs.solving.many import default_folder, solve_many

    batch = solve_many(found, out or default_folder(files), request, again=again)
    for row in batch.failed:
        typer.echo(f"failed: {row.file}: {row.reason}", err=True)
    typer.echo(batch.text())
    typer.echo(f"written: {batch.page}")
    raise typer.Exit(1 if batch.failed else 0)


@app.command()
def complete(
    file: Measured,
    out: Annotated[Path | None, typer.Option(help="results folder", show_default="runs/complete/NAME")] = None,
    model: Annotated[
        str, typer.Option(help="atoms, wilson, the name of a network's shipped weights, or a weights file")
    ] = "atoms",
    d_min: Annotated[float, typer.Option(help="resolution limit (Å) of the completed data")] = 0.8,
    cell: CellText = "",
    space_group: GroupText = "",
    column: Column = "",
    effort: Effort = 1.0,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Complete a data set: predict the unmeasured amplitudes, each with its uncertainty, and compute the maps."""
    from rephase.crystal.reflections.files import read_reflections
    from rephase.files.inputs import read_with
    from rephase.labs.completion.complete import RESULTS
    from rephase.labs.completion.complete import complete as complete_crystal
    from rephase.labs.completion.pictures import write_figures
    from rephase.labs.completion.routes import check_route

    check_route(model)
    data = read_reflections(file, cell=_numbers(cell), space_group=space_group or None, column=column or None)
    results = ResultSet(out or RUNS / "complete" / file.stem, RESULTS, read_with(file, Path(model)))
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
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="run folder with trained models")],
    out: Annotated[Path | None, typer.Option(help="weights folder", show_default="runs/weights")] = None,
    suffix: Annotated[str, typer.Option(help="suffix of each model's name")] = "",
) -> None:
    """Write the best weights of a run's models, with their cards, for `complete` and the notebooks that read them."""
    from rephase.laboratories import load_installed
    from rephase.runs import read_run
    from rephase.shipping import ship_weights

    load_installed()
    run, where = read_run(folder), writable_folder(out or RUNS / "weights", name="--out")
    for path in ship_weights(run, where, suffix=suffix):
        typer.echo(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


def _say(summary: dict[str, str | float | int], folder: Path) -> None:
    """Print a summary, and the folder that holds the results."""
    for key, value in summary.items():
        typer.echo(f"{key}: {value}")
    typer.echo(f"written: {folder}")


def _numbers(text: str) -> tuple[float, ...] | None:
    """Parse numbers separated by commas; None for an empty text."""
    try:
        return tuple(float(part) for part in text.split(",")) if text else None
    except ValueError:
        raise ConfigError(f"--cell {text!r}: expected six numbers, e.g. 7.6,10.0,13.7,90,99,90") from None


@contextmanager
def _trial_bar(*, is_shown: bool = True) -> Iterator[Callable[[int, int, int], None]]:
    """Show a progress bar of trials that also counts how many agree."""
    with tqdm(unit="trial", desc="solving", disable=not is_shown, delay=1e-3) as bar:  # appears at the first trial

        def report(n_trials: int, n_agree: int, max_trials: int) -> None:
            bar.total = max_trials
            bar.set_postfix(agree=n_agree, refresh=False)
            bar.update(n_trials - bar.n)

        yield report


@app.command()
def fetch_cod(
    ids: Annotated[list[str] | None, typer.Argument(help="COD numbers, seven digits each")] = None,
    list_: Annotated[
        Path | None, typer.Option("--list", help="file of COD numbers, one per line; # starts a comment")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="CIF folder", show_default="runs/cod")] = None,
    pause: Annotated[float, typer.Option(help="pause between requests (s)")] = 1.0,
    timeout: Annotated[float, typer.Option(help="time limit of one request (s)")] = 60.0,
    url: Annotated[
        str, typer.Option(help="URL of the folder that holds NUMBER.cif", show_default="the public database")
    ] = "",
) -> None:
    """Download crystal structures from the Crystallography Open Database by number."""
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
    name: Annotated[str, typer.Argument(help="name of a file in benchmarks/; without one, all are listed")] = "",
    options: Annotated[list[str] | None, typer.Argument(help="options of the benchmark, after --")] = None,
) -> None:
    """Run a benchmark from benchmarks/."""
    if not BENCHMARKS.is_dir():
        raise ConfigError("benchmarks are not part of the package; work in a checkout of rephase")
    known = sorted(path.stem for path in BENCHMARKS.glob("*.py"))
    if not name:
        typer.echo("\n".join(known))
        return
    if name not in known:
        raise ConfigError(f"no benchmark {name!r}; {nearest_name(name, known)}")
    raise typer.Exit(
        subprocess.run([sys.executable, str(BENCHMARKS / f"{name}.py"), *(options or [])], check=False).returncode
    )
