"""Ideas that might improve RAAR, the default below, each compared with it in equal trials on the same crystals.

    rephase bench solver_ideas -- --folder CIFS --every 4 --d-min 1.5 2.0
    rephase bench solver_ideas -- --random 3 --groups "P 1" "P 21 21 21" --d-min 1.0 --ideas default "local search"

For each idea the table gives how often any trial is correct (map_cc >= 0.7), how often the trial with the smallest
misfit is correct, the mean fraction of correct trials, the seconds of processor time for each correct trial, and the
processor time relative to the default, RAAR.
"""

import argparse
import time
import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from cases.crystals import chosen_crystals, crystal_files
from cases.options import case_parser, check_case, errors_in_one_line, limits_of
from cases.reflections import case_of

from rephase.crystal.phases import unit_phasor
from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.simulation import SOLVED, Truth
from rephase.crystal.reflections.statistics import absolute_amplitude
from rephase.crystal.structures import Crystal
from rephase.crystal.symmetry import rows_of
from rephase.errors import ReflectionError
from rephase.solvers import RECIPES, recipes_for
from rephase.solvers.iterations import raar
from rephase.solvers.maxima import around_peaks, highest_around
from rephase.solvers.problem import PhaseProblem, working_problem
from rephase.solvers.projections import Modulus, above
from rephase.solvers.strategy import Recipe, finish, finish_in_group, random_phasors, search
from rephase.solvers.trials import Trials, joined

Idea = Callable[[PhaseProblem, int, Recipe, torch.Generator, Trials | None], Trials]


def default(problem: PhaseProblem, n: int, recipe: Recipe, generator: torch.Generator, pool: Trials | None) -> Trials:
    """Search as `rephase solve --solver raar` does."""
    return recipe.trials(problem, n, generator)


def nothing_beyond(
    problem: PhaseProblem, n: int, recipe: Recipe, generator: torch.Generator, pool: Trials | None
) -> Trials:
    """Search on the sphere of the data with every recipe."""
    return recipe._replace(beyond=False).trials(problem, n, generator)


def always_beyond(
    problem: PhaseProblem, n: int, recipe: Recipe, generator: torch.Generator, pool: Trials | None
) -> Trials:
    """Leave the reflections finer than the data free with every recipe."""
    return recipe._replace(beyond=True).trials(problem, n, generator)


def patterson_starts(
    problem: PhaseProblem, n: int, recipe: Recipe, generator: torch.Generator, pool: Trials | None
) -> Trials:
    """Start from the minimum of the Patterson map and its copy, shifted to one of its peaks drawn at random."""
    patterson = problem.grid.to_map((problem.sharpened(0.7) ** 2).to(torch.complex64)[None])
    heights = torch.where(patterson >= highest_around(patterson), patterson, -torch.inf).flatten()
    heights[0] = -torch.inf
    peaks = heights.topk(min(60, problem.n_voxels // 60)).indices
    chosen = peaks[torch.randint(len(peaks), (n,), generator=generator)]
    shifts = torch.stack(torch.unravel_index(chosen, problem.grid.shape), dim=-1).tolist()
    moved = torch.cat([patterson.roll(tuple(shift), (1, 2, 3)) for shift in shifts])
    return from_maps(problem, torch.minimum(patterson, moved), recipe)


def tangent_formula(
    problem: PhaseProblem, n: int, recipe: Recipe, generator: torch.Generator, pool: Trials | None
) -> Trials:
    """First refine random phases with the tangent formula, here as the phases of the squared E map."""
    phasors, _ = random_phasors(problem, n, generator)
    for _ in range(20):
        squared = problem.grid.to_map(problem.sharpened(1.0) * phasors) ** 2
        phasors = unit_phasor(problem.grid.from_map(squared)[:, : problem.n_known])
    return from_maps(problem, problem.grid.to_map(problem.amplitude * phasors), recipe)


def histogram_matching(
    problem: PhaseProblem, n: int, recipe: Recipe, generator: torch.Generator, pool: Trials | None
) -> Trials:
    """Give the maps the histogram of random atoms at this resolution, for twenty cycles after the search."""
    angle = 2 * torch.pi * torch.rand((problem.n_atoms, 3), generator=generator) @ problem.hkl.T.float()
    atoms = problem.grid.to_map(falloff(problem) * torch.polar(torch.ones_like(angle), angle).sum(0)[None])
    expected = atoms.flatten().sort().values
    matched = lambda maps: expected[maps.flatten(1).argsort().argsort()].view_as(maps)  # noqa: E731
    return constrained(problem, search(problem, *random_phasors(problem, n, generator), recipe), matched)


def known_composition(
    problem: PhaseProblem, n: int, recipe: Recipe, generator: torch.Generator, pool: Trials | None
) -> Trials:
    """Keep only as many peaks as there are atoms, for twenty cycles after the search."""
    peaks_only = lambda maps: above(maps, around_peaks(maps, problem.n_atoms, 0.0))  # noqa: E731
    return constrained(problem, search(problem, *random_phasors(problem, n, generator), recipe), peaks_only)


def peaks_in_the_search(
    problem: PhaseProblem, n: int, recipe: Recipe, generator: torch.Generator, pool: Trials | None
) -> Trials:
    """Keep only as many peaks as there are atoms in every cycle of the search."""
    return recipe._replace(of_atoms=True).trials(problem, n, generator)


def direct_methods(
    problem: PhaseProblem, n: int, recipe: Recipe, generator: torch.Generator, pool: Trials | None
) -> Trials:
    """Search from the best of many starts that dual-space direct methods refined in the group."""
    short, _ = RECIPES["direct_methods"]
    return short.trials(problem, n, generator)


def long_direct_methods(
    problem: PhaseProblem, n: int, recipe: Recipe, generator: torch.Generator, pool: Trials | None
) -> Trials:
    """Search from the best of fewer starts, each refined for four times as many cycles."""
    _, long = RECIPES["direct_methods"]
    return long.trials(problem, n, generator)


def local_search(
    problem: PhaseProblem, n: int, recipe: Recipe, generator: torch.Generator, pool: Trials | None
) -> Trials:
    """Start from the best trials so far, each with 40 % of its phases held, the strong ones first."""
    if pool is None:
        return recipe.trials(problem, n, generator)
    phasors, _ = random_phasors(problem, n, generator)
    leader = unit_phasor(pool.F[torch.randint(len(pool.F), (n,), generator=generator), : problem.n_known])
    is_held = torch.rand(phasors.shape, generator=generator) < 0.4 * problem.E.clamp_max(1.5)
    return finish(problem, search(problem, torch.where(is_held, leader, phasors), is_held, recipe), recipe)


def group_from_the_start(
    problem: PhaseProblem, n: int, recipe: Recipe, generator: torch.Generator, pool: Trials | None
) -> Trials:
    """Impose the symmetry of the group on the search itself."""
    amplitude = problem.sharpened(recipe.sharpening)
    modulus, sigma = Modulus(problem, amplitude, damping=recipe.damping), problem.sigma(amplitude)
    maps = problem.grid.to_map(amplitude * random_phasors(problem, n, generator)[0])
    for cycle in range(recipe.n_search):
        threshold = recipe.threshold[0] + (recipe.threshold[1] - recipe.threshold[0]) * cycle / recipe.n_search
        maps = problem.grid.to_map(problem.group.average(problem.grid.from_map(maps)))
        maps = raar(maps, modulus, threshold * sigma, recipe.beta)
    F = problem.group.average(problem.grid.get(modulus.coefficients(maps)))
    return judged(problem, F)


IDEAS: dict[str, Idea] = {
    "default": default,
    "nothing beyond the data": nothing_beyond,
    "always beyond the data": always_beyond,
    "Patterson starts": patterson_starts,
    "tangent formula first": tangent_formula,
    "histogram matching": histogram_matching,
    "known composition": known_composition,
    "peaks in the search": peaks_in_the_search,
    "direct methods first": direct_methods,
    "long direct methods first": long_direct_methods,
    "local search": local_search,
    "group from the start": group_from_the_start,
}


def from_maps(problem: PhaseProblem, maps: torch.Tensor, recipe: Recipe) -> Trials:
    """Search from the phases of maps [n, x, y, z]."""
    phasors = unit_phasor(problem.grid.from_map(maps)[:, : problem.n_known])
    return finish(problem, search(problem, phasors, torch.zeros_like(phasors, dtype=torch.bool), recipe), recipe)


def constrained(problem: PhaseProblem, F: torch.Tensor, constraint: Callable[[torch.Tensor], torch.Tensor]) -> Trials:
    """Twenty cycles in the group under another constraint on the map."""
    F, _ = problem.group.move_to_origin(F, problem.n_known, problem.grid.shape)
    F, modulus = problem.group.average(F), Modulus(problem, problem.amplitude)
    for _ in range(20):
        maps = constraint(problem.grid.to_map(modulus.in_list(F)))
        F = problem.group.average(problem.grid.from_map(maps))
    return judged(problem, modulus.in_list(F))


def judged(problem: PhaseProblem, F: torch.Tensor) -> Trials:
    """Finish with the default strategy, because only misfits of trials finished in the same way are comparable."""
    return finish_in_group(problem, F, problem.amplitude, 20)


def falloff(problem: PhaseProblem) -> torch.Tensor:
    """Return the root mean square |F| at each reflection of a list [n_refl], from a fit of a line in 1/d^2."""
    d = torch.as_tensor(problem.reduced.cell.d_spacing(problem.hkl_numpy), dtype=torch.float32)
    n = problem.n_known
    present = problem.E > 0
    x, y = d[:n][present] ** -2, 2 * (problem.amplitude[present] / problem.E[present]).log()
    slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
    return ((y.mean() + slope * (d**-2 - x.mean())) / 2).exp()


def measure(name: str, crystal: Crystal, d_min: float, options: argparse.Namespace) -> list[dict[str, object]]:
    """Measure a row for each idea on one crystal."""
    data, truth = case_of(name, crystal, d_min, options)
    merged = data.merge().reflections
    amplitude, recipes, rows = absolute_amplitude(merged), recipes_for("raar", merged.d_min, merged.group), []
    for idea in options.ideas:
        problem = working_problem(merged, amplitude)
        generator, start, pool, found = torch.Generator().manual_seed(options.seed), time.process_time(), None, []
        for i in range(options.n_batches * len(recipes)):
            fresh = IDEAS[idea](problem, 8, recipes[i % len(recipes)], generator, pool)
            found.append(fresh)
            every = joined(found)
            pool = every.take(every.misfit.argsort()[:24])
        seconds = time.process_time() - start
        map_cc = correlations(problem, every, truth, merged, amplitude)
        rows.append(
            {
                "idea": idea,
                "d_min": d_min,
                "name": name,
                "any": bool((map_cc >= SOLVED).any()),
                "first": bool(map_cc[int(every.misfit.argmin())] >= SOLVED),
                "share": float((map_cc >= SOLVED).mean()),
                "n_correct": int((map_cc >= SOLVED).sum()),
                "seconds": seconds,
            }
        )
    return rows


def correlations(
    problem: PhaseProblem, found: Trials, truth: Truth, data: Reflections, amplitude: np.ndarray
) -> np.ndarray:
    """Return map_cc [n] of trials."""
    n = problem.n_known
    listed = problem.hkl_numpy[:n]
    rows = rows_of(problem.reduced.hkl(data.hkl), np.concatenate([listed, -listed]))
    phi = found.F[:, :n].angle().numpy()
    return truth.score(amplitude * np.exp(1j * np.concatenate([phi, -phi], axis=1)[:, rows]), data).map_cc


def main() -> None:
    """Measure every idea on the crystals of a folder and print the table."""
    parser = case_parser(__doc__, "solver_ideas")
    parser.add_argument("--n-batches", type=int, default=2, help="number of batches, eight trials with each recipe")
    parser.add_argument("--ideas", nargs="+", choices=IDEAS, default=[*IDEAS], help="ideas to compare, default first")
    options = parser.parse_args()
    check_case(options, parser)
    warnings.simplefilter("ignore")  # e.g. a formula with more atoms than the file lists
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with errors_in_one_line():
        crystals = chosen_crystals(options, crystal_files(options))
    rows = []
    for d_min in limits_of(options):
        for name, crystal in crystals.items():
            try:
                rows += measure(name, crystal, d_min, options)
            except ReflectionError as error:
                print(error)
            pd.DataFrame(rows).to_csv(options.out, index=False)
    print(summary(pd.DataFrame(rows)).round(3).to_string())


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Average over the crystals; a crystal without a correct trial counts its time, but no solution."""
    groups = rows.groupby(["d_min", "idea"], sort=False)
    table = groups[["any", "first", "share"]].mean()
    seconds, n_correct = groups["seconds"].sum(), groups["n_correct"].sum()
    table["s_per_correct"] = seconds / n_correct
    of_default = seconds.groupby("d_min").transform("first")
    return table.assign(time=seconds / of_default, n=groups.size())


if __name__ == "__main__":
    main()
