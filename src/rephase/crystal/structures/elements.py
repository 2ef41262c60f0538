"""Element and charge of a site, from its type symbol or else its label; the formula resolves ambiguities."""

import re
from collections.abc import Collection

import gemmi

from rephase.errors import CifError

_ISOTOPE = re.compile(r"^[(^\s]*\d+\)?(?=[A-Za-z])")
_WORD = re.compile(r"[A-Za-z]+")
_CHARGE = re.compile(r"[A-Za-z]\(?(\d*)([+-])(\d*)\)?$")
_MIXED = re.compile(r"[A-Z][a-z]?\d*\.?\d*[/,+&][A-Z]|[A-Z][a-z]?[A-Z][a-z]$")  # Al/Si, MgFe: a shared site
_BONDING = re.compile(r"(?<=[A-Za-z])(?:val|sp)$")  # endings of types such as Cval, Csp2
_WATER = ("wat", "aqua", "h2o")
_NO_ATOMS = re.compile(r"(?:X|Q|Xcg|XCG|Cg|Cnt|Cent|Du|DU|Dum|DUM|Va|Vac|VAC|vac)(?=[^A-Za-z]|[A-Z]?$)")
_HYDROGENS = ("H", "D", "T")


def is_no_atom(type_symbol: str, label: str) -> bool:
    """Whether the type (or else the label) marks a site as centroid, dummy, vacancy or difference peak."""
    return _NO_ATOMS.match(type_symbol or label) is not None


def site_element(type_symbol: str, label: str, formula: Collection[str]) -> tuple[str, int]:
    """Find the element and charge of a site.

    Capital letters are ambiguous (HO1 may be holmium or the hydrogen at O1, CA2 calcium or a carbon), and Wat and W may
    be water. The formula, if there is one, decides, except against a type such as Ho. Without a formula, H followed by
    a capital letter in a label means hydrogen; everything else means the longest possible symbol.

    Parameters
    ----------
    type_symbol, label
        Type symbol and label as written; "" if unknown.
    formula
        Elements of the formula; empty if it is unknown.

    Raises
    ------
    CifError
        The letters are not an element.
    """
    written = _ISOTOPE.sub("", type_symbol or label)
    found = [] if type_symbol and _MIXED.match(written) else readings(written)
    if found == ["D"] and not type_symbol and written[0] in "Tt":
        found = []  # T1 and T2 are tetrahedral sites of minerals; only a type is tritium
    if not found:
        raise CifError(
            f"atom {label!r} has the unknown element {type_symbol or label!r}; "
            "set _atom_site_type_symbol to a symbol such as Ni or O2-"
        )
    letters = written[:2]
    element = _most_likely(found, letters, formula, is_label=not type_symbol)
    charge = _CHARGE.search(written) if type_symbol else None
    return element, int(f"{charge[2]}{charge[1] or charge[3] or 1}"[:4]) if charge else 0


def readings(written: str) -> list[str]:
    """Elements that a type or a label may mean, the longest symbol first."""
    if written.lower().startswith(_WATER):
        return ["O"]
    letters = _WORD.match(written)
    word = _BONDING.sub("", letters[0]) if letters else ""
    symbols = [word[:2].capitalize()] * (len(word) > 1) + [word[:1].upper()] * (len(word) > 0)
    found = ["D" if symbol == "T" else symbol for symbol in symbols if symbol == "T" or is_element(symbol)]
    return found + ["O"] * (found == ["W"])


def _most_likely(found: list[str], letters: str, formula: Collection[str], *, is_label: bool) -> str:
    if not is_label and letters[1:].islower():
        return found[0]  # a correctly spelled type overrules any formula
    known = {"H" if element in _HYDROGENS else element for element in formula}
    inside = [element for element in found if ("H" if element in _HYDROGENS else element) in known]
    if inside:
        return inside[0]
    is_ambiguous = found[1:] == [letters[0]] and letters[1].isupper()
    if is_ambiguous and is_label and (formula or letters[0] == "H"):
        return found[1]
    return found[0]


def is_element(symbol: str) -> bool:
    """Whether the letters are the symbol of an element, or D for deuterium."""
    return gemmi.Element(symbol).atomic_number > 0
