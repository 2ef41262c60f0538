"""Reflections in CIF: loops of core CIF (COD, SHELX .fcf) and mmCIF, and SHELX lists embedded in one."""

import itertools
import re

import gemmi
import numpy as np

from rephase.crystal.cif_blocks import cell_of, cif_document, is_cif, space_group_of
from rephase.crystal.reflection_columns import Listing, from_columns
from rephase.crystal.shelx import read_instructions
from rephase.crystal.symmetry import SpaceGroup
from rephase.errors import ReflectionError, nearest_name

# Label of a value to those that its σ may have, and whether it is an amplitude; the first that a loop has is read.
CIF_COLUMNS = {
    "F_squared_meas": (("F_squared_sigma",), False),
    "intensity_meas": (("intensity_sigma",), False),
    "intensity_net": (("intensity_u", "intensity_sigma"), False),
    "pdbx_I_plus": (("pdbx_I_plus_sigma",), False),
    "pdbx_I_minus": (("pdbx_I_minus_sigma",), False),
    "F_meas": (("F_sigma", "F_meas_sigma"), True),
    "F_meas_au": (("F_meas_sigma_au",), True),
    "pdbx_F_plus": (("pdbx_F_plus_sigma",), True),
    "pdbx_F_minus": (("pdbx_F_minus_sigma",), True),
}
_LOOPS = ("_refln_", "_diffrn_refln_")  # merged or not, before what is not
_PHASES = ("phase_meas", "phase_calc")
_STATUS = ("observed_status", "include_status", "status")
_EMBEDDED = ("_shelx_hkl_file", "_iucr_refine_reflections_details", "_shelx_fcf_file")
_UNKNOWN = ("?", ".")


def from_cif(text: str, *, name: str, column: str | None = None) -> Listing:
    """Read the first loop of reflections of a CIF, or the list that is embedded in one.

    Columns of the two Friedel mates, ``_plus`` and ``_minus`` of mmCIF, are read as separate reflections.

    Raises
    ------
    ReflectionError
        Not a CIF, no reflections in it, or a field that is not a number.
    """
    document = cif_document(text, name=name)
    for prefix, block in itertools.product(_LOOPS, document):
        if block.find_loop(f"{prefix}index_h"):
            others = [other for other in document if other.name != block.name]
            return _with_metadata(_from_loop(block, prefix, name, column), [block, *others])
    for block in document:
        for tag in _EMBEDDED:
            inner = gemmi.cif.as_string(block.find_value(tag) or "")
            if inner.strip():
                return _with_metadata(_from_embedded(inner, block, f"{name}, {tag}", column), [block])
    raise ReflectionError(
        f"{name}: no reflections in this CIF; expected a loop with _refln_index_h or _diffrn_refln_index_h, "
        f"or one of {', '.join(_EMBEDDED)}"
    )


def _from_loop(block: gemmi.cif.Block, prefix: str, name: str, column: str | None) -> Listing:
    labels = [tag[len(prefix) :] for tag in block.find_loop(f"{prefix}index_h").get_loop().tags]
    values = _values(labels, name, column)
    numbers = lambda label: _numbers(block.find_loop(prefix + label), prefix + label, name)  # noqa: E731
    hkl = np.stack([numbers(f"index_{axis}") for axis in "hkl"], axis=1)
    status = next((block.find_loop(prefix + label) for label in _STATUS if label in labels), None)
    kept = np.ones(len(hkl), bool) if status is None else np.array([text not in ("x", "'x'") for text in status])
    signs = [-1 if "_minus" in value else 1 for value in values]
    sigmas = [next((label for label in _kind(value)[0] if label in labels), None) for value in values]
    phase = next((label for label in _PHASES if label in labels), None)
    unknown = np.full(len(hkl), np.nan)
    return Listing(
        np.concatenate([sign * hkl[kept] for sign in signs]),
        np.concatenate([numbers(value)[kept] for value in values]),
        np.concatenate([(numbers(sigma) if sigma else unknown)[kept] for sigma in sigmas]),
        np.concatenate([sign * numbers(phase)[kept] for sign in signs]) if phase else None,
        _kind(values[0])[1],
    )


def _kind(value: str) -> tuple[tuple[str, ...], bool]:
    """Labels that the σ of a value may have, and whether it is an amplitude."""
    return CIF_COLUMNS.get(value, ((), "squared" not in value and "intensity" not in value))


def _values(labels: list[str], name: str, column: str | None) -> list[str]:
    """Label of the value, or those of both Friedel mates."""
    if column is not None:
        label = re.sub(r"^_(diffrn_)?refln[_.]", "", column)
        if label not in labels:
            raise ReflectionError(f"{name}: no column {column!r}; {nearest_name(label, labels)}")
        return [label]
    value = next((value for value in CIF_COLUMNS if value in labels), None)
    if value is None:
        raise ReflectionError(
            f"{name}: no measured column among {', '.join(labels)}; expected one of {', '.join(CIF_COLUMNS)}, "
            "or name another with column="
        )
    return [label for label in dict.fromkeys([value, value.replace("_plus", "_minus")]) if label in labels]


def _numbers(column: gemmi.cif.Column, tag: str, name: str) -> np.ndarray:
    """Values of a column [n]; NaN for ``?`` and ``.``. Standard uncertainties in brackets are left out."""
    if not column:
        raise ReflectionError(f"{name}: no column {tag}; a reflection needs all of h, k and l")
    try:
        texts = np.array(list(column), dtype="S32")
        unknown = (texts == b"?") | (texts == b".")
        texts[unknown] = b"nan"
        values = texts.astype(float)
    except ValueError:
        values = np.array([gemmi.cif.as_number(text) for text in column])
        unknown = np.array([text in _UNKNOWN for text in column])
    wrong = ~(np.isfinite(values) | unknown)
    if wrong.any():
        row = int(wrong.argmax())
        raise ReflectionError(
            f"{name}: {tag} = {column[row]!r} in row {row + 1}: expected a number, or ? where it is unknown"
        )
    return values


def _from_embedded(text: str, block: gemmi.cif.Block, name: str, column: str | None) -> Listing:
    if is_cif(text):
        return from_cif(text, name=name, column=column)
    instructions = gemmi.cif.as_string(block.find_value("_shelx_res_file") or "")
    return from_columns(text, name=name, instructions=read_instructions(instructions, name=name))


def _with_metadata(listing: Listing, blocks: list[gemmi.cif.Block]) -> Listing:
    """The listing with the cell, group and wavelength of the first block that has them."""
    cell = listing.cell or next(filter(None, map(cell_of, blocks)), None)
    group: SpaceGroup | None = listing.space_group
    group = group or next((stated for stated in map(space_group_of, blocks) if stated), None)
    return listing._replace(cell=cell, space_group=group, wavelength=listing.wavelength or _wavelength(blocks[0]))


def _wavelength(block: gemmi.cif.Block) -> float | None:
    for tag in ("_diffrn_radiation_wavelength", "_diffrn_radiation_wavelength_wavelength"):
        for text in block.find_values(tag):
            value = gemmi.cif.as_number(text)
            if 0.01 < value < 100:
                return value
    return None
