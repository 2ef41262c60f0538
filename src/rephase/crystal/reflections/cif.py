"""Reflections in CIF: loops of core CIF (COD, SHELX .fcf) and mmCIF, and embedded SHELX lists."""

import itertools
import math
import re
import warnings
from collections.abc import Iterable, Iterator

import gemmi
import numpy as np

from rephase.crystal.cell import Cell
from rephase.crystal.cif_blocks import cell_of, cif_document, is_cif, space_group_of, text_of
from rephase.crystal.cif_numbers import cif_numbers
from rephase.crystal.formulas import stated_formula
from rephase.crystal.reflections.columns import from_columns
from rephase.crystal.reflections.listing import EXCLUDED, SATELLITES, Listing
from rephase.crystal.shelx import read_instructions
from rephase.crystal.symmetry import SpaceGroup
from rephase.errors import CifError, ReflectionError, nearest_name

# Labels of values, possible labels of their σ, and whether the value is an amplitude; the first that has data is read.
CIF_COLUMNS = {
    "F_squared_meas": (("F_squared_sigma", "F_squared_meas_su"), False),
    "intensity_meas": (("intensity_sigma", "intensity_meas_su"), False),
    "intensity_net": (("intensity_u", "intensity_sigma", "intensity_net_su"), False),
    "pdbx_I_plus": (("pdbx_I_plus_sigma",), False),
    "pdbx_I_minus": (("pdbx_I_minus_sigma",), False),
    "F_meas": (("F_sigma", "F_meas_sigma", "F_meas_su"), True),
    "F_meas_au": (("F_meas_sigma_au",), True),
    "pdbx_F_plus": (("pdbx_F_plus_sigma",), True),
    "pdbx_F_minus": (("pdbx_F_minus_sigma",), True),
}
_LOOPS = ("_refln_", "_diffrn_refln_")  # merged or unspecified first, then unmerged
_TWIN = "_twin_refln_"
PHASES = ("phase_meas", "phase_calc")
_STATUS = ("observed_status", "include_status", "status")
_FORMULAS = ("_chemical_formula_sum", "_chemical_formula_moiety")
_RADIATION = ("_diffrn_radiation_probe", "_diffrn_radiation_type", "_exptl_method")  # of mmCIF the last
_TEMPERATURE = ("_diffrn_ambient_temperature", "_diffrn_ambient_temp", "_cell_measurement_temperature")
_EMBEDDED = ("_shelx_hkl_file", "_iucr_refine_reflections_details", "_shelx_fcf_file")


def from_cif(text: str, *, name: str, column: str | None = None, block: str | None = None) -> Listing:
    """Read the loop of reflections of a CIF, or a SHELX list embedded in it; merged reflections come first.

    Columns of the two Friedel mates, ``_plus`` and ``_minus`` of mmCIF, are read as separate reflections.

    Raises
    ------
    ReflectionError
        The text is not a CIF, has no reflections, or has a field that is not a number; or several data blocks have
        reflections, and `block` names none of them.
    """
    document = cif_document(text, name=name)
    blocks = list(document) if block is None else [_named_block(document, block, name)]
    chosen = _chosen_block(blocks, name)
    if chosen is None:
        raise ReflectionError(f"{name}: {_why_none(blocks)}")
    if loop := ReflectionLoop.first_of([chosen], name=name):
        return with_metadata(_from_loop(loop, column), [chosen, *(each for each in document if each is not chosen)])
    tag, inner = next(_embedded_lists(chosen))
    return with_metadata(_from_embedded(inner, chosen, f"{name}, {tag}", column), [chosen])


def has_reflections(text: str) -> bool:
    """Whether a text that should be a CIF mentions a list of reflections."""
    marks = (*(f"{prefix}index_h" for prefix in _LOOPS), *_EMBEDDED)
    return any(mark in text.lower().replace("refln.", "refln_") for mark in marks)


def _chosen_block(blocks: Iterable[gemmi.cif.Block], name: str) -> gemmi.cif.Block | None:
    """The only block with reflections; None if there is none."""
    found = [block for block in blocks if _has_loop(block) or any(_embedded_lists(block))]
    if len(found) > 1:
        names = ", ".join(block.name for block in found)
        raise ReflectionError(
            f"{name}: {len(found)} data blocks have reflections ({names}); choose one with block= (--block)"
        )
    return found[0] if found else None


def _named_block(document: gemmi.cif.Document, name: str, file: str) -> gemmi.cif.Block:
    wanted = name.removeprefix("data_").lower()
    for block in document:
        if block.name.lower() == wanted:
            return block
    hint = nearest_name(name, [block.name for block in document])
    raise ReflectionError(f"{file}: no data block {name!r}; {hint}")


def _has_loop(block: gemmi.cif.Block) -> bool:
    return any(len(block.find_loop(f"{prefix}index_h")) > 0 for prefix in _LOOPS)


def _embedded_lists(block: gemmi.cif.Block) -> Iterator[tuple[str, str]]:
    """Yield the tags of a block that hold a list, with the text."""
    for tag in _EMBEDDED:
        inner = gemmi.cif.as_string(block.find_value(tag) or "")
        if inner.strip():
            yield tag, inner


class ReflectionLoop:
    """The loop of reflections of a CIF: ``hkl`` [n, 3], and the ``labels`` of its columns without the category.

    Labels are case-insensitive; ``labels`` maps each in lower case to its spelling in the file.

    ``marked`` gives, for each reason, the rows [n] to exclude: an excluding status, or an index m other than 0.
    """

    def __init__(self, block: gemmi.cif.Block, prefix: str, *, name: str):
        self.block, self.name, self._prefix = block, name, prefix
        self._table = block.item_as_table(block.find_loop_item(f"{prefix}index_h"))
        tags = [tag.lower() for tag in self._table.tags]
        self._place = {tag.removeprefix(prefix): tags.index(tag) for tag in tags if tag.startswith(prefix)}
        self.labels = {label: self._table.tags[place][len(prefix) :] for label, place in self._place.items()}
        self._parsed: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self.hkl = np.stack([self.numbers(f"index_{axis}") for axis in "hkl"], axis=1)
        is_excluded, is_satellite = np.zeros((2, len(self.hkl)), bool)
        for label in self.labels:
            if label in _STATUS:
                texts = np.array(list(self._column(label)), dtype="U3")
                is_excluded |= np.isin(texts, ("x", "'x'", '"x"'))
            elif re.fullmatch(r"index_m(_\d+)?", label):
                is_satellite |= np.nan_to_num(self.numbers(label)) != 0
        self.marked = {EXCLUDED: is_excluded, SATELLITES: is_satellite}

    @classmethod
    def first_of(
        cls, document: Iterable[gemmi.cif.Block], *, name: str, needs: tuple[str, ...] = ()
    ) -> "ReflectionLoop | None":
        """Find the first loop with reflections in some blocks; merged ones come first.

        If `needs` has labels, the loop must have values for at least one of them.
        """
        for prefix, block in itertools.product(_LOOPS, document):
            has_needed = not needs or any(block.find_loop(f"{prefix}{label}") for label in needs)
            if has_needed and len(block.find_loop(f"{prefix}index_h")):
                loop = cls(block, prefix, name=name)
                if not needs or any(label in loop.labels and loop.is_filled(label) for label in needs):
                    return loop
        return None

    def numbers(self, label: str) -> np.ndarray:
        """Values [n] of a column; NaN where unknown."""
        return self._numbers(label)[0]

    def uncertainties(self, label: str) -> np.ndarray:
        """Standard uncertainties [n] in the brackets of a column; NaN where there are none."""
        return self._numbers(label)[1]

    def is_filled(self, label: str) -> bool:
        """Whether a column has a value other than 0."""
        return bool((np.nan_to_num(self.numbers(label)) != 0).any())

    def _column(self, label: str) -> gemmi.cif.Column:
        return self._table.column(self._place[label.lower()])

    def _numbers(self, label: str) -> tuple[np.ndarray, np.ndarray]:
        if label not in self._parsed:
            if label.lower() not in self.labels:
                raise ReflectionError(f"{self.name}: no column {self._prefix}{label}; a reflection needs h, k and l")
            self._parsed[label] = cif_numbers(self._column(label), f"{self._prefix}{label}", name=self.name)
        return self._parsed[label]


def _why_none(document: list[gemmi.cif.Block]) -> str:
    """Say what a CIF without reflections contains instead."""
    if any(block.find_loop(f"{_TWIN}index_h") for block in document):
        return (
            f"the reflections are of a twin (the loop {_TWIN}), each a sum over its domains: not supported; "
            "give detwinned data, for instance HKLF 4 of the refinement program"
        )
    expected = f"expected a loop with _refln_index_h or _diffrn_refln_index_h, or one of {', '.join(_EMBEDDED)}"
    has_atoms = any(block.find_loop(f"_atom_site_{tag}") for block in document for tag in ("fract_x", "Cartn_x"))
    return f"no reflections in this CIF{', only a structure' if has_atoms else ''}; {expected}"


def _from_loop(loop: ReflectionLoop, column: str | None) -> Listing:
    values = _values(loop, column)
    signs = [-1 if "_minus" in value else 1 for value in values]
    phase = next((label for label in PHASES if label in loop.labels and loop.is_filled(label)), None)
    return Listing(
        np.concatenate([sign * loop.hkl for sign in signs]),
        np.concatenate([loop.numbers(value) for value in values]),
        np.concatenate([_sigma(loop, value) for value in values]),
        np.concatenate([sign * loop.numbers(phase) for sign in signs]) if phase else None,
        _kind(values[0])[1],
        marked={reason: np.concatenate([rows] * len(values)) for reason, rows in loop.marked.items()},
    )


def _sigma(loop: ReflectionLoop, value: str) -> np.ndarray:
    """σ of a value, from its own column if that has numbers, otherwise from the brackets."""
    labels = [label for label in _kind(value)[0] if label.lower() in loop.labels and loop.is_filled(label)]
    return loop.numbers(labels[0]) if labels else loop.uncertainties(value)


def _kind(value: str) -> tuple[tuple[str, ...], bool]:
    """Possible labels of the σ of a value, and whether the value is an amplitude."""
    return CIF_COLUMNS.get(value, ((), "squared" not in value and "intensity" not in value))


def _values(loop: ReflectionLoop, column: str | None) -> list[str]:
    """Label of the first value that has data, or the labels of both Friedel mates."""
    if column is not None:
        label = re.sub(r"^_(diffrn_)?refln[_.]", "", column)
        if label.lower() not in loop.labels:
            raise ReflectionError(f"{loop.name}: no column {column!r}; {nearest_name(label, loop.labels.values())}")
        return [next((known for known in CIF_COLUMNS if known.lower() == label.lower()), label)]
    listed = [value for value in CIF_COLUMNS if value.lower() in loop.labels]
    if not listed:
        raise ReflectionError(
            f"{loop.name}: no measured column among {', '.join(loop.labels.values())}; expected one of "
            f"{', '.join(CIF_COLUMNS)}, or name another with column="
        )
    value = next(filter(loop.is_filled, listed), listed[0])
    mate = value.replace("_plus", "_minus")
    return [value, mate] if mate != value and mate in listed else [value]


def _from_embedded(text: str, block: gemmi.cif.Block, name: str, column: str | None) -> Listing:
    if is_cif(text):
        return from_cif(text, name=name, column=column)
    instructions = gemmi.cif.as_string(block.find_value("_shelx_res_file") or "")
    return from_columns(text, name=name, instructions=read_instructions(instructions, name=name))


def with_metadata(listing: Listing, blocks: list[gemmi.cif.Block]) -> Listing:
    """Add cell, group, wavelength, formula, radiation and temperature to a listing.

    Cell and group are those of the first block that has them.
    """
    cell = listing.cell or next(filter(None, map(_cell_or_none, blocks)), None)
    group: SpaceGroup | None = listing.space_group
    group = group or next((stated for stated in map(space_group_of, blocks) if stated), None)
    own = blocks[:1]  # other blocks may describe other measurements
    return listing._replace(
        cell=cell,
        space_group=group,
        wavelength=listing.wavelength or next(map(_wavelength, own), None),
        formula=listing.formula or "".join(map(_formula, own)),
        radiation=listing.radiation or "".join(map(_radiation, own)),
        temperature=listing.temperature or next(map(_temperature, own), None),
    )


def _cell_or_none(block: gemmi.cif.Block) -> Cell | None:
    """The cell of a block; if it is impossible, a warning and None, because the user may give another one."""
    try:
        return cell_of(block)
    except CifError as error:
        warnings.warn(f"{block.name}: the cell in the file is not read: {error}", stacklevel=4)
        return None


def _formula(block: gemmi.cif.Block) -> str:
    return stated_formula(text_of(block, *_FORMULAS), name=block.name)


def _radiation(block: gemmi.cif.Block) -> str:
    """Return the radiation if a block says that it is ``neutron`` or ``electron``."""
    stated = " ".join(text_of(block, tag) for tag in _RADIATION).lower()
    found = re.search(r"neutron|electron", stated)
    return found[0] if found and not re.search(r"x-?ray|synchrotron", stated) else ""


def _temperature(block: gemmi.cif.Block) -> float | None:
    """Return the temperature in K that a block states."""
    value = gemmi.cif.as_number(text_of(block, *_TEMPERATURE))
    return value if 0 < value < math.inf else None


def _wavelength(block: gemmi.cif.Block) -> float | None:
    for tag in ("_diffrn_radiation_wavelength", "_diffrn_radiation_wavelength_wavelength"):
        for text in block.find_values(tag):
            value = gemmi.cif.as_number(text)
            if 0.01 < value < 100:
                return value
    return None
