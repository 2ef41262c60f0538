"""Strangers' crystal files: what is read, what is left out and counted, what is refused by name."""

import warnings

import numpy as np
import pytest

from rephase.crystal.atoms import at_origin_of
from rephase.crystal.cell import Cell
from rephase.crystal.map_files import read_density, write_density
from rephase.crystal.structures import read_crystal
from rephase.crystal.symmetry import find_symmetry
from rephase.errors import CifError, GridError, RephaseError

HEAD = """data_made
_cell_length_a 6.2
_cell_length_b 7.1
_cell_length_c 8.4
_cell_angle_alpha 90
_cell_angle_beta 96
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1 21/c 1'
"""
CUBIC = HEAD.replace("7.1", "6.2").replace("8.4", "6.2").replace("96", "90").replace("P 1 21/c 1", "P m -3 m")


def loop(*columns: str, rows: str) -> str:
    return "loop_\n" + "".join(f"_atom_site_{column}\n" for column in columns) + rows + "\n"


def sites(rows: str, *more: str, head: str = HEAD) -> str:
    return head + loop("label", "type_symbol", "fract_x", "fract_y", "fract_z", *more, rows=rows)


def labelled(rows: str, formula: str = "?") -> str:
    return f"{HEAD}_chemical_formula_sum '{formula}'\n" + loop("label", "fract_x", "fract_y", "fract_z", rows=rows)


@pytest.mark.parametrize(
    ("written", "element", "charge"),
    [
        ("Mn+3", "Mn", 3),
        ("S-2", "S", -2),
        ("Ti4+", "Ti", 4),
        ("Br1-", "Br", -1),
        ("K+", "K", 1),
        ("F-", "F", -1),
        ("D", "H", 0),
        ("T", "H", 0),
        ("2H", "H", 0),
        ("(2)H", "H", 0),
        ("15N", "N", 0),
        ("238U", "U", 0),
        ("CL", "Cl", 0),
        ("zn", "Zn", 0),
        ("Wat", "O", 0),
        ("OH", "O", 0),
        ("H2O", "O", 0),
        ("Ow", "O", 0),
        ("Cval", "C", 0),
        ("Csp2", "C", 0),
    ],
)
def test_types_are_read_as_databases_write_them(written, element, charge):
    crystal = read_crystal(sites(f"A1 {written} 0.1 0.2 0.3"))
    assert crystal.asymmetric_unit.elements == (element,)
    assert crystal.asymmetric_unit.charges == (charge,)


@pytest.mark.parametrize("written", ["Al/Si", "(Mg,Fe)", "CaNa", "M", "Xx", "1", "+"])
def test_types_that_are_no_element_are_refused(written):
    with pytest.raises(CifError, match="'A1' has the unknown element"):
        read_crystal(sites(f"A1 {written} 0.1 0.2 0.3"))


@pytest.mark.parametrize(
    ("label", "formula", "element"),
    [
        ("HF1", "C6 H6 O2", "H"),
        ("HG2A", "C6 H6 O2", "H"),
        ("CD1", "C6 H6 N2", "C"),
        ("NA2", "C6 H6 N2", "N"),
        ("CL1", "C6 H6 Cl N2", "Cl"),
        ("HO1", "Ho2 H2 O4", "Ho"),
        ("Wat3", "Mg H8 O8", "O"),
        ("W2", "Mg H8 O8", "O"),
        ("W2", "Ca W O4", "W"),
        ("OW1", "Ca W O4", "O"),
        ("DB1", "C4 D4", "H"),
        ("c12", "C4 H4", "C"),
        ("CA", "C12 H10, Ca O", "Ca"),
    ],
)
def test_labels_are_read_by_the_formula(label, formula, element):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*the formula")  # one atom is not all of it
        crystal = read_crystal(labelled(f"{label} 0.1 0.2 0.3", formula))
    assert crystal.asymmetric_unit.elements == (element,)


@pytest.mark.parametrize(
    ("label", "formula", "element"), [("HE1", "?", "H"), ("CL2", "?", "Cl"), ("Co1", "C2 O2", "C"), ("NB1", "?", "Nb")]
)
def test_labels_that_may_mean_two_elements_are_reported(label, formula, element):
    with pytest.warns(UserWarning, match=rf"ambiguous labels.*1 \({label} as {element}\)"):
        crystal = read_crystal(labelled(f"{label} 0.1 0.2 0.3\nO1 0.4 0.1 0.1\nC9 0.8 0.1 0.1", formula))
    assert crystal.asymmetric_unit.elements[0] == element


def test_a_type_in_its_right_spelling_stands_against_the_formula():
    formula = "_chemical_formula_sum 'C H O'\n_cell_formula_units_Z 4\n"
    with pytest.warns(UserWarning, match="a cell of C4 Ho4 O4, but the formula"):
        crystal = read_crystal(sites("C1 C 0.1 0.1 0.1\nHO1 Ho 0.3 0.1 0.7\nO1 O 0.6 0.6 0.6", head=HEAD + formula))
    assert crystal.asymmetric_unit.elements == ("C", "Ho", "O")
    crystal = read_crystal(sites("C1 C 0.1 0.1 0.1\nHO1 HO 0.3 0.1 0.7\nO1 O 0.6 0.6 0.6", head=HEAD + formula))
    assert crystal.asymmetric_unit.elements == ("C", "H", "O")


def test_a_tetrahedral_site_is_no_tritium():
    with pytest.raises(CifError, match="'T1' has the unknown element"):
        read_crystal(labelled("T1 0.1 0.2 0.3", "K Al Si3 O8"))


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("X1 X 0.1 0.1 0.1 1 calc", r"left out: 1 \(X1\)"),
        ("Cg1 ? 0.1 0.1 0.1 1 calc", r"left out: 1 \(Cg1\)"),
        ("Q7 ? 0.1 0.1 0.1 1 d", r"left out: 1 \(Q7\)"),
        ("Du2 Du 0.1 0.1 0.1 1 d", r"left out: 1 \(Du2\)"),
        ("C9 C 0.1 0.1 0.1 1 dum", r"left out: 1 \(C9\)"),
        ("Vac1 Vac 0.1 0.1 0.1 1 d", r"left out: 1 \(Vac1\)"),
        ("H1 H ? ? ? 1 d", r"hydrogens without coordinates, left out: 1 \(H1\)"),
        ("D1 D . . . 1 d", r"hydrogens without coordinates, left out: 1 \(D1\)"),
    ],
)
def test_what_is_no_atom_is_left_out_and_counted(row, told):
    with pytest.warns(UserWarning, match=told):
        crystal = read_crystal(sites(f"O1 O 0.3 0.3 0.3 1 d\n{row}", "occupancy", "calc_flag"))
    assert crystal.asymmetric_unit.labels == ("O1",)


def test_a_list_of_nothing_but_dummies_is_refused():
    with pytest.warns(UserWarning, match="left out"), pytest.raises(CifError, match="none of the 2 listed sites"):
        read_crystal(sites("X1 X 0 0 0\nX2 X 0 0 0.5"))


@pytest.mark.parametrize("written", ["1.02(3)", "1.03", "1.10(5)"])
def test_occupancies_slightly_above_1_are_1(written):
    with pytest.warns(UserWarning, match="slightly above 1, taken as 1: 1"):
        crystal = read_crystal(sites(f"O1 O 0.3 0.3 0.3 {written}", "occupancy"))
    assert crystal.asymmetric_unit.occupancy.tolist() == [1.0]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0.3", "0,3", "no position"),
        ("0.3", "1e6", "more than 1000 cells away"),
        ("0.3", "?", "no position"),
        ("0.9", "0,9", "not a number"),
        ("0.9", "1.5", "occupancy 1.5"),
        ("0.9", "1.06", "occupancy 1.06"),
        ("0.02", "0,02", "decimal point"),
        ("0.02", "-0.2", "U = -0.2"),
        ("6.2", "1e300", "cell length a = 1e.300"),
        ("6.2", "1e-9", "cell length a = 1e-09"),
        ("6.2", "6,2", "_cell_length_a = 6,2"),
        ("96", "0", "form no cell"),
        ("'P 1 21/c 1'", "?", "'nothing' is not in the tables"),
    ],
)
def test_values_that_cannot_be_are_refused(old, new, message):
    text = sites("O1 O 0.3 0.1 0.7 0.9 0.02", "occupancy", "U_iso_or_equiv")
    with pytest.raises(CifError, match=message):
        read_crystal(text.replace(old, new, 1))


@pytest.mark.parametrize("number", ["P21/c", "1e20", "nan", "231", "-1", "14(1)", "1" * 400])
def test_a_number_of_no_group_is_refused(number):
    with pytest.raises(CifError, match="Int_Tables_number = .*expected a number from 1 to 230"):
        read_crystal(sites("O1 O 0.3 0.1 0.7").replace("loop_", f"_symmetry_Int_Tables_number {number}\nloop_", 1))


def aniso(kind: str, values: str, label: str = "O1") -> str:
    columns = "".join(f"_atom_site_aniso_{kind}_{ij}\n" for ij in ("11", "22", "33", "12", "13", "23"))
    return f"loop_\n_atom_site_aniso_label\n{columns}{label} {values}\n"


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("U", "0.01 0.02 0.03 0 0 0", 0.02),
        ("B", "0.8 1.6 2.4 0 0 0", 1.6 / (8 * np.pi**2)),
        # a* = 1 / 6.2 Å: beta = 2 pi^2 a*^2 U
        ("beta", "0.01 0.01 0.01 0 0 0", 0.01 * 6.2**2 / (2 * np.pi**2)),
    ],
)
def test_anisotropic_displacements_of_every_kind(kind, values, expected):
    crystal = read_crystal(sites("O1 O 0.1 0.2 0.3", head=CUBIC) + aniso(kind, values))
    assert crystal.atoms.u_iso == pytest.approx(expected)


def test_beta_on_oblique_axes_is_the_u_that_it_came_from():
    """β_ij = 2π² a*_i a*_j U_ij (Trueblood et al. 1996), a* by hand: a* = 1 / (a sin β), b* = 1 / b."""
    beta, u = np.radians(96), (0.01, 0.02, 0.03, 0.0, 0.005, 0.0)
    stars = np.array([1 / (6.2 * np.sin(beta)), 1 / 7.1, 1 / (8.4 * np.sin(beta))])
    pairs = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
    values = " ".join(f"{2 * np.pi**2 * stars[i] * stars[j] * value:.10f}" for (i, j), value in zip(pairs, u))
    text = sites("O1 O 0.1 0.2 0.3")
    by_beta = read_crystal(text + aniso("beta", values)).atoms.u_iso[0]
    assert by_beta == pytest.approx(read_crystal(text + aniso("U", " ".join(map(str, u)))).atoms.u_iso[0], rel=1e-6)


def test_anisotropic_displacements_of_no_atom_are_reported():
    with pytest.warns(UserWarning, match=r"of atoms that are not listed, left out: 1 \(O9\)"):
        read_crystal(sites("O1 O 0.1 0.2 0.3") + aniso("U", "0.01 0.02 0.03 0 0 0", "O9"))


@pytest.mark.parametrize(
    ("columns", "values", "told", "expected"),
    [
        (("adp_type", "U_iso_or_equiv"), "Biso 0.79", "whose type is B", 0.79 / (8 * np.pi**2)),
        (("thermal_displace_type", "U_iso_or_equiv"), "Bani 1.58", "whose type is B", 1.58 / (8 * np.pi**2)),
        (("U_iso_or_equiv",), "0.9", "U above 0.5", 0.9),
        (("U_iso_or_equiv",), "-0.002", "taken as 0", 0.0),
    ],
)
def test_displacements_that_are_doubtful_are_reported(columns, values, told, expected):
    with pytest.warns(UserWarning, match=told):
        crystal = read_crystal(sites(f"O1 O 0.1 0.2 0.3 {values}", *columns))
    assert crystal.atoms.u_iso == pytest.approx(expected)


def test_b_is_8_pi_squared_u():
    crystal = read_crystal(sites("O1 O 0.1 0.2 0.3 0.79(2)", "B_iso_or_equiv"))
    assert crystal.atoms.u_iso == pytest.approx(0.79 / (8 * np.pi**2))


# Diamond: 8 atoms at 0 0 0 and its images in choice 1 of F d -3 m, at 1/8 1/8 1/8 in choice 2; the wrong one has 16.
DIAMOND = HEAD.replace("6.2", "3.57").replace("7.1", "3.57").replace("8.4", "3.57").replace("96", "90")
DIAMOND = DIAMOND.replace("P 1 21/c 1", "F d -3 m")


@pytest.mark.parametrize(("at", "choice"), [("0 0 0", "1"), ("0.125 0.125 0.125", "2")])
@pytest.mark.parametrize("stated", ["_chemical_formula_sum C\n_cell_formula_units_Z 8\n", ""])
def test_an_origin_that_is_not_stated_is_found(at, choice, stated):
    with pytest.warns(UserWarning, match=f"does not say which origin is meant: F d -3 m:{choice} is used"):
        crystal = read_crystal(sites(f"C1 C {at}", head=DIAMOND + stated))
    assert (crystal.space_group, crystal.formula) == (f"F d -3 m:{choice}", "C8")


@pytest.mark.parametrize(
    ("symbol", "more", "found"),
    [
        ("F d -3 m:2", "", "F d -3 m:2"),
        ("F d -3 m Z", "", "F d -3 m:2"),
        ("F d -3 m (origin choice 2)", "", "F d -3 m:2"),
        ("F d -3 m", "_space_group_IT_coordinate_system_code 2\n", "F d -3 m:2"),
        ("F 41/d -3 2/m S", "", "F d -3 m:1"),
        ("?", "_space_group_name_Hall ' -F 4vw 2vw 3'\n", "F d -3 m:2"),
    ],
)
def test_an_origin_that_is_stated_is_taken(symbol, more, found):
    at = "0.125 0.125 0.125" if found.endswith("2") else "0 0 0"
    crystal = read_crystal(sites(f"C1 C {at}", head=DIAMOND.replace("F d -3 m", symbol) + more))
    assert (crystal.space_group, crystal.formula) == (found, "C8")


def places(crystal) -> set[tuple]:
    return {(e, *np.round(xyz, 6) % 1) for e, xyz in zip(crystal.atoms.elements, crystal.atoms.xyz_frac)}


@pytest.mark.parametrize(("own", "other"), [("1", "2"), ("2", "1")])
def test_a_crystal_moves_to_the_other_origin_of_its_group(own, other):
    """Spinel: Mg at 0 0 0 and Al at 5/8 5/8 5/8 in choice 1; at 1/8 1/8 1/8 and 1/2 1/2 1/2 in choice 2."""
    rows = {"1": "Mg1 Mg 0 0 0\nAl1 Al 0.625 0.625 0.625", "2": "Mg1 Mg 0.125 0.125 0.125\nAl1 Al 0.5 0.5 0.5"}
    head = DIAMOND.replace("3.57", "8.08")
    found = {
        choice: read_crystal(sites(rows[choice], head=head.replace("F d -3 m", f"F d -3 m:{choice}")))
        for choice in "12"
    }
    moved = at_origin_of(found[own], find_symmetry(f"F d -3 m:{other}"))
    assert moved.space_group == f"F d -3 m:{other}"
    assert places(moved) == places(found[other])
    assert at_origin_of(moved, find_symmetry("P n m a")) is moved


def test_of_several_structures_the_first_is_read():
    other = sites("N1 N 0.3 0.1 0.7").replace("data_made", "data_other")
    with pytest.warns(UserWarning, match="2 blocks list atoms; 'made' is read, and not other"):
        assert read_crystal(sites("O1 O 0.3 0.1 0.7") + other).formula == "O4"


def test_rhombohedral_axes_are_those_of_the_cell():
    hexagonal = HEAD.replace("7.1", "6.2").replace("96", "90").replace("gamma 90", "gamma 120")
    oblique = HEAD.replace("7.1", "6.2").replace("8.4", "6.2").replace("96", "80").replace(" 90", " 80")
    for head, found, n in ((hexagonal, "R -3 m:H", 3), (oblique, "R -3 m:R", 1)):
        crystal = read_crystal(sites("O1 O 0 0 0", head=head.replace("P 1 21/c 1", "R -3 m")))
        assert (crystal.space_group, len(crystal.atoms)) == (found, n)


def test_contents_that_are_not_the_formula_are_reported():
    formula = "_chemical_formula_sum 'C2 H4 O2'\n_cell_formula_units_Z 4\n"
    rows = "C1 C 0.1 0.2 0.3\nO1 O 0.4 0.1 0.1"
    assert read_crystal(sites(f"{rows}\nC2 C 0.6 0.6 0.6\nO2 O 0.8 0.8 0.1", head=HEAD + formula)).formula == "C8 O8"
    with pytest.warns(UserWarning, match="a cell of C4 O4, but the formula times Z = 4 is C8 O8"):
        read_crystal(sites(rows, head=HEAD + formula))


def test_a_group_that_does_not_fit_the_cell_is_reported():
    with pytest.warns(UserWarning, match="P 4 does not fit the cell"):
        read_crystal(sites("O1 O 0.3 0.1 0.7", head=HEAD.replace("P 1 21/c 1", "P 4")))


def operations(*triplets: str) -> str:
    return "loop_\n_space_group_symop_operation_xyz\n" + "\n".join(f"'{triplet}'" for triplet in triplets) + "\n"


def test_operations_that_are_no_group_give_way_to_the_symbol():
    text = sites("O1 O 0.3 0.1 0.7", head=HEAD + operations("x,y,z", "-x,y+1/3,-z", "-x,-y,-z"))
    with pytest.warns(UserWarning, match="'P 1 21/c 1', which it also states, is used instead"):
        assert len(read_crystal(text).atoms) == 4
    with pytest.raises(CifError, match="is not in the tables"):
        read_crystal(text.replace("'P 1 21/c 1'", "?"))


def test_operations_of_no_setting_give_the_whole_cell():
    text = sites(
        "O1 O 0.3 0.1 0.7 0.01",
        "U_iso_or_equiv",
        head=HEAD.replace("'P 1 21/c 1'", "?") + operations("x,y,z", "x,y+1/3,z", "x,y+2/3,z"),
    )
    with pytest.warns(UserWarning, match="3 operations are not a tabulated setting"):
        crystal = read_crystal(text)
    assert (crystal.space_group, len(crystal.atoms), len(crystal.asymmetric_unit)) == ("P 1", 3, 3)
    assert sorted(crystal.atoms.xyz_frac[:, 1]) == pytest.approx([0.1, 0.1 + 1 / 3, 0.1 + 2 / 3])


def test_a_modulated_structure_is_its_average():
    head = HEAD + "_space_group_ssg_name 'P21/c(0b0)00'\n_cell_modulation_dimension 1\n"
    with pytest.warns(UserWarning, match="modulation is left out"):
        assert read_crystal(sites("O1 O 0.3 0.1 0.7", head=head)).formula == "O4"
    with pytest.warns(UserWarning, match="modulation is left out"):
        assert read_crystal(sites("O1 O 0.3 0.1 0.7", head=head.replace("'P 1 21/c 1'", "?"))).formula == "O4"


def test_a_magnetic_cif_is_named():
    group = "loop_\n_space_group_symop_magn_operation.xyz\n'x,y,z,+1'\n'-x,-y,-z,-1'\n"
    with pytest.raises(CifError, match="a magnetic CIF"):
        read_crystal(sites("Fe1 Fe 0.3 0.1 0.7", head=HEAD.replace("'P 1 21/c 1'", "?") + group))
    with pytest.warns(UserWarning, match="a magnetic CIF; its moments are left out"):
        assert read_crystal(sites("Fe1 Fe 0.3 0.1 0.7", head=HEAD + group)).formula == "Fe4"


def test_dotted_names_are_the_same():
    text = sites("O1 O 0.3 0.1 0.7 0.5 0.02", "occupancy", "U_iso_or_equiv")
    dotted = (
        text.replace("_atom_site_", "_atom_site.")
        .replace("_cell_", "_cell.")
        .replace("_symmetry_space_group_name_H-M", "_space_group.name_H-M_alt")
    )
    one, other = read_crystal(text), read_crystal(dotted)
    assert (one.formula, one.space_group) == (other.formula, other.space_group) == ("O2", "P 1 21/c 1")
    assert other.atoms.u_iso == pytest.approx(0.02)


def test_cartesian_coordinates_are_put_into_the_cell():
    """In an orthogonal cell they are the lengths divided by the axes; of two models the first is read."""
    head = HEAD.replace("96", "90").replace("P 1 21/c 1", "P 1")
    text = head + loop(
        "label_atom_id",
        "type_symbol",
        "Cartn_x",
        "Cartn_y",
        "Cartn_z",
        "pdbx_PDB_model_num",
        rows="CA C 3.1 0.71 2.1 1\nCA C 3.0 0.71 2.1 2",
    )
    with (
        pytest.warns(UserWarning, match="Cartesian coordinates"),
        pytest.warns(UserWarning, match=r"further models, left out: 1 \(CA\)"),
    ):
        crystal = read_crystal(text)
    assert crystal.atoms.xyz_frac == pytest.approx(np.array([[0.5, 0.1, 0.25]]))


def test_thousands_of_atoms_are_read():
    rows = "\n".join(f"C{n} C {n / 4000:.5f} {n * 7 % 100 / 100} {n * 13 % 100 / 100}" for n in range(3000))
    assert len(read_crystal(sites(rows)).asymmetric_unit) == 3000


def test_a_map_with_damaged_points_is_refused(tmp_path):
    path = tmp_path / "x.ccp4"
    write_density(path, np.zeros((8, 8, 8)), Cell(8, 8, 8), find_symmetry("P 1"))
    content = path.read_bytes()
    path.write_bytes(content[:-4] + np.uint32(0x7F800001).tobytes())  # a NaN that signals
    with pytest.raises(GridError, match="1 empty points"):
        read_density(path)


SHELX = """TITL made up
  model.res
  created by SHELXL-2019/2 at 10:00:00 on 02-Feb-2026
CELL 0.71073 8.1 5.9 11.7 90 101 90
ZERR 4 0.001 0.001 0.001 0 0.01 0
LATT 1
SYMM -X, 0.5+Y, 0.5-Z
SFAC C O
UNIT 8 4
FVAR 0.5 0.7
C1 1 0.1 0.2 0.3 11.0 0.02 0.03 =
 0.04 0 0 0
c2 1 0.2 0.3 0.35 11.0 -1.2
O1 2 0.3 0.25 0.4 21.0 0.04
HKLF 4
END
Q1 1 0.5 0.5 0.5 11.0 0.05 1.2
"""


def shelx(tmp_path, old: str = "", new: str = ""):
    path = tmp_path / "model.res"
    path.write_text(SHELX.replace(old, new))
    return read_crystal(path)


def test_comments_continued_lines_and_multiples_of_u_in_shelx_files(tmp_path):
    found = shelx(tmp_path).asymmetric_unit
    assert found.labels == ("C1", "c2", "O1")
    assert found.occupancy == pytest.approx([1, 1, 0.7])
    # U_eq = (U22 + (U11 + U33) / sin² β) / 3 without U13; the next is 1.2 times it
    u_eq = (0.03 + (0.02 + 0.04) / np.sin(np.radians(101)) ** 2) / 3
    assert found.u_iso == pytest.approx([u_eq, 1.2 * u_eq, 0.04], rel=1e-4)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("21.0 0.04", "21.0 -0.001", r"taken as 0: 1 \(O1\)"),
        ("HKLF 4", "Q1 1 0.5 0.5 0.5 11 0.05 1.2\nHKLF 4", "1 peaks"),
        ("LATT 1\n", "", "no LATT"),
    ],
)
def test_what_shelx_files_leave_open_is_reported(tmp_path, old, new, told):
    with pytest.warns(UserWarning, match=told):
        assert len(shelx(tmp_path, old, new).asymmetric_unit) == 3


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0.5 0.7\n", "0.5 1e9\nC9 1 21 0 0\n", "expected fractional coordinates"),
        ("21.0 0.04", "21.0 -0.2", "U = -0.2"),
        ("SFAC C O", "SFAC C Xx", "unknown element 'Xx'"),
        ("SFAC C O", "", "SFAC lists 0 elements"),
        ("O1 2", "O1 1.5", "of kind 1.5"),
        ("O1 2", "+model.ins\nO1 2", "includes another file"),
        ("8.1 5.9", "-8.1 5.9", "cell length a"),
        ("CELL 0.71073", "CELL", "expected 7 numbers"),
    ],
)
def test_shelx_files_that_make_no_sense_are_refused(tmp_path, old, new, message):
    with pytest.raises(RephaseError, match=message):
        shelx(tmp_path, old, new)


def test_charged_and_parametrised_elements_keep_their_place(tmp_path):
    sfac = "SFAC C2+ 2.31 20.84 1.02 10.21 1.59 0.57 0.86 51.65 =\n 0.22 0 0 0 0.77 12.0\nSFAC $O2-"
    assert shelx(tmp_path, "SFAC C O", sfac).formula == "C8 O2.8"


def test_move_and_afix_act_on_the_atoms_below(tmp_path):
    found = shelx(tmp_path, "O1 2", "MOVE 1 1 1 -1\nAFIX 3 0.9 10.5 10.07\nO1 2").asymmetric_unit
    assert found.xyz_frac[2] == pytest.approx([0.7, 0.75, 0.6])
    assert (found.occupancy[2], found.u_iso[2]) == pytest.approx((0.5, 0.07))


def test_a_shelx_file_is_known_by_its_lines(tmp_path):
    (tmp_path / "model.txt").write_text(SHELX)
    assert read_crystal(tmp_path / "model.txt").formula == read_crystal(SHELX).formula == "C8 O2.8"


@pytest.mark.parametrize(
    ("content", "what"),
    [(b"PK\x03\x04\0\0", "a ZIP archive"), (b"%PDF-1.4\n", "a PDF"), (b"<html>", "an HTML page")],
)
def test_archives_and_documents_are_named(content, what, tmp_path):
    (tmp_path / "x.cif").write_bytes(content)
    with pytest.raises(CifError, match=f"x.cif: this is {what}.*; expected a CIF or a .res"):
        read_crystal(tmp_path / "x.cif")
