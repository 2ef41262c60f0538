"""One line of the table of many crystals."""

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rephase.crystal.peaks import parse_formula, units_in_cell
from rephase.labs.solving.request import Request
from rephase.solvers.solution import Solution

_PAGES = "solve.html", "density.html"  # of a crystal; the first that was written is linked


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


def row_of(file: Path, out: Path, request: Request, state: str, solve_file: Callable[..., Solution]) -> Row:
    """Solve a crystal, and return its row."""
    start = time.perf_counter()
    solution = solve_file(file, out, request)
    seconds = time.perf_counter() - start
    r1, formula, z = _chemistry(solution, request)
    page = next((f"{out.name}/{name}" for name in _PAGES if (out / name).is_file()), "")
    group = solution.reflections.group.symbol
    return Row(
        out.name, solution.verdict, group, r1, z, formula, f"{seconds:.1f}", page, "", os.path.abspath(file), state
    )


def _chemistry(solution: Solution, request: Request) -> tuple[str, str, str]:
    """R1 of the model, and the formula unit and Z: of the given formula, otherwise of the model."""
    data, model = solution.reflections, getattr(solution, "model", None)
    r1 = "" if model is None else f"{model.r1:.4f}"
    formula = request.formula_for(data.formula)
    if formula:
        return r1, formula, str(units_in_cell(parse_formula(formula), data.group, data.cell))
    if model is None:
        return r1, "", ""
    counts = {element: round(n) for element, n in model.contents().items() if round(n)}
    z = math.gcd(len(data.group.triplets), *counts.values())
    return r1, " ".join(f"{element}{n // z}" for element, n in counts.items()), str(z)
