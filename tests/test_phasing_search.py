"""Trials with a network: lists that obey the group, from any origin, of the classical trials that fit best."""

import itertools
import math
import warnings
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rephase.config.phasing import PhasingData
from rephase.crystal.cell import Cell
from rephase.crystal.phases import unit_phasor
from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.simulation import simulate_reflections
from rephase.crystal.reflections.statistics import absolute_amplitude, unique_hkl
from rephase.crystal.structure_factors import structure_factors
from rephase.crystal.structures import read_crystal
from rephase.crystal.symmetry import find_symmetry, rows_of
from rephase.errors import ConfigError, GridError, WeightsError
from rephase.learning.weights import Weights
from rephase.paths import WEIGHTS
from rephase.random_crystals.crystals import RandomCrystalOptions, random_crystals
from rephase.solvers import proposals_for, recipes_for
from rephase.solvers.choice import SHIPPED, Solver, solver_for
from rephase.solvers.claims import CALIBRATIONS, LARGEST_UNLEARNED, Calibration, verdict
from rephase.solvers.cost import check_memory, estimate_cost, plan_trials, warn_of_cost
from rephase.solvers.found_group import Found, in_group
from rephase.solvers.lattices import without_group
from rephase.solvers.learned.cards import PhasingCard
from rephase.solvers.learned.network import RecurrentNetwork
from rephase.solvers.learned.search import Candidates, LearnedSearch, NetworkSphere
from rephase.solvers.learned.spheres import points_needed
from rephase.solvers.problem import PhaseProblem, working_problem
from rephase.solvers.solve import preferred, solve
from rephase.solvers.strategy import Recipe, pursue, random_phasors, search
from rephase.solvers.trials import Trials, aligned_phasors, best_of, compared, continued, pooled


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return RecurrentNetwork(width=8, n_layers=1)


def crystal_of(group, n_atoms, *, seed=2):
    """A small random crystal of a group."""
    options = RandomCrystalOptions((group,), n_atoms)
    return random_crystals(1, generator=torch.Generator().manual_seed(seed), options=options).crystal(0)


def problem_of(group, *, reach=1.3, missing=0):
    """A random crystal to 1.6 Å, without some of its strongest reflections; the problem and its |F|."""
    options = RandomCrystalOptions((group,), (5, 6))
    crystals = random_crystals(1, generator=torch.Generator().manual_seed(1), options=options)
    crystal, symmetry = crystals.crystal(0), crystals.symmetries[0]
    hkl = unique_hkl(crystal.cell, symmetry, 1.6)
    amplitude = np.abs(structure_factors(crystal, hkl, energy_kev=None))
    kept = np.argsort(-amplitude)[missing:]
    return PhaseProblem(hkl[kept], amplitude[kept], crystal.cell, symmetry, reach=reach)


@pytest.mark.parametrize("group", ["P 1 21/c 1", "C 1 2 1", "P 21 21 21", "F d d 2"])
def test_candidates_have_the_amplitudes_and_obey_the_group(group):
    problem = problem_of(group, missing=3)
    sphere = NetworkSphere(problem, network())
    found = sphere.in_group(sphere.from_random(3, 2, torch.Generator().manual_seed(0)))
    assert found.F.shape == (3, len(problem.hkl))
    assert 0 < float(found.confidence.min()) <= float(found.confidence.max()) < 1
    amplitude = problem.amplitude.expand(3, -1)
    largest = float(amplitude.max())
    torch.testing.assert_close(found.F[:, : problem.n_known].abs(), amplitude, rtol=1e-4, atol=1e-4 * largest)
    torch.testing.assert_close(problem.group.average(found.F), found.F, rtol=0, atol=1e-3 * largest)
    inside = problem.within_data
    free = problem.from_within_data(torch.ones(1, len(inside.hkl)))[0, problem.n_known :] > 0
    assert int(free.sum()) == len(inside.hkl) - inside.n_known > 0
    assert bool((found.F[:, problem.n_known :][:, free] != 0).all())
    assert bool((found.F[:, problem.n_known :][:, ~free] == 0).all())


def test_the_same_seed_gives_the_same_starts_in_any_pieces(monkeypatch):
    sphere = NetworkSphere(problem_of("P -1"), network())
    together, other = (sphere.from_random(5, 2, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    sphere.n_at_once = 1
    apart = sphere.from_random(5, 2, torch.Generator().manual_seed(0))
    torch.testing.assert_close(apart, together, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(
        sphere.in_group(apart).confidence, sphere.in_group(together).confidence, atol=1e-3, rtol=0
    )
    assert not torch.allclose(other, together, rtol=1e-2)


def test_the_answer_does_not_depend_on_the_origin_of_the_lists():
    problem = problem_of("P 1 21/c 1")
    sphere = NetworkSphere(problem, network())
    start = random_phasors(problem, 1, torch.Generator().manual_seed(0))
    F = problem.group.average(search(problem, *start, Recipe(n_search=5, n_settle=0)))
    angle = 2 * np.pi * problem.hkl.float() @ torch.tensor([0.21, 0.37, 0.13])
    found = sphere.in_group(torch.cat([F, F * torch.polar(torch.ones_like(angle), angle)]))
    assert float(found.confidence[0]) == pytest.approx(float(found.confidence[1]), abs=0.02)
    phasors, weight = aligned_phasors(problem, found.F, 0), problem.amplitude**2
    assert float((phasors[0] * phasors[1].conj()).real @ weight / weight.sum()) > 0.95


def test_the_network_takes_on_the_trials_of_smallest_misfit():
    problem, recipe = problem_of("P 1 21/c 1"), Recipe(n_search=5, n_settle=0, n_finish=(2, 2))
    generator = torch.Generator().manual_seed(0)
    asked = LearnedSearch(network(), recipe, n_proposals=4)
    trials = asked.improved(problem, asked.proposals(problem, 2, generator), 2)
    every = recipe.trials(problem, 8, torch.Generator().manual_seed(0))
    best = every.take(every.misfit.argsort()[:2])
    found = NetworkSphere(problem, network()).in_rounds(best.F)
    torch.testing.assert_close(trials.confidence, found.confidence, rtol=0, atol=1e-3)
    assert torch.equal(trials.merit, trials.confidence)
    assert bool(((trials.misfit > 0) & (trials.misfit < 1)).all())


def test_only_promising_lists_go_on_and_only_while_they_gain_confidence(monkeypatch):
    sphere = NetworkSphere(problem_of("P -1"), network())
    rounds = [[0.1, 0.5, 0.2, 0.3, 0.4, 0.1, 0.1, 0.1, 0.1], [0.6, 0.3], [0.7], [0.701]]
    left, n_asked = iter(rounds), []

    def in_group(F):
        n_asked.append(len(F))
        return Candidates(F + 1, torch.tensor(next(left)))

    monkeypatch.setattr(sphere, "in_group", in_group)
    found = sphere.in_rounds(torch.zeros(9, 1))
    assert n_asked == [9, 2, 1, 1]  # the second of the best two loses, the first gains twice, then too little
    assert found.F[:, 0].tolist() == [1, 3, 1, 1, 1, 1, 1, 1, 1]
    assert found.confidence.tolist() == pytest.approx([0.1, 0.7, *rounds[0][2:]])


@pytest.mark.parametrize("n_rounds", [1, 2, 5])
def test_the_rounds_of_a_network_end_even_if_confidence_grows_for_ever(n_rounds, monkeypatch):
    sphere, count = NetworkSphere(problem_of("P -1"), network()), itertools.count(1)
    monkeypatch.setattr(sphere, "in_group", lambda F: Candidates(F + 1, torch.full((len(F),), 0.1 * next(count))))
    found = sphere.in_rounds(torch.zeros(2, 1), n_rounds)
    assert found.F[:, 0].tolist() == [n_rounds, n_rounds]


@pytest.mark.parametrize("group", ["P 1", "C 1 2 1"])
def test_a_network_is_not_confident_of_a_solution_of_one_atom(group, monkeypatch):
    problem = problem_of(group)
    sphere = NetworkSphere(problem, network())
    monkeypatch.setattr(sphere, "network", lambda data, start, n_steps: 0.9 * unit_phasor(start))
    one_atom = problem.from_within_data(torch.ones(1, len(problem.within_data.hkl), dtype=torch.complex64))
    angle = 2 * np.pi * problem.hkl.float() @ torch.tensor([0.21, 0.37, 0.13])
    shifted = one_atom * torch.polar(torch.ones_like(angle), angle)
    start = random_phasors(problem, 1, torch.Generator().manual_seed(0))
    many_atoms = problem.group.average(search(problem, *start, Recipe(n_search=5)))
    found = sphere.in_group(torch.cat([one_atom, shifted, many_atoms]))
    assert found.confidence.tolist() == pytest.approx([0, 0, 0.81], abs=1e-3)


@pytest.mark.filterwarnings("ignore")  # real files deserve some
@pytest.mark.parametrize("d_min", [1.5, 2.0])
def test_no_true_map_is_taken_for_one_of_a_single_atom(cod_table, cod_file, d_min):
    for crystal in (read_crystal(cod_file(f"{name}.cif")) for name in cod_table.index):
        data, truth = simulate_reflections(crystal, d_min)
        F = truth.F[rows_of(data.hkl, truth.hkl)]
        known = F / np.maximum(np.abs(F), 1e-9)
        sphere = NetworkSphere(working_problem(data, np.abs(F), known=known), network())
        assert not bool(sphere.is_of_one_atom(sphere.space.known[None]).any()), crystal.name
        assert bool(sphere.is_of_one_atom(torch.ones_like(sphere.space.known)[None]).all())


@pytest.mark.parametrize("n_rounds", [1, 2])
def test_a_search_has_as_many_rounds_as_it_says(monkeypatch, n_rounds):
    problem, asked = problem_of("P -1"), []

    def in_group(sphere, F):
        asked.append(len(F))
        return Candidates(F, torch.full((len(F),), 0.1 * len(asked)))

    monkeypatch.setattr(NetworkSphere, "in_group", in_group)
    search = LearnedSearch(network(), Recipe(), n_proposals=4, n_rounds=n_rounds)
    search.finished(problem, torch.ones(3, len(problem.hkl), dtype=torch.complex64))
    assert asked == [3, 2][:n_rounds]
    costs = [search._replace(n_rounds=n).extra_cycles(problem.reduced.cell, 1.6) for n in (1, 2, 3, 5)]
    assert [cost / costs[0] for cost in costs] == pytest.approx([1.0, 1.25, 1.5, 1.5])


def test_the_classical_trials_that_a_network_was_given_have_their_own_outcome():
    problem, recipe = problem_of("P 1 21/c 1"), Recipe(n_search=5, n_settle=0, n_finish=(2, 2))
    asked = LearnedSearch(network(), recipe, n_proposals=4)
    seeded = partial(torch.Generator().manual_seed, 0)
    outcome = pursue(problem, (asked,), seeded(), max_trials=2, is_enough=lambda outcome: False)
    every = recipe.trials(problem, 8, seeded())
    assert (outcome.n_trials, outcome.proposed.n_trials) == (2, 8)
    assert outcome.proposed.misfit == pytest.approx(float(every.misfit.min()), abs=1e-4)
    assert outcome.proposed.lead is None
    alone = pursue(problem, (recipe,), seeded(), max_trials=2, is_enough=lambda outcome: False)
    assert alone.proposed is None


@pytest.mark.parametrize(
    ("probability", "n_agree", "is_confirmed", "kind"),
    [
        (0.97, 12, False, "network"),
        (0.3, 1, False, "network"),
        (0.3, 12, False, "classical"),
        (0.7, 12, False, "classical"),
        (None, 12, False, "classical"),
        (None, 2, False, "classical"),
        (0.3, 2, False, "network"),
        (None, 12, True, "network"),
    ],
    ids=["sure", "neither", "trials agree", "less sure", "not calibrated", "more agree", "improbable", "confirmed"],
)
def test_classical_trials_are_preferred_where_their_verdict_is_better(probability, n_agree, is_confirmed, kind):
    problem = problem_of("P -1")
    start = random_phasors(problem, 2, torch.Generator().manual_seed(0))
    F = problem.group.average(search(problem, *start, Recipe(n_search=5, n_settle=0)))
    first = compared(problem, Trials(F[1:], torch.tensor([0.24])), 10)
    given = Trials(torch.cat([F[:1].expand(n_agree, -1), F[1:]]), torch.tensor([0.23] * n_agree + [0.25]))
    learned = compared(problem, Trials(F, torch.tensor([0.3, 0.3]), torch.tensor([0.6, 0.5])), 12)
    learned = learned._replace(
        probability=probability, proposed=compared(problem, given, 96), is_confirmed=is_confirmed
    )
    found = Found(None, None, None, problem, first, Recipe())
    chosen = preferred([found, found._replace(outcome=learned)]).outcome
    assert (chosen.n_trials, chosen.n_agree) == ((12, 1) if kind == "network" else (106, n_agree))


def test_no_search_of_auto_repeats_the_starts_of_another(monkeypatch):
    crystal = crystal_of("P -1", (6, 6))
    data, _ = simulate_reflections(crystal, 1.6)
    found = []

    def drawn(*given):
        phasors, is_known = random_phasors(*given)
        found.append(phasors[:, 0].angle())
        return phasors, is_known

    monkeypatch.setattr("rephase.solvers.solve.verdict", lambda *_, **__: "possible")
    monkeypatch.setattr("rephase.solvers.solve.solver_for", lambda *_, **__: Solver("auto", learned()))
    monkeypatch.setattr("rephase.solvers.strategy.random_phasors", drawn)
    solve(data, model=False, effort=0.01)
    assert len(found) > 1
    assert len(torch.cat(found).unique()) == len(torch.cat(found))


def test_a_search_with_a_network_is_shortened():
    whole = LearnedSearch(network(), Recipe(), 8)
    half, least = whole.shortened(0.5), whole.shortened(1e-9)
    assert (half.n_proposals, half.recipe) == (whole.n_proposals // 2, whole.recipe)
    assert least.n_proposals == 1
    assert least.recipe.n_cycles < whole.recipe.n_cycles / 4


def test_a_network_leads_by_its_confidence_in_the_best_trial_that_disagrees():
    problem = problem_of("P -1")
    start = random_phasors(problem, 2, torch.Generator().manual_seed(0))
    F = problem.group.average(search(problem, *start, Recipe(n_search=5, n_settle=0)))
    confidence = torch.tensor([0.6, 0.55, 0.5])
    trials = Trials(torch.stack([F[0], F[0], F[1]]), torch.full((3,), 0.4), confidence)
    assert compared(problem, trials, 1).lead == pytest.approx(0.1, abs=1e-6)
    alone = trials.take(torch.tensor([0]))
    assert compared(problem, alone, 1).lead == math.inf
    assert verdict(2.0, compared(problem, alone, 1)) == "unsure"


@pytest.mark.parametrize("field", ["confidence", "misfit"])
def test_a_trial_without_a_figure_is_never_the_best(field):
    problem = problem_of("P 1 21/c 1")
    F = problem.amplitude.new_ones(3, len(problem.hkl)).to(torch.complex64)
    figures = torch.tensor([0.3, math.nan, 0.4])
    trials = Trials(F, figures) if field == "misfit" else Trials(F, torch.full((3,), 0.3), figures)
    best, _ = best_of(trials)
    assert getattr(best, field)[0] == (0.3 if field == "misfit" else 0.4)
    assert best.merit[-1] == -math.inf
    if field == "confidence":  # how far the best one leads is then open
        assert math.isnan(compared(problem, best._replace(F=torch.randn_like(F)), 3).lead)


def test_the_best_rival_is_remembered_where_all_kept_trials_agree():
    problem = problem_of("P -1")
    start = random_phasors(problem, 2, torch.Generator().manual_seed(0))
    one, other = problem.group.average(search(problem, *start, Recipe(n_search=5, n_settle=0))).split(1)

    def trials(F, confidence):
        return Trials(
            F.expand(len(confidence), -1), torch.linspace(0.3, 0.4, len(confidence)), torch.tensor(confidence)
        )

    outcome = continued(problem, None, trials(other, [0.5]), 1)
    assert outcome.lead == math.inf
    for confidence in ([0.6] * 20, [0.6] * 20, [0.55] * 40):  # the other one is crowded out
        outcome = continued(problem, outcome, trials(one, confidence), len(confidence))
    assert (outcome.n_agree, outcome.n_trials, len(outcome.kept.F)) == (24, 81, 24)
    assert (outcome.lead, outcome.rival) == (pytest.approx(0.1, abs=1e-6), pytest.approx(0.3, abs=1e-6))
    together = pooled(problem, outcome, continued(problem, None, trials(one, [0.7]), 1))
    assert (together.lead, together.n_trials) == (pytest.approx(0.2, abs=1e-6), 82)
    outcome = continued(problem, outcome, trials(other, [0.8] * 30), 30)  # and becomes the best
    assert (outcome.n_agree, outcome.lead) == (24, pytest.approx(0.2, abs=1e-6))


def test_no_lead_of_a_network_claims_what_it_has_not_learned(monkeypatch):
    certain = Calibration(9.0, 0.0, 0.0, 0.0, n_trials=4)
    monkeypatch.setattr("rephase.solvers.choice.CALIBRATIONS", dict.fromkeys(CALIBRATIONS, certain))
    crystal = crystal_of("P 4", (5, 6))
    data, _ = simulate_reflections(crystal, 2.0)
    with pytest.warns(UserWarning, match="was not trained for"):
        solution = solve(data, solver="learned", effort=0.01, model=False)
    assert solution.probability == LARGEST_UNLEARNED
    assert solution.verdict == "possible"


@pytest.mark.parametrize("name", SHIPPED)
def test_a_probability_is_stated_where_it_was_measured(name):
    solver = solver_for("learned", name)
    finest, coarsest = solver.network.card.data.d_min
    for d_min in (finest, coarsest):
        to = partial(data_to, d_min)
        full, limited = (solver.calibration_for(to(), 10**6, is_unknown=unknown) for unknown in (False, True))
        assert full.largest == 1.0
        # to 1.75 Å agreement decides of what the network has not learned
        assert limited == (full._replace(largest=LARGEST_UNLEARNED) if d_min > 1.75 else None)
        few, enough = full.n_reflections - 1, full.n_reflections
        assert [solver.calibration_for(to(), n, is_unknown=False) for n in (few, enough)] == [limited, full]
        complete, gaps = to(full.missing), to(full.missing + 0.01)
        assert [solver.calibration_for(each, enough, is_unknown=False) for each in (complete, gaps)] == [full, limited]
    for d_min in (0.9 * finest, 1.1 * coarsest):
        assert solver.calibration_for(data_to(d_min), 1000, is_unknown=True) is None


def data_to(d_min, missing=0.0):
    """What of a phase problem decides whether a probability is stated."""
    return SimpleNamespace(d_min=d_min, within_data=SimpleNamespace(missing=missing))


def without_group_of(group, seed=2):
    """Reflections of a small random crystal to 2 Å whose group is not stated, and that group."""
    crystal = crystal_of(group, (6, 6), seed=seed)
    data, _ = simulate_reflections(crystal, 2.0)
    return replace(data, symmetry=None), data.group


def test_a_network_improves_and_ranks_the_trials_in_the_group_that_was_found():
    data, group = without_group_of("P 1 21/c 1")
    merged = without_group(data)
    amplitude = absolute_amplitude(merged.reflections)
    problem = working_problem(merged.reflections, amplitude)
    search = LearnedSearch(network(), Recipe(n_search=5, n_settle=0, n_finish=(2, 2)), n_proposals=2)
    proposed = search.proposals(problem, 5, torch.Generator().manual_seed(0))
    kept, _ = best_of(search.improved(problem, proposed, 5))
    outcome = compared(problem, kept, 96)
    moved = in_group(Found(data, merged, amplitude, problem, outcome, search), group)
    found = moved.outcome.kept
    assert found.confidence.tolist() == sorted(found.confidence.tolist(), reverse=True)
    assert not torch.equal(found.confidence, kept.confidence)
    torch.testing.assert_close(moved.problem.group.average(found.F), found.F, rtol=0, atol=1e-3 * amplitude.max())
    assert (outcome.lead is None, moved.outcome.lead) == (False, None)


def test_without_a_group_nothing_is_claimed_by_a_lead():
    data, _ = without_group_of("P -1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the network may not have learned so many atoms without symmetry
        solution = solve(data, solver="learned", effort=0.04, model=False)
    assert solution.n_trials >= max(each.n_trials for each in CALIBRATIONS.values())
    assert solution.lead is None
    assert solution.space_groups


def test_the_shipped_weights_and_no_others_are_calibrated():
    assert {solver_for("learned", name).network.card.sha256 for name in SHIPPED} == set(CALIBRATIONS)
    assert Solver("learned", learned()).calibration_for(data_to(1.6), 1000, is_unknown=False) is None
    assert Solver("classical").calibration_for(data_to(1.6), 1000, is_unknown=False) is None


@pytest.mark.parametrize("is_calibrated", [True, False])
def test_the_lead_of_other_weights_claims_nothing(monkeypatch, is_calibrated):
    crystal = crystal_of("P -1", (5, 6))
    data, _ = simulate_reflections(crystal, 2.0)
    fitted = {sha256: each._replace(n_trials=4) for sha256, each in CALIBRATIONS.items()} if is_calibrated else {}
    monkeypatch.setattr("rephase.solvers.choice.CALIBRATIONS", fitted)
    solution = solve(data, solver="learned", effort=0.01, model=False)
    assert solution.lead is not None
    assert (solution.probability is not None) == is_calibrated
    assert is_calibrated or solution.verdict != "solved"


def learned(**data):
    """Weights of an untrained network with the card of one that has learned 1.5 to 2 Å or other data."""
    card = PhasingCard(
        model="recurrent",
        options={"width": 8, "n_layers": 1},
        loss="phasor_misfit",
        data=PhasingData(**{"d_min": (1.5, 2.0)} | data),
        training={},
        seed=0,
        figures={},
        command="",
        made_with={},
        n_seen=0,
    )
    return Weights(network(), card)


def test_trials_of_several_recipes_join():
    problem, recipe = problem_of("P 1 21/c 1"), Recipe(n_search=5, n_settle=0, n_finish=(2, 2))
    searches = (LearnedSearch(network(), recipe, n_proposals=2), LearnedSearch(network(), recipe, 8))
    reported = []
    outcome = pursue(
        problem,
        searches,
        torch.Generator().manual_seed(0),
        max_trials=16,
        is_enough=lambda outcome: False,
        report=lambda n_trials, n_agree: reported.append(n_trials),
    )
    assert outcome.n_trials >= 16
    assert len(reported) >= 2
    assert len(outcome.kept.F) == min(24, outcome.n_trials)


def test_a_first_batch_is_counted_in_classical_trials(monkeypatch):
    problem, recipe = problem_of("P 1 21/c 1"), Recipe(n_search=5, n_settle=0, n_finish=(2, 2))
    n_voxels = {"first search maps": 64, "several search maps": 4, "search maps": 1000}  # of maps, as on a GPU
    monkeypatch.setattr("rephase.solvers.strategy.at_once", lambda work, _: n_voxels.get(work, 1) * problem.n_voxels)
    reported = []
    pursue(
        problem,
        (LearnedSearch(network(), recipe, n_proposals=8),),
        torch.Generator().manual_seed(0),
        max_trials=20,
        is_enough=lambda outcome: False,
        report=lambda n_trials, n_agree: reported.append(n_trials),
    )
    assert reported == [8, 24]


def test_a_trial_costs_its_classical_trials_and_the_steps_of_the_network_on_its_own_grid():
    problem, effort = problem_of("P 1 21/c 1"), 1e4

    def cost(search):
        return effort / plan_trials(problem, (search,), effort).max_trials

    steps = []
    for recipe in (Recipe(beyond=False), Recipe(beyond=True)):
        one, eight = (cost(LearnedSearch(network(), recipe, n_proposals=n)) for n in (1, 8))
        assert eight - one == pytest.approx(7 * cost(recipe), rel=0.01)
        steps.append(one - cost(recipe))
    assert steps[0] == pytest.approx(steps[1], rel=0.01)
    assert cost(Recipe(beyond=False)) < 0.9 * cost(Recipe(beyond=True))


def test_a_smaller_effort_takes_fewer_trials():
    problem, search = problem_of("P 1 21/c 1"), LearnedSearch(network(), Recipe(), 8)
    small, large = (plan_trials(problem, (search,), effort).max_trials for effort in (0.01, 1.0))
    assert 1 <= small < large


def test_the_network_is_asked_at_the_resolutions_that_it_has_learned():
    symmetry = find_symmetry("P -1")
    for d_min in (1.6, 2.0):
        searches = Solver("learned", learned()).searches(d_min, symmetry)
        assert tuple((each.recipe, each.n_proposals) for each in searches) == proposals_for(d_min)
    assert [any(recipe.n_direct for recipe, _ in proposals_for(d_min)) for d_min in (1.5, 2.0)] == [True, False]
    assert Solver("raar").searches(1.6, symmetry) == recipes_for("raar", 1.6, symmetry)
    finest, coarsest = solver_for("learned", "recurrent").network.card.data.d_min
    limits = {0.95 * finest: False, finest: True, coarsest: True, 1.009 * coarsest: True, 1.05 * coarsest: False}
    assert {d_min: solver_for("auto", "recurrent", d_min=d_min).network is not None for d_min in limits} == limits
    assert solver_for("learned", d_min=1.0).network is not None


@pytest.mark.parametrize(
    ("d_min", "expected"),
    [(1.0, "recurrent_fine"), (1.5, "recurrent_fine"), (1.85, "recurrent_fine"), (2.0, "recurrent"), (3, "recurrent")],
)
def test_the_shipped_network_is_the_one_for_the_resolution(d_min, expected):
    named = solver_for("learned", expected).network.card
    assert solver_for("learned", d_min=d_min).network.card == named
    is_within = named.data.d_min[0] <= d_min <= named.data.d_min[1]
    assert (solver_for("auto", d_min=d_min).network is not None) == is_within


def test_only_solvers_that_learn_need_weights():
    assert solver_for("classical", "nowhere").network is None
    with pytest.raises(WeightsError, match="no weights 'nowhere'"):
        solver_for("auto", "nowhere", d_min=1.0)
    with pytest.raises(WeightsError, match="expected one of phases"):
        solver_for("learned", "unet")
    with pytest.raises(ConfigError, match="did you mean 'learned'"):
        solver_for("lerned")
    assert solver_for("auto").network.card.model == "recurrent"


@pytest.mark.parametrize("name", ["learned", "auto"])
@pytest.mark.parametrize(
    ("suffix", "said"),
    [(".safetensors", r"its SHA-256 is [0-9a-f]{64}, but that in the card is 9fc15057"), (".json", r"recurrent\.json")],
)
def test_weights_that_were_changed_stop_the_search(tmp_path, name, suffix, said):
    for each in (".safetensors", ".json"):
        content = WEIGHTS.joinpath("recurrent").with_suffix(each).read_bytes()
        changed = content[:-8] + bytes(8) if each == suffix else content
        tmp_path.joinpath("recurrent").with_suffix(each).write_bytes(changed)
    with pytest.raises(WeightsError, match=said):
        solver_for(name, tmp_path / "recurrent.safetensors", d_min=2.0)


def test_weights_that_no_network_is_read_from_are_refused():
    crystal = crystal_of("P -1", (8, 9))
    data, _ = simulate_reflections(crystal, 2.0)
    with pytest.raises(ConfigError, match="weights = 'nowhere' .* solver 'classical' does not ask.*solver='learned'"):
        solve(data, solver="classical", weights="nowhere")


def test_weights_that_auto_does_not_use_are_said():
    data, _ = simulate_reflections(crystal_of("P -1", (8, 9)), 1.2)
    with pytest.warns(UserWarning, match="weights = 'recurrent' .* are not used: .*take solver='learned'"):
        solve(data, solver="auto", weights="recurrent", effort=0.01, model=False)


def test_what_the_network_has_learned_is_not_warned_of():
    problem, group = problem_of("P 1 21/c 1"), find_symmetry("P 1 21/a 1")  # of the same type
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Solver("learned", learned()).warn_of_the_unknown(problem, group)
        Solver("learned", learned(space_groups=("P 1 21/n 1",))).warn_of_the_unknown(problem, group)
        Solver("raar").warn_of_the_unknown(problem, group)


@pytest.mark.parametrize(
    ("data", "group", "said"),
    [
        ({"d_min": (1.9, 2.1)}, "P 1 21/c 1", r"d_min = 1\.6\d Å \(trained on 1\.9 to 2\.1 Å\)"),
        ({"n_atoms": (3, 3)}, "P 1 21/c 1", r"about \d atoms in the asymmetric unit \(trained on 3 to 3\)"),
        ({"n_atoms": (20, 30)}, "P 1 21/c 1", r"about \d atoms in the asymmetric unit \(trained on 20 to 30\)"),
        ({"shapes": ((4, 8, 12), (8, 8, 8))}, "P 1 21/c 1", r"cell of \d+ x \d+ x \d+ points \(.* up to 8 x 8 x 8\)"),
        ({"space_groups": ("P 1",)}, "P 1 21/c 1", r"space group P 1 21/c 1 \(none of the 1 of"),
        ({}, "P 1 2 1", r"space group P 1 2 1 \(none of the 20 of"),
    ],
)
def test_what_the_network_has_not_learned_is_said(data, group, said):
    problem = problem_of("P 1 21/c 1")  # to 1.6 Å
    with pytest.warns(UserWarning, match=said):
        Solver("learned", learned(**data)).warn_of_the_unknown(problem, find_symmetry(group))


def test_many_missing_reflections_are_said():
    problem, group = problem_of("P 1 21/c 1", missing=30), find_symmetry("P 1 21/c 1")
    with pytest.warns(UserWarning, match=r"\d+% missing reflections \(trained on up to 5%\)"):
        Solver("learned", learned(missing=0.05)).warn_of_the_unknown(problem, group)


def test_a_crystal_is_solved_with_the_shipped_network():
    crystal = crystal_of("P -1", (8, 9))
    data, truth = simulate_reflections(crystal, 2.0)
    solution = solve(data, solver="learned", effort=0.1, model=False)
    assert truth.score(solution.amplitude * np.exp(1j * solution.phi), solution.reflections).map_cc > 0.8


def test_the_memory_of_a_network_is_counted(monkeypatch):
    cell, symmetry, index = Cell(60, 60, 60), find_symmetry("P 21 21 21"), np.arange(1, 41)
    hkl = np.stack([index, index, index + 20], axis=1)  # to 0.73 Å
    data = Reflections(hkl, np.ones(40), np.ones(40), cell, symmetry)
    networks = [RecurrentNetwork(width=width, n_layers=1) for width in (8, 48)]
    small, large = (LearnedSearch(network, Recipe(), 8) for network in networks)
    cpu = torch.device("cpu")
    cost = partial(estimate_cost, data, reach=1.1, effort=1e-9, device=cpu)
    monkeypatch.setattr("rephase.solvers.cost._timed_transforms", lambda shape, device: 1.0)
    n_bytes = [cost(searches).n_bytes for searches in ((Recipe(),), (small, Recipe()), (large, Recipe()))]
    n_voxels = int(points_needed(torch.tensor([60.0, 60.0, 60.0]), torch.tensor(data.d_min)).prod())
    assert n_bytes[1] - n_bytes[0] > 4 * 8 * n_voxels  # hidden maps in single precision
    assert n_bytes[2] - n_bytes[1] > 4 * 40 * n_voxels
    monkeypatch.setattr("rephase.solvers.cost.total_memory", lambda device: (n_bytes[0] + n_bytes[1]) // 2)
    check_memory(data, (Recipe(),), reach=1.1, device=cpu)
    with pytest.raises(GridError, match=r"GiB, \d+ of them for the network; .* solver='classical' .* d_min="):
        check_memory(data, (small, Recipe()), reach=1.1, device=cpu)
    monkeypatch.setattr("rephase.solvers.cost.total_memory", lambda device: n_bytes[0] // 2)
    with pytest.raises(GridError, match="of them for the network") as stopped:
        check_memory(data, (small, Recipe()), reach=1.1, device=cpu)
    assert "classical" not in str(stopped.value)


def test_a_network_that_takes_long_is_announced(monkeypatch):
    data, _ = simulate_reflections(crystal_of("P -1", (8, 9)), 2.0)
    search = LearnedSearch(RecurrentNetwork(width=8, n_layers=1), Recipe(), 8)
    announce = partial(warn_of_cost, data, (search,), reach=1.3, effort=1.0, device=torch.device("cpu"))
    announce()
    monkeypatch.setattr(LearnedSearch, "extra_cycles", lambda *_: 2_100_000 * Recipe().n_cycles)
    with pytest.warns(UserWarning, match="about .* for each trial.*--solver classical.* does without the network"):
        announce()


@pytest.mark.parametrize(("has_group", "has_fragment"), [(True, False), (False, False), (True, True)])
def test_auto_is_classical_without_a_group_and_with_known_phases(monkeypatch, has_group, has_fragment):
    crystal = crystal_of("P -1", (6, 6))
    data, _ = simulate_reflections(crystal, 2.0)
    asked = []
    monkeypatch.setattr("rephase.solvers.solve.solver_for", lambda name, *_, **__: asked.append(name) or pytest.skip())
    with pytest.raises(pytest.skip.Exception):
        solve(data if has_group else replace(data, symmetry=None), fragment=crystal if has_fragment else None)
    assert asked == ["auto" if has_group and not has_fragment else "classical"]


@pytest.mark.parametrize(("answer", "asks"), [("solved", False), ("possible", True)])
def test_auto_asks_the_network_if_classical_trials_do_not_convince(monkeypatch, answer, asks):
    crystal = crystal_of("P -1", (6, 6))
    data, _ = simulate_reflections(crystal, 1.6)
    monkeypatch.setattr("rephase.solvers.solve.verdict", lambda *_, **__: answer)
    monkeypatch.setattr("rephase.solvers.solve.solver_for", lambda *_, **__: Solver("auto", learned()))
    asked, proposals = [], LearnedSearch.proposals
    monkeypatch.setattr(LearnedSearch, "proposals", lambda *given: asked.append(given) or proposals(*given))
    solve(data, model=False, effort=0.01)
    assert bool(asked) == asks


def test_a_network_does_not_take_known_phases():
    crystal = crystal_of("P -1", (6, 6))
    data, _ = simulate_reflections(crystal, 2.0)
    with pytest.raises(ConfigError, match="starts from random phases only"):
        solve(data, solver="learned", fragment=crystal, model=False)
