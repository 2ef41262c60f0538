"""The lines of SHELX files: cell, lattice, operations and data format, read and written.

References
----------
Sheldrick (2015), doi:10.1107/S2053229614024218; the SHELXL manual.
"""

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import gemmi
import numpy as np

from rephase.crystal.cell import Cell
from rephase.crystal.formulas import formula_of_contents
from rephase.crystal.symmetry import Symmetry, find_symmetry
from rephase.errors import ReflectionError

MOLYBDENUM = 0.71073  # Å, Kα
ZERO_CELSIUS = 273.15  # K
_LATTICES = {1: "P", 2: "I", 3: "R", 4: "F", 5: "A", 6: "B", 7: "C"}
_INVERSION = [-1, 0, 0, 0, -1, 0, 0, 0, -1]  # SHELXL's default law of a twin
_STATEMENTS = "CELL", "ZERR", "LATT", "NEUT", "TEMP", "HKLF", "TWIN", "BASF"
_DATA_CARD = re.compile(r"HKLF\b|END\b", re.IGNORECASE)


class Instructions(NamedTuple):
    """The statements of an `.ins` or `.res` about the data; ``wavelength`` in Å, ``matrix`` [3, 3] transforms hkl.

    ``is_twinned`` means by a law other than inversion, which does not change |F|. ``formula`` is that of one formula
    unit, from SFAC, UNIT and the Z of ZERR; "" if it is missing or a placeholder. ``radiation`` is ``neutron`` with
    NEUT, otherwise "". ``temperature`` in K is that of TEMP, None without it.
    """

    cell: Cell | None
    symmetry: Symmetry | None
    wavelength: float | None
    hklf: int
    scale: float
    matrix: np.ndarray
    is_twinned: bool
    formula: str = ""
    radiation: str = ""
    temperature: float | None = None


def read_instructions(text: str, *, name: str) -> Instructions:
    """Read CELL, ZERR, LATT, SYMM, NEUT, TEMP, TWIN, BASF and HKLF of the text of an `.ins` or `.res`.

    Raises
    ------
    ReflectionError
        A line has the wrong number of values, or words where numbers are expected.
    SymmetryError
        The operations form no group.
    """
    cards = [(line[:4].upper(), line[4:]) for line in instruction_lines(text)]
    found = {card: rest for card, rest in cards if card in _STATEMENTS}
    cell, wavelength = None, None
    if "CELL" in found:
        wavelength, *lengths = numbers("CELL", found["CELL"], 7, name)
        cell = Cell(*lengths, su=cell_su(found.get("ZERR", "").split()[1:]))
    symmetry = None
    if "LATT" in found or cell:
        lattice = int(numbers("LATT", found.get("LATT", "1"), 1, name)[0])
        symmetry = _symmetry(lattice, [rest for card, rest in cards if card == "SYMM"], name)
    hklf = numbers("HKLF", found.get("HKLF", "4"), None, name) or [4.0]
    scale = hklf[1] if len(hklf) > 1 else 1.0
    matrix = np.array(hklf[2:11] if len(hklf) >= 11 else np.eye(3)).reshape(3, 3)
    is_twinned, formula = _is_twinned(found, name), _formula(cards, cell)
    return Instructions(
        *(cell, symmetry, wavelength, int(hklf[0]), scale, matrix, is_twinned, formula),
        radiation="neutron" if "NEUT" in found else "",
        temperature=_temperature(found.get("TEMP", "")),
    )


def instruction_lines(text: str) -> list[str]:
    """Return the lines up to HKLF or END, with continuations joined and comments (after !, or indented) removed."""
    joined = re.sub(r"=[ \t]*\r?\n(?:[ \t]+|(?=[-+.\d]))", " ", textwrap.dedent(text))
    lines = [line.split("!")[0].strip() for line in joined.splitlines() if line[:1] not in (" ", "\t")]
    last = next((i for i, line in enumerate(lines) if _DATA_CARD.match(line)), len(lines) - 1)
    return lines[: last + 1]


def head_lines(
    title: str,
    cell: Cell,
    symmetry: Symmetry,
    contents: Mapping[str, float],
    n_units: int,
    wavelength: float | None,
) -> list[str]:
    """Return the lines from TITL to UNIT.

    Parameters
    ----------
    contents
        Atoms of each element in the cell.
    n_units
        Number of formula units in the cell.
    wavelength
        Wavelength in Å; None: Mo Kα.
    """
    lengths, angles = cell.parameters[:3], cell.parameters[3:]
    su = cell.su or (0.0,) * 6
    return [
        f"TITL {' '.join(title.split())[:70]} in {symmetry.symbol}",
        f"CELL {wavelength or MOLYBDENUM:.5f} {_decimals(lengths, 5)} {_decimals(angles, 4)}",
        f"ZERR {n_units} {_decimals(su[:3], 5)} {_decimals(su[3:], 4)}",
        *([] if wavelength else ["REM the wavelength was not given: CELL has Mo K-alpha, correct it"]),
        *lattice_lines(symmetry),
        f"SFAC {' '.join(contents)}",
        f"UNIT {' '.join(f'{round(count, 3):g}' for count in contents.values())}",
    ]


def _decimals(values: Sequence[float], n: int) -> str:
    return " ".join(f"{value:.{n}f}" for value in values)


def lattice_lines(symmetry: Symmetry) -> list[str]:
    """Return the LATT line and the SYMM lines of a group.

    LATT stands for the centring and an inversion centre at the origin. A group whose centre lies elsewhere gets a
    negative LATT and all operations; one whose centring has no number gets LATT -1 and every operation of the cell.

    Examples
    --------
    >>> lattice_lines(find_symmetry("P 21/c"))
    ['LATT 1', 'SYMM -X,Y+1/2,-Z+1/2']
    """
    group = symmetry.group_ops
    triplets = {operation.wrap().triplet() for operation in group}
    for number, letter in _LATTICES.items():
        for sign in (1, -1):
            chosen = _needed(group, with_centre=sign == 1)
            if chosen is not None and _full_group(letter, chosen, with_centre=sign == 1) == triplets:
                return [f"LATT {sign * number}", *(f"SYMM {triplet.upper()}" for triplet in chosen)]
    return ["LATT -1", *(f"SYMM {triplet.upper()}" for triplet in sorted(triplets - {"x,y,z"}))]


def _needed(group: gemmi.GroupOps, *, with_centre: bool) -> list[str] | None:
    """Operations that SYMM has to list; None if the group lacks the centre that LATT would imply."""
    kept: list[gemmi.Op] = []
    rotations = set()
    if with_centre and not group.is_centrosymmetric():
        return None
    for operation in group.sym_ops:
        rotation = np.array(operation.rot)
        opposite = (-rotation).tobytes()
        if rotation.tobytes() not in rotations and not (with_centre and opposite in rotations):
            rotations.add(rotation.tobytes())
            kept.append(operation)
    return [operation.triplet() for operation in kept if operation.triplet() != "x,y,z"]


def _full_group(letter: str, triplets: list[str], *, with_centre: bool) -> set[str]:
    """Every operation that LATT and SYMM stand for."""
    operations = [gemmi.Op("x,y,z"), *(gemmi.Op(triplet) for triplet in triplets)]
    if with_centre:
        operations += [gemmi.Op("-x,-y,-z") * operation for operation in operations]
    full = set()
    for shift in gemmi.SpaceGroup("R 3:H" if letter == "R" else f"{letter} 1").operations().cen_ops:
        for operation in operations:
            moved = gemmi.Op(operation.triplet())
            moved.tran = [a + b for a, b in zip(operation.tran, shift)]
            full.add(moved.wrap().triplet())
    return full


def cell_su(words: Sequence[str]) -> tuple[float, ...] | None:
    """Return the uncertainties of a cell from six words and more; None if they are missing or all zero."""
    try:
        su = tuple(float(word) for word in words[:6])
    except ValueError:
        return None
    return su if len(su) == 6 and any(su) and min(su) >= 0 and np.isfinite(su).all() else None


def _temperature(temp: str) -> float | None:
    """Temperature in K from TEMP, which is in °C; None if it is missing or impossible."""
    try:
        kelvin = ZERO_CELSIUS + float(temp.split()[0])
    except (ValueError, IndexError):
        return None
    return kelvin if 0 < kelvin < np.inf else None


def _is_twinned(found: dict[str, str], name: str) -> bool:
    """Whether there is TWIN with a matrix other than inversion, or BASF without TWIN."""
    if "TWIN" not in found:
        return "BASF" in found
    law = numbers("TWIN", found["TWIN"], None, name)[:9]
    return len(law) == 9 and law != _INVERSION


def _formula(cards: list[tuple[str, str]], cell: Cell | None) -> str:
    """The formula unit of SFAC, UNIT and ZERR; "" unless they agree. SFAC also lists one element with its factors."""
    elements: list[str] = []
    for card, rest in cards:
        words = rest.split()
        if card == "SFAC":
            elements += words if all(word.isalpha() for word in words) else words[:1]
    last = {card: rest.split() for card, rest in cards if card in ("UNIT", "ZERR")}
    try:
        counts = [float(word) for word in last.get("UNIT", [])]
        n_units = float(last["ZERR"][0]) if last.get("ZERR") else 1.0
    except ValueError:
        return ""
    if len(counts) != len(elements):
        return ""
    return formula_of_contents(dict(zip(map(str.capitalize, elements), counts)), n_units, cell)


def _symmetry(lattice: int, operations: list[str], name: str) -> Symmetry:
    if abs(lattice) not in _LATTICES:
        raise ReflectionError(f"{name}: LATT {lattice}: expected ±1 to ±7 for the lattices P I R F A B C")
    try:
        triplets = [gemmi.Op(re.sub(r"\s", "", operation).lower()).wrap().triplet() for operation in operations]
        full = _full_group(_LATTICES[abs(lattice)], triplets, with_centre=lattice > 0)
    except (RuntimeError, ValueError) as error:
        raise ReflectionError(f"{name}: SYMM: {error}; expected e.g. 'SYMM -X, 1/2+Y, 1/2-Z'") from error
    return find_symmetry(sorted(full))


def numbers(card: str, rest: str, count: int | None, name: str) -> list[float]:
    """Return the finite numbers after a card, at least `count` of them.

    Raises
    ------
    ReflectionError
        There are too few numbers, or anything else than numbers.
    """
    try:
        values = [float(word) for word in rest.split()]
        if not np.isfinite(values).all():
            raise ValueError("a number that is not finite")
    except ValueError as error:
        raise ReflectionError(f"{name}: {card}{rest}: {error}; expected numbers after {card}") from error
    if count is not None and len(values) < count:
        raise ReflectionError(f"{name}: {card}{rest}: expected {count} numbers, received {len(values)}")
    return values[:count] if count else values
