"""Hints about twinning and about a Laue group that is too low."""

import numpy as np

from rephase.crystal.reflections.twinning import LTest, l_test, law_test
from rephase.refinement.twins import instructions
from rephase.solvers.hints.hint import Hint
from rephase.solvers.solution import Solution

_FEWEST = 100  # pairs
_EQUAL = 0.12  # R between intensities that are equal but for errors of measurement
_H_FRACTION = 0.08  # of the H test, below which independent intensities are found by chance
_DEFICIT = 0.5, 4.0  # of the step of <|L|> from a single crystal to a perfect twin, and in units of its uncertainty


def twinning(solution: Solution) -> Hint | None:
    """Twinning by a law of the lattice, fitted to the model or, without one, seen in the L and H tests."""
    if solution.model is not None:
        if solution.twin is None:
            return None
        law, share = solution.twin
        return _twin_hint(law, share.fraction, f"the intensities of the model fit best with it, ± {share.su:.3f}")
    data = solution.reflections
    test, tests = l_test(data), [found for law in solution.twin_laws if (found := law_test(data, law)) is not None]
    likely = [found for found in tests if found.n >= _FEWEST and found.fraction > _H_FRACTION]
    if test is None or not likely or not _is_low(test):
        return None
    found = max(likely, key=lambda one: one.fraction)
    return _twin_hint(found.law, found.fraction, _statistics(test))


def higher_symmetry(solution: Solution) -> Hint | None:
    """Intensities that are equal under a rotation that is not in the Laue group of the data."""
    data = solution.reflections
    tests = [found for law in solution.twin_laws if (found := law_test(data, law)) is not None]
    equal = [found for found in tests if found.n >= _FEWEST and found.r < _EQUAL]
    if not equal:
        return None
    found = min(equal, key=lambda one: one.r)
    return Hint(
        "higher_symmetry",
        {"r": found.r, "n_pairs": found.n},
        f"The rotation {written(found.law)} is not in the Laue group of {data.group.symbol}, but {found.n} pairs of "
        f"intensities that it relates agree with R = {found.r:.3f}.",
        "Look for a space group of the higher Laue class first; if none fits, the crystal is a twin of nearly equal "
        f"domains: refine with {' and '.join(instructions(found.law, 0.5))}.",
    )


def written(law: np.ndarray) -> str:
    """Write a law [3, 3] by rows, e.g. ``(-1 0 0 / 0 1 0 / 0 0 -1)``."""
    return "(" + " / ".join(" ".join(str(int(x)) for x in row) for row in law) + ")"


def _is_low(test: LTest) -> bool:
    """Whether <|L|> is nearer to a perfect twin; heavy atoms that dominate all intensities bring it far below."""
    part, in_su = _DEFICIT
    deficit, step = test.single.mean_l - test.mean_l, test.single.mean_l - test.twin.mean_l
    return max(part * step, in_su * test.su) < deficit < step + in_su * test.su


def _statistics(test: LTest) -> str:
    single, twin = test.single, test.twin
    return (
        f"<|L|> = {test.mean_l:.3f} where {single.mean_l:.3f} is expected without twinning and {twin.mean_l:.3f} for a "
        f"perfect twin; <L²> = {test.mean_l_squared:.3f} ({single.mean_l_squared:.3f} and {twin.mean_l_squared:.3f}); "
        f"<|E² - 1|> = {test.mean_e_squared:.3f} ({single.mean_e_squared:.3f} and {twin.mean_e_squared:.3f})"
    )


def _twin_hint(law: np.ndarray, fraction: float, evidence: str) -> Hint:
    return Hint(
        "twinning",
        {"fraction": fraction},
        f"The crystal is probably a twin by {written(law)}, with {fraction:.0%} of its volume in the smaller domain: "
        f"{evidence}.",
        f"Refine with {' and '.join(instructions(law, fraction))}, and keep them if R1 falls clearly.",
    )
