"""The hand of models and solutions: the inversion of each group, and crystals with dispersion in both hands."""

from dataclasses import replace

import numpy as np
import pytest

from rephase.crystal.cell import Cell
from rephase.crystal.peaks import distances, find_peaks
from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.phase_lists import PhaseList
from rephase.crystal.reflections.statistics import unique_hkl
from rephase.crystal.symmetry import find_symmetry
from rephase.refinement.factors import SiteFactors
from rephase.refinement.hand import in_right_hand, inversion_of
from rephase.refinement.refine import RefinementOptions, refine
from rephase.refinement.sites import Sites
from rephase.solvers.modelling import inverted
from rephase.solvers.solution import Solution
from rephase.solvers.solve import solve

CELL = Cell(9.0, 9.0, 12.0)
WAVELENGTH = 1.54184


def sites_of(cell=CELL, n=8, seed=3) -> Sites:
    """Carbon atoms and a sulfur atom at random in a part of the cell, about 1.5 Å apart or more."""
    rng = np.random.default_rng(seed)
    kept = rng.uniform(0.05, 0.45, (1, 3))
    while len(kept) < n:
        more = rng.uniform(0.05, 0.45, 3)
        if np.linalg.norm((kept - more) @ cell.orthogonalisation.T, axis=1).min() > 1.4:
            kept = np.vstack([kept, more])
    elements = ["S", *("C" * (n - 1))]
    return Sites.isotropic([f"{e}{i}" for i, e in enumerate(elements, 1)], elements, kept, np.full(n, 0.03), cell)


def measured_of(sites: Sites, symbol: str, noise=0.005) -> Reflections:
    """Friedel mates apart, with dispersion."""
    symmetry = find_symmetry(symbol)
    unique = unique_hkl(CELL, symmetry, 1.1)
    hkl = np.concatenate([unique, -unique[~symmetry.is_centric(unique)]])
    exact = np.abs(SiteFactors(hkl, CELL, symmetry, sites.elements, WAVELENGTH).F(sites)) ** 2
    sigma = noise * exact + 1e-3 * exact.mean()
    intensity = exact + sigma * np.random.default_rng(0).normal(size=len(hkl))
    return Reflections(hkl, intensity, sigma, CELL, symmetry, wavelength=WAVELENGTH)


def refined_model(sites: Sites, measured: Reflections):
    """A model at these places, refined briefly."""
    options = RefinementOptions(n_cycles=4, weighting=(0.0, 0.0), refines_extinction=False)
    return refine(sites, measured.merge(friedel=False).reflections, options=options)


@pytest.mark.parametrize(
    ("symbol", "other", "shift"),
    [
        ("P 21 21 21", "P 21 21 21", (0, 0, 0)),
        ("P 41", "P 43", (0, 0, 0)),
        ("P 31 2 1", "P 32 2 1", (0, 0, 0)),
        ("P 61 2 2", "P 65 2 2", (0, 0, 0)),
        ("P 43 3 2", "P 41 3 2", (0, 0, 0)),
        ("I 41", "I 41", (0, 1 / 2, 0)),
        ("F d d 2", "F d d 2", (1 / 4, 1 / 4, 0)),
        ("I 41 2 2", "I 41 2 2", (0, 1 / 2, 1 / 4)),
        ("I -4 2 d", "I -4 2 d", (0, 1 / 2, 1 / 4)),
        ("F 41 3 2", "F 41 3 2", (1 / 4, 1 / 4, 1 / 4)),
    ],
)
def test_the_inversion_of_a_group(symbol, other, shift):
    """The points of inversion, twice the listed coordinates, are those of Parthé & Gelato (1984)."""
    found = inversion_of(find_symmetry(symbol))
    assert found.symmetry.symbol == other
    assert found.shift == pytest.approx(shift)


@pytest.mark.parametrize(("symbol", "gamma"), [("P 21 21 21", 90), ("P 43", 90), ("F d d 2", 90), ("P 32 2 1", 120)])
def test_an_inverted_structure_has_the_same_intensities_and_its_phases(symbol, gamma):
    symmetry, cell = find_symmetry(symbol), Cell(9.0, 9.0, 12.0, 90, 90, gamma)
    sites, inversion = sites_of(cell), inversion_of(symmetry)
    hkl = unique_hkl(cell, symmetry, 1.5)
    F = SiteFactors(hkl, cell, symmetry, sites.elements, None).F(sites)
    other = replace(sites, xyz_frac=inversion.shift - sites.xyz_frac)
    F_other = SiteFactors(hkl, cell, inversion.symmetry, sites.elements, None).F(other)
    np.testing.assert_allclose(np.abs(F_other), np.abs(F), atol=1e-6)
    expected = np.abs(F) * np.exp(1j * inversion.phases(np.angle(F), hkl))
    np.testing.assert_allclose(F_other, expected, atol=1e-6)


@pytest.mark.parametrize("symbol", ["P 21 21 21", "P 41", "I 41"])
@pytest.mark.parametrize("is_right", [True, False])
def test_models_of_both_hands_become_the_right_one(symbol, is_right):
    sites, symmetry = sites_of(), find_symmetry(symbol)
    measured, inversion = measured_of(sites, symbol), inversion_of(symmetry)
    start, data = sites, measured
    if not is_right:
        start, data = replace(sites, xyz_frac=inversion.shift - sites.xyz_frac), inversion.moved(measured)
    model, made = in_right_hand(refined_model(start, data), data)
    assert (made is None) == is_right
    assert model.symmetry.symbol == symmetry.symbol
    assert model.flack.x == pytest.approx(0, abs=4 * model.flack.su)
    assert model.flack.su < 0.05
    assert model.r1 < 0.01
    from_true = model.sites.xyz_frac - sites.xyz_frac  # apart from shifts along polar axes
    np.testing.assert_allclose(from_true - from_true[0], 0, atol=2e-3)
    if not is_right:
        centre = model.sites.xyz_frac.mean(0)
        assert ((centre >= 0) & (centre < 1)).all()


def test_a_hand_that_is_given_is_kept():
    sites = sites_of()
    measured = measured_of(sites, "P 21 21 21")
    model, made = in_right_hand(
        refined_model(replace(sites, xyz_frac=-sites.xyz_frac), measured), measured, keeps_hand=True
    )
    assert made is None
    assert model.flack.x == pytest.approx(1, abs=0.1)


def test_a_centrosymmetric_model_has_no_hand():
    measured = measured_of(sites_of(), "P b c a")
    model, made = in_right_hand(refined_model(sites_of(), measured), measured)
    assert (model.flack, made) == (None, None)


def test_phases_and_group_of_a_solution_follow_the_model():
    """A structure in P 41 that was solved as its image in P 43."""
    sites, group, own = sites_of(), find_symmetry("P 41"), find_symmetry("P 43")
    hkl = unique_hkl(CELL, own, 1.2)
    F = SiteFactors(hkl, CELL, own, sites.elements, None).F(replace(sites, xyz_frac=-sites.xyz_frac))
    data, ones = Reflections(hkl, np.abs(F) ** 2, np.ones(len(F)), CELL, own, is_merged=True), np.ones(len(F))
    solution = Solution(data, np.abs(F), np.angle(F), ones, 0.1, 1.0, 5, 5, "solved", rival_phi=np.angle(F)[None])
    with pytest.warns(UserWarning, match="the group is P 41, not its mirror image P 43"):
        turned = inverted(solution, inversion_of(own))
    assert turned.reflections.group.symbol == "P 41"
    np.testing.assert_allclose(turned.F, SiteFactors(hkl, CELL, group, sites.elements, None).F(sites), atol=1e-6)
    np.testing.assert_allclose(turned.rival_phi[0], turned.phi)
    places = find_peaks(turned.density, CELL, group, len(sites)).xyz_frac
    sulfur = group.rotations @ sites.xyz_frac[0] + group.translations
    assert distances(sulfur - places[0], CELL).min() < 0.1


@pytest.mark.parametrize("hand", ["found", "given"])
def test_a_crystal_is_solved_in_its_hand(hand):
    """The data are stated in P 43, the structure is in P 41; given phases hold the wrong hand."""
    sites = sites_of(n=10)
    measured = inversion_of(find_symmetry("P 41")).moved(measured_of(sites, "P 41"))
    if hand == "given":
        wrong = replace(sites, xyz_frac=-sites.xyz_frac)
        phi = np.angle(SiteFactors(measured.hkl, CELL, measured.group, wrong.elements, None).F(wrong))
        solution = solve(measured, effort=0.05, phases=PhaseList(measured.hkl, phi, np.ones(len(phi))))
    else:
        with pytest.warns(UserWarning, match="not its mirror image"):
            solution = solve(measured, effort=0.05)
    model = solution.model
    assert solution.reflections.group == model.symmetry
    assert model.symmetry.symbol == {"found": "P 41", "given": "P 43"}[hand]
    assert model.flack.x == pytest.approx({"found": 0, "given": 1}[hand], abs=0.05)
    F = SiteFactors(solution.hkl, CELL, model.symmetry, model.sites.elements, None).F(model.sites)
    error = np.degrees(np.abs(np.angle(F * np.exp(-1j * solution.phi))))
    assert np.average(error, weights=solution.amplitude) < 15
    assert ("hand" in solution.summary()["hints"]) == (hand == "given")
