"""Trials of a search: their ranking, their comparison, and what these say of the best one."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

from rephase.crystal.phases import align_list
from rephase.devices import at_once
from rephase.errors import ConfigError
from rephase.solvers.problem import PhaseProblem

N_KEPT, _SAME_SOLUTION = 24, 0.75  # trials compared; smallest correlation of two that count as the same


class Trials(NamedTuple):
    """Solutions found: symmetric F [n, n_refl] with the measured amplitudes, and their figures [n].

    ``misfit`` is R = sum ||G| - |F|| / sum |F|, where |G| are the amplitudes of the positive density; low is good.
    ``confidence`` is that of the network that has improved the trials, 0 to 1, if one has.
    """

    F: torch.Tensor
    misfit: torch.Tensor
    confidence: torch.Tensor | None = None

    @property
    def merit(self) -> torch.Tensor:
        """What ranks the trials [n], high is good: the confidence, or minus the misfit; NaN is worst."""
        merit = -self.misfit if self.confidence is None else self.confidence
        return merit.nan_to_num(nan=-math.inf)

    def take(self, rows: torch.Tensor) -> "Trials":
        """Return the trials at `rows`."""
        confidence = None if self.confidence is None else self.confidence[rows]
        return Trials(self.F[rows], self.misfit[rows], confidence)


def joined(several: Sequence[Trials]) -> Trials:
    """Join trials that were all ranked by a network, or all by their misfit.

    Raises
    ------
    ConfigError
        Some have a confidence and others none: nothing would rank them together.
    """
    F, misfit = torch.cat([each.F for each in several]), torch.cat([each.misfit for each in several])
    confidence = [each.confidence for each in several if each.confidence is not None]
    if len(confidence) not in (0, len(several)):
        raise ConfigError(
            f"trials of {len(several)} batches, {len(confidence)} of them with the confidence of a network: expected "
            "all or none, as the others cannot be ranked with these; pursue searches of one kind"
        )
    return Trials(F, misfit, torch.cat(confidence) if confidence else None)


def best_of(pool: Trials) -> tuple[Trials, Trials]:
    """Return the trials of largest merit, which are kept, and the others, each with the best first."""
    order = pool.merit.argsort(descending=True)
    return pool.take(order[:N_KEPT]), pool.take(order[N_KEPT:])


class Outcome(NamedTuple):
    """The result of `pursue`.

    ``F`` [n_refl] of the best trial; ``fom`` [n_known] in 0–1, the agreement on each phase among the trials that agree
    with it, 0 if none does; its ``misfit``, and ``rival``, the smallest misfit of a trial that disagrees (infinite if
    none does); ``lead``, by how much the confidence of a network in it is larger than in any trial that disagrees
    (infinite if none does, None without a network); ``probability``, that it is right, if the network is calibrated.
    ``kept`` are the best of ``n_trials`` trials; ``n_agree`` of them, including the best, reached the same solution,
    ``agrees`` [n_kept] says which. If all do, ``other`` is the best trial that does not, if there was one.
    ``is_confirmed`` if an examination confirmed it. ``proposed`` is what the classical trials that a network was given
    lead to without it.
    """

    F: torch.Tensor
    fom: torch.Tensor
    misfit: float
    rival: float
    n_agree: int
    n_trials: int
    lead: float | None = None
    probability: float | None = None
    kept: Trials | None = None
    agrees: torch.Tensor | None = None
    other: Trials | None = None
    is_confirmed: bool = False
    proposed: "Outcome | None" = None

    @property
    def trials(self) -> tuple[Trials, ...]:
        """All trials that are remembered."""
        return tuple(each for each in (self.kept, self.other) if each is not None)


def compared(problem: PhaseProblem, pool: Trials, n_trials: int, others: Trials | None = None) -> Outcome:
    """Compare trials with the first of them; `others` of less merit are its rivals if all the former agree with it."""
    agreeing, phasors = _agreeing(problem, pool)
    rivals, other = pool.take(~agreeing), None
    if not len(rivals.F) and others is not None and len(others.F):
        is_same, _ = _agreeing(problem, joined([pool.take(torch.arange(1)), others]))
        rivals = others.take(~is_same[1:])
        other = rivals.take(rivals.merit.argsort(descending=True)[:1]) if len(rivals.F) else None
    lead = None
    if pool.confidence is not None and rivals.confidence is not None:
        # one without a figure leaves open how far the first one leads: NaN
        lead = float(pool.confidence[0] - rivals.confidence.max()) if len(rivals.F) else math.inf
    return Outcome(
        F=pool.F[0],
        fom=figure_of_merit(phasors[agreeing]),
        misfit=float(pool.misfit[0]),
        rival=float(rivals.misfit.min()) if len(rivals.F) else math.inf,
        n_agree=int(agreeing.sum()),
        n_trials=n_trials,
        lead=lead,
        kept=pool,
        agrees=agreeing,
        other=other,
    )


def _agreeing(problem: PhaseProblem, pool: Trials) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which trials [n] agree with the first, and their phasors [n, n_known] at its origin and hand."""
    weight = problem.amplitude**2
    phasors = aligned_phasors(problem, pool.F, 0)
    return ((phasors * phasors[0].conj()).real @ weight) / weight.sum() >= _SAME_SOLUTION, phasors


def continued(problem: PhaseProblem, outcome: Outcome | None, fresh: Trials, n: int) -> Outcome:
    """Return what `fresh` trials, the best of `n` that were run, lead to with those of an outcome."""
    earlier = () if outcome is None else outcome.trials
    kept, others = best_of(joined([*earlier, fresh]))
    return compared(problem, kept, n if outcome is None else outcome.n_trials + n, others)


def pooled(problem: PhaseProblem, *outcomes: Outcome) -> Outcome:
    """Compare the kept trials of several searches for one problem, all ranked alike."""
    kept, others = best_of(joined([trials for each in outcomes for trials in each.trials]))
    return compared(problem, kept, sum(each.n_trials for each in outcomes), others)


def aligned_phasors(problem: PhaseProblem, F: torch.Tensor, reference: int) -> torch.Tensor:
    """Return phasors [n, n_known] of lists [n, n_refl], each at the origin and hand that best fit one of them."""
    n, weight = problem.n_known, problem.amplitude**2
    n_lists = max(1, at_once("aligned phasors", problem.device) // (2 * len(problem.origins.shifts) * n))
    parts = [
        align_list(part[:, :n], F[reference, :n], problem.hkl[:n], problem.origins, weight).F
        for part in F.split(n_lists)
    ]
    aligned = torch.cat(parts)
    return aligned / aligned.abs().clamp_min(1e-12)


def figure_of_merit(phasors: torch.Tensor) -> torch.Tensor:
    """Return the resultant length [n_refl] of unit vectors [n, n_refl], corrected for small n; 0 if n < 2."""
    n = len(phasors)
    if n < 2:
        return torch.zeros_like(phasors.real.sum(0))
    return ((n * (phasors.sum(0) / n).abs() ** 2 - 1) / (n - 1)).clamp(0, 1).sqrt()
