"""The evidence for a solution, as sections of its page: fit of the model, agreement of trials, quality of the data."""

from collections.abc import Iterator

import pandas as pd

from rephase.crystal.reflections.absences import absence_table
from rephase.crystal.reflections.shell_table import shell_table
from rephase.crystal.reflections.statistics import wilson
from rephase.labs.solving.drawing import draw_amplitudes, draw_r1, draw_residuals, draw_trials, draw_wilson
from rephase.labs.solving.findings import agreement_of_trials, fit_of, quality_of
from rephase.labs.solving.model_tables import amplitudes, r1_by_resolution
from rephase.pages import picture, settings, table, text
from rephase.refinement.model import Model
from rephase.solvers.lattices import merged_in_spite_of_absences
from rephase.solvers.solution import Solution

_HEADS = {
    "d_max": "d from (Å)",
    "d_min": "to (Å)",
    "n_possible": "possible",
    "n_observed": "I > 2σ",
    "i_over_sigma": "⟨I/σ⟩",
    "r_int": "R_int",
    "e2_minus_1": "⟨|E² − 1|⟩",
    "r1": "R1",
    "r1_all": "R1, all",
    "cause": "element",
    "reflections": "present only if",
    "relative": "⟨I⟩ / ⟨I⟩ of all",
    "is_required": "in the group",
}


def section(title: str, *body: str) -> str:
    """Return a part of the page under its own heading; `body` is markup."""
    return f"<section><h2>{text(title)}</h2>{''.join(body)}</section>"


def _shown(figure: str, caption: str) -> str:
    return f"<figure>{figure}<figcaption>{text(caption)}</figcaption></figure>"


def fit(model: Model | None) -> Iterator[str]:
    """Show how the model fits the intensities."""
    if model is None:
        return
    shells = r1_by_resolution(model)
    pictures = (
        _shown(picture(draw_r1(shells, model.r1), name="R1 by resolution"), "R1 by resolution."),
        _shown(
            picture(draw_amplitudes(*amplitudes(model)), name="observed and calculated |F|"),
            "Observed against calculated amplitudes.",
        ),
        _shown(
            picture(draw_residuals(model.weighted_residuals), name="normal probability plot"),
            "Weighted residuals against those of normal errors: on the line, the weights are right.",
        ),
    )
    yield section(
        "Fit",
        settings(fit_of(model)),
        f'<div class="pair">{"".join(pictures)}</div>',
        f"<details><summary>Table of the shells</summary>{_rows(shells)}</details>",
    )


def _rows(values: pd.DataFrame) -> str:
    """Render a table with headings for readers; columns without any value are left out."""
    shown = values.dropna(axis=1, how="all").replace({True: "yes", False: "no"}) if len(values) else values
    return table(shown.rename(columns=_HEADS), index=False, na_rep="–")


def trials(solution: Solution) -> Iterator[str]:
    """Show how many independent trials reached the solution."""
    values, shown = settings(agreement_of_trials(solution)), ""
    if solution.trials is not None:
        drawn = picture(draw_trials(*solution.trials), name="misfits of the trials")
        shown = _shown(drawn, "The trials that were kept. Independent starts rarely agree on a wrong map.")
    yield section("Agreement of the trials", f'<div class="pair">{values}{shown}</div>')


def measurement(solution: Solution) -> Iterator[str]:
    """Show the quality of the data: Wilson plot, resolution shells, systematic absences."""
    found = wilson(solution.reflections)
    drawn = _shown(picture(draw_wilson(pd.DataFrame(found.table), found.b_iso), name="Wilson plot"), "Wilson plot.")
    if solution.measured is None:
        yield section("Measurement", f'<div class="pair">{drawn}</div>')
        return
    merged = merged_in_spite_of_absences(solution.measured)
    values, absences = settings(quality_of(merged)), absence_table(solution.measured)
    yield section("Measurement", f'<div class="pair">{values}{drawn}</div>', _rows(shell_table(merged)))
    rows = _rows(absences) if len(absences) else "<p>The list has no reflection that a condition forbids.</p>"
    yield section("Systematic absences", rows)
