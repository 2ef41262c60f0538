"""Hints about twinning and about a Laue group that is too low."""

import numpy as np

from rephase.crystal.reflections.twinning import LTest, l_test, law_test, twin_laws
from rephase.refinement.agreement import Share, twin_fraction
from rephase.solvers.hints.hint import Hint
from rephase.solvers.solution import Solution

_FEWEST = 100  # pairs
_FRACTION, _IN_SU = 0.04, 6.0  # smallest twin fraction that a model shows, and in units of its uncertainty
_EXPLAINED = 0.25  # R1 of a twin with its fraction: up to 0.20 in twins of 8 to 35 %, from 0.29 with wrong models
_EQUAL = 0.12  # R between intensities that are equal but for errors of measurement
_H_FRACTION = 0.08  # of the H test, below which independent intensities are found by chance
_DEFICIT = 0.5, 4.0  # of the step of <|L|> from a single crystal to a perfect twin, and in units of its uncertainty


def twinning(solution: Solution) -> Hint | None:
    """Twinning by a law of the lattice, fitted to the model or, without one, seen in the L and H tests."""
    data, model = solution.reflections, solution.model
    laws = twin_laws(data)
    if model is not None:
        shares = [(law, share) for law in laws if (share := twin_fraction(model, law)) is not None and _is_twin(share)]
        if not shares:
            return None
        law, share = max(shares, key=lambda pair: pair[1].fraction)
        return _twin_hint(law, share.fraction, f"the intensities of the model fit best with it, ± {share.su:.3f}")
    test, tests = l_test(data), [found for law in laws if (found := law_test(data, law)) is not None]
    likely = [found for found in tests if found.n >= _FEWEST and found.fraction > _H_FRACTION]
    if test is None or not likely or not _is_low(test):
        return None
    found = max(likely, key=lambda one: one.fraction)
    return _twin_hint(found.law, found.fraction, _statistics(test))


def higher_symmetry(solution: Solution) -> Hint | None:
    """Intensities that are equal under a rotation that is not in the Laue group of the data."""
    data = solution.reflections
    tests = [found for law in twin_laws(data) if (found := law_test(data, law)) is not None]
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
        f"domains: refine with {instructions(found.law, 0.5)}.",
    )


def instructions(law: np.ndarray, fraction: float) -> str:
    """Return the TWIN and BASF instructions of SHELXL for a law [3, 3]."""
    return f"TWIN {' '.join(str(int(x)) for x in law.ravel())} 2 and BASF {fraction:.2f}"


def written(law: np.ndarray) -> str:
    """Write a law [3, 3] by rows, e.g. ``(-1 0 0 / 0 1 0 / 0 0 -1)``."""
    return "(" + " / ".join(" ".join(str(int(x)) for x in row) for row in law) + ")"


def _is_twin(share: Share) -> bool:
    """Whether a fraction is significant and explains the intensities; wrong models also fit better with one."""
    return share.fraction > max(_FRACTION, _IN_SU * share.su) and share.r1 < _EXPLAINED


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
        f"Refine with {instructions(law, fraction)}, and keep them if R1 falls clearly.",
    )
