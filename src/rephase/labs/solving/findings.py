"""What a solution says, in words and values for its page and its notebook: verdict, contents, fit, trials, data."""

import numpy as np
import pandas as pd

from rephase.crystal.cif_head import bracketed
from rephase.crystal.formulas import n_heavy, written
from rephase.crystal.reflections import Merged
from rephase.refinement.model import Model
from rephase.refinement.moieties import moiety_text
from rephase.solvers.solution import Solution

_MEANING = {
    "solved": "Solved",
    "possible": "Possibly solved",
    "unsure": "Not solved with certainty",
}


def verdict_and_why(solution: Solution) -> tuple[str, str, str]:
    """Say in one line whether the crystal is solved, then why, and what to do next."""
    model, reasons = solution.model, []
    if solution.n_agree > 1:
        reasons.append(f"{solution.n_agree} of {solution.n_trials} independent trials reached this map")
    reasons.append(f"misfit of the map R = {solution.r_factor:.3f}")
    if np.isfinite(solution.rival_r_factor):
        reasons.append(f"the best other map has R = {solution.rival_r_factor:.3f}")
    if solution.lead is not None and solution.probability is not None:
        margin = f" by {solution.lead:.3f}" if np.isfinite(solution.lead) else ""
        reasons.append(f"the network is more confident of it than of any other map{margin}")
        how_often = f"the probability that it is right is {solution.probability:.2f}"
        reasons.append(f"by this lead, the agreement and the misfit, {how_often}")
    head = _MEANING[solution.verdict]
    if model is not None:
        s = model.statistics
        head += f": R1 = {100 * s.r1:.2f} % for {s.n_observed:,} reflections with I > 2σ"
        reasons.append(f"{len(model.sites)} atoms with {s.n_parameters} parameters describe {s.n_reflections:,} data")
    return head, f"{'; '.join(reasons)}.", f"Next: {solution.summary()['next_step']}."


def cell_contents(solution: Solution) -> dict[str, object]:
    """Crystal data, and the atoms in the cell."""
    r, model = solution.reflections, solution.model
    lengths = [bracketed(*pair) for pair in zip(r.cell.parameters[:3], r.cell.su or (0.0,) * 6)]
    angles = [bracketed(*pair, 3) for pair in zip(r.cell.parameters[3:], (r.cell.su or (0.0,) * 6)[3:])]
    values: dict[str, object] = {
        "space group": r.group.symbol,
        "a, b, c (Å)": ", ".join(lengths),
        "α, β, γ (°)": ", ".join(angles),
        "volume (Å³)": bracketed(r.cell.volume, r.cell.volume_su, 2),
        "wavelength (Å)": "unknown" if r.wavelength is None else f"{r.wavelength:.5f}",
    }
    if model is not None:
        contents = model.contents()
        values |= {
            "formula, Z": f"{model.formula}, {model.n_units}",
            "moieties": moiety_text(model.moieties, model.n_units),
            "atoms in the cell": written(contents),
            "volume per non-hydrogen atom (Å³)": f"{r.cell.volume / n_heavy(contents):.1f}",
            "density (g/cm³)": f"{model.density:.3f}",
            **({"absolute structure, Flack x": bracketed(flack.x, flack.su)} if (flack := model.flack) else {}),
        }
    if solution.space_groups:
        values["space groups that fit"] = solution.summary()["space_groups_that_fit"]
    return values


def fit_of(model: Model) -> dict[str, object]:
    """How the model fits the intensities, by the figures that a refinement reports."""
    s = model.statistics
    return {
        "R1 (I > 2σ), all": f"{s.r1:.4f} for {s.n_observed:,}, {s.r1_all:.4f} for {s.n_reflections:,}",
        "wR2, goodness of fit": f"{s.wr2:.4f}, {s.goof:.3f}",
        "parameters, restraints": f"{s.n_parameters}, {s.n_restraints}",
        "data per parameter": f"{s.n_reflections / max(1, s.n_parameters):.1f}",
        "highest peak, deepest hole, rms (e/Å³)": f"{s.peak:.2f}, {s.hole:.2f}, {s.rms:.2f}",
        "largest shift / uncertainty": f"{s.shift:.3f}",
        "weights": "w = 1/(σ² + ({:.4f} P)² + {:.4f} P), P = (max(Fo², 0) + 2 Fc²)/3".format(*model.weighting),
        "extinction": f"{model.extinction:.4f} ± {model.extinction_su:.4f}" if model.extinction else "not refined",
    }


def agreement_of_trials(solution: Solution) -> dict[str, object]:
    """How many independent trials reached the solution."""
    return {
        "trials": solution.n_trials,
        "of the best, same solution": solution.n_agree,
        "misfit R of the map": f"{solution.r_factor:.4f}",
        "misfit of the best other map": solution.summary()["rival_r_factor"],
        "mean figure of merit": f"{solution.fom.mean():.3f}",
        "rivals that fit equally well": solution.n_rivals,
    }


def quality_of(merged: Merged) -> dict[str, object]:
    """How much was measured, and how well."""
    data = merged.reflections
    return {
        "resolution limit (Å)": f"{data.d_min:.3f}",
        "measured, unique": f"{merged.n_measured:,}, {len(data):,}",
        "redundancy": f"{merged.redundancy:.1f}",
        "R_int": "nothing was measured twice" if np.isnan(merged.r_int) else f"{merged.r_int:.4f}",
        "mean I/σ": f"{(data.intensity / data.sigma).mean():.1f}",
    }


def atom_table(model: Model) -> pd.DataFrame:
    """List the atoms of the asymmetric unit: label, element, fractional coordinates, U_eq (Å²), occupancy."""
    sites = model.sites
    return pd.DataFrame(
        {
            "atom": sites.labels,
            "element": sites.elements,
            **{axis: values.round(5) for axis, values in zip("xyz", sites.xyz_frac.T)},
            "U_eq (Å²)": sites.u_equivalent(model.cell),
            "occupancy": sites.occupancy,
        }
    )
