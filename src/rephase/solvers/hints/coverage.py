"""Hints about the extent of data: lattice, resolution limit, gaps, fall-off."""

import math

import numpy as np

from rephase.crystal.reflections.statistics import unique_hkl, wilson
from rephase.crystal.symmetry import rows_of
from rephase.solvers.hints.hint import Hint
from rephase.solvers.solution import Solution

_NOT_MEASURED = 1.5, 0.01  # mean I/σ and relative intensity of a class of reflections that the lattice forbids
_N_SHELLS = 20
_WEAK, _STRONG = 2.0, 8.0  # mean I/σ of the outermost shell
_ATOMIC = 1.1  # Å; beyond, elements and hydrogen atoms become uncertain
# Unique reflections: all trials agree on some wrong answers of random crystals of 3 to 6 atoms with 20 to 81 of them
# (`rephase bench solve -- --random 96 --n-atoms 3 6 --seed 41 --d-min 1.5`, and --solver learned --d-min 2.0)
_FEW = 100
_FEWEST_PRESENT = 0.85  # of the possible reflections
_LOW_ANGLES, _FEWEST_LOW = 50, 0.8  # reflections at the lowest angles, and how many of them should be there
_USUAL_B = -3.0, 12.0  # Å^2, for form factors of an organic composition; heavy atoms lower B


def large_cell(solution: Solution) -> Hint | None:
    """Reflections that only a larger lattice has, all of which are unobserved."""
    found = _weak_class(solution)
    if found is None or found[0] > _NOT_MEASURED[0] or found[1] > _NOT_MEASURED[1]:
        return None
    return Hint(
        "large_cell",
        {"i_over_sigma": found[0], "relative_intensity": found[1]},
        f"The cell is too large, or its centring was missed: after {solution.pseudo_translations}, with a mean I/σ of "
        f"{found[0]:.1f}.",
        "Index the frames with these translations as lattice vectors, or transform the cell, and solve again.",
    )


def pseudo_translation(solution: Solution) -> Hint | None:
    """Fractions of the cell that nearly repeat the structure."""
    found = _weak_class(solution)
    if found is None or (found[0] <= _NOT_MEASURED[0] and found[1] <= _NOT_MEASURED[1]):
        return None
    return Hint(
        "pseudo_translation",
        {"i_over_sigma": found[0], "relative_intensity": found[1]},
        f"The structure nearly repeats after {solution.pseudo_translations}; their mean I/σ is {found[0]:.1f}.",
        "Check that the weak reflections are real: if they are noise, the true cell is smaller. Otherwise compare the "
        "models of all rivals by R1 over the weak reflections, and restrain atoms that the translation relates.",
    )


def weak_limit(solution: Solution) -> Hint | None:
    """Outer shells without signal."""
    data = solution.reflections
    edges, means = _signal(solution)
    if not data.has_sigma or means[-1] >= _WEAK:
        return None
    d_min = float(edges[np.flatnonzero(means >= _WEAK)[-1]]) if (means >= _WEAK).any() else float(data.d_hkl.max())
    return Hint(
        "weak_limit",
        {"d_min": data.d_min, "d_min_supported": d_min, "i_over_sigma": float(means[-1])},
        f"The data end at {data.d_min:.2f} Å, but the mean I/σ falls below {_WEAK:g} at {d_min:.2f} Å and is "
        f"{means[-1]:.1f} in the outermost shell.",
        f"Weak reflections do no harm in refinement with proper σ; for the solution, try --d-min {d_min:.2f}.",
    )


def coarse_limit(solution: Solution) -> Hint | None:
    """Strong data that end early."""
    data, (_, means) = solution.reflections, _signal(solution)
    if not data.has_sigma or data.d_min < _ATOMIC or means[-1] < _STRONG:
        return None
    return Hint(
        "coarse_limit",
        {"d_min": data.d_min, "i_over_sigma": float(means[-1])},
        f"The data end at {data.d_min:.2f} Å although the mean I/σ there is still {means[-1]:.0f}: the crystal "
        "diffracts further than it was measured.",
        "Move the detector closer or to a higher angle, or integrate to the edge; to 0.84 Å, elements can be "
        "distinguished, and hydrogen atoms found.",
    )


def few_reflections(solution: Solution) -> Hint | None:
    """Fewer unique reflections than decide between structures."""
    n = len(solution.reflections)
    if n >= _FEW or solution.reflections.d_min < _ATOMIC:
        return None
    return Hint(
        "few_reflections",
        {"n_reflections": n},
        f"There are only {n} unique reflections: wrong structures explain so few amplitudes as well, and all trials "
        "may agree on one.",
        "Use finer reflections if there are any, and check that the distances between the atoms make sense.",
    )


def gaps(solution: Solution) -> Hint | None:
    """Missing reflections at all angles."""
    present = _presence(solution)
    share = float(present.mean())
    if share >= _FEWEST_PRESENT:
        return None
    return Hint(
        "gaps",
        {"completeness": share, "d_min": solution.reflections.d_min},
        f"{share:.0%} of the {len(present)} reflections to {solution.reflections.d_min:.2f} Å are in the list.",
        "Measure the missing orientations, or check that the data belong to the Laue class of this space group; maps "
        "of incomplete data have ripples.",
    )


def low_angles(solution: Solution) -> Hint | None:
    """Missing reflections at the lowest angles."""
    present = _presence(solution)
    n = max(1, min(_LOW_ANGLES, len(present) // 5))
    share, others = float(present[:n].mean()), float(present[n:].mean())
    if share >= _FEWEST_LOW or share >= others - 3 * math.sqrt(others * (1 - others) / n):
        return None
    return Hint(
        "low_angles",
        {"completeness": share, "completeness_of_others": others, "n_missing": float((~present[:n]).sum())},
        f"Of the {n} reflections at the lowest angles {(~present[:n]).sum()} are missing, although {others:.0%} of the "
        "others are there: strong ones may be overloaded, or behind the beam stop.",
        "Measure them with a shorter exposure; the solution and the solvent depend on them.",
    )


def falloff(solution: Solution) -> Hint | None:
    """A mean displacement that no crystal has."""
    b_iso = wilson(solution.reflections).b_iso
    if _USUAL_B[0] <= b_iso <= _USUAL_B[1]:
        return None
    return Hint(
        "falloff",
        {"b_iso": b_iso},
        f"The intensities {'rise with' if b_iso < 0 else 'fall steeply with'} the angle: the Wilson plot gives "
        f"B = {b_iso:.1f} Å².",
        "Check that the list holds intensities, not amplitudes, that it is scaled, and that the wavelength is right.",
    )


def _weak_class(solution: Solution) -> tuple[float, float] | None:
    """Mean I/σ of the reflections that pseudo-translations weaken, and their mean I relative to the others."""
    pseudo, data = solution.pseudo_translations, solution.reflections
    if pseudo is None:
        return None
    weak = pseudo.class_of(data.hkl) > 0
    return float((data.intensity / data.sigma)[weak].mean()), float(
        data.intensity[weak].mean() / data.intensity[~weak].mean()
    )


def _signal(solution: Solution) -> tuple[np.ndarray, np.ndarray]:
    """Smallest d (Å) and mean I/σ of shells with equal counts, from low to high angles."""
    data = solution.reflections
    shells = np.array_split(np.argsort(-data.d_hkl, kind="stable"), min(_N_SHELLS, len(data)))
    ratio = data.intensity / data.sigma
    return np.array([data.d_hkl[shell].min() for shell in shells]), np.array([ratio[shell].mean() for shell in shells])


def _presence(solution: Solution) -> np.ndarray:
    """Whether each possible reflection [n] is in the list, from low to high angles."""
    data = solution.reflections
    possible = unique_hkl(data.cell, data.group, data.d_min)
    return (rows_of(possible, data.hkl) >= 0)[np.argsort(-data.cell.d_spacing(possible), kind="stable")]
