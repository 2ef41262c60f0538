"""Bruker's ``.p4p``: the cell, wavelength and formula that SAINT and APEX keep beside a reflection list."""

import re

from rephase.crystal.cell import Cell
from rephase.crystal.formulas import stated_formula
from rephase.crystal.reflections.listing import Listing
from rephase.crystal.shelx import cell_su, numbers
from rephase.errors import ReflectionError


def with_p4p(text: str, found: Listing, *, name: str) -> Listing:
    """Complete a listing with cell (CELL, CELLSD), wavelength (SOURCE) and formula (CHEM) of the text of a `.p4p`.

    The file has a Laue class (SYMM), but no space group.

    Raises
    ------
    ReflectionError
        CELL is missing, or has words where numbers are expected.
    """
    cards = {match[1].upper(): match[2] for match in re.finditer(r"(?m)^(\w+)[ \t]+(\S.*)$", text)}
    if "CELL" not in cards:
        raise ReflectionError(f"{name}: a .p4p without CELL; get the file again, or give cell= (--cell)")
    cell = Cell(
        *numbers("CELL ", " ".join(cards["CELL"].split()[:6]), 6, name), su=cell_su(cards.get("CELLSD", "").split())
    )
    return found._replace(
        cell=found.cell or cell,
        wavelength=found.wavelength or _wavelength(cards.get("SOURCE", "")),
        formula=found.formula or stated_formula(cards.get("CHEM", ""), name=name),
    )


def _wavelength(source: str) -> float | None:
    """The first plausible wavelength in Å of ``SOURCE Mo 0.71073 0.70930 0.71359 ...``."""
    found = re.match(r"\S+\s+(\d*\.\d+)", source)
    return float(found[1]) if found and 0.01 < float(found[1]) < 100 else None
