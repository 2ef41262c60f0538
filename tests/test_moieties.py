"""Moieties and Z: molecules in general and special positions, independent ones, salts, networks, disorder."""

from dataclasses import replace

import gemmi
import numpy as np
import pytest

from rephase.crystal.cell import Cell
from rephase.crystal.peaks import parse_formula
from rephase.crystal.symmetry import find_symmetry
from rephase.refinement.moieties import absorption, count_units, find_moieties, heavy_difference, moiety_text
from rephase.refinement.sites import Sites

CELL = Cell(10.0, 11.0, 12.0, 90.0, 100.0, 90.0)
P21C = find_symmetry("P 21/c")


def sites_at(atoms: list[tuple[str, list[float]]], cell=CELL) -> Sites:
    """Atoms at Cartesian positions in Å."""
    elements = [element for element, _ in atoms]
    xyz = np.array([place for _, place in atoms]) @ np.linalg.inv(cell.orthogonalisation).T
    labels = [f"{element}{i}" for i, element in enumerate(elements, 1)]
    return Sites.isotropic(labels, elements, xyz, np.full(len(atoms), 0.03), cell)


def shifted(sites: Sites, step) -> Sites:
    return replace(sites, xyz_frac=sites.xyz_frac + step)


METHANOL = sites_at([("C", [0, 0, 0]), ("O", [1.43, 0, 0]), ("H", [1.7, 0.9, 0])])
HALF = sites_at([("C", [0.75, 0, 0]), ("O", [1.4, 1.0, 0])])  # of O-C-C-O about a centre of symmetry at the origin


def found(sites, cell=CELL, symmetry=P21C):
    moieties = find_moieties(sites, cell, symmetry)
    z = count_units(moieties, {}, cell, symmetry)
    return moiety_text(moieties, z), z


def test_a_molecule_in_a_general_position():
    assert found(shifted(METHANOL, 0.2)) == ("C H O", 4)


def test_two_independent_molecules():
    both = shifted(METHANOL, 0.1).joined(shifted(METHANOL, (0.45, 0.3, 0.1)))
    assert found(both) == ("C H O", 8)
    assert found(both.take(np.arange(5)))[1] == 8  # one lacks its hydrogen atom


def test_a_molecule_on_a_centre_of_symmetry():
    assert found(HALF) == ("C2 O2", 2)
    assert found(shifted(HALF, (0.5, 0, 0))) == ("C2 O2", 2)


def test_a_salt_with_ions_and_water_in_general_positions():
    others = sites_at([("Cl", [0, 3.5, 3]), ("O", [5, 5, 3])])
    assert found(HALF.joined(others)) == ("C2 O2, 2(Cl), 2(O)", 2)


def test_disordered_solvent_counts_by_its_occupancy():
    others = sites_at([("O", [0.0, 4, 3]), ("O", [0.5, 4, 3])])
    others = replace(others, occupancy=np.array([0.3, 0.2]), part=np.array([1, 2]))
    assert found(shifted(METHANOL, (0.4, 0.1, 0.1)).joined(others)) == ("C H O, 0.5(O)", 4)


def test_a_disordered_part_belongs_to_its_molecule():
    sites = sites_at([("C", [0, 0, 0]), ("C", [1.5, 0, 0]), ("F", [2, 1.2, 0]), ("F", [2, -1.2, 0])])
    sites = replace(sites, occupancy=np.array([1, 1, 0.5, 0.5]), part=np.array([0, 0, 1, 2]))
    assert found(shifted(sites, 0.2)) == ("C2 F", 4)


@pytest.mark.parametrize(
    ("symbol", "a", "elements", "places", "expected"),
    [
        ("F m -3 m", 5.64, ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]], ("Cl Na", 4)),
        ("F d -3 m:1", 3.567, ["C"], [[0, 0, 0]], ("C", 8)),
        ("P m -3 m", 3.905, ["Sr", "Ti", "O"], [[0.5, 0.5, 0.5], [0, 0, 0], [0.5, 0, 0]], ("O3 Sr Ti", 1)),
    ],
)
def test_networks(symbol, a, elements, places, expected):
    cell = Cell(a, a, a)
    sites = Sites.isotropic(elements, elements, np.array(places, float), np.full(len(places), 0.01), cell)
    assert found(sites, cell, find_symmetry(symbol)) == expected


def test_a_chain_over_the_cells_is_divided_and_a_ring_is_not():
    cell = Cell(3.0, 10.0, 10.0)
    chain = sites_at([("Se", [0, 2, 2]), ("Se", [1.5, 3.8, 2])], cell)
    assert found(chain, cell, find_symmetry("P 1")) == ("Se", 2)
    ring = sites_at([("S", [5, 5, 5]), ("S", [6.5, 5, 5]), ("S", [6.5, 6.5, 5]), ("S", [5, 6.5, 5])])
    assert found(ring, CELL, find_symmetry("P 1")) == ("S4", 1)


def test_a_formula_determines_z():
    moieties = find_moieties(shifted(METHANOL, 0.2), CELL, P21C)
    contents = {"C": 4.0, "H": 4.0, "O": 4.0}
    assert count_units(moieties, contents, CELL, P21C, {"C": 2, "H": 8, "O": 2}) == 2
    assert count_units(moieties, contents, CELL, P21C, {"C": 1, "O": 1}) == 4
    assert count_units(moieties, {"C": 2.7}, CELL, P21C, {"C": 9}) == 8  # 17.9 Å^3 per atom; the model has none of it


@pytest.mark.parametrize(
    ("share", "unit", "z"),
    [(1.0, 8, 8), (0.92, 8, 8), (1.08, 8, 8), (1.5, 4, 12), (1.0, 4, 8), (0.0, 8, 8)],
)
def test_z_is_one_that_the_group_allows(share, unit, z):
    """C15 N in P b c a, 8 general or 4 special positions: a model that lacks or adds 8 % of the atoms changes no Z."""
    cell, group = Cell(10.0, 12.0, 19.2), find_symmetry("P b c a")  # 18 Å^3 for each of 128 atoms
    contents = {"C": 120.0 * share, "N": 8.0 * share}
    assert count_units((), contents, cell, group, {"C": 15.0, "N": 1.0}, unit=unit) == z


def test_a_solvate_has_the_z_of_its_molecule():
    """C10 H8 O2 with half a molecule of C H2 Cl2, on a centre of symmetry of P 21/c, in one of two orientations."""
    contents = {"C": 42.0, "Cl": 4.0, "O": 8.0}
    assert count_units((), contents, CELL, P21C, {"C": 10.5, "H": 9.0, "Cl": 1.0, "O": 2.0}, unit=4) == 4
    assert count_units((), contents, CELL, P21C, {"C": 21.0, "H": 18.0, "Cl": 2.0, "O": 4.0}, unit=4) == 2


@pytest.mark.parametrize("cod", ["1100979", "1501469", "2221562", "4000000", "2220351"])
def test_absorption_is_the_published_one(cod_file, cod):
    block = gemmi.cif.read(str(cod_file(f"{cod}.cif"))).sole_block()
    axes = ["length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma"]
    tags = [*(f"_cell_{axis}" for axis in axes), "_cell_formula_units_Z", "_diffrn_radiation_wavelength"]
    *cell, z, wavelength = (gemmi.cif.as_number(block.find_value(tag)) for tag in tags)
    formula = parse_formula(gemmi.cif.as_string(block.find_value("_chemical_formula_sum")))
    published = gemmi.cif.as_number(block.find_value("_exptl_absorpt_coefficient_mu"))
    found = absorption({element: z * n for element, n in formula.items()}, Cell(*cell), wavelength)
    assert found == pytest.approx(published, rel=0.005)


def test_absorption_of_what_no_table_has():
    assert np.isnan(absorption({"Cf": 1.0}, CELL, 0.71073))
    assert np.isnan(absorption({"C": 1.0}, CELL, 50.0))


def test_the_difference_of_contents_ignores_hydrogen():
    assert heavy_difference({"C": 8, "H": 3, "O": 2}, {"C": 10, "H": 30}) == pytest.approx(0.4)
