"""What solving costs: trials that an effort pays for, what is said of large cells, and trials that are cut short."""

import numpy as np
import pytest
import torch

from rephase.crystal.cell import Cell
from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.statistics import unique_hkl
from rephase.crystal.symmetry import find_symmetry
from rephase.errors import GridError
from rephase.solvers import cost, recipes_for
from rephase.solvers.claims import verdict
from rephase.solvers.cost import check_memory, estimate_cost, plan_trials
from rephase.solvers.grids import memory_needed, shape_for
from rephase.solvers.problem import PhaseProblem
from rephase.solvers.solve import solve
from rephase.solvers.strategy import Recipe, batch_size
from rephase.solvers.trials import Outcome


def random_data(length=11.0, d_min=1.3, group="P 21 21 21"):
    cell, symmetry = Cell(length, length * 1.1, length * 1.2), find_symmetry(group)
    hkl = unique_hkl(cell, symmetry, d_min)
    intensity = np.random.default_rng(0).exponential(100, len(hkl))
    return Reflections(hkl, intensity, np.ones(len(hkl)), cell, symmetry, name="large", is_merged=True)


@pytest.fixture
def everything_is_large(monkeypatch):
    monkeypatch.setattr(cost, "_LARGE", 1)
    monkeypatch.setattr(cost, "_BUDGET", 1e6)  # less than one trial


@pytest.mark.usefixtures("everything_is_large")
def test_what_a_large_cell_takes_is_said_before_it_is_solved():
    said = r"large: \d+ reflections to 1.30 Å need maps of \d+ x \d+ x \d+ = .* voxels: about .* for each trial and "
    said += r".* for tables, peaks and figures, up to .* in all, .* GiB of memory; d_min= \(--d-min\) 1\.64"
    with pytest.warns(UserWarning, match=said) as told:
        solve(random_data())
    assert "\n" not in str(told[0].message)


@pytest.mark.usefixtures("everything_is_large")
def test_an_effort_below_one_trial_is_one_short_trial_that_claims_nothing():
    progress = []
    with pytest.warns(UserWarning, match="large"):
        solution = solve(random_data(), report=lambda *numbers: progress.append(numbers))
    assert progress == [(1, 1, 1)]
    assert solution.n_trials == 1
    assert np.isfinite(solution.phi).all()
    assert solution.verdict == "unsure"


def test_a_single_trial_stands_out_above_nothing():
    nothing = torch.zeros(1)
    alone = Outcome(nothing, nothing, misfit=0.2, rival=float("inf"), n_agree=1, n_trials=1)
    assert verdict(1.0, alone) == "unsure"
    assert verdict(1.0, alone._replace(rival=0.3, n_trials=2)) == "possible"


def test_cycles_grow_with_the_effort(monkeypatch):
    data = random_data()
    problem = PhaseProblem(data.hkl, np.sqrt(data.intensity), data.cell, data.group)
    recipes = recipes_for("classical", data.d_min, data.group)
    n = [plan_trials(problem, recipes, effort).max_trials for effort in (1e-9, 1, 10)]
    assert n[0] == 8  # small maps: the fewest cost next to nothing
    assert n[2] == pytest.approx(10 * n[1], rel=0.01)
    monkeypatch.setattr(cost, "_BUDGET", 0.1 * cost._BUDGET / n[1])
    plans = [plan_trials(problem, recipes, effort) for effort in (1, 2, 4)]
    assert [plan.max_trials for plan in plans] == [1, 1, 1]
    cycles = [plan.searches[0].n_search + plan.searches[0].n_settle for plan in plans]
    assert cycles[1] == pytest.approx(2 * cycles[0], rel=0.2)
    assert cycles[2] == pytest.approx(4 * cycles[0], rel=0.2)


def test_a_short_recipe_still_searches_and_finishes():
    assert Recipe().shortened(1e-6) == Recipe(n_search=10, n_settle=0, n_finish=(4, 4))


def test_the_estimate_knows_the_grid_and_the_trials():
    data = random_data()
    recipes = recipes_for("classical", data.d_min, data.group)
    problem = PhaseProblem(data.hkl, np.sqrt(data.intensity), data.cell, data.group, reach=1.2)
    found = estimate_cost(data, recipes, reach=1.2, effort=1.0, device=torch.device("cpu"))
    assert found.shape == shape_for(problem.reduced.cell, data.d_min / 1.2)
    n_trials = plan_trials(problem, recipes, 1.0).max_trials
    of_trials = found.seconds - found.seconds_of_rest
    assert of_trials == pytest.approx(n_trials * found.seconds_of_trial, rel=0.3)  # sizes are known nearly
    assert min(found.seconds_of_trial, found.seconds_of_rest) > 0
    assert found.n_bytes == memory_needed(int(np.prod(found.shape)), 4)


def test_maps_of_a_batch_fit_their_cache_and_the_memory():
    cpu = torch.device("cpu")
    assert [batch_size(20_000, cpu, n) for n in (0, 1, 2, 3, 40)] == [4, 8, 16, 20, 20]
    assert batch_size(200_000, cpu, 3) == 4
    assert batch_size(21_000_000, cpu, 3) == 1


def test_a_group_of_many_operations_needs_more_memory(monkeypatch):
    monkeypatch.setattr("rephase.solvers.cost.total_memory", lambda device: 12 << 30)
    cell, index = Cell(70, 70, 70), np.arange(1, 41)
    hkl = np.stack([index, index, index + 45], axis=1)
    few, many = (
        Reflections(hkl, np.ones(40), np.ones(40), cell, find_symmetry(group)) for group in ("P 21 21 21", "P m -3 m")
    )
    check_memory(few, (Recipe(),), reach=1.0, device=torch.device("cpu"))
    with pytest.raises(GridError, match="d_min="):
        check_memory(many, (Recipe(),), reach=1.0, device=torch.device("cpu"))
