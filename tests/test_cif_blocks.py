"""Slips of hand-edited CIFs, the spellings of tags, and the group from each thing that a block may state."""

import gemmi
import pytest

from rephase.crystal.cell import Cell
from rephase.crystal.cif_blocks import cell_of, cif_document, space_group_of, text_of
from rephase.crystal.symmetry import find_symmetry
from rephase.errors import CifError, ReflectionError

CELL = "".join(f"_cell_length_{axis} {length}\n" for axis, length in zip("abc", (7.1, 9.2, 11.3)))
CELL += "".join(f"_cell_angle_{name} {angle}\n" for name, angle in (("alpha", 90), ("beta", "101.5(2)"), ("gamma", 90)))
P21C = ["x,y,z", "-x,y+1/2,-z+1/2", "-x,-y,-z", "x,-y+1/2,z+1/2"]


def block_of(text):
    return cif_document(f"data_x\n{text}", name="x.cif")[0]


def operations(tag, triplets):
    return f"loop_\n{tag}\n" + "".join(f"'{triplet}'\n" for triplet in triplets)


@pytest.mark.parametrize(
    "spelled",
    [
        lambda text: text,
        str.upper,
        lambda text: text.replace("_cell_", "_cell."),
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r"),
        lambda text: text.replace("\n", "\r\n") + "\x1a",
    ],
    ids=["core", "capitals", "dotted", "byte order mark", "CR", "CRLF and Control-Z"],
)
def test_a_cell_is_read_in_every_spelling(spelled):
    document = cif_document(spelled("data_x\n" + CELL), name="x.cif")
    assert cell_of(document[0]) == Cell(7.1, 9.2, 11.3, 90, 101.5, 90)


def test_tags_without_a_value_or_given_twice_are_read_with_a_warning():
    with pytest.warns(UserWarning, match="x.cif: tags without a value: _cell_volume in line 8; correct"):
        assert cell_of(block_of(CELL + "_cell_volume\n_cell_formula_units_Z 4\n")).a == 7.1
    with pytest.warns(UserWarning, match="given twice, of which the first is used: _cell_length_a in line 8"):
        assert cell_of(block_of(CELL + "_cell_length_a 8.1\n")).a == 7.1
    with pytest.warns(UserWarning, match="_e in line 6, _f in line 7, _g in line 8 and 1 more"):
        block_of("loop_\n_a\n_b\n1 2\n_e\n_f\n_g\n_h\n")
    with pytest.warns(UserWarning, match="without a value: _cell_length_a in line 2"):
        assert cell_of(block_of("_cell_length_a\n" + CELL[19:])) is None


@pytest.mark.parametrize(
    "text", ["data_x\nloop_\n_a\n_b\n1 2 3\n", "data_x\n_a 'open\n", "data_x\n_a\n;open\n", "_a 1\n"]
)
def test_a_part_of_a_cif_is_refused(text):
    with pytest.raises(CifError, match="x.cif: not a complete CIF .*; it may be truncated, get the file again"):
        cif_document(text, name="x.cif", error=CifError)


def test_cif_2_is_named():
    with pytest.raises(ReflectionError, match="x.cif: CIF 2.0 with its own quotes and lists, or not a complete CIF"):
        cif_document('#\\#CIF_2.0\ndata_x\n_a """one\ntwo"""\n', name="x.cif")


@pytest.mark.parametrize(
    ("text", "symbol"),
    [
        ("_symmetry_space_group_name_H-M 'P 1 21/c 1'", "P 1 21/c 1"),
        ("_symmetry.space_group_name_H-M 'P 1 21/n 1'", "P 1 21/n 1"),
        ("_space_group.name_H-M_full 'P 1 21/n 1'", "P 1 21/n 1"),
        ("_symmetry.Int_Tables_number 14", "P 1 21/c 1"),
        ("_space_group.IT_number 14", "P 1 21/c 1"),
        ("_symmetry_Int_Tables_number 14", "P 1 21/c 1"),
        ("_symmetry_space_group_name_Hall '-P 2yn'", "P 1 21/n 1"),
        ("_space_group.name_Hall '-P 2ybc'", "P 1 21/c 1"),
        ("_space_group_name_Hall 'F 4d 2 3 -1d'", "F d -3 m:1"),
        ("_space_group_name_Hall ?\n_space_group_name_H-M_alt .\n_space_group_IT_number 19", "P 21 21 21"),
        ("_space_group_name_H-M_alt 'F d -3 m'\n_space_group_IT_coordinate_system_code 1", "F d -3 m:1"),
        ("_space_group_name_H-M_alt 'F d -3 m'\n_space_group_IT_coordinate_system_code 2", "F d -3 m:2"),
        ("_space_group.IT_number 227\n_space_group.IT_coordinate_system_code 2", "F d -3 m:2"),
        ("_space_group_IT_number 14\n_space_group_IT_coordinate_system_code b2", "P 1 21/n 1"),
        ("_space_group_IT_number 50\n_space_group_IT_coordinate_system_code 2cab", "P n c b:2"),
        ("_space_group_name_H-M_alt 'R -3'\n_space_group_IT_coordinate_system_code r", "R -3:R"),
        ("_space_group_name_H-M_alt 'P 21/n'\n_space_group_IT_coordinate_system_code b9", "P 1 21/n 1"),
        (operations("_symmetry_equiv_pos_as_xyz", P21C), "P 1 21/c 1"),
        (operations("_symmetry_equiv.pos_as_xyz", P21C), "P 1 21/c 1"),
        (operations("_space_group_symop.operation_xyz", P21C), "P 1 21/c 1"),
        (
            operations(
                "_space_group_symop_ssg_operation_algebraic",
                ["x1,x2,x3,x4", "-x1,x2+1/2,-x3+1/2,-x4", "-x1,-x2,-x3,-x4", "x1,1/2-x2,x3+1/2,x4"],
            ),
            "P 1 21/c 1",
        ),
    ],
)
def test_a_group_is_read_from_whatever_states_it(text, symbol):
    assert find_symmetry(space_group_of(block_of(text))).symbol == symbol


def test_no_group_is_none():
    assert space_group_of(block_of("_symmetry_space_group_name_H-M ?\n")) is None


def test_operations_that_form_no_group_give_way_to_the_symbol():
    broken = operations("_symmetry_equiv_pos_as_xyz", [*P21C[:3], "x,-y+1/3,z+1/2"])
    with pytest.warns(
        UserWarning, match="of the operations .x,y,z., .* not in the tables; 'P 1 21/c 1', which it also states"
    ):
        assert space_group_of(block_of(broken + "_symmetry_space_group_name_H-M 'P 1 21/c 1'\n")) == "P 1 21/c 1"
    assert space_group_of(block_of(broken))[0] == "x,y,z"


@pytest.mark.parametrize(
    ("text", "against"),
    [
        ("_symmetry_space_group_name_H-M 'P 1 21/n 1'", "'P 1 21/n 1'"),
        ("_symmetry_Int_Tables_number 15", "'15'"),
        ("_symmetry_space_group_name_Hall '-P 2yn'", "of the operations"),
    ],
)
def test_two_groups_in_one_block_are_reported(text, against):
    with pytest.warns(UserWarning, match=rf"x states two groups or settings: .*P 1 21/c 1. is used, not {against}"):
        space_group_of(block_of(f"{operations('_symmetry_equiv_pos_as_xyz', P21C)}\n{text}\n"))


@pytest.mark.parametrize("symbol", ["F d -3 m:1", "F d -3 m:2", "R -3:H", "R -3:R", "P 1 21/n 1", "P n c b:2", "A 1"])
def test_operations_do_not_contradict_their_own_symbol(symbol):
    group = gemmi.SpaceGroup(symbol)
    listed = operations("_space_group_symop_operation_xyz", find_symmetry(symbol).triplets)
    names = f"_space_group_name_H-M_alt '{group.hm}'\n_space_group_IT_number {group.number}\n"
    assert set(space_group_of(block_of(f"{listed}_space_group_name_Hall '{group.hall}'\n{names}"))) == set(
        find_symmetry(symbol).triplets
    )


def test_the_first_value_that_is_known_is_taken():
    block = block_of("_a ?\n_b 'two words'\n_c 3\n")
    assert (text_of(block, "_a", "_b", "_c"), text_of(block, "_a", "_d")) == ("two words", "")
