"""What ``rephase solve`` is asked for, and the answer for one file: results in a folder."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rephase.crystal.atoms import Crystal
from rephase.crystal.formulas import check_formula
from rephase.crystal.peaks import parse_formula
from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.data_sets import data_file
from rephase.crystal.reflections.files import read_reflections
from rephase.crystal.reflections.phase_lists import PhaseList, read_phases
from rephase.crystal.structures import read_crystal
from rephase.files.inputs import read_with
from rephase.files.writing import ResultSet, only_writer
from rephase.paths import weights_file
from rephase.processes import many_imports
from rephase.solvers.choice import NETWORK_SOLVERS, SHIPPED
from rephase.solvers.solution import RESULTS, Solution
from rephase.solvers.solve import solve

NO_FORMULA = "none"  # as formula: do not use the one that the files state


@dataclass(frozen=True)
class Request:
    """Options of ``rephase solve``, the same for every file; see `read_reflections` and `rephase.solve`.

    ``formula`` replaces the one that a file states; `NO_FORMULA` ignores that too. ``phases`` and ``fragment`` are
    files. With ``standard`` the answer is in the standard setting of its group; ``model`` builds and refines atoms;
    ``command`` is the command line that repeats the answer.

    Raises
    ------
    CifError
        The formula cannot be parsed.
    """

    cell: tuple[float, ...] | None = None
    space_group: str | None = None
    formula: str = ""
    column: str | None = None
    block: str | None = None
    wavelength: float | None = None
    d_min: float | None = None
    solver: str = "auto"
    weights: str | None = None
    effort: float = 1.0
    seed: int = 0
    phases: Path | None = None
    fragment: Path | None = None
    device: str = "auto"
    standard: bool = False
    model: bool = True
    command: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.formula and self.formula != NO_FORMULA:
            parse_formula(self.formula)  # a wrong formula fails before the search, not after it

    @cached_property
    def known_phases(self) -> PhaseList | None:
        """The phases of the file ``phases``."""
        return read_phases(self.phases) if self.phases else None

    @cached_property
    def known_part(self) -> Crystal | None:
        """The structure of the file ``fragment``."""
        return read_crystal(self.fragment) if self.fragment else None

    def inputs(self, file: Path) -> list[Path]:
        """List the files that may be read for a reflection file."""
        names = SHIPPED if self.weights is None else (self.weights,)
        weights = map(weights_file, names) if self.solver in NETWORK_SOLVERS else ()
        return [*read_with(file, self.phases, self.fragment), *weights]


def formula_for(data: Reflections, given: str) -> str:
    """Return the formula to use: the given one, otherwise that of the data, or "" if the given one is `NO_FORMULA`."""
    return "" if given == NO_FORMULA else given or data.formula


def solve_file(
    file: Path, out: Path, request: Request, *, report: Callable[[int, int, int], None] = lambda *_: None
) -> Solution:
    """Solve the crystal of a file, and write the results to the folder `out`, all or none.

    Parameters
    ----------
    file, out
        Reflection file, as in `read_reflections`, and the folder of the results.
    request
        Options.
    report
        As in `rephase.solve`.

    Raises
    ------
    RephaseError
        As `read_reflections`, `check_formula`, `rephase.solve` and `ResultSet`.
    """
    file = data_file(file)
    data = read_reflections(
        file,
        cell=request.cell,
        space_group=request.space_group,
        column=request.column,
        block=request.block,
        wavelength=request.wavelength,
    )
    formula = formula_for(data, request.formula)
    if formula:
        check_formula(formula, data.cell, data.group)
    phases, fragment = request.known_phases, request.known_part
    results = ResultSet(out, RESULTS, request.inputs(file))
    with only_writer(results.folder):
        solution = solve(
            data,
            d_min=request.d_min,
            solver=request.solver,
            weights=request.weights,
            effort=request.effort,
            seed=request.seed,
            phases=phases,
            fragment=fragment,
            standard=request.standard,
            model=request.model,
            formula=formula or None,
            device=request.device,
            report=report,
        )
        with many_imports():  # they take a second, so not before the first trial
            from rephase.labs.solving.pictures import write_figures
        with results.staged() as stage:
            solution.write_files(stage, formula=formula or None)
            write_figures(solution, stage, command=request.command)
    return solution
