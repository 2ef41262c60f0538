"""The sites that a CIF block lists: elements, positions, occupancies, displacements; with notes on omissions."""

import re
import string
import warnings
from collections import defaultdict
from collections.abc import Collection
from typing import NamedTuple

import gemmi
import numpy as np

from rephase.crystal.atoms import Site
from rephase.crystal.cell import Cell
from rephase.crystal.structures.displacements import PER_U, SLIGHTLY_NEGATIVE, equivalent_u, tensor_of_u
from rephase.crystal.structures.elements import is_no_atom, readings, site_element
from rephase.errors import CifError

_LABELS = ("label", "label_atom_id", "auth_atom_id")
_U = ("U_iso_or_equiv", "U_equiv_geom_mean")
_B = ("B_iso_or_equiv", "B_equiv_geom_mean")
_KINDS = ("adp_type", "thermal_displace_type")
_ANISOTROPIC = ("U", "B", "beta")
_COMPONENTS = ("11", "22", "33", "12", "13", "23")
_UNKNOWN = ("", "?", ".")
_FARTHEST = 1000.0  # cells; a larger coordinate is not fractional
_NEARLY_ONE = 0.05  # largest excess of an occupancy over 1, or three of its own uncertainties
_MOST_OCCUPIED = 1.2
_LARGE_U = 0.5  # Å^2; above it, the value is probably B
_SHOWN = 5  # labels in a message

Notes = defaultdict[str, list[str]]  # an action, and the labels of its sites


class _Row(NamedTuple):
    """One row of the atom loop, as written; "" if unknown."""

    label: str
    type_symbol: str
    position: tuple[str, str, str]
    occupancy: str
    u: str
    b: str
    kind: str
    is_dummy: bool


def lists_sites(block: gemmi.cif.Block) -> bool:
    """Whether a block lists atoms with coordinates."""
    return any(all(block.find_values(f"_atom_site_{form}_{axis}") for axis in "xyz") for form in ("fract", "Cartn"))


def read_sites(block: gemmi.cif.Block, cell: Cell, formula: Collection[str], *, name: str) -> list[Site]:
    """Read the sites of a block with core CIF tags.

    Parameters
    ----------
    formula
        Elements of the formula; empty if it is unknown.

    Raises
    ------
    CifError
        An element, a coordinate, an occupancy or a displacement is missing or impossible, or there are no atoms.

    Warns
    -----
    UserWarning
        Sites were left out or reinterpreted; the message counts them.
    """
    notes: Notes = defaultdict(list)
    anisotropic = _anisotropic(block, cell)
    rows = _rows(block, notes)
    to_fractional = _to_fractional(block, cell, name)
    sites = []
    for row in rows:
        if row.is_dummy or is_no_atom(row.type_symbol, row.label):
            notes["dummies, centroids, vacancies or peaks instead of atoms, left out"].append(row.label)
            continue
        try:
            site = _site(row, formula, cell, anisotropic, to_fractional, notes)
        except CifError as error:
            raise CifError(f"{name}: {error}") from error
        if site is not None:
            sites.append(site)
    lost = sorted(anisotropic.keys() - {row.label for row in rows})
    if lost and any(site.u_iso == 0 for site in sites):
        notes["anisotropic displacements of atoms that are not listed, left out"] += lost
    for note, labels in notes.items():
        more = f" and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else ""
        warnings.warn(f"{name}: {note}: {len(labels)} ({', '.join(labels[:_SHOWN])}{more})", stacklevel=4)
    if not sites:
        raise CifError(
            f"{name}: none of the {len(rows)} listed sites is an atom with a position; give their coordinates"
        )
    return sites


def _site(
    row: _Row,
    formula: Collection[str],
    cell: Cell,
    anisotropic: dict[str, np.ndarray],
    to_fractional: np.ndarray | None,
    notes: Notes,
) -> Site | None:
    """The site of a row; None for a hydrogen without a position."""
    element, charge = site_element(row.type_symbol, row.label, formula)
    if not all(row.position) and element in ("H", "D"):
        notes["hydrogens without coordinates, left out"].append(row.label)
        return None
    if not row.type_symbol and _is_surprising(row.label, element, formula):
        notes["elements from ambiguous labels; set _atom_site_type_symbol if they are wrong"].append(
            f"{row.label} as {element}"
        )
    x, y, z = _position(row, to_fractional)
    tensor = anisotropic.get(row.label)
    u_aniso = None if tensor is None else tuple(float(u) for u in tensor[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]])
    u_iso = _u_iso(row, 0.0 if tensor is None else equivalent_u(tensor, cell), notes)
    return Site(row.label, element, charge, (x, y, z), _occupancy(row, notes), u_iso, u_aniso)


def _is_surprising(label: str, element: str, formula: Collection[str]) -> bool:
    """Whether a label could mean another element: in capitals without a formula, or against the formula."""
    if len(found := readings(label)) < 2 or label[1:2] not in string.ascii_letters:
        return False
    return element != found[0] if label[1].islower() else not formula


def _rows(block: gemmi.cif.Block, notes: Notes) -> list[_Row]:
    """The rows of the atom loop; only the first of several models."""
    form = "fract" if block.find_values("_atom_site_fract_x") else "Cartn"
    n = len(list(block.find_values(f"_atom_site_{form}_x")))

    def texts(*labels: str) -> list[str]:
        columns = (block.find_values(f"_atom_site_{label}") for label in labels)
        found = next((column for column in columns if len(list(column)) == n), None)
        if found is None:
            return [""] * n
        return ["" if text in _UNKNOWN else gemmi.cif.as_string(text).strip() for text in found]

    positions = list(zip(*(texts(f"{form}_{axis}") for axis in "xyz")))
    rows = [
        _Row(*row)
        for row in zip(
            texts(*_LABELS),
            texts("type_symbol"),
            positions,
            texts("occupancy"),
            texts(*_U),
            texts(*_B),
            texts(*_KINDS),
            (flag.lower() == "dum" for flag in texts("calc_flag")),
        )
    ]
    models = texts("pdbx_PDB_model_num")
    if others := [row.label for row, model in zip(rows, models) if model != models[0]]:
        notes["atoms of further models, left out"] += others
    return [row for row, model in zip(rows, models) if model == models[0]]


def _to_fractional(block: gemmi.cif.Block, cell: Cell, name: str) -> np.ndarray | None:
    """Matrix from Cartesian coordinates in Å to fractional ones; None if the block has fractional ones."""
    if block.find_values("_atom_site_fract_x"):
        return None
    warnings.warn(
        f"{name}: Cartesian coordinates, converted with x along a and y in the plane of a and b; "
        "give _atom_site_fract_x, _y, _z if the axes differ",
        stacklevel=5,
    )
    return np.linalg.inv(cell.orthogonalisation)


def _position(row: _Row, to_fractional: np.ndarray | None) -> np.ndarray:
    xyz = np.array([gemmi.cif.as_number(text) for text in row.position])
    written = [text or "?" for text in row.position]
    if not np.isfinite(xyz).all():
        raise CifError(
            f"atom {row.label!r} has no position ({', '.join(written)}); give three fractional "
            "coordinates with a decimal point, or leave the atom out"
        )
    xyz = xyz if to_fractional is None else to_fractional @ xyz
    if np.abs(xyz).max() > _FARTHEST:
        raise CifError(
            f"atom {row.label!r} lies at {', '.join(written)}, more than {_FARTHEST:g} cells away; give fractional "
            "coordinates"
        )
    return xyz


def _occupancy(row: _Row, notes: Notes) -> float:
    if not row.occupancy:
        return 1.0
    value = gemmi.cif.as_number(row.occupancy)
    if np.isnan(value):
        raise CifError(f"atom {row.label!r} has occupancy {row.occupancy!r}, not a number; expected a value in (0, 1]")
    allowed = min(max(_NEARLY_ONE, 3 * uncertainty(row.occupancy)), _MOST_OCCUPIED - 1)
    if 1 < value <= 1 + allowed and value < _MOST_OCCUPIED:
        notes["occupancies slightly above 1, taken as 1"].append(f"{row.label} {row.occupancy}")
        return 1.0
    if not 0 < value <= 1:
        raise CifError(f"atom {row.label!r} has occupancy {row.occupancy}; expected a value in (0, 1]")
    return float(value)


def uncertainty(text: str) -> float:
    """The standard uncertainty in brackets: 0.03 for ``1.02(3)``; 0 if there is none."""
    found = re.match(r"[-+]?\d*\.?(\d*)\((\d{1,9})\)", text)
    return float(found[2]) * 10.0 ** -len(found[1]) if found else 0.0


def _u_iso(row: _Row, u_equivalent: float, notes: Notes) -> float:
    """U_iso as given, otherwise U_eq of the anisotropic displacement, which is 0 (an atom at rest) without one."""
    u = _displacement(row, row.u)
    if row.u and row.kind.lower().startswith("b"):
        notes["values of U whose type is B, divided by 8π²"].append(row.label)
        u /= PER_U
    if not row.u and row.b:
        u = _displacement(row, row.b) / PER_U
    if u == 0:
        u = u_equivalent
    if SLIGHTLY_NEGATIVE <= u < 0:
        notes["slightly negative displacements, taken as 0"].append(row.label)
        return 0.0
    if not u >= 0:
        raise CifError(f"atom {row.label!r} has U = {u:.6g} Å²; expected a value >= 0")
    if u > _LARGE_U:
        notes[f"displacements U above {_LARGE_U:g} Å²; if they are B = 8π²U, call them B_iso_or_equiv"].append(
            row.label
        )
    return u


def _displacement(row: _Row, text: str) -> float:
    value = gemmi.cif.as_number(text) if text else 0.0
    if np.isnan(value):
        raise CifError(f"atom {row.label!r} has displacement {text!r}; expected a number in Å², with a decimal point")
    return float(value)


def _anisotropic(block: gemmi.cif.Block, cell: Cell) -> dict[str, np.ndarray]:
    """U^ij [3, 3] in Å^2 of each label with all six components of U, B or β; the first of a repeated label counts."""
    labels = [gemmi.cif.as_string(text) for text in block.find_values("_atom_site_aniso_label")]
    found: dict[str, np.ndarray] = {}
    for kind in _ANISOTROPIC:
        columns = [block.find_values(f"_atom_site_aniso_{kind}_{component}") for component in _COMPONENTS]
        for label, *texts in zip(labels, *columns):
            values = np.array([gemmi.cif.as_number(text) for text in texts])
            if np.isfinite(values).all() and values.any():
                found.setdefault(label, tensor_of_u(kind, values, cell))
    return found
