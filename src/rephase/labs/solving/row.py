"""One line of the table of many crystals."""

import os
from dataclasses import dataclass
from pathlib import Path

from rephase.crystal.peaks import parse_formula, units_in_cell
from rephase.labs.solving.request import formula_for
from rephase.solvers.solution import Solution


@dataclass(frozen=True)
class Row:
    """What the table says of one crystal, as text; "" where nothing is known.

    ``page`` is the path of its page from the folder of the table, ``reason`` the error of a crystal that failed, and
    ``state`` the fingerprint of the inputs, options and code that solved it.
    """

    name: str
    verdict: str
    space_group: str = ""
    r1: str = ""
    z: str = ""
    formula: str = ""
    seconds: str = ""
    page: str = ""
    reason: str = ""
    file: str = ""
    state: str = ""


def row_of(solution: Solution, file: Path, out: Path, *, formula: str, seconds: float, state: str) -> Row:
    """Return the row of a solved crystal; `formula` is the one that was given, see `formula_for`."""
    r1, formula, z = _chemistry(solution, formula_for(solution.reflections, formula))
    return Row(
        name=out.name,
        verdict=solution.verdict,
        space_group=solution.reflections.group.symbol,
        r1=r1,
        z=z,
        formula=formula,
        seconds=f"{seconds:.1f}",
        page=f"{out.name}/solve.html" if (out / "solve.html").is_file() else "",
        file=os.path.abspath(file),
        state=state,
    )


def _chemistry(solution: Solution, formula: str) -> tuple[str, str, str]:
    """R1, formula unit and Z: of the model, otherwise of a known formula."""
    data, model = solution.reflections, solution.model
    if model is not None:
        return f"{model.r1:.4f}", model.formula, str(model.n_units)
    return "", formula, str(units_in_cell(parse_formula(formula), data.group, data.cell)) if formula else ""
