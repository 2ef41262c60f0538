"""Commands on measured data: ``rephase solve | complete``."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from rephase.commands.options import CellText, Column, Device, Effort, GroupText, Measured, Seed
from rephase.errors import ConfigError
from rephase.files.writing import ResultSet, only_writer
from rephase.paths import RUNS
from rephase.processes import many_imports


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
        str,
        typer.Option(
            help="auto: learned for data that end at 1.4 to 2.1 Å, if the space group is known and no phases are, "
            "else classical; classical; learned, where a network improves and ranks classical trials; or one "
            "search alone: raar, direct_methods, charge_flipping, difference_map, hio, low_density_elimination"
        ),
    ] = "auto",
    weights: Annotated[
        str | None,
        typer.Option(
            help="network for learned and auto: shipped weights, or a file",
            show_default="the shipped weights that were trained for the resolution",
        ),
    ] = None,
    effort: Effort = 1.0,
    seed: Seed = 0,
    phases: Annotated[Path | None, typer.Option(help="known phases: MTZ with PHI (and FOM), or CIF")] = None,
    fragment: Annotated[Path | None, typer.Option(help="known part of the structure: CIF, or SHELX .res")] = None,
    model: Annotated[bool, typer.Option("--model/--no-model", help="build and refine the atoms")] = True,
    again: Annotated[bool, typer.Option("--again", help="of several files, also solve the finished ones")] = False,
    device: Device = "auto",
) -> None:
    """Solve crystal structures: from measured intensities to phases, density and a refined model."""
    with many_imports():
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
        weights=weights,
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
    with many_imports():
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
    from tqdm import tqdm

    with tqdm(unit="trial", desc="solving", disable=not is_shown, delay=1e-3) as bar:  # appears at the first trial

        def report(n_trials: int, n_agree: int, max_trials: int) -> None:
            bar.total = max_trials
            bar.set_postfix(agree=n_agree, refresh=False)
            bar.update(n_trials - bar.n)

        yield report
