"""Reading a `Crystal`: from CIF, from SHELX files, or by the name of a bundled structure."""

import contextlib
import io
import os
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import gemmi
import numpy as np
from numpy.typing import ArrayLike

from rephase.crystal.atoms import Atoms, Crystal
from rephase.crystal.cell import Cell
from rephase.crystal.cif_blocks import is_cif
from rephase.crystal.structures.cif import crystal_from_cif
from rephase.crystal.structures.formats import foreign_format, is_shelx
from rephase.crystal.structures.shelx import crystal_from_shelx
from rephase.errors import CifError, nearest_name
from rephase.files.foreign_documents import foreign_document
from rephase.files.reading import decoded, file_bytes, file_text
from rephase.paths import CIFS

__all__ = ["Atoms", "Crystal", "bundled_names", "read_crystal"]
_LONGEST_NAME = 200  # letters in a message


def read_crystal(source: str | Path) -> Crystal:
    """Read a crystal from a CIF, from a SHELX `.res` or `.ins`, from their text, or by the name of a bundled structure.

    Parameters
    ----------
    source
        Path of a file, possibly gzipped; a text (anything with a line break); or one of `bundled_names`.

    Raises
    ------
    CifError
        The file is missing, unreadable, empty, truncated or of another format; or the cell, the space group, an
        element, a coordinate or an occupancy is missing or impossible. Nothing in the file is evaluated as code.
    ReflectionError, SymmetryError
        A line of a SHELX file makes no sense.

    Warns
    -----
    UserWarning
        Something was left out or reinterpreted, or the cell does not contain its formula.

    Examples
    --------
    >>> read_crystal("Ni").formula
    'Ni4'
    """
    text = str(source)
    if "\n" in text or "\r" in text:
        return _crystal_of_text(decoded(text.encode("utf-8", errors="replace")), "CIF text")
    if os.path.isfile(text):
        return _crystal_of_file(text)
    if text in {path.stem for path in CIFS.glob("*.cif")}:
        return _crystal_of_text(file_text(CIFS / f"{text}.cif", CifError), text)
    if text in _shipped_names():
        return _shipped_crystal(text)
    if os.path.exists(text):
        raise CifError(f"{text}: not a file; give the path of a CIF or a .res")
    name = text[:_LONGEST_NAME]
    raise CifError(f"crystal {name!r}: no such file and no bundled crystal; {nearest_name(name, bundled_names())}")


def _crystal_of_file(path: str) -> Crystal:
    content = file_bytes(path, CifError)
    if what := foreign_document(content):
        raise CifError(f"{path}: this is {what}; expected a CIF or a .res")
    return _crystal_of_text(decoded(content), path)


def _crystal_of_text(text: str, origin: str) -> Crystal:
    """Read the crystal of a text in the format of its first lines, regardless of the file name."""
    if not is_cif(text) and is_shelx(text):
        return crystal_from_shelx(text, os.path.basename(origin))
    if not is_cif(text) and (found := foreign_format(text)):
        raise CifError(f"{origin}: this is {found}; convert it to a CIF, for instance with VESTA or Open Babel")
    if origin.lower().endswith((".res", ".ins")):
        return crystal_from_shelx(text, os.path.basename(origin))
    return crystal_from_cif(text, origin)


def bundled_names() -> list[str]:
    """Names that `read_crystal` accepts: the project's own CIFs and the structures of Dans_Diffraction."""
    return sorted({path.stem for path in CIFS.glob("*.cif")} | set(_shipped_names()))


def _shipped_names() -> tuple[str, ...]:
    from Dans_Diffraction.classes_structures import Structures

    return tuple(Structures().list)


@cache  # each takes half a second
def _shipped_crystal(name: str) -> Crystal:
    """Read a structure with the reader of Dans_Diffraction: its files are trusted, and gemmi refuses some."""
    from Dans_Diffraction.classes_structures import Structures

    with contextlib.redirect_stdout(io.StringIO()):  # the reader prints
        shipped = getattr(Structures(), name)()
    xyz_frac, elements, labels, occupancy, u_iso, _ = shipped.Structure.get()
    atoms = _shipped_atoms(labels, elements, xyz_frac, occupancy, u_iso)
    sites = shipped.Atoms
    asymmetric_unit = _shipped_atoms(sites.label, sites.type, sites.uvw(), sites.occupancy, sites.uiso)
    cell = Cell(*(float(x) for x in shipped.Cell.lp()))
    space_group = _space_group_of(shipped.Symmetry.symmetry_operations)
    if space_group is None:  # a magnetic supercell, whose lattice translations are no tabulated setting
        return Crystal(name, cell, "P 1", atoms, atoms)
    return Crystal(name, cell, space_group, asymmetric_unit, atoms)


def _shipped_atoms(
    labels: Iterable[object], elements: Iterable[object], xyz_frac: ArrayLike, occupancy: ArrayLike, u_iso: ArrayLike
) -> Atoms:
    """Columns as `Atoms`, without the empty sites that one shipped supercell lists."""
    symbols = tuple(re.findall(r"[A-Z][a-z]?", str(element))[0] for element in elements)
    every = Atoms(
        tuple(map(str, labels)),
        symbols,
        (0,) * len(symbols),
        np.asarray(xyz_frac, float) % 1.0,
        np.asarray(occupancy, float),
        np.asarray(u_iso, float),
    )
    return every.take(np.flatnonzero(every.occupancy > 0))


def _space_group_of(operations: list[str]) -> str | None:
    """Symbol of the group of the operations, ignoring time reversal; None if the tables have no such group."""
    triplets = dict.fromkeys(",".join(operation.split(",")[:3]) for operation in operations)
    group = gemmi.find_spacegroup_by_ops(gemmi.GroupOps([gemmi.Op(triplet) for triplet in triplets]))
    return group.xhm() if group else None
