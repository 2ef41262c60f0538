"""``rephase bench phasing_variants``: the changes of its crystals, its rows and table, and what it refuses."""

import sys

import numpy as np
import pandas as pd
import pytest
import torch

from rephase.config.phasing import PhasingSearch
from rephase.labs.phasing.data import PhasingCrystals
from rephase.paths import BENCHMARKS, CIFS
from rephase.random_crystals.crystals import RandomCrystalOptions, random_crystals

sys.path.insert(0, str(BENCHMARKS))  # as for a script of this folder

import phasing_variants
from cases.changes import (
    APART,
    SPREAD,
    VOLUME,
    at_random_places,
    of_fixed_volume,
    of_varied_volume,
    unchanged,
    volume_per_atom,
    without_hydrogen,
)
from phasing_variants import DATA, ChangedCrystals

CHANGES = [unchanged, at_random_places, without_hydrogen, of_fixed_volume, of_varied_volume]


@pytest.fixture(scope="module")
def crystals():
    """Small crystals of several groups, one of them with a centred lattice."""
    kinds = RandomCrystalOptions(("P 1", "P 1 21/c 1", "C 1 2 1"), n_atoms=(5, 8))
    return random_crystals(12, generator=torch.Generator().manual_seed(3), options=kinds)


def changed(crystals, change):
    return change(crystals, torch.Generator().manual_seed(1))


def shortest_distance(crystal):
    """Return the smallest distance between two atoms of the whole cell and the 26 cells around it, in Å."""
    xyz = crystal.atoms.xyz_frac
    steps = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3), -1).reshape(-1, 1, 1, 3)
    apart = crystal.cell.orthogonalisation @ (xyz[:, None] - xyz + steps)[..., None]
    distance = np.linalg.norm(apart[..., 0], axis=-1)
    return distance[distance > 1e-6].min()


@pytest.mark.parametrize("change", CHANGES)
def test_all_but_what_is_named_is_kept(crystals, change):
    found = changed(crystals, change)
    is_kept = {
        "lattice": change not in (of_fixed_volume, of_varied_volume),
        "xyz_frac": change in (unchanged, of_fixed_volume, of_varied_volume),
        "numbers": change != without_hydrogen,
        "u_iso": change != without_hydrogen,
        "occupancy": change != without_hydrogen,
        "group": True,
    }
    assert {name: torch.equal(getattr(found, name), getattr(crystals, name)) for name in is_kept} == is_kept


def test_atoms_at_random_places_are_apart_in_the_whole_cell(crystals):
    found = changed(crystals, at_random_places)
    for i in range(len(crystals)):
        before, after = crystals.crystal(i), found.crystal(i)
        assert sorted(after.atoms.elements) == sorted(before.atoms.elements)
        assert shortest_distance(after) > APART - 1e-4
    assert min(shortest_distance(crystals.crystal(i)) for i in range(len(crystals))) < 1.1  # C-H


def test_no_hydrogen_is_left_and_nothing_else_is_removed(crystals):
    found = changed(crystals, without_hydrogen)
    assert (crystals.numbers == 1).any()
    for i in range(len(crystals)):
        before, after = crystals.crystal(i).asymmetric_unit, found.crystal(i).asymmetric_unit
        is_heavy = np.array(before.elements) != "H"
        assert after.elements == tuple(np.array(before.elements)[is_heavy])
        np.testing.assert_array_equal(after.xyz_frac, before.xyz_frac[is_heavy])
        np.testing.assert_array_equal(after.u_iso, before.u_iso[is_heavy])


def test_volumes_are_fixed_or_varied_and_angles_kept(crystals):
    for i in range(len(crystals)):
        crystal = changed(crystals, of_fixed_volume).crystal(i)
        n_heavy = sum(element != "H" for element in crystal.atoms.elements)
        assert crystal.cell.volume / n_heavy == pytest.approx(VOLUME, rel=1e-3)
        assert crystal.cell.parameters[3:] == pytest.approx(crystals.crystal(i).cell.parameters[3:], abs=1e-2)
    factor = volume_per_atom(changed(crystals, of_varied_volume)) / volume_per_atom(crystals)
    assert factor.sub(1).abs().max() <= SPREAD + 1e-4
    assert factor.min() < 1 < factor.max()


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """The benchmark with shorter trainings, as a function of its options; rows go to ``rows.csv``."""

    def run(*options):
        words = ["--validation", 1, "--device", "cpu", "--out", tmp_path / "rows.csv", *options]
        monkeypatch.setattr(sys, "argv", ["phasing_variants.py", *map(str, words)])
        phasing_variants.main()

    short = PhasingSearch(n_starts=2, n_steps=2)
    training = {"batch_size": 2, "n_free": 2, "n_steps": 2, "validation": short}
    monkeypatch.setattr(phasing_variants, "TRAINING", phasing_variants.TRAINING.model_copy(update=training))
    monkeypatch.setattr(phasing_variants, "JUDGED", short)
    monkeypatch.setattr("rephase.labs.phasing.data._MADE_AT_ONCE", 8)
    return run


def test_a_variant_is_trained_judged_and_kept(bench, tmp_path, capsys):
    given = ["--variants", "width 12", "--crystals", 16, "--folder", CIFS, "--d-min", 0.6, "--every", 11]
    bench(*given)
    rows = pd.read_csv(tmp_path / "rows.csv")
    assert list(rows["judged on"]) == ["1 random crystals", "cifs to 0.6 Å, every 11"]
    assert (rows["variant"] == "width 12").all()
    assert rows["seen"].between(8, 16).all()
    assert rows["parameters"].nunique() == rows["minutes"].nunique() == 1
    assert (rows["minutes"] > 0).all()
    assert rows["any"].ge(rows["first"]).all()
    assert rows["first"].ge(rows["first>=0.9"]).all()
    assert rows["n"].ge(1).all()
    assert (tmp_path / "rows" / "16 crystals, seed 0" / "width 12" / "finished").is_file()
    table = capsys.readouterr().out.splitlines()[-3:]
    bench(*given)
    assert capsys.readouterr().out.splitlines() == table


def test_only_the_training_crystals_are_changed(monkeypatch):
    monkeypatch.setattr("rephase.labs.phasing.data._MADE_AT_ONCE", 8)
    validation = PhasingCrystals(DATA.model_copy(update={"n_validation": 2}))[np.arange(2)]
    data = ChangedCrystals(DATA.model_copy(update={"n_validation": 2}), without_hydrogen, validation)
    plain = ChangedCrystals(data.config, unchanged, validation)
    assert torch.equal(data[[0, 1]].F, validation.F)
    sources = (PhasingCrystals(data.config), plain, data)
    drawn, shipped, without = (each.draw(8, np.random.default_rng(0)) for each in sources)
    assert torch.equal(shipped.amplitude, drawn.amplitude)
    assert torch.equal(without.lattice, drawn.lattice)
    assert not torch.isclose(without.F, drawn.F, rtol=0.01).all(1).any()


def test_wrong_calls_end_with_one_line(bench, tmp_path):
    for wrong in (["--crystals", 12], ["--crystals", 0], ["--validation", 0], ["--variants", "no such"]):
        with pytest.raises(SystemExit, match="2"):
            bench("--crystals", 16, *wrong)
    with pytest.raises(SystemExit, match="^ConfigError: --folder .*: no crystal could be read"):
        bench("--crystals", 16, "--folder", tmp_path)
