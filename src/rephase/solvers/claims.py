"""The verdict on a solution, and the limits on what it claims."""

import math
from typing import NamedTuple

import numpy as np

from rephase.refinement.chemistry import Chemistry
from rephase.refinement.model import Model
from rephase.solvers.trials import N_KEPT, Outcome

# Limits for "solved", chosen on 74 real crystals: misfit if some of the best trials agree, if all of them do; d_min, Å
_LARGEST_MISFIT, _LARGEST_MISFIT_OF_ALL, COARSEST_CLAIM = 0.24, 0.265, 1.75
_STANDS_OUT = 0.8  # largest ratio of the misfit to that of the best trial that disagrees
# Measured with `rephase bench solve -- --folder CIFS --every 2 --d-min 0.8 1.0 1.2 1.5 --effort 0.3`, columns mean_fom
# and r_factor: correct solutions with the verdict "solved" have a mean figure of merit of at least 0.75 (at least 0.97
# at atomic resolution), those with a weak class of wrong signs 0.37-0.71; correct solutions have R of at most 0.36.
# R1 of a model that is right, over (1 - p / n)^½ for p parameters and n reflections; d_min in Å. By
# `rephase bench models` (--folder CIFS, noise and gaps, with and without --formula; --measured; --random 250 --seed 2)
# it is at most 0.13 in correct claims, and 0.19 in the only false one; wrong models of real crystals, 0.27 or more.
_LARGEST_R1 = [1.2, 1.5], [0.17, 0.16]
_HOPELESS_R1 = 0.40  # of a model of atomic data that is not even possible
_LEAST_SENSIBLE = 0.9  # share of atoms without a chemical fault in a model that raises a verdict
# To 1.5 Å, without a formula, the share is at least 0.87 in 50 of 52 correct claims, the two others are crystals whose
# CIFs are faulty; in false ones, of a measured crystal in a wrong group, it is at most 0.76 in spite of R1 = 0.10.
_LEAST_POSSIBLE, _ATOMIC = 0.8, 1.3  # share below which data coarser than 1.3 Å do not support a claim
_FEWEST = 2.0  # reflections above 2 σ for each parameter of a model that is evidence
_SMALLEST_FOM, _LARGEST_MISFIT_OF_POSSIBLE = 0.72, 0.42

_SURE, _LIKELY = 0.95, 0.5  # probabilities of a solution of a network for "solved" and "possible"
LARGEST_UNLEARNED = 0.85  # stated of what is not like the training: of 16 answers at 2 Å with more, 14 were right
SMALLEST_LEAD, LARGEST_LEAD = 0.003, 0.15  # leads outside count as these; a lead is infinite if no trial disagrees


class Calibration(NamedTuple):
    """How often the solutions of a network are right.

    p = 1 / (1 + exp(-``constant`` - ``of_lead`` ln lead - ``of_agreement`` ln n_agree - ``of_misfit`` R)), at most
    ``largest``. It holds from ``n_trials`` trials on; fewer often agree on a wrong solution before the right one is
    found, and until then agreement decides, as of classical trials. It holds from ``n_reflections`` on, the fewest of
    a crystal of the fit: many structures explain few amplitudes, and all trials may agree on a wrong one. And it holds
    up to a share ``missing`` of missing reflections: the crystals of the fit lacked none.
    """

    constant: float
    of_lead: float
    of_agreement: float
    of_misfit: float
    n_trials: int = 0
    n_reflections: int = 0
    missing: float = 1.0
    largest: float = 1.0

    def probability(self, lead: float, n_agree: int, misfit: float) -> float:
        """Return the probability that a solution is right; NaN if a figure is.

        Parameters
        ----------
        lead
            By how much the network is more confident of it than of any other.
        n_agree
            Number of the best trials that reached it.
        misfit
            R of its density.
        """
        if math.isnan(lead) or math.isnan(misfit):
            return math.nan
        of_lead = self.of_lead * math.log(min(max(lead, SMALLEST_LEAD), LARGEST_LEAD))
        figures = of_lead + self.of_agreement * math.log(n_agree) + self.of_misfit * misfit
        return min(self.largest, 1 / (1 + math.exp(-self.constant - figures)))


# Of the weights with these SHA-256; the confidence of others claims nothing. Fitted to random crystals, the first at 2,
# the second at 1.5 and 1.75 Å, and judged on real ones: `rephase bench solve -- --solver learned --reliability
# --uncalibrated` (docs/results.md).
CALIBRATIONS = {
    "9fc15057729f5d09bd916a984062adce4c0676a4d9205066e6d58b71e8195389": Calibration(
        15.221, 1.812, 0.4675, -21.183, n_trials=96, n_reflections=44, missing=0.03
    ),
    "81a8e38607b25e2929662a03ea42e0945b6089b8beab8bdc6517c92cb49ed371": Calibration(
        15.221, 0.908, 0.8731, -39.508, n_trials=48
    ),
}


def agreement_needed(d_min: float) -> int:
    """Return how many of the best trials must agree: more at low resolution, where wrong solutions also agree."""
    return int(np.interp(d_min, [1.0, 1.2, 1.5, 1.8, 2.0], [2, 3, 8, 12, 21]))


def verdict(d_min: float, outcome: Outcome, *, is_free: bool = True) -> str:
    """Judge a solution; `is_free` means that no phases were given, so that the agreement of trials is evidence.

    ``solved``: the misfit is small, and enough trials agree at this resolution, or two agree and every other is far
    worse. ``possible``: enough trials agree, or one is far better than every other, and the density explains most of
    the amplitudes. ``unsure`` otherwise, and always for a single trial. If trials started from known phases, the misfit
    alone decides. If a calibrated network ranked enough trials to state a probability, that decides.
    """
    if outcome.probability is not None:
        return "solved" if outcome.probability >= _SURE else "possible" if outcome.probability >= _LIKELY else "unsure"
    if not is_free:
        small = outcome.misfit <= _LARGEST_MISFIT and d_min <= COARSEST_CLAIM
        return "solved" if small else "possible" if outcome.misfit <= _LARGEST_MISFIT_OF_ALL else "unsure"
    agree = outcome.n_agree >= agreement_needed(d_min)
    is_compared = outcome.n_agree > 1 or outcome.rival < np.inf
    stands_out = is_compared and outcome.misfit <= _STANDS_OUT * outcome.rival
    limit = _LARGEST_MISFIT if outcome.n_agree < N_KEPT else _LARGEST_MISFIT_OF_ALL
    if (agree or (stands_out and outcome.n_agree > 1)) and outcome.misfit <= limit and d_min <= COARSEST_CLAIM:
        return "solved"
    return "possible" if (agree or stands_out) and outcome.misfit <= _LARGEST_MISFIT_OF_POSSIBLE else "unsure"


def capped(answer: str, *, fom: np.ndarray | None, is_open: bool) -> str:
    """Reduce ``solved`` to ``possible`` if trials agree on too few phases, or other solutions may fit equally well.

    Parameters
    ----------
    answer
        Verdict from `verdict`.
    fom
        [n_refl], figure of merit, 0-1; None if the trials were not independent.
    is_open
        Whether a structure with pseudo-translations has rivals that fit equally well, or was not searched for any, or
        the space group or the form factors (those of X-rays) are in doubt.
    """
    disagree = fom is not None and fom.mean() < _SMALLEST_FOM
    return "possible" if answer == "solved" and (disagree or is_open) else answer


def judged_by_model(answer: str, model: Model, chemistry: Chemistry, *, d_min: float, is_open: bool) -> str:
    """Raise or lower a verdict by the R1 of the refined model, and raise it only if the chemistry is sensible.

    Beyond atomic resolution, where wrong atoms also reach a small R1, chemistry that makes no sense lowers a verdict.
    The distances in crystals without carbon are too diverse to be judged.

    Parameters
    ----------
    answer
        Verdict on the phases.
    chemistry
        Check of the model.
    d_min
        Resolution limit of the data, Å.
    is_open
        Whether rivals fit as well, or the form factors are in doubt: no model raises such a verdict.
    """
    n_observed, n_parameters = model.statistics.n_observed, model.statistics.n_parameters
    is_determined = n_observed >= _FEWEST * n_parameters and d_min <= COARSEST_CLAIM
    sensible = chemistry.sensible if "C" in model.sites.elements else 1.0
    is_sensible = sensible >= _LEAST_SENSIBLE
    freedom = max(0.0, 1 - n_parameters / max(n_observed, 1))  # parameters lower the R1 of any model
    limit = float(np.interp(d_min, *_LARGEST_R1)) * freedom**0.5
    is_wrong = not model.r1 <= limit or (d_min > _ATOMIC and sensible < _LEAST_POSSIBLE)
    if is_determined and is_sensible and not is_open and not is_wrong:
        return "solved"
    if d_min <= _ATOMIC and not model.r1 <= _HOPELESS_R1:
        return "unsure"
    counts = d_min <= COARSEST_CLAIM  # beyond, the R1 of right models was not measured
    return "possible" if answer == "solved" and is_wrong and counts else answer
