"""What a run keeps of a solution, from which its figures are drawn: map, atoms, fit, trials, data, hints."""

from dataclasses import fields

import numpy as np
import pandas as pd

from rephase.crystal.cell import Cell
from rephase.crystal.peaks import high_images
from rephase.crystal.reflections.absences import absence_table
from rephase.crystal.reflections.statistics import wilson
from rephase.crystal.symmetry import Symmetry
from rephase.labs.solving.findings import agreement_of_trials, atom_table, cell_contents
from rephase.labs.solving.model_tables import amplitudes, r1_by_resolution
from rephase.labs.solving.molecule import sites_to_draw
from rephase.refinement.model import Model
from rephase.refinement.sites import Sites
from rephase.runs import Run
from rephase.solvers.solution import Solution

MODEL_TABLES = "model_statistics", "model_atoms", "r1_by_resolution", "residuals"


def record(run: Run, solution: Solution) -> None:
    """Save a solution in a run.

    Arrays ``solution`` (density, peaks) and ``molecule``; tables ``trials``, ``agreement``, ``contents``,
    ``solution_wilson``, ``absences``, ``hints``, and those of `MODEL_TABLES`, which have no rows if there is no model.
    """
    r = solution.reflections
    run.save_arrays(
        "solution",
        density=solution.density,
        cell=np.array(r.cell.parameters),
        peaks=high_images(solution.peaks(), solution.density, r.group),
        title=np.array(f"{r.name}, {r.group.symbol}, d ≥ {r.d_min:.2f} Å: {solution.verdict}"),
    )
    _save_molecule(run, sites_to_draw(solution), r.cell, r.group)
    for name, table in model_record(solution.model).items():
        run.save_table(name, table)
    misfit, agrees = solution.trials or ((), ())
    run.save_table("trials", pd.DataFrame({"misfit": misfit, "agrees": agrees}))
    for name, values in {"contents": cell_contents(solution), "agreement": agreement_of_trials(solution)}.items():
        run.save_table(name, pd.DataFrame({"property": [*values], "value": map(str, values.values())}))
    run.save_table("solution_wilson", pd.DataFrame(wilson(r).table))
    run.save_table("absences", absence_table(r if solution.measured is None else solution.measured))
    hints = [(hint.name, hint.text, hint.remedy) for hint in solution.hints]
    run.save_table("hints", pd.DataFrame(hints, columns=["name", "text", "remedy"]))


def _save_molecule(run: Run, sites: Sites, cell: Cell, symmetry: Symmetry) -> None:
    columns = {column.name: np.array(getattr(sites, column.name)) for column in fields(sites)}
    group = {"symbol": np.array(symmetry.symbol), "triplets": np.array(symmetry.triplets)}
    run.save_arrays("molecule", **columns, cell=np.array(cell.parameters), **group)


def saved_molecule(run: Run) -> tuple[Sites, Cell, Symmetry]:
    """Read the atoms, cell and space group that `record` saved."""
    arrays = run.arrays("molecule")
    cell, symbol, triplets = (arrays.pop(name) for name in ("cell", "symbol", "triplets"))
    labels, elements = (tuple(arrays.pop(name).tolist()) for name in ("labels", "elements"))
    return Sites(labels, elements, **arrays), Cell(*cell), Symmetry(str(symbol), tuple(triplets.tolist()))


def model_record(model: Model | None) -> dict[str, pd.DataFrame]:
    """Tables of a model, see `record`; without rows if there is none."""
    if model is None:
        return {name: pd.DataFrame(columns=["r1"]) for name in MODEL_TABLES}
    figures = {**model.statistics._asdict(), "density": model.density, "n_atoms": len(model.sites)}
    observed, calculated = amplitudes(model)
    fit = {"amplitude_obs": observed, "amplitude_calc": calculated, "residual": model.weighted_residuals}
    tables = pd.DataFrame([figures]), atom_table(model), r1_by_resolution(model)
    return dict(zip(MODEL_TABLES, (*tables, pd.DataFrame(fit))))
