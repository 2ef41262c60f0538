"""The cost of solving: the number of trials for an effort, and its time and memory before a long search."""

import math
import time
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch

from rephase.crystal.reflections import Reflections
from rephase.crystal.symmetry import reduced_cell
from rephase.devices import total_memory
from rephase.errors import GridError
from rephase.solvers.grids import memory_needed, shape_for
from rephase.solvers.problem import PhaseProblem
from rephase.solvers.strategy import LAST_CYCLES, Recipe, Search

_BUDGET = 6e9  # voxel cycles in one unit of effort: under a minute on two cores if the maps fit in their cache
_CYCLES_OF_OPERATION = 20  # added to a trial by finishing, for each operation of the group
_FEWEST, _PART_FOR_FEWEST = 8, 0.1  # trials that are always run, up to this fraction of the budget
_LARGE = 2_000_000  # voxels of a map from which the cost is announced
# Measured with cells of 50 and 100 Å, in cycles: a finishing cycle, its part per operation, finding the group's origin
_FINISH, _FINISH_OF_OPERATION, _ORIGIN = 1.3, 0.3, 12.0
_CYCLE, _REST, _FIGURES = 1.4, 180.0, 10.0  # a cycle and the work before and after trials, in transforms; figures, in s
_COARSER = 1.26  # factor on d_min that halves the voxels
_FARTHEST_REACH = 1.3  # largest radius of the working sphere relative to that of the data


class Plan(NamedTuple):
    """The largest number of trials, and the searches that run them in turn."""

    max_trials: int
    searches: tuple[Search, ...]


class Cost(NamedTuple):
    """The cost of solving: the grid, ``n_bytes`` of memory, and the seconds for a trial, for the rest and in total.

    The rest includes the tables before the trials, and the density, peaks, files and figures after them.
    """

    shape: tuple[int, int, int]
    n_bytes: int
    seconds_of_trial: float
    seconds_of_rest: float
    seconds: float


def plan_trials(problem: PhaseProblem, searches: Sequence[Search], effort: float) -> Plan:
    """Plan the trials that an effort allows; one with fewer cycles if it does not allow a whole trial."""
    n_operations, sizes = problem.group.n_operations, [search.recipe.space(problem).n_voxels for search in searches]
    extra = [search.extra_cycles(problem.reduced.cell, problem.d_min) for search in searches]
    return _plan(_voxel_cycles(searches, sizes, problem.n_voxels, n_operations, extra), searches, effort)


def estimate_cost(
    data: Reflections, searches: Sequence[Search], *, reach: float, effort: float, device: torch.device
) -> Cost:
    """Estimate the cost of solving from the cell and a timed cycle, before any table is made.

    Parameters
    ----------
    reach
        Radius of the working sphere relative to that of the data.
    """
    cell, n_operations = reduced_cell(data.cell, data.group).cell, len(data.group.point_group)
    shape, inner = shape_for(cell, data.d_min / reach), math.prod(shape_for(cell, data.d_min))
    n_voxels = math.prod(shape)
    sizes = [n_voxels if search.recipe.beyond else inner for search in searches]
    extra = [search.extra_cycles(cell, data.d_min) for search in searches]
    plan = _plan(_voxel_cycles(searches, sizes, n_voxels, n_operations, extra), searches, effort)
    cycles = [
        search.n_proposals * _cycles_taken(search.recipe, size / n_voxels, n_operations) + other / n_voxels
        for search, size, other in zip(plan.searches, sizes, extra)
    ]
    of_trial = _CYCLE * _timed_transforms(shape, device) * sum(cycles) / len(cycles)
    of_rest = _FIGURES + _REST * _timed_transforms(shape, torch.device("cpu"))
    n_bytes = memory_needed(n_voxels, n_operations) + _bytes_of(searches, data, device)
    return Cost(shape, n_bytes, of_trial, of_rest, plan.max_trials * of_trial + of_rest)


def check_memory(data: Reflections, searches: Sequence[Search], *, reach: float, device: torch.device) -> None:
    """Raise before making grids that do not fit in the memory of the device.

    Raises
    ------
    GridError
        The cell is too large for the resolution of the data; one reflection of small d is enough for that.
    """
    shape = shape_for(reduced_cell(data.cell, data.group).cell, data.d_min / reach)
    of_network, there = _bytes_of(searches, data, device), total_memory(device)
    needed = memory_needed(math.prod(shape), len(data.group.point_group)) + of_network
    if needed > there:
        enough = _FARTHEST_REACH * data.d_min / reach * (needed / there) ** (1 / 3)
        of_which = f", {of_network / 2**30:.0f} of them for the network" if of_network else ""
        other = "take solver='classical' (--solver classical), " if needed - of_network <= there else ""
        raise GridError(
            f"{data.name}: reflections to {data.d_min:.3g} Å in a cell of {data.cell.volume:.3g} Å³ need a grid of "
            f"{' x '.join(map(str, shape))} = {math.prod(shape):.2g} voxels, about {needed / 2**30:.0f} GiB{of_which}; "
            f"there are {there / 2**30:.0f} GiB: {other}cut the data with d_min= (--d-min) "
            f"{math.ceil(100 * enough) / 100:g}, or correct the cell"
        )


def warn_of_cost(
    data: Reflections, searches: Sequence[Search], *, reach: float, effort: float, device: torch.device
) -> None:
    """Warn of the cost of a large map or network, and suggest what would be cheaper.

    Warns
    -----
    UserWarning
        The map has two million voxels or more, or a network takes as long for a trial as a classical one does there.
    """
    cell = reduced_cell(data.cell, data.group).cell
    of_network = max(search.extra_cycles(cell, data.d_min) for search in searches)
    if math.prod(shape_for(cell, data.d_min / reach)) < _LARGE and of_network < _LARGE * Recipe().n_cycles:
        return
    cost = estimate_cost(data, searches, reach=reach, effort=effort, device=device)
    warnings.warn(
        f"{data.name}: {len(data)} reflections to {data.d_min:.2f} Å need maps of {' x '.join(map(str, cost.shape))} "
        f"= {math.prod(cost.shape):.2g} voxels: about {_duration(cost.seconds_of_trial)} for each trial and "
        f"{_duration(cost.seconds_of_rest)} for tables, peaks and figures, up to {_duration(cost.seconds)} in all, "
        f"{cost.n_bytes / 2**30:.1f} GiB of memory; d_min= (--d-min) {_COARSER * data.d_min:.2f} halves both time "
        "and memory, a smaller effort= (--effort) takes less time"
        + (", and solver='classical' (--solver classical) does without the network" if of_network else ""),
        stacklevel=3,
    )


def _bytes_of(searches: Sequence[Search], data: Reflections, device: torch.device) -> int:
    """Return the memory that a search needs besides that of classical ones."""
    cell = reduced_cell(data.cell, data.group).cell
    return max(search.extra_bytes(cell, data.d_min, device) for search in searches)


def _plan(cost: float, searches: Sequence[Search], effort: float) -> Plan:
    """Plan trials that cost so many voxel cycles each."""
    fewest = min(_FEWEST, max(1, int(_PART_FOR_FEWEST * _BUDGET / cost)))
    part = effort * _BUDGET / cost
    if part < 1 and fewest == 1:
        return Plan(1, tuple(search.shortened(part) for search in searches[:1]))
    return Plan(max(fewest, int(part)), tuple(searches))


def _voxel_cycles(
    searches: Sequence[Search], sizes: Sequence[int], n_voxels: int, n_operations: int, extra: Sequence[float]
) -> float:
    """Return the voxel cycles of a trial, averaged over searches [n] on grids of `sizes` [n], with `extra` [n]."""
    cycles = []
    for search, size, other in zip(searches, sizes, extra):
        part = sum(search.recipe.n_finish) / sum(Recipe().n_finish)
        finish = n_voxels * _CYCLES_OF_OPERATION * n_operations * part
        cycles.append(search.n_proposals * (size * search.recipe.n_cycles + finish) + other)
    return sum(cycles) / len(cycles)


def _cycles_taken(recipe: Recipe, part: float, n_operations: int) -> float:
    """Return the cost of a classical trial in cycles on the full map; the search map has `part` of its voxels."""
    finish = sum(recipe.n_finish) * (_FINISH + _FINISH_OF_OPERATION * n_operations)
    return part * (recipe.n_cycles + LAST_CYCLES) + _ORIGIN + finish


def _timed_transforms(shape: tuple[int, int, int], device: torch.device) -> float:
    """Time a Fourier transform of one map and its inverse, in seconds: the faster of two, as the first allocates."""
    maps, taken = torch.zeros((1, *shape), device=device), []
    for _ in range(2):
        start = time.perf_counter()
        float(torch.fft.irfftn(torch.fft.rfftn(maps, dim=(-3, -2, -1)), s=shape, dim=(-3, -2, -1)).sum())
        taken.append(time.perf_counter() - start)
    return min(taken)


def _duration(seconds: float) -> str:
    """Format a time in the unit that reads best."""
    if seconds < 100:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
