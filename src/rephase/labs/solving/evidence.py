"""The evidence for a solution, as sections of its page: fit of the model, agreement of trials, quality of the data."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.absences import absence_table
from rephase.crystal.reflections.statistics import shell_table, wilson
from rephase.labs.solving.drawing import draw_amplitudes, draw_r1, draw_residuals, draw_trials, draw_wilson
from rephase.labs.solving.model_tables import r1_by_resolution, residuals
from rephase.pages import picture, settings, table, text
from rephase.refinement.model import Model
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
    s, shells = model.statistics, r1_by_resolution(model)
    values = {
        "R1 (I > 2σ), all": f"{s.r1:.4f} for {s.n_observed:,}, {s.r1_all:.4f} for {s.n_reflections:,}",
        "wR2, goodness of fit": f"{s.wr2:.4f}, {s.goof:.3f}",
        "parameters, restraints": f"{s.n_parameters}, {s.n_restraints}",
        "data per parameter": f"{s.n_reflections / max(1, s.n_parameters):.1f}",
        "highest peak, deepest hole, rms (e/Å³)": f"{s.peak:.2f}, {s.hole:.2f}, {s.rms:.2f}",
        "largest shift / uncertainty": f"{s.shift:.3f}",
        "weights": "w = 1/(σ² + ({:.4f} P)² + {:.4f} P), P = (max(Fo², 0) + 2 Fc²)/3".format(*model.weighting),
        "extinction": f"{model.extinction:.4f} ± {model.extinction_su:.4f}" if model.extinction else "not refined",
    }
    amplitudes = np.sqrt(np.maximum(model.data.intensity, 0)), np.sqrt(model.intensity_calc)
    pictures = (
        _shown(picture(draw_r1(shells, s.r1), name="R1 by resolution"), "R1 by resolution."),
        _shown(
            picture(draw_amplitudes(*(each / model.scale for each in amplitudes)), name="observed and calculated |F|"),
            "Observed against calculated amplitudes.",
        ),
        _shown(
            picture(draw_residuals(residuals(model)), name="normal probability plot"),
            "Weighted residuals against those of normal errors: on the line, the weights are right.",
        ),
    )
    yield section(
        "Fit",
        settings(values),
        f'<div class="pair">{"".join(pictures)}</div>',
        f"<details><summary>Table of the shells</summary>{_rows(shells)}</details>",
    )


def _rows(values: pd.DataFrame) -> str:
    """Render a table with headings for readers; columns without any value are left out."""
    shown = values.dropna(axis=1, how="all").replace({True: "yes", False: "no"}) if len(values) else values
    return table(shown.rename(columns=_HEADS), index=False, na_rep="–")


def trials(solution: Solution) -> Iterator[str]:
    """Show how many independent trials reached the solution."""
    values = {
        "trials": solution.n_trials,
        "of the best, same solution": solution.n_agree,
        "misfit R of the map": f"{solution.r_factor:.4f}",
        "misfit of the best other map": solution.summary()["rival_r_factor"],
        "mean figure of merit": f"{solution.fom.mean():.3f}",
        "rivals that fit equally well": solution.n_rivals,
    }
    shown = ""
    if solution.trials is not None:
        drawn = picture(draw_trials(*solution.trials), name="misfits of the trials")
        shown = _shown(drawn, "The trials that were kept. Independent starts rarely agree on a wrong map.")
    yield section("Agreement of the trials", f'<div class="pair">{settings(values)}{shown}</div>')


def measurement(merged: Reflections, data: Reflections | None) -> Iterator[str]:
    """Show the quality of the data: Wilson plot, resolution shells, systematic absences."""
    found = wilson(merged)
    drawn = _shown(picture(draw_wilson(found.table, found.b_iso), name="Wilson plot"), "Wilson plot.")
    if data is None:
        yield section("Measurement", f'<div class="pair">{drawn}</div>')
        return
    before = data.cut(merged.d_min)
    whole = before.merge()
    values = {
        "resolution limit (Å)": f"{merged.d_min:.3f}",
        "measured, unique": f"{whole.n_measured:,}, {len(merged):,}",
        "redundancy": f"{whole.redundancy:.1f}",
        "R_int": "nothing was measured twice" if np.isnan(whole.r_int) else f"{whole.r_int:.4f}",
        "mean I/σ": f"{(merged.intensity / merged.sigma).mean():.1f}",
    }
    shells, absences = shell_table(whole), absence_table(before)
    rows = _rows(absences) if len(absences) else "<p>The list has no reflection that a condition forbids.</p>"
    yield section("Measurement", f'<div class="pair">{settings(values)}{drawn}</div>', _rows(shells))
    yield section("Systematic absences", rows)
