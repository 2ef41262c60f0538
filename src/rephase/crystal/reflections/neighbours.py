"""Information from files with the same name as a reflection list: `.ins` or `.res`, `.p4p` and `.cif`."""

import os
import warnings
from pathlib import Path

from rephase.crystal.cif_blocks import cif_document
from rephase.crystal.reflections.cif import with_metadata
from rephase.crystal.reflections.listing import Listing
from rephase.crystal.reflections.p4p import with_p4p
from rephase.crystal.shelx import Instructions, read_instructions
from rephase.errors import ReflectionError, RephaseError
from rephase.files.reading import file_text, stem_of, suffix_of

_DESCRIPTIONS = (".ins", ".res", ".p4p", ".cif")
_SHOWN = 3  # names in a message


def beside(path: Path, *suffixes: str) -> Path | None:
    """Find the first file of the same name with one of some suffixes, in any case, possibly gzipped."""
    try:
        names = sorted(os.listdir(path.parent), key=lambda name: not name.startswith(stem_of(path)))
    except OSError:
        return None
    found = {name.lower(): name for name in reversed(names)}
    wanted = [f"{stem_of(path)}{suffix}{packed}".lower() for suffix in suffixes for packed in ("", ".gz")]
    others = (path.parent / found[name] for name in wanted if name in found and found[name] != path.name)
    return next((other for other in others if os.path.isfile(other)), None)


def where_a_cell_may_be(path: Path) -> str:
    """Say which files beside a list are read for its cell, and which others are there under another name."""
    stem = stem_of(path)
    *first, last = (stem + suffix for suffix in _DESCRIPTIONS)
    said = f"expected beside it {', '.join(first)} or {last}"
    others = [name for name in sorted(os.listdir(path.parent)) if _is_of_another_list(path.parent / name, stem)]
    if not others:
        return said
    listed = ", ".join(others[:_SHOWN]) + (f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else "")
    which = "it has another name: rename it if it" if len(others) == 1 else "rename the one that"
    return f"{said}, but found {listed}; {which} belongs to {path.name}"


def _is_of_another_list(path: Path, stem: str) -> bool:
    return suffix_of(path) in _DESCRIPTIONS[:3] and stem_of(path).lower() != stem.lower()


def instructions_beside(path: Path, *, needed: bool) -> Instructions | None:
    """Read the `.ins` or `.res` in the same folder as a file; None if there is none.

    Raises
    ------
    RephaseError
        The instructions are invalid and `needed`.

    Warns
    -----
    UserWarning
        The instructions are invalid and not needed.
    """
    other = beside(path, ".ins", ".res")
    if other is None:
        return None
    try:
        return read_instructions(file_text(other, ReflectionError), name=other.name)
    except RephaseError as error:
        if needed:
            raise
        warnings.warn(f"{path.name}: the file beside it is not read: {error}", stacklevel=3)
        return None


def with_neighbours(path: Path, found: Listing) -> Listing:
    """Complete a listing with cell, group and what else the files say from those of the same name.

    Warns
    -----
    UserWarning
        The `.p4p` or the CIF of the same name cannot be read.
    """
    if instructions := instructions_beside(path, needed=True):
        found = found._replace(
            cell=found.cell or instructions.cell,
            space_group=found.space_group or instructions.symmetry,
            wavelength=found.wavelength or instructions.wavelength,
            formula=found.formula or instructions.formula,
            radiation=found.radiation or instructions.radiation,
            temperature=found.temperature or instructions.temperature,
        )
    for suffix, complete in ((".p4p", with_p4p), (".cif", _with_cif)):
        other = beside(path, suffix)
        if other is None or (found.cell is not None and found.space_group is not None):
            continue
        try:
            found = complete(file_text(other, ReflectionError), found, name=other.name)
        except RephaseError as error:
            warnings.warn(f"{path.name}: the file beside it is not read: {error}", stacklevel=3)
    return found


def _with_cif(text: str, found: Listing, *, name: str) -> Listing:
    return with_metadata(found, list(cif_document(text, name=name)))
