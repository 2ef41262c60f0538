"""The model of a solution: what a formula that the atoms contradict does to it."""

import pytest
import torch

from rephase.crystal.reflections.simulation import simulate_reflections
from rephase.random_crystals.crystals import RandomCrystalOptions, random_crystals
from rephase.solvers.solve import solve


@pytest.fixture(scope="module")
def data():
    options = RandomCrystalOptions(space_groups=("P 1 21/c 1",), n_atoms=(8, 10))
    crystals = random_crystals(1, generator=torch.Generator().manual_seed(4), options=options, dtype=torch.float64)
    return simulate_reflections(crystals.crystal(0), 0.9)[0]


def test_a_formula_that_the_atoms_contradict_is_not_forced_on_them(data):
    free, wrong = (solve(data, effort=0.05, formula=formula) for formula in (None, "NaCl"))
    assert wrong.verdict == "solved"
    assert wrong.model.r1 == pytest.approx(free.model.r1)
    assert sorted(wrong.model.sites.elements) == sorted(free.model.sites.elements)
    assert "formula" in wrong.summary()["hints"].split(", ")
    assert wrong.summary()["next_step"].startswith("correct the formula")
