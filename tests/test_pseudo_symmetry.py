"""Pseudo-translations: which classes of reflections they weaken, their rivals, and what a solution then claims."""

from dataclasses import replace

import gemmi
import numpy as np
import pytest
import torch

from rephase.crystal.peaks import site_order
from rephase.crystal.phase_scores import score_phases
from rephase.crystal.reflections.phase_lists import read_phases
from rephase.crystal.reflections.pseudo_translations import find_pseudo_translations, patterson_at_fractions
from rephase.crystal.reflections.simulation import simulate_reflections
from rephase.crystal.structures import read_crystal
from rephase.crystal.symmetry import find_symmetry, rows_of
from rephase.random_crystals.crystals import RandomCrystalOptions, random_crystals
from rephase.solvers.claims import capped, verdict
from rephase.solvers.problem import working_problem
from rephase.solvers.rivals import settle_rivals
from rephase.solvers.solve import solve
from rephase.solvers.strategy import Recipe
from rephase.solvers.trials import Outcome, compared

ANGLES = {"cubic": (90, 90, 90), "monoclinic": (90, 101, 90), "hexagonal": (90, 90, 120)}
# Cells and atoms of made-up superstructures; what is right besides a verdict below solved is their true phases.
VACANCIES = (
    (10.6, 10.6, 10.6),
    "cubic",
    "F m -3 m",
    """
    Ba 0 0 0
    Ba 0 0.25 0.25
    F 0.11 0.11 0.11
    F 0.385 0.385 0.385""",
)
SUBSTITUTED = (
    (13.8, 5.1, 6.3),
    "monoclinic",
    "P 1 2/m 1",
    """
    Bi 0.333 0 0
    Ti 0.167 0.5 0.5
    Ti 0.5 0.5 0.5
    O 0 0 0.5
    O 0.34 0 0.49
    O 0.17 0.5 0.02
    O 0.5 0.5 0""",
)
DISPLACED = (
    (13.8, 5.1, 6.3),
    "monoclinic",
    "P 1 2/m 1",
    """
    Pb 0 0 0
    Pb 0.345 0 0.02
    Ti 0.17 0.5 0.49
    Ti 0.5 0.5 0.5
    O 0.02 0 0.45
    O 0.35 0 0.5
    O 0.17 0.48 0.03
    O 0.5 0.5 0""",
)
ORDERED = (
    (5.9, 5.9, 7.2),
    "hexagonal",
    "P -3 m 1",
    """
    Ca 0 0 0
    Ta 0.33333 0.66667 0.176
    Ba 0.33333 0.66667 0.663
    Ba 0 0 0.5
    O 0.5 0 0
    O 0.17 -0.17 0.32""",
)
INDISTINCT = (
    (10.2, 10.2, 10.2),
    "cubic",
    "F m -3 m",
    """
    Zr 0 0 0
    Zr 0.5 0.5 0.5
    Y 0 0.25 0.25
    O 0.125 0.125 0.125
    O 0.37 0.37 0.37""",
)
DOUBLED = (
    (9.2, 5.1, 6.3),
    "monoclinic",
    "P 1 2/m 1",
    """
    Pb 0.257 0 0.02
    Ti 0 0.5 0.49
    Ti 0.5 0.5 0.49
    O 0.02 0 0.55
    O 0.47 0 0.46
    O 0.24 0.5 0.05""",
)
CENTRED = (
    (8.4, 8.4, 8.4),
    "cubic",
    "I m -3 m",
    """
    W 0 0 0
    O 0.25 0 0
    O 0.2 0.2 0.2""",
)


def crystal_of(structure, folder):
    lengths, system, group, atoms = structure
    cell = zip(
        ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma"), (*lengths, *ANGLES[system])
    )
    columns = ("label", "type_symbol", "fract_x", "fract_y", "fract_z")
    rows = [line.split() for line in atoms.strip().splitlines()]
    text = [
        "data_made_up",
        *(f"_cell_{name} {value}" for name, value in cell),
        f"_space_group_name_H-M_alt '{group}'",
        "loop_",
        *(f"_atom_site_{name}" for name in columns),
        "_atom_site_U_iso_or_equiv",
        *(f"{row[0]}{i} {' '.join(row)} 0.006" for i, row in enumerate(rows)),
    ]
    path = folder / "made_up.cif"
    path.write_text("\n".join(text) + "\n")
    return read_crystal(path)


def merged(structure, folder, d_min=0.8):
    return simulate_reflections(crystal_of(structure, folder), d_min)[0].merge().reflections


def test_the_patterson_function_at_fractions_is_the_sum_over_all_reflections(tmp_path):
    data = merged(ORDERED, tmp_path)
    hkl, intensity = data.group.expand(data.hkl, data.intensity)
    t = np.array([1 / 3, 2 / 3, 2 / 3])
    expected = (intensity * np.cos(2 * np.pi * hkl @ t)).sum() / intensity.sum()
    assert patterson_at_fractions(data, data.intensity, 3)[1, 2, 2] == pytest.approx(expected)


def test_classes_are_weak_by_what_the_superstructure_leaves_them(tmp_path):
    data = merged(VACANCIES, tmp_path)
    found = find_pseudo_translations(data)
    assert len(found.steps) == 32  # four of the centring, eight of the parent in each
    halves = data.hkl // 2 % 2
    even, alike = (data.hkl % 2 == 0).all(1), (halves == halves[:, :1]).all(1)
    strong = found.class_of(data.hkl) == 0
    assert np.array_equal(strong, even & alike)
    assert len(found.weak_classes) == 2  # all odd; even with mixed halves
    assert found.weakness[found.weak_classes] == pytest.approx([1 / 49, 1 / 49], rel=0.6)  # 4 of the 28 Ba, without F
    images, _ = data.group.equivalents(data.hkl)
    assert (found.class_of(images.reshape(-1, 3)).reshape(len(images), -1) == found.class_of(data.hkl)).all()
    assert f"{(~strong).sum()} of {len(data)} reflections" in str(found)


def test_an_origin_of_the_parent_is_a_quarter_of_a_doubled_axis(tmp_path):
    found = find_pseudo_translations(merged(DOUBLED, tmp_path))
    assert found.steps.tolist() == [[0, 0, 0], [12, 0, 0]]
    assert found.origins.tolist() in ([[0, 0, 0], [0.25, 0, 0]], [[0, 0, 0], [0.75, 0, 0]])


@pytest.mark.parametrize("group", ["P 1 21/c 1", "C 1 2/c 1", "P 21 21 21"])
def test_molecules_have_no_pseudo_translation(group):
    options = RandomCrystalOptions(space_groups=(group,), n_atoms=(8, 10))
    crystal = random_crystals(1, generator=torch.Generator().manual_seed(1), options=options).crystal(0)
    assert find_pseudo_translations(simulate_reflections(crystal, 1.0)[0].merge().reflections) is None


def test_a_centring_of_the_group_is_no_pseudo_translation(tmp_path):
    assert find_pseudo_translations(merged(CENTRED, tmp_path)) is None
    found = find_pseudo_translations(replace(merged(CENTRED, tmp_path), symmetry=find_symmetry("P m -3 m")))
    assert found is None  # what the centring makes absent was not listed


@pytest.mark.parametrize(
    "structure",
    [SUBSTITUTED, DISPLACED, ORDERED, INDISTINCT],
    ids=["substituted", "displaced", "ordered", "indistinct"],
)
def test_a_superstructure_is_claimed_only_where_no_flipped_class_fits_as_well(structure, tmp_path):
    data, truth = simulate_reflections(crystal_of(structure, tmp_path), 0.8)
    solution = solve(data, effort=0.02)
    assert solution.verdict != "solved"
    assert "are uncertain" in solution.summary()["pseudo_translation"]
    where = {"hkl": data.hkl, "cell": data.cell, "symmetry": data.group}
    rivals = solution.amplitude * np.exp(1j * np.concatenate([solution.phi[None], solution.rival_phi]))
    assert solution.n_rivals == len(rivals) - 1 > 0
    if structure is not INDISTINCT:
        assert score_phases(rivals[0], truth.F, **where).map_cc[0] > 0.99
    assert score_phases(rivals, truth.F, **where).map_cc.max() > 0.99


def test_rivals_are_written_and_are_the_next_step(tmp_path):
    solution = solve(simulate_reflections(crystal_of(SUBSTITUTED, tmp_path), 0.8)[0], effort=0.02, model=False)
    mtz = gemmi.read_mtz_file(str(solution.write(tmp_path / "out") / "solution.mtz"))
    labels = [f"PHI_RIVAL{n}" for n in range(1, solution.n_rivals + 1)]
    assert mtz.column_labels() == ["H", "K", "L", "F", "PHI", "FOM", *labels]
    assert np.array(mtz.column_with_label("PHI_RIVAL1")) == pytest.approx(np.degrees(solution.rival_phi[0]), abs=1e-3)
    assert ("PHI_RIVAL1" in solution.summary()["next_step"]) == (solution.verdict != "unsure")
    listed = read_phases(tmp_path / "out" / "solution.mtz")
    rows = rows_of(listed.hkl, solution.hkl)
    assert np.cos(listed.phi - solution.phi[rows]) == pytest.approx(np.ones(len(rows)), abs=1e-6)  # not a rival's


def test_rivals_are_not_judged_by_the_confidence_of_a_network(tmp_path):
    data = merged(SUBSTITUTED, tmp_path, 1.2)
    problem, recipe = working_problem(data, np.sqrt(data.intensity)), Recipe(n_search=2, n_settle=0, n_finish=(1, 1))
    classical = recipe.trials(problem, 3, torch.Generator().manual_seed(0))
    judged = classical._replace(confidence=torch.tensor([0.6, 0.5, 0.4]))
    pseudo, outcome = find_pseudo_translations(data), compared(problem, judged, 3)
    assert outcome.lead is not None
    outcome = outcome._replace(probability=0.99)
    settled, without = (
        settle_rivals(problem, outcome._replace(kept=kept), pseudo, recipe).outcome for kept in (judged, classical)
    )
    assert (settled.lead, settled.probability) == (None, None)
    assert torch.equal(settled.F, without.F)


def test_not_every_rival_is_listed(tmp_path, monkeypatch):
    monkeypatch.setattr("rephase.solvers.rivals._MOST_RIVALS", 1)
    assert solve(simulate_reflections(crystal_of(INDISTINCT, tmp_path), 0.8)[0], effort=0.02).n_rivals == 1


def test_phases_that_are_given_do_not_settle_the_signs_of_a_superstructure(tmp_path):
    data, truth = simulate_reflections(crystal_of(SUBSTITUTED, tmp_path), 0.8)
    given = solve(data, effort=0.02, fragment=crystal_of(SUBSTITUTED, tmp_path))
    assert truth.score(given.F, data).map_cc[0] > 0.99
    assert given.verdict != "solved"
    assert "were not tested" in given.summary()["pseudo_translation"]


def test_vacancies_are_where_the_peaks_are_not(tmp_path):
    data, truth = simulate_reflections(crystal_of(VACANCIES, tmp_path), 0.8)
    solution = solve(data, effort=0.02, model=False)
    peaks = solution.peaks()
    assert truth.score(solution.F, data).map_cc[0] > 0.99
    assert peaks.height[0] < 1.15 * peaks.height[1]
    assert peaks.height[2] < 0.5 * peaks.height[1]
    n_images = len(data.group.triplets) // site_order(peaks.xyz_frac[:2], data.cell, data.group)
    assert sorted(n_images) == [4, 24]


def test_a_doubled_axis_has_no_rival_and_is_solved(tmp_path):
    data, truth = simulate_reflections(crystal_of(DOUBLED, tmp_path), 0.8)
    solution = solve(data, effort=0.1, model=False)
    assert truth.score(solution.F, solution.reflections).map_cc[0] > 0.95
    assert solution.verdict == "solved"
    assert solution.n_rivals == 0
    assert solution.summary()["pseudo_translation"].startswith("(1/2 0 0): ")


def outcome_of(misfit, rival=1.0, n_agree=24):
    nothing = torch.zeros(1)
    return Outcome(nothing, nothing, misfit=misfit, rival=rival, n_agree=n_agree, n_trials=100)


def test_nothing_is_possible_where_the_density_does_not_explain_the_amplitudes():
    assert verdict(1.0, outcome_of(0.33)) == "possible"
    assert verdict(1.0, outcome_of(0.7)) == "unsure"
    assert verdict(1.0, outcome_of(0.7, n_agree=1)) == "unsure"


@pytest.mark.parametrize(
    ("fom", "is_open", "expected"),
    [
        (0.98, False, "solved"),
        (0.76, False, "solved"),
        (0.63, False, "possible"),
        (0.98, True, "possible"),
        (None, False, "solved"),
        (None, True, "possible"),
    ],
)
def test_claims_are_capped(fom, is_open, expected):
    values = None if fom is None else np.full(10, fom)
    assert capped("solved", fom=values, is_open=is_open) == expected
    assert capped("unsure", fom=values, is_open=is_open) == "unsure"
