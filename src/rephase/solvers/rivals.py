"""Rivals of a solution with pseudo-translations: other signs of whole weak classes, other origins of the parent.

The strong reflections depend on neither, so a rival explains them equally well. Only the weak reflections, and the
requirement that the density consists of atoms, distinguish it from the true structure.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np
import torch

from rephase.crystal.reflections.pseudo_translations import PseudoTranslations
from rephase.solvers.problem import PhaseProblem
from rephase.solvers.projections import above
from rephase.solvers.strategy import Recipe, polish
from rephase.solvers.trials import Outcome, Trials, aligned_phasors, figure_of_merit, joined

_MOST_STARTS, _MOST_RIVALS = 64, 8  # origins times sign patterns; distinct rivals
_DISTINCT = 0.8  # ratio of the weak-class misfits of solution and rival; for real crystals it is at most 0.71
_SAME_CLASS = 0.75  # smallest correlation of each class in two solutions that count as the same


class Settled(NamedTuple):
    """``outcome`` after comparison with the rivals; ``rivals``, F [n, n_refl] of the indistinguishable ones."""

    outcome: Outcome
    rivals: torch.Tensor


class _Classes(NamedTuple):
    """Class [n_refl] of each reflection of a problem, and the numbers of the weak classes."""

    of: torch.Tensor
    weak: list[int]


def settle_rivals(problem: PhaseProblem, outcome: Outcome, pseudo: PseudoTranslations, recipe: Recipe) -> Settled:
    """Look for rivals of the best trial and choose the likeliest solution among all of them.

    Trials agree only if every class of reflections agrees; trials that disagree are rivals as well.
    """
    hkl = problem.reduced.hkl_back(problem.hkl_numpy)
    of = torch.as_tensor(pseudo.class_of(hkl), device=problem.device)
    classes = _Classes(of, pseudo.weak_classes.tolist())
    starts = _starts(problem, outcome.F, classes, hkl, pseudo.origins)
    finished = [polish(problem, start, recipe) for start in starts.split(1)]
    kept = outcome.kept or Trials(outcome.F[None], outcome.F.new_tensor([outcome.misfit]).real)
    everything = joined([kept._replace(confidence=None), *finished])  # no network has judged the rivals
    weak_misfit, score = _scores(problem, everything.F, classes)
    best = int(score.argmin())
    phasors = aligned_phasors(problem, everything.F, best)
    same = _is_same(problem, phasors, phasors[best], classes)
    likely = ~same & ~_is_distinguished(weak_misfit, score, best)
    independent = same[: len(kept.F)]
    disagreeing = everything.misfit[~same]
    settled = outcome._replace(
        F=everything.F[best],
        fom=figure_of_merit(phasors[: len(kept.F)][independent]),
        misfit=float(everything.misfit[best]),
        rival=float(disagreeing.min()) if len(disagreeing) else math.inf,
        n_agree=int(independent.sum()),
        lead=None,
        probability=None,  # strong reflections decide a confidence, weak ones which rival is right
    )
    return Settled(settled, _distinct(problem, everything.F, likely, score, classes))


def _starts(
    problem: PhaseProblem, F: torch.Tensor, classes: _Classes, hkl: np.ndarray, origins: np.ndarray
) -> torch.Tensor:
    """Place F [n_refl] at every origin of the parent, with every sign pattern of the most populated weak classes."""
    n_flipped = max(1, min(len(classes.weak), int(math.log2(max(2, _MOST_STARTS // len(origins))))))
    starts = []
    for shift in origins[:_MOST_STARTS]:
        angle = torch.as_tensor(2 * np.pi * (hkl @ shift), dtype=torch.float32, device=problem.device)
        moved = problem.group.average((F * torch.polar(torch.ones_like(angle), angle))[None])
        for signs in itertools.product((1.0, -1.0), repeat=n_flipped):
            sign = torch.ones_like(angle)
            for number, chosen in zip(classes.weak, signs):
                sign[classes.of == number] = chosen
            starts.append(moved * sign)
    return torch.cat(starts)


def _scores(problem: PhaseProblem, F: torch.Tensor, classes: _Classes) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weak-class misfit of lists [n, n_refl], and a score that also measures equality of the atoms, [n].

    For equal atoms that do not overlap, the squared density has the phases of the density, and amplitudes proportional
    to it at each resolution (Sayre 1952, doi:10.1107/S0365110X52000137). The score is the misfit times
    ``sqrt(1 - c)``, with the correlation c of the two maps. It only ranks what the misfit leaves open.
    """
    n = problem.n_known
    weak = torch.isin(classes.of[:n], torch.tensor(classes.weak, device=F.device)) & (problem.amplitude > 0)
    sigma, amplitude = problem.sigma(problem.amplitude), problem.amplitude[weak]
    misfits, scores = [], []
    for each in F.split(1):
        maps = problem.grid.to_map(each)
        calculated = problem.group.average(problem.grid.from_map(above(maps, sigma)))[:, :n][:, weak].abs()
        squared = problem.grid.from_map(maps.clamp_min(0) ** 2)[0, :n]
        known = each[0, :n]
        likeness = (squared * known.conj()).real.sum() / (squared.norm() * known.norm()).clamp_min(1e-30)
        misfits.append((calculated - amplitude).abs().sum() / amplitude.sum())
        scores.append(misfits[-1] * (1 - likeness).clamp_min(1e-6).sqrt())
    return torch.stack(misfits), torch.stack(scores)


def _is_distinguished(weak_misfit: torch.Tensor, score: torch.Tensor, best: int) -> torch.Tensor:
    """Return which solutions [n] are far worse than the best, in both the misfit and the score."""
    return (weak_misfit[best] <= _DISTINCT * weak_misfit) & (score[best] <= _DISTINCT * score)


def _is_same(problem: PhaseProblem, phasors: torch.Tensor, reference: torch.Tensor, classes: _Classes) -> torch.Tensor:
    """Return which aligned phasors [n, n_known] agree with a reference [n_known] in every class."""
    agreement, weight = (phasors * reference.conj()).real, problem.amplitude**2
    same = torch.ones(len(phasors), dtype=torch.bool, device=phasors.device)
    strong = ~torch.isin(classes.of, torch.tensor(classes.weak, device=phasors.device))
    for chosen in [strong, *(classes.of == number for number in classes.weak)]:
        part = weight * chosen[: problem.n_known]
        same &= agreement @ part >= _SAME_CLASS * part.sum()
    return same


def _distinct(
    problem: PhaseProblem, F: torch.Tensor, likely: torch.Tensor, score: torch.Tensor, classes: _Classes
) -> torch.Tensor:
    """Return F [n, n_refl] of the distinct likely solutions, the best first, at most eight."""
    left = [int(i) for i in score.argsort() if likely[i]]
    found: list[int] = []
    while left and len(found) < _MOST_RIVALS:
        found.append(left[0])
        phasors = aligned_phasors(problem, F[left], 0)
        same = _is_same(problem, phasors, phasors[0], classes)
        left = [i for i, is_same in zip(left[1:], same[1:].tolist()) if not is_same]
    return F[found]
