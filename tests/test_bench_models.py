"""``rephase bench models``: a random crystal solved and refined, atoms compared with the truth, and the claims."""

import runpy
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from rephase.crystal.reflections.simulation import simulate_reflections
from rephase.paths import BENCHMARKS
from rephase.random_crystals.crystals import RandomCrystalOptions, random_crystals
from rephase.refinement.published_sites import sites_of
from rephase.refinement.refine import RefinementOptions, refine

sys.path.insert(0, str(BENCHMARKS))  # as for a script of this folder

from cases.atoms import score_atoms
from cases.crystals import reflection_file
from models import claims, formula_of, is_false, published, published_r1, shares, table_of

KEYS = {"data": "exact", "formula": False, "effort": 1.0, "d_min": 1.0, "seed": 0}
COUNTS = {"n_atoms": 10, "n_found": 10, "n_named": 9, "n_hydrogen": 8, "n_hydrogen_found": 6}
NOTHING = {"n_atoms": 10, "n_found": 0, "n_named": 0, "n_hydrogen": 8, "n_hydrogen_found": 0}
FIGURES = {"r1": 0.02, "wr2": 0.05, "goof": 1.1, "cpu_s": 2.0}


@pytest.fixture(scope="module")
def crystal():
    """A crystal of P 2₁/c with a few atoms."""
    options = RandomCrystalOptions(space_groups=("P 1 21/c 1",), n_atoms=(8, 9))
    return random_crystals(1, generator=torch.Generator().manual_seed(3), options=options).crystal(0)


@pytest.fixture(scope="module")
def true(crystal):
    """Its true structure as a model, its F and its reflections."""
    data, truth = simulate_reflections(crystal, 1.0)
    return refine(sites_of(crystal), data, options=RefinementOptions(n_cycles=0)), truth, data


def changed(model, **columns):
    return replace(model, sites=replace(model.sites, **columns))


def n_of(crystal, kind):
    return sum((element == "H") == (kind == "H") for element in crystal.asymmetric_unit.elements)


def test_the_true_structure_is_found_at_every_origin_and_in_either_hand(crystal, true):
    model, truth, data = true
    whole = score_atoms(model, crystal, truth, data)
    assert whole.n_atoms == whole.n_found == whole.n_named == whole.n_model == n_of(crystal, "not H")
    assert whole.n_hydrogen == whole.n_hydrogen_found == whole.n_model_hydrogen == n_of(crystal, "H") > 0
    moved = changed(model, xyz_frac=np.array([0.5, 0.0, 0.5]) - model.sites.xyz_frac)
    assert score_atoms(moved, crystal, truth, data) == whole


def test_atoms_that_moved_or_have_another_element_are_not_counted(crystal, true):
    model, truth, data = true
    whole = score_atoms(model, crystal, truth, data)
    atoms = np.flatnonzero(~model.sites.is_hydrogen)
    xyz = model.sites.xyz_frac.copy()
    for atom, far in zip(atoms, (0.15, 0.05)):  # Å along a: one too far
        xyz[atom, 0] += far / crystal.cell.a
    elements = list(model.sites.elements)
    elements[atoms[2]] = "Cl"
    found = score_atoms(changed(model, xyz_frac=xyz, elements=tuple(elements)), crystal, truth, data)
    assert (found.n_found, found.n_named) == (whole.n_atoms - 1, whole.n_atoms - 2)


def test_the_elements_that_share_a_site_are_all_right(crystal, true):
    model, truth, data = true
    sites = crystal.asymmetric_unit
    twice = sites.take(np.append(np.arange(len(sites)), 0))
    occupancy = np.append(sites.occupancy, 0.6)
    shared = replace(twice, elements=(*sites.elements, "Br"), occupancy=occupancy)
    found = score_atoms(model, replace(crystal, asymmetric_unit=shared), truth, data)
    assert found.n_named == found.n_found == n_of(crystal, "not H") + 1
    occupancy[-1] = 0.4
    assert score_atoms(model, replace(crystal, asymmetric_unit=shared), truth, data).n_atoms == n_of(crystal, "not H")


def test_a_claim_needs_the_map_and_the_atoms():
    rows = [
        {"name": "right", "verdict": "solved", "map_cc": 0.9, **KEYS, **COUNTS, **FIGURES},
        {"name": "wrong map", "verdict": "solved", "map_cc": 0.6, **KEYS, **COUNTS, **FIGURES},
        {"name": "few atoms", "verdict": "solved", "map_cc": 0.9, **KEYS, **COUNTS | {"n_found": 7}, **FIGURES},
        {"name": "no model", "verdict": "solved", "map_cc": 0.9, **KEYS, **NOTHING, "cpu_s": 1.0},
        {"name": "no claim", "verdict": "unsure", "map_cc": 0.2, **KEYS, **NOTHING, "cpu_s": 3.0},
        {"name": "coarse", "verdict": "solved", "map_cc": 0.2, **KEYS | {"d_min": 1.5}, **NOTHING, "cpu_s": 3.0},
    ]
    table = table_of(rows)
    assert table["name"][is_false(table)].tolist() == ["wrong map", "few atoms", "coarse"]
    assert claims(table) == "claims to 1.2 Å: 4 on 4 crystals, 2 false\n  false: wrong map\n  false: few atoms"
    fine = shares(table).iloc[0]
    assert fine[["n", "models", "claims", "false"]].tolist() == [5, 3, 4, 2]
    assert fine[["solved", "atoms", "elements", "H"]].tolist() == pytest.approx([0.6, 27 / 50, 27 / 27, 18 / 40])


def test_a_random_crystal_is_solved_refined_and_not_measured_again(tmp_path, monkeypatch, capsys):
    out = tmp_path / "rows.csv"
    words = ["--random", "1", "--n-atoms", "6", "7", "--d-min", "1.0", "4", "--effort", "0.02", "--out", str(out)]
    for options in ([], [], ["--formula"]):
        monkeypatch.setattr(sys, "argv", ["models.py", *words, *options])
        runpy.run_path(str(BENCHMARKS / "models.py"), run_name="__main__")
    rows = pd.read_csv(out)
    assert rows["verdict"].tolist() == ["solved", "refused"] * 2
    assert rows["formula"].tolist() == [False, False, True, True]
    assert rows["n_atoms"].nunique() == 1
    assert (rows["n_found"] == rows["n_atoms"])[[0, 2]].all()
    assert (rows["r1"][[0, 2]] < 0.1).all()
    assert "claims to 1.2 Å: 2 on 1 crystals, 0 false" in capsys.readouterr().out


def test_a_fault_of_the_program_is_a_row(tmp_path, monkeypatch, capsys):
    def fail(*_, **__):
        raise ZeroDivisionError("of a test")

    monkeypatch.setattr("rephase.solvers.solve.solve", fail)
    out = tmp_path / "rows.csv"
    monkeypatch.setattr(
        sys, "argv", ["models.py", "--random", "1", "--n-atoms", "6", "7", "--d-min", "1.0", "--out", str(out)]
    )
    runpy.run_path(str(BENCHMARKS / "models.py"), run_name="__main__")
    row = pd.read_csv(out).iloc[0]
    assert (row["verdict"], row["note"]) == ("failed", "ZeroDivisionError: of a test")


def test_published_r1_and_formula_come_from_the_file_or_the_cell(crystal, true, tmp_path):
    path = tmp_path / "one.cif"
    path.write_text("data_one\n_refine_ls_R_factor_gt 0.0414\n")
    assert published_r1(path) == 0.0414
    path.write_text("data_one\n_cell_length_a 5\n")
    assert np.isnan(published_r1(path))
    data = true[2]
    assert formula_of(crystal, replace(data, formula="C2 H6 O")) == "C2 H6 O"
    assert formula_of(crystal, data) == crystal.formula


def test_measured_crystals_have_x_ray_reflections_in_the_cif_or_beside_it(tmp_path, capsys):
    texts = {
        "inside": "data_a\n_refln_index_h 1\n",
        "beside": "data_a\n",
        "nowhere": "data_a\n",
        "neutron": "data_a\n_diffrn_radiation_probe neutron\n_refln_index_h 1\n",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.cif").write_text(text)
    (tmp_path / "beside.hkl").touch()
    found = {name: reflection_file(tmp_path / f"{name}.cif") for name in texts}
    expected = {"inside": tmp_path / "inside.cif", "beside": tmp_path / "beside.hkl"}
    assert {name: path for name, path in found.items() if path} == expected
    assert capsys.readouterr().err.startswith("neutron: left out: neutron data")


def test_each_measured_set_is_listed_beside_its_publication():
    row = KEYS | COUNTS | FIGURES | {"name": "a", "map_cc": 0.99, "verdict": "solved"}
    assert published(table_of([row])) == ""
    listed = published(table_of([row, row | {"data": "measured", "name": "b", "r1_published": 0.03}]))
    assert listed.splitlines()[1].split() == ["measured", "False", "1.0", "1.0", "b", "solved", "0.02", "0.03"]
