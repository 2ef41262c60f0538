"""The basis of all CIF readers: a document with small slips forgiven, and the cell and space group of a block.

Tags have no dots here, in any dictionary: ``_cell.length_a`` of DDLm and mmCIF is ``_cell_length_a``.
"""

import re
import warnings
from collections.abc import Iterator
from typing import cast

import gemmi
import numpy as np

from rephase.crystal.cell import Cell
from rephase.crystal.cif_numbers import uncertainty_of
from rephase.crystal.symmetry import Symmetry, find_symmetry
from rephase.errors import ReflectionError, RephaseError, SymmetryError

# Tags that state a group, the most reliable first. A symbol may leave the origin or axes open, a number always does.
_OPERATIONS = ("_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz")
_SUPERSPACE = "_space_group_symop_ssg_operation_algebraic"
_SUPERSPACE_NAMES = ("_space_group_ssg_name", "_space_group_ssg_name_IT")
_HALL = ("_space_group_name_Hall", "_symmetry_space_group_name_Hall")
_SYMBOLS = (
    "_space_group_name_H-M_alt",
    "_symmetry_space_group_name_H-M",
    "_space_group_name_H-M_full",
    "_space_group_name_H-M_ref",
    "_space_group_name_H-M",
)
_NUMBERS = ("_space_group_IT_number", "_symmetry_Int_Tables_number", "_symmetry_IT_number")
_CODE = "_space_group_IT_coordinate_system_code"
_CELL = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
_FIRST_LINE = re.compile(r"^[ \t\ufeff]*([^\s#\ufeff].*)", re.MULTILINE)  # neither blank nor a comment
_MARK = re.compile(r"(data_\S*|global_|loop_|_[a-z][\w.-]*)(\s|\Z)", re.IGNORECASE)
_DOTTED = re.compile(r"(\n[ \t]*(?:loop_[ \t]+)?_[A-Za-z][\w-]*)\.(?=[A-Za-z])")
_GRID = np.indices((9, 9, 9)).reshape(3, -1).T - 4  # indices whose absences distinguish settings
_Stated = str | list[str]  # a symbol or a number, or operations
_SHOWN = 3  # tags in a message


def is_cif(text: str) -> bool:
    """Whether a text begins as a CIF; CIF items after the end of a SHELX list do not count."""
    first = _FIRST_LINE.search(text)
    return first is not None and _MARK.match(first[1]) is not None


def cif_document(text: str, *, name: str, error: type[RephaseError] = ReflectionError) -> gemmi.cif.Document:
    """Parse the text of a CIF; a tag without a value gets ``""``, and the first value of a repeated tag is used.

    Raises
    ------
    RephaseError
        As `error`: the text is not a CIF, or only a part of one.

    Warns
    -----
    UserWarning
        Some tags have no value or occur twice; the message gives their lines.
    """
    plain = text.replace("\r\n", "\n").replace("\r", "\n").strip("\ufeff\x1a")  # DOS programs end files with Control-Z
    try:
        document = _parsed(_DOTTED.sub(r"\1_", f"\n{plain}")[1:])
    except (ValueError, RuntimeError, MemoryError) as cause:
        kind = "CIF 2.0 with its own quotes and lists, or " if plain.startswith(r"#\#CIF_2") else ""
        raise error(f"{name}: {kind}not a complete CIF ({cause}); it may be truncated, get the file again") from cause
    for block in document:
        _warn_of_slips(block, name)
    return document


def _parsed(text: str) -> gemmi.cif.Document:
    """Parse a text; where gemmi refuses unquoted letters outside ASCII, they become x."""
    try:
        return gemmi.cif.read_string(text, 0)
    except (ValueError, RuntimeError):
        if text.isascii():
            raise
        return gemmi.cif.read_string(re.sub(r"[^\0-\x7f]", "x", text), 0)


def text_of(block: gemmi.cif.Block, *tags: str) -> str:
    """Return the first known value among some tags, without its quotes; "" if there is none."""
    texts = (gemmi.cif.as_string(block.find_value(tag) or "").strip() for tag in tags)
    return next((text for text in texts if text not in ("", "?", ".")), "")


def cell_of(block: gemmi.cif.Block) -> Cell | None:
    """Return the unit cell of a CIF block; None if the cell is missing or incomplete."""
    texts = [block.find_value(f"_cell_{part}") or "?" for part in _CELL]
    values, su = [gemmi.cif.as_number(text) for text in texts], tuple(map(uncertainty_of, texts))
    return Cell(*values, su=su if any(su) else None) if np.isfinite(values).all() else None


def space_group_of(block: gemmi.cif.Block) -> str | list[str] | None:
    """Return the space group that a CIF block states: operations, Hall symbol, Hermann-Mauguin symbol, or number.

    The first statement, in this order, that makes a group is returned; if none does, the first as written; None without
    statements. A code of the origin or the axes completes a symbol or number: ``F d -3 m`` with the code 1 is
    ``F d -3 m:1``.

    Warns
    -----
    UserWarning
        The first statement makes no group, or another one contradicts the one that is used.
    """
    stated = list(_statements(block))
    known = [(group, symmetry) for group in stated if (symmetry := _known(group)) is not None]
    if not known:
        return next(iter(stated), None)
    taken, symmetry = known[0]
    if taken != stated[0]:
        warnings.warn(
            f"space group {_shown(stated[0])} of {block.name} is not in the tables; "
            f"{_shown(taken)}, which it also states, is used instead; if the setting is a different one, "
            "give space_group= (--space-group)",
            stacklevel=2,
        )
    against = next((group for group, other in known if _contradicts(group, other, symmetry)), None)
    if against is not None:
        warnings.warn(
            f"{block.name} states two groups or settings: {_shown(taken)} ({symmetry.symbol}) is used, not "
            f"{_shown(against)}; if that is wrong, give space_group= (--space-group)",
            stacklevel=2,
        )
    return taken


def _warn_of_slips(block: gemmi.cif.Block, name: str) -> None:
    """Warn of tags without a value and of repeated tags."""
    empty: list[str] = []
    twice: list[str] = []
    seen: set[str] = set()
    for item in block:
        pair = cast(tuple[str, str] | None, item.pair)
        tags = [pair[0]] if pair else item.loop.tags if item.loop is not None else []
        twice += [f"{tag} in line {item.line_number}" for tag in tags if tag.lower() in seen]
        empty += [f"{tag} in line {item.line_number}" for tag in tags if pair and not pair[1]]
        seen.update(tag.lower() for tag in tags)
    for slips, what in ((empty, "without a value"), (twice, "given twice, of which the first is used")):
        if slips:
            more = f" and {len(slips) - _SHOWN} more" if len(slips) > _SHOWN else ""
            warnings.warn(f"{name}: tags {what}: {', '.join(slips[:_SHOWN])}{more}; correct the file", stacklevel=3)


def _statements(block: gemmi.cif.Block) -> Iterator[_Stated]:
    """Yield all statements of a block about its group, the most reliable first."""
    for tag in _OPERATIONS:
        if operations := [gemmi.cif.as_string(text) for text in block.find_values(tag)]:
            yield operations
    if operations := [gemmi.cif.as_string(text) for text in block.find_values(_SUPERSPACE)]:
        yield [_in_three_dimensions(operation) for operation in operations]
    if hall := text_of(block, *_HALL):
        yield _operations_of(hall) or hall
    code = text_of(block, _CODE)
    for tag in (*_SYMBOLS, *_NUMBERS):
        if stated := text_of(block, tag):
            yield _with_code(stated, code)
    if name := text_of(block, *_SUPERSPACE_NAMES):
        yield name.split("(")[0]  # Pnma(0 0 g)s00: the group of the average structure


def _in_three_dimensions(operation: str) -> str:
    """Return the part of a superspace operation, ``x1,-x2,x3+1/2,-x4``, that acts on the average structure."""
    return re.sub(r"x([123])", lambda found: "xyz"[int(found[1]) - 1], ",".join(operation.split(",")[:3]))


def _operations_of(hall: str) -> list[str] | None:
    try:
        return [operation.triplet() for operation in gemmi.symops_from_hall(hall)]
    except (RuntimeError, ValueError):
        return None


def _with_code(stated: str, code: str) -> str:
    """Add the setting of a code (1, 2, h, r, b1, 2cab) to a symbol; unchanged if the tables have no such setting."""
    symmetry = _known(stated)
    entry = symmetry.table_entry if symmetry is not None else None
    if not code or ":" in stated or entry is None:
        return stated
    for other in gemmi.spacegroup_table():
        is_possible = other.number == entry.number and (stated.isdigit() or other.hm == entry.hm)
        if is_possible and code.lower() in {
            text.lower() for text in (other.ext, other.qualifier, other.ext + other.qualifier)
        }:
            return other.xhm()
    return stated


def _known(stated: _Stated) -> Symmetry | None:
    try:
        return find_symmetry(stated)
    except SymmetryError:
        return None


def _contradicts(stated: _Stated, symmetry: Symmetry, taken: Symmetry) -> bool:
    """Whether a statement means another group or other axes than `taken`; origins may differ.

    A number and a rhombohedral symbol leave the axes open.
    """
    entry, entry_taken = symmetry.table_entry, taken.table_entry
    if entry is None or entry_taken is None:
        return False
    if str(stated).isdigit() or entry.hm.startswith("R"):
        return entry.number != entry_taken.number
    rotations, rotations_taken = ({one.tobytes() for one in group.rotations} for group in (symmetry, taken))
    return rotations != rotations_taken or bool((symmetry.is_absent(_GRID) != taken.is_absent(_GRID)).any())


def _shown(stated: _Stated) -> str:
    return repr(stated) if isinstance(stated, str) else f"of the operations {', '.join(map(repr, stated[:2]))} ..."
