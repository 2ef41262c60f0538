"""Measured lists: merging by hand, French & Wilson's estimate against sampling, every rejected list by its message."""

import math

import numpy as np
import pytest

from rephase.crystal.cell import Cell
from rephase.crystal.reflections import Reflections, estimate_sigma, merge
from rephase.crystal.reflections.french_wilson import french_wilson
from rephase.crystal.reflections.statistics import unique_hkl
from rephase.crystal.symmetry import find_symmetry
from rephase.errors import ReflectionError

CELL = Cell(7, 9, 11, 90, 100, 90)
HKL = np.array([[h, k, l] for h in range(-2, 3) for k in range(1, 4) for l in range(1, 4)])


def listed(**changes):
    columns = {"hkl": HKL, "intensity": np.full(len(HKL), 50.0), "sigma": np.ones(len(HKL)), "cell": CELL}
    return Reflections(**columns | changes)


def at(index, value, *, of):
    changed = np.array(of, dtype=float)
    changed[index] = value
    return changed


def test_equivalents_are_averaged_by_their_weights():
    group = find_symmetry("P 1 2 1")  # h k l = -h k -l, and Friedel mates
    hkl = np.concatenate([HKL, [[-1, 1, -1], [1, -1, 1]]])
    intensity = np.full(len(hkl), 50.0)
    sigma = np.ones(len(hkl))
    first = int(np.flatnonzero((HKL == (1, 1, 1)).all(1))[0])
    intensity[[first, -2, -1]], sigma[[first, -2, -1]] = (40, 43, 40), (1, 2, 2)
    merged = merge(listed(hkl=hkl, intensity=intensity, sigma=sigma, symmetry=group))
    row = int(merged.n_each.argmax())
    assert len(merged.reflections) == len(HKL)
    assert merged.n_each[row] == 3
    mean = (40 + 43 / 4 + 40 / 4) / 1.5
    assert merged.reflections.intensity[row] == pytest.approx(mean)
    scatter = ((40 - mean) ** 2 + (43 - mean) ** 2 / 4 + (40 - mean) ** 2 / 4) / (1.5 * 2)
    assert merged.reflections.sigma[row] == pytest.approx(np.sqrt(max(scatter, 1 / 1.5)))
    assert merged.r_int == pytest.approx((2 * (mean - 40) + 43 - mean) / 123)
    assert (merged.n_measured, merged.n_contradictory) == (len(hkl), 0)
    assert merged.redundancy == pytest.approx(len(hkl) / len(HKL))


def test_absences_are_left_out_and_counted():
    hkl = np.concatenate([HKL, [[0, 1, 0], [0, 2, 0], [0, 3, 0]]])
    merged = listed(
        hkl=hkl,
        intensity=np.r_[np.full(len(HKL), 50.0), 3.0, 50, -1],
        sigma=np.ones(len(hkl)),
        symmetry=find_symmetry("P 21"),
    ).merge()
    assert (merged.n_absent, len(merged.reflections)) == (2, len(HKL) + 1)
    assert merged.absent_i_over_sigma == pytest.approx(1.0)
    assert np.isnan(merged.r_int)


def test_contradictory_equivalents_are_counted_and_kept():
    hkl = np.concatenate([HKL, HKL[:2]])
    intensity = np.r_[np.full(len(HKL), 50.0), 500.0, 51.0]
    with pytest.warns(UserWarning, match=r"1 of 45 reflections have equivalents that contradict each other"):
        merged = listed(hkl=hkl, intensity=intensity, sigma=np.ones(len(hkl))).merge()
    assert merged.n_contradictory == 1
    worst = int(merged.spread.argmax())
    assert merged.reflections.intensity[worst] == pytest.approx(275)
    assert merged.reflections.sigma[worst] == pytest.approx(225)


@pytest.mark.parametrize(("symbol", "is_said"), [("P 21", False), ("P 21/m", True)])
def test_friedel_mates_contradict_each_other_only_where_there_is_a_centre(symbol, is_said, recwarn):
    """Each reflection twice, and its mate, which dispersion makes far stronger in a group without a centre."""
    hkl, intensity = np.concatenate([HKL, HKL, -HKL]), np.repeat([50.0, 50.5, 200.0], len(HKL))
    merged = listed(hkl=hkl, intensity=intensity, sigma=np.ones(len(hkl)), symmetry=find_symmetry(symbol)).merge()
    assert merged.n_contradictory == is_said * len(merged.reflections)
    assert [" contradict each other" in str(warning.message) for warning in recwarn] == [True] * is_said


@pytest.mark.parametrize("symbol", ["P -1", "P 21/n", "C 2/c", "P 21 21 21", "F d d 2", "P 31", "I a -3 d", "R -3:H"])
def test_the_whole_sphere_merges_back_to_one_of_each(symbol):
    group = find_symmetry(symbol)
    cell = Cell(9, 9, 9, 90, 90, 120) if symbol[0] == "R" or "31" in symbol else Cell(9, 9, 9)
    unique = unique_hkl(cell, group, 1.5)
    rng = np.random.default_rng(1)
    F = rng.exponential(20, len(unique)) * np.exp(1j * rng.uniform(-np.pi, np.pi, len(unique)))
    centric = group.centric_phase(unique)
    F = np.where(np.isfinite(centric), np.abs(F) * np.exp(1j * np.nan_to_num(centric)), F)
    hkl, everything = group.expand(unique, F)
    order = rng.permutation(len(hkl))
    data = Reflections(
        hkl[order], np.abs(everything[order]) ** 2, np.ones(len(hkl)), cell, group, np.angle(everything[order])
    )
    merged = data.merge()
    assert np.array_equal(merged.reflections.hkl, unique)
    assert merged.reflections.intensity == pytest.approx(np.abs(F) ** 2)
    assert np.allclose(np.exp(1j * merged.reflections.phi), F / np.abs(F), atol=1e-8)
    assert merged.r_int == pytest.approx(0, abs=1e-12)
    assert np.array_equal(merged.n_each, group.multiplicity(unique))


def test_estimate_far_above_the_noise_is_the_square_root():
    one = np.ones(3)
    found = french_wilson(np.array([1e4, 1e8, 1e14]), one, 1e4 * one, np.array([True, False, False]))
    assert found.amplitude == pytest.approx([1e2, 1e4, 1e7], rel=1e-6)
    assert found.sigma == pytest.approx([5e-3, 5e-5, 5e-8], rel=1e-3)


def test_estimate_without_information_is_the_prior():
    """Wilson's means of |F|: acentric (πΣ/4)^1/2, centric (2Σ/π)^1/2."""
    found = french_wilson(np.zeros(2), np.full(2, 1e6), np.full(2, 100.0), np.array([False, True]))
    assert found.amplitude == pytest.approx([np.sqrt(np.pi * 25), np.sqrt(200 / np.pi)], rel=1e-4)


def test_estimate_at_zero_is_a_ratio_of_gamma_functions():
    """For I = σ^2/Σ (acentric) the posterior of x = J/σ is half a Gaussian: <x^1/2> = 2^1/4 Γ(3/4)/Γ(1/2)."""
    found = french_wilson(np.array([0.1]), np.ones(1), np.array([10.0]), np.array([False]))
    assert found.amplitude[0] == pytest.approx(2**0.25 * math.gamma(0.75) / math.gamma(0.5), rel=1e-9)


@pytest.mark.parametrize("is_centric", [False, True])
def test_estimate_of_weak_intensities_agrees_with_sampling(is_centric):
    rng, n = np.random.default_rng(2), 2_000_000
    J = 5 * (rng.normal(size=n) ** 2 if is_centric else rng.exponential(size=n))
    measured = J + rng.normal(size=n) * 4
    near = np.abs(measured + 3) < 0.1
    found = french_wilson(np.array([-3.0]), np.array([4.0]), np.array([5.0]), np.array([is_centric]))
    assert found.amplitude[0] == pytest.approx(np.sqrt(J[near]).mean(), rel=0.01)
    assert found.sigma[0] == pytest.approx(np.sqrt(J[near]).std(), rel=0.02)


def test_amplitudes_of_negative_intensities_are_small_and_positive():
    rng = np.random.default_rng(3)
    unique = unique_hkl(CELL, find_symmetry("P 21/c"), 0.9)
    true = rng.exponential(10, len(unique))
    data = Reflections(
        unique,
        true + rng.normal(size=len(true)) * 5,
        np.full(len(true), 5.0),
        CELL,
        find_symmetry("P 21/c"),
        is_merged=True,
    )
    amplitude, sigma = data.amplitudes()
    negative = data.intensity < 0
    assert negative.sum() > 30
    assert (amplitude > 0).all()
    assert (sigma > 0).all()
    assert amplitude[negative].mean() < 0.7 * amplitude.mean()
    assert (amplitude**2 + sigma**2).mean() == pytest.approx(true.mean(), rel=0.1)


def test_cut_keeps_the_sphere():
    data = listed()
    cut = data.cut(2.5)
    assert cut.d_min >= 2.5
    assert len(cut) == (data.d_hkl >= 2.5).sum()


def test_sigma_that_is_missing_is_estimated():
    intensity = np.array([100.0, 1.0, -2.0])
    with pytest.warns(UserWarning, match="3 of 3 reflections have no σ"):
        assert estimate_sigma(intensity, None, name="x") == pytest.approx([5, 103 / 300, 103 / 300])
    with pytest.warns(UserWarning, match="1 of 3 reflections have no σ"):
        assert estimate_sigma(intensity, np.array([2.0, 0, 4.0]), name="x") == pytest.approx([2, 3, 4])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"intensity": at(3, np.nan, of=np.ones(45))}, r"intensity = nan in row 4: expected a finite number"),
        ({"intensity": at(0, np.inf, of=np.ones(45))}, r"intensity = inf in row 1"),
        ({"intensity": np.full(45, -0.0)}, r"no intensity is above 0 \(the largest is 0\)"),
        ({"intensity": np.full(45, -1.0)}, r"no intensity is above 0 \(the largest is -1\)"),
        ({"sigma": at(2, 0, of=np.ones(45))}, r"sigma = 0.0 in row 3: expected a finite number above 0"),
        ({"sigma": at(2, -1, of=np.ones(45))}, r"sigma = -1.0 in row 3"),
        ({"hkl": at((5, 0), 1001, of=HKL)}, r"hkl = \(1001.0, .*in row 6: expected three integers from -1000 to 1000"),
        ({"hkl": at((5, 0), 0.5, of=HKL)}, r"hkl = \(0.5, .*expected three integers"),
        ({"hkl": at((5, 0), np.nan, of=HKL)}, r"hkl = \(nan, .*expected three integers"),
        ({"hkl": at(7, 0, of=HKL)}, r"hkl = \(0.0, 0.0, 0.0\) in row 8: .*not all zero"),
        ({"hkl": at((5, 0), 900, of=HKL)}, r"has d = 0.00\d+ Å: expected at least 0.1 Å"),
        ({"hkl": HKL[:, :2]}, r"hkl has the shape \(45, 2\): expected \[n, 3\]"),
        ({"sigma": np.ones(44)}, r"sigma has the shape \(44,\): expected \(45,\)"),
        ({"hkl": HKL[:29], "intensity": np.ones(29), "sigma": np.ones(29)}, r"29 reflections: expected at least 30"),
        ({"cell": Cell(0.5, 9, 11)}, r"cell lengths \(0.5, 9, 11\): expected 1 to 10000 Å"),
    ],
)
def test_impossible_lists_are_refused(changes, message):
    with pytest.raises(ReflectionError, match=message):
        listed(**changes)


@pytest.mark.parametrize(
    ("cell", "symbol"),
    [
        (Cell(7, 9, 11, 80, 100, 90), "P 21/c"),
        (Cell(7, 9, 11, 90, 90, 100), "P 21/n"),
        (Cell(7, 9, 11), "P 4"),
        (Cell(7, 7, 11), "P 31"),
        (Cell(8, 8, 8, 80, 80, 80), "R 3:H"),
        (Cell(8, 8, 11, 90, 90, 120), "R 3:R"),
    ],
)
def test_cell_and_group_that_disagree_are_refused(cell, symbol):
    with pytest.raises(ReflectionError, match=r"the cell .* and the space group .* disagree: .*--space-group"):
        listed(cell=cell, symmetry=find_symmetry(symbol))


def test_cuts_that_leave_nothing_are_refused():
    with pytest.raises(ReflectionError, match=r"d_min = 50 Å leaves no reflection; give a value between"):
        listed().cut(50)


def test_nothing_but_absences_is_refused():
    hkl = np.array([[h, k, l] for h in range(1, 5) for k in range(1, 5) for l in range(1, 5) if (h + k) % 2])
    with pytest.raises(ReflectionError, match="all 32 reflections are systematic absences of C 1 2 1"):
        listed(hkl=hkl, intensity=np.ones(32), sigma=np.ones(32), symmetry=find_symmetry("C 2")).merge()


def test_few_unique_reflections_of_a_high_symmetry_are_enough():
    group, cell = find_symmetry("F m -3 m"), Cell(3.52, 3.52, 3.52)
    unique = unique_hkl(cell, group, 0.8)
    assert len(unique) < 30
    assert Reflections(unique, np.ones(len(unique)), np.ones(len(unique)), cell, group, is_merged=True).d_min >= 0.8
    assert len(unique) == 7
