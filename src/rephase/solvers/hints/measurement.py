"""Hints about the measurement: radiation other than X-rays, an impossible wavelength, missing uncertainties."""

from rephase.solvers.hints.hint import Hint
from rephase.solvers.solution import Solution

_ROUNDING = 1e-3  # relative, of a wavelength and a cell
_OTHER_FACTORS = {
    "neutron": "scattering lengths (NEUT in SHELXL); look for H, Li, Ti and Mn, whose lengths are negative, in holes "
    "of the difference map",
    "electron": "scattering factors of electrons (SFAC with their coefficients in SHELXL)",
}


def radiation(solution: Solution) -> Hint | None:
    """Data of neutrons or electrons, which are solved and refined as if they were of X-rays."""
    stated = solution.reflections.radiation
    if not stated:
        return None
    return Hint(
        "radiation",
        {},
        f"The file states {stated} diffraction, but the structure was solved and refined with form factors of X-rays: "
        "positions may be right; elements, hydrogen atoms and R1 are not.",
        f"Name the atoms yourself, and refine with {_OTHER_FACTORS[stated]}.",
    )


def wavelength(solution: Solution) -> Hint | None:
    """A wavelength with which the finest reflections cannot be measured, since sin θ = λ / 2d would exceed 1."""
    stated, d_min = solution.reflections.wavelength, solution.reflections.d_min
    if stated is None or d_min >= stated / 2 * (1 - _ROUNDING):
        return None
    return Hint(
        "wavelength",
        {"wavelength": stated, "d_min": d_min},
        f"The wavelength of {stated:g} Å cannot be right with this cell: it reaches d = λ/2 = {stated / 2:.3f} Å, but "
        f"the list has reflections to {d_min:.3f} Å. Dispersion, absorption and angles in the files are wrong.",
        "Check the wavelength and the cell, and give the right ones (--wavelength, --cell).",
    )


def no_sigma(solution: Solution) -> Hint | None:
    """A list without uncertainties."""
    if solution.reflections.has_sigma:
        return None
    return Hint(
        "no_sigma",
        {},
        "The list has no σ: a refinement gives all reflections the same weight (unit weights), its GooF has no "
        "meaning, and the limit I > 2σ rests on estimates of about 5 % of the intensity.",
        "Give the list with the σ of the integration, e.g. HKLF 4.",
    )
