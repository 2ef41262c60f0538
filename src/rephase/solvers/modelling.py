"""The structure of a solution: built and refined, and what it says about the verdict."""

from dataclasses import replace

from numpy.linalg import LinAlgError

from rephase.errors import RephaseError
from rephase.refinement.build import build_model
from rephase.solvers.claims import judged_by_model
from rephase.solvers.solution import Solution

_COARSEST = 2.5  # Å; beyond it the peaks of a map are not atoms


def with_model(solution: Solution, *, formula: str | None, seed: int = 0) -> Solution:
    """Return the solution with its refined structure, and the verdict that this supports.

    If no structure can be built, the phases are kept, and `Solution.model_note` says why.
    """
    data = solution.reflections
    if data.d_min > _COARSEST:
        return replace(solution, model_note=f"no atoms were built: the data end at {data.d_min:.2f} Å")
    try:
        model = build_model(
            data, solution.amplitude, solution.density, formula=formula, measured=solution.measured, seed=seed
        )
    except (RephaseError, LinAlgError) as error:
        return replace(solution, model_note=f"no model: {error}; the phases are kept")
    is_open = solution.n_rivals > 0 or bool(solution.group_doubt)
    verdict = judged_by_model(solution.verdict, model, d_min=data.d_min, is_open=is_open)
    return replace(solution, model=model, verdict=verdict)
