"""The head of a CIF that rephase writes: block name, cell and space group."""

import math
import re

import gemmi

from rephase.crystal.cell import Cell
from rephase.crystal.symmetry import Symmetry

_LONGEST_BLOCK = 75  # characters, in CIF 1.1
_LARGEST_LAST_DIGITS = 19  # an uncertainty has two digits up to 19, otherwise one
_TAGS = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")


def block_name(title: str) -> str:
    """Restrict a title to the characters and length that CIF allows in a block name."""
    return re.sub(r"[^!-~]+", "_", title)[:_LONGEST_BLOCK] or "rephase"


def bracketed(value: float, su: float, decimals: int = 4) -> str:
    """Write a number with its standard uncertainty in brackets, of at most 19 in the last digits.

    A number without an uncertainty has `decimals` decimals.

    >>> bracketed(1.23456, 0.0012), bracketed(1.23456, 0.0021), bracketed(1.5, 0.0, 2)
    ('1.2346(12)', '1.235(2)', '1.50')
    """
    if not su > 0:
        return f"{value:.{decimals}f}"
    places = 1 - math.floor(math.log10(su))
    if round(su * 10**places) > _LARGEST_LAST_DIGITS:
        places -= 1
    last_digits = round(su * 10**places) * 10 ** max(-places, 0)
    return f"{round(value, places):.{max(places, 0)}f}({last_digits})"


def write_head(block: gemmi.cif.Block, cell: Cell, symmetry: Symmetry) -> None:
    """Set the cell with its uncertainties, the volume, and the space group with its operations."""
    for tag, value, su in zip(_TAGS, cell.parameters, cell.su or (0.0,) * 6):
        block.set_pair(f"_cell_{tag}", bracketed(value, su) if su else f"{value:.6g}")
    block.set_pair("_cell_volume", bracketed(cell.volume, cell.volume_su, 2))
    entry = symmetry.table_entry
    if entry is not None:
        block.set_pair("_space_group_crystal_system", entry.crystal_system_str())
        block.set_pair("_space_group_IT_number", str(entry.number))
        block.set_pair("_space_group_name_Hall", gemmi.cif.quote(entry.hall))
    block.set_pair("_space_group_name_H-M_alt", gemmi.cif.quote(symmetry.symbol))
    operations = block.init_loop("_space_group_symop_", ["id", "operation_xyz"])
    for number, triplet in enumerate(symmetry.triplets, start=1):
        operations.add_row([str(number), gemmi.cif.quote(triplet)])
