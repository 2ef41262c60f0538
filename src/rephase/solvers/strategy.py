"""The strategy of every solver: random starts, origin of the group, finish in the group, until the outcome suffices."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, Self

import torch

from rephase.crystal.cell import Cell
from rephase.crystal.phases import unit_phasor
from rephase.devices import at_once
from rephase.errors import ConfigError
from rephase.solvers.iterations import ITERATIONS, low_density_elimination
from rephase.solvers.maxima import around_peaks
from rephase.solvers.problem import PhaseProblem
from rephase.solvers.projections import Modulus, above
from rephase.solvers.trials import Outcome, Trials, compared, continued

_FINISH_DAMPING, LAST_CYCLES = 0.9, 20  # damping of low-density elimination, and its cycles at the end of a search
_FEWEST_TRIALS = 4  # in a batch whose maps fit in memory; the first batches have no more on a CPU
_FEWEST_SEARCH, _FEWEST_FINISH = 10, 4  # cycles of a shortened trial
_N_EXAMINED = 3  # trials of largest merit among which one is examined after each batch
_PEAKS_KEPT = 3  # cycles between two peak searches in a map
MOST_DIRECT = 300  # atoms of an asymmetric unit for direct methods; with more, their tables alone take a minute
_DIRECT_CYCLE = 3  # time of a cycle of direct methods for one start, relative to a cycle of the search


class Search(Protocol):
    """A kind of search, whose trials `pursue` runs in turn with those of others."""

    @property
    def recipe(self) -> "Recipe":
        """The recipe of its classical trials."""

    @property
    def n_proposals(self) -> int:
        """Number of classical trials that one of its trials runs."""

    def shortened(self, part: float) -> Self:
        """Return the same search with a fraction `part` of the cycles, for an effort below one whole trial."""

    def extra_bytes(self, cell: Cell, d_min: float, device: torch.device) -> int:
        """Estimate the memory that trials need besides that of maps, for data to `d_min` (Å) in a reduced cell."""

    def extra_cycles(self, cell: Cell, d_min: float) -> float:
        """Return what a trial costs besides its classical trials, in cycles of one voxel; arguments as above."""

    def proposals(self, problem: PhaseProblem, n: int, generator: torch.Generator) -> "Trials":
        """Run the classical trials, ``n_proposals`` for each of `n`: search, origin of the group, finish, figures."""

    def improved(self, problem: PhaseProblem, proposed: "Trials", n: int) -> "Trials":
        """Return the `n` trials that are made of those of `proposals`."""

    def finished(self, problem: PhaseProblem, F: torch.Tensor) -> "Trials":
        """Move lists F [n, n_refl] that were found without symmetry to the group, and finish them there."""


class Recipe(NamedTuple):
    """The parameters of a classical search; thresholds are in units of the root mean square of the map.

    ``iteration`` names an entry of `ITERATIONS`; ``sharpening`` is p in E^p |F|^(1-p). The search runs ``n_search``
    cycles with ``beta``, with the first and last ``threshold``, and unmeasured reflections multiplied by ``damping``;
    then ``n_settle`` cycles with ``settle_damping``; then ``n_finish`` in the group, with sharpened and with measured
    amplitudes. ``weak_share`` is that of `Modulus`. If ``beyond``, reflections finer than the data are free in the
    search; otherwise they are zero, on a smaller grid; the finish always leaves them free. If ``of_atoms``, the
    threshold only limits what counts as a peak: the highest peaks, one per expected atom, and their neighbouring voxels
    are kept. ``n_direct`` cycles of direct methods in the group come first: each trial then starts from one of the best
    of ``n_starts`` random starts.
    """

    iteration: str = "raar"
    sharpening: float = 0.8
    threshold: tuple[float, float] = (1.0, 0.4)
    beta: float = 0.75
    damping: float = 1.0
    n_search: int = 200
    n_settle: int = 100
    settle_damping: float = 0.8
    weak_share: float = 0.0
    beyond: bool = True
    of_atoms: bool = False
    n_finish: tuple[int, int] = (30, 20)
    n_direct: int = 0
    n_starts: int = 8

    @property
    def recipe(self) -> "Recipe":
        """The recipe itself."""
        return self

    @property
    def n_proposals(self) -> int:
        """1: the trial itself."""
        return 1

    @property
    def n_cycles(self) -> int:
        """Cycles of a trial before its finish; those of direct methods count by their time."""
        return self.n_search + self.n_settle + _DIRECT_CYCLE * self.n_starts * self.n_direct

    def shortened(self, part: float) -> "Recipe":
        """Return the same search with a fraction `part` of the cycles, for an effort below one whole trial."""
        return self._replace(
            n_search=max(_FEWEST_SEARCH, int(part * self.n_search)),
            n_settle=int(part * self.n_settle),
            n_direct=int(part * self.n_direct),
            n_finish=(
                max(_FEWEST_FINISH, int(part * self.n_finish[0])),
                max(_FEWEST_FINISH, int(part * self.n_finish[1])),
            ),
        )

    def extra_bytes(self, cell: Cell, d_min: float, device: torch.device) -> int:
        """Return 0: there are only maps."""
        return 0

    def extra_cycles(self, cell: Cell, d_min: float) -> float:
        """Return 0: there is only the trial."""
        return 0

    def space(self, problem: PhaseProblem) -> PhaseProblem:
        """Return the problem that the search works on before the finish."""
        return problem if self.beyond else problem.within_data

    def proposals(self, problem: PhaseProblem, n: int, generator: torch.Generator) -> "Trials":
        """Run `n` trials."""
        return self.trials(problem, n, generator)

    def improved(self, problem: PhaseProblem, proposed: "Trials", n: int) -> "Trials":
        """Return the proposed trials themselves."""
        return proposed

    def trials(self, problem: PhaseProblem, n: int, generator: torch.Generator) -> "Trials":
        """Run `n` random starts to the end: search, origin of the group, averaging, finish, figures."""
        space = self.space(problem)
        starts = direct_starts(space, n, self, generator) if self.n_direct else random_phasors(space, n, generator)
        F = search(space, *starts, self)
        return self.finished(problem, F if self.beyond else problem.from_within_data(F))

    def finished(self, problem: PhaseProblem, F: torch.Tensor) -> "Trials":
        """Move lists F [n, n_refl] that were found without symmetry to the group, and finish them there."""
        return finish(problem, F, self)


def random_phasors(problem: PhaseProblem, n: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw phasors [n, n_known] to start from, and which known phases each trial uses, according to their weights."""
    phi = 2 * math.pi * torch.rand((n, problem.n_known), generator=generator)
    phasors = torch.polar(torch.ones_like(phi), phi).to(problem.device)
    if problem.known is None:
        return phasors, torch.zeros_like(phasors, dtype=torch.bool)
    is_known = torch.rand((n, problem.n_known), generator=generator).to(problem.device) < problem.known.abs()
    return torch.where(is_known, unit_phasor(problem.known), phasors), is_known


def direct_starts(
    problem: PhaseProblem, n: int, recipe: Recipe, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Refine random starts by direct methods; return the phasors of the best `n`, and that no phase is known."""
    direct = problem.direct_methods
    left, found = n * recipe.n_starts, []
    while left:
        phasors, is_known = random_phasors(problem, min(left, direct.n_at_once), generator)
        F = direct.refined(phasors, recipe.n_direct, generator)
        refined = torch.where(F.abs() > 0, unit_phasor(F), phasors)  # random where there are no atoms
        found.append((refined, is_known, direct.correlation(F)))
        left -= len(F)
    phasors, is_known, correlation = (torch.cat(parts) for parts in zip(*found))
    best = correlation.topk(n).indices
    return phasors[best], is_known[best]


def suited(searches: Sequence[Search], n_atoms: float, *, is_free: bool) -> tuple[Search, ...]:
    """Leave out direct methods where they cannot be used.

    They would move known phases, and very many atoms are beyond them. If no other search is left, its trials start from
    random phases.

    Parameters
    ----------
    searches
        What a solver does in turn.
    n_atoms
        Atoms expected in the asymmetric unit.
    is_free
        Whether no phase is known.
    """
    if is_free and n_atoms <= MOST_DIRECT:
        return tuple(searches)
    left = tuple(each for each in searches if not each.recipe.n_direct)
    return left or tuple(each.recipe._replace(n_direct=0) for each in searches)


def search(problem: PhaseProblem, phasors: torch.Tensor, is_known: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """Search from starts [n, n_known] without symmetry; return F [n, n_refl], each with an arbitrary origin and hand.

    Known phases are held until the map settles, and then released.
    """
    amplitude = problem.sharpened(recipe.sharpening)
    sigma, step = problem.sigma(amplitude), ITERATIONS[recipe.iteration]
    start = amplitude * phasors
    maps = problem.grid.to_map(start)
    held = torch.where(is_known, start, 0) if is_known.any() else None
    modulus = Modulus(problem, amplitude, damping=recipe.damping, weak_share=recipe.weak_share, held=held)
    first, last = recipe.threshold
    support: torch.Tensor | None = None
    for cycle in range(recipe.n_search):
        threshold = sigma * (first + (last - first) * cycle / max(1, recipe.n_search - 1))
        if recipe.of_atoms and cycle % _PEAKS_KEPT == 0:
            support = around_peaks(2 * modulus(maps) - maps, problem.n_atoms, threshold)
        maps = step(maps, modulus, threshold if support is None else support, recipe.beta)
    modulus = Modulus(problem, amplitude, damping=recipe.settle_damping)
    for _ in range(recipe.n_settle):
        maps = step(maps, modulus, last * sigma, recipe.beta)
    modulus = Modulus(problem, amplitude, damping=_FINISH_DAMPING)
    for _ in range(LAST_CYCLES):
        maps = low_density_elimination(maps, modulus, sigma, 1.0)
    return problem.grid.get(modulus.coefficients(maps))


def finish_in_group(problem: PhaseProblem, F: torch.Tensor, amplitude: torch.Tensor, n: int) -> Trials:
    """Run low-density elimination on symmetric lists F [batch, n_refl], with the symmetry of the group imposed."""
    modulus = Modulus(problem, amplitude, damping=_FINISH_DAMPING)
    sigma, n_known = problem.sigma(amplitude), problem.n_known
    calculated = F
    for _ in range(n):
        F = modulus.in_list(calculated)
        calculated = problem.group.average(problem.grid.from_map(above(problem.grid.to_map(F), sigma)))
    difference = (calculated[:, :n_known].abs() - amplitude).abs().sum(1)
    return Trials(modulus.in_list(calculated), difference / amplitude.sum())


def finish(problem: PhaseProblem, F: torch.Tensor, recipe: Recipe) -> Trials:
    """Symmetrise lists F [n, n_refl] that were found without symmetry, finish them and compute their figures."""
    F, _ = problem.group.move_to_origin(F, problem.n_known, problem.grid.shape)
    return polish(problem, problem.group.average(F), recipe)


def polish(problem: PhaseProblem, F: torch.Tensor, recipe: Recipe) -> Trials:
    """Finish symmetric lists F [n, n_refl] with sharpened amplitudes, then with the measured ones."""
    sharp = finish_in_group(problem, F, problem.sharpened(recipe.sharpening), recipe.n_finish[0])
    return finish_in_group(problem, sharp.F, problem.amplitude, recipe.n_finish[1])


def pursue(
    problem: PhaseProblem,
    searches: Sequence[Search],
    generator: torch.Generator,
    *,
    max_trials: int,
    is_enough: Callable[["Outcome"], bool],
    is_confirmed: Callable[[torch.Tensor], bool] | None = None,
    report: Callable[[int, int], None] = lambda n_trials, n_agree: None,
) -> Outcome:
    """Run trials in batches, each with the next search, until the outcome is sufficient or `max_trials` are done.

    Trials are ranked by merit, which does not need the true phases. Only the best few are kept; a trial agrees with
    the best one if their maps, at the best of the allowed origins and hands, correlate above 0.75. ``is_confirmed``
    examines one list F [n_refl]; a trial of large merit that it confirms is the best one, and ends the search.
    """
    examined: set[float] = set()
    outcome: Outcome | None = None
    classical: Outcome | None = None  # apart from what a network makes of them
    for round_, each in enumerate(itertools.cycle(searches)):
        n_voxels, n_before = each.recipe.space(problem).n_voxels, round_ // len(searches)
        batch = min(max_trials, batch_size(n_voxels, problem.device, n_before, n_proposals=each.n_proposals))
        proposed = each.proposals(problem, batch, generator)
        fresh = each.improved(problem, proposed, batch)
        outcome = continued(problem, outcome, fresh, batch)
        if fresh is not proposed:
            classical = continued(problem, classical, proposed, len(proposed.F))
        pool, n_trials = outcome.trials[0], outcome.n_trials
        report(n_trials, outcome.n_agree)
        if is_enough(outcome):
            break
        if is_confirmed is not None and (place := _unexamined(pool, examined)) is not None:
            examined.add(float(pool.merit[place]))
            if is_confirmed(pool.F[place]):
                outcome = compared(problem, _with_first(pool, place), n_trials, outcome.other)
                outcome = outcome._replace(lead=None, is_confirmed=True)
                break
        if n_trials >= max_trials:
            break
    else:
        raise ConfigError("searches is empty: give at least one")
    return outcome._replace(proposed=classical)


def _unexamined(pool: Trials, examined: set[float]) -> int | None:
    """Return the best of the few trials of largest merit that were not examined yet."""
    return next((i for i, merit in enumerate(pool.merit[:_N_EXAMINED].tolist()) if merit not in examined), None)


def _with_first(pool: Trials, place: int) -> Trials:
    """Return the trials with one of them moved to the first place."""
    order = torch.arange(len(pool.merit), device=pool.merit.device)
    return pool.take(torch.cat([order[place : place + 1], order[:place], order[place + 1 :]]))


def batch_size(n_voxels: int, device: torch.device, n_before: int, *, n_proposals: int = 1) -> int:
    """Return the number of trials computed together, after `n_before` batches with each search.

    Easy crystals need only a few trials, so batches start small and double. On a GPU the first ones are larger, because
    a launch takes as long for hundreds of small maps as for four; `n_proposals` of these are searched for each trial.
    """
    few = max(_FEWEST_TRIALS, at_once("first search maps", device) // (n_voxels * n_proposals)) << min(n_before, 16)
    smallest = min(_FEWEST_TRIALS, max(1, at_once("several search maps", device) // n_voxels))
    return min(few, max(smallest, at_once("search maps", device) // n_voxels))
