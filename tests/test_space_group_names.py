"""Space groups by the names that people, journals and programs give them."""

import gemmi
import pytest

from rephase.crystal.space_group_names import group_of_hall, group_of_symbol, settings_of
from rephase.crystal.symmetry import find_symmetry


@pytest.mark.parametrize(
    ("written", "symbol"),
    [
        ("P2_1/c", "P 1 21/c 1"),
        ("P 2_1 2_1 2_1", "P 21 21 21"),
        ("P121/c1", "P 1 21/c 1"),
        ("P 21 / c", "P 1 21/c 1"),
        ("P2\u2081/c", "P 1 21/c 1"),
        ("P1\u0305", "P -1"),
        ("P \u22121", "P -1"),
        ("P$2_1$/c", "P 1 21/c 1"),
        (r"P\bar{1}", "P -1"),
        ("P2<sub>1</sub>/c", "P 1 21/c 1"),
        ("P 2~1~/c", "P 1 21/c 1"),
        ("PNMA", "P n m a"),
        ("P 21/c (14)", "P 1 21/c 1"),
        ("C 2/c (No. 15)", "C 1 2/c 1"),
        ("'P -1'", "P -1"),
        ("P b c a S", "P b c a"),
        ("F d -3 m (origin choice 2)", "F d -3 m:2"),
        ("F d -3 m, origin 1", "F d -3 m:1"),
        ("R -3 m (hexagonal axes)", "R -3 m:H"),
        ("R -3 c (rhombohedral)", "R -3 c:R"),
        ("P 21/n 21/m 21/a", "P n m a"),
        ("F d -3 m", "F d -3 m:2"),  # without an origin, that at the inversion centre
        ("227", "F d -3 m:2"),
        ("F 41/d -3 2/m", "F d -3 m:2"),
        ("F 4_1/d -3 2/m :2", "F d -3 m:2"),
        ("I 41/a 2/m 2/d Z", "I 41/a m d:2"),
        ("P 63/m 2/m 2/c", "P 63/m m c"),
        ("P -3 2/m 1", "P -3 m 1"),
        ("P 21/a -3", "P a -3"),
        ("P 2/m 2/m 2/m", "P m m m"),
        ("F 4/m -3 2/m", "F m -3 m"),
        ("-P 2ybc", "P 1 21/c 1"),
        (" -F 4vw 2vw 3", "F d -3 m:2"),
        ("P 2ac 2ab", "P 21 21 21"),
    ],
)
def test_a_symbol_is_known_however_it_is_written(written, symbol):
    assert find_symmetry(written).symbol == symbol


@pytest.mark.parametrize("group", list(gemmi.spacegroup_table()), ids=lambda group: group.xhm())
def test_every_setting_of_the_tables_is_found_by_both_symbols(group):
    symbol = group.xhm()
    for written in (symbol, symbol.replace(" ", ""), symbol.lower(), symbol.upper(), symbol.replace("21", "2_1")):
        assert group_of_symbol(written).hall == group.hall, written
    for written in (group.hall, f"  {group.hall} ", group.hall.replace(" ", "_")):
        assert group_of_hall(written).hall == group.hall, written


def test_a_hall_symbol_is_not_taken_for_another_groups_name():
    assert group_of_hall("P 3 2").xhm() == "P 3 1 2"  # as a Hermann-Mauguin symbol it is P 32
    assert group_of_hall("P 21/c") is None


def test_what_a_symbol_leaves_open_is_listed():
    assert [group.xhm() for group in settings_of(group_of_symbol("F d -3 m"))] == ["F d -3 m:1", "F d -3 m:2"]
    assert [group.xhm() for group in settings_of(group_of_symbol("R -3 m"))] == ["R -3 m:H", "R -3 m:R"]
    assert [group.xhm() for group in settings_of(group_of_symbol("P n m a"))] == ["P n m a"]
