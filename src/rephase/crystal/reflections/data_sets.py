"""Which file holds the reflections: of a folder, or of the file beside them that a user may name instead."""

import os
from collections.abc import Sequence
from pathlib import Path

from rephase.crystal.foreign_files import foreign_text
from rephase.crystal.reflections.cif import has_reflections
from rephase.crystal.reflections.neighbours import beside
from rephase.errors import ReflectionError
from rephase.files.foreign_documents import foreign_document
from rephase.files.reading import decoded, file_bytes, stem_of, suffix_of

# Suffixes of lists, the most complete first: of one name, the first is the data set.
LISTS = (".hkl", ".mtz", ".fcf", ".sca", ".int", ".cif", ".mmcif")
_CIFS = ".cif", ".mmcif"
_DESCRIPTIONS = (".ins", ".res", ".p4p")  # files about a list beside them
_SHOWN = 12  # names in a message


def data_file(path: Path) -> Path:
    """Return the file with the reflections: the only data set of a folder, or the list beside an `.ins` or `.p4p`.

    Raises
    ------
    ReflectionError
        The folder has no data set, or several; there is no list beside the file.
    """
    if os.path.isdir(path):
        return _only(data_sets(path), path)
    if suffix_of(path) not in _DESCRIPTIONS or not os.path.isfile(path):
        return path
    if found := beside(path, *LISTS):
        return found
    raise ReflectionError(
        f"{path}: instructions without reflections, and no {stem_of(path)}.hkl beside it; give the reflection file"
    )


def data_sets(folder: Path) -> list[Path]:
    """List the data sets of a folder, one file for each name, or those of its subfolders if it has none itself."""
    folders = sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))
    return _lists_in(folder) or [path for each in folders for path in _lists_in(each)]


def all_data_sets(given: Sequence[Path]) -> list[Path]:
    """List files and the data sets of folders, each once, in order.

    Of a folder with several, CIFs without reflections follow, unless they belong to a list of the same name: their
    reader says so.

    Raises
    ------
    ReflectionError
        A folder has no data set.
    """
    found: dict[Path, None] = {}
    for path in given:
        if not os.path.isdir(path):
            found[path] = None
        elif sets := data_sets(path):
            found |= dict.fromkeys(sets + (_cifs_without_list(sets) if len(sets) > 1 else []))
        else:
            _only(sets, path)
    return list(found)


def _cifs_without_list(sets: Sequence[Path]) -> list[Path]:
    """CIFs beside data sets that have no reflections and share the name of none of them."""
    known = {(path.parent, stem_of(path).lower()) for path in sets}
    cifs = (path for folder in dict.fromkeys(path.parent for path in sets) for path in sorted(folder.iterdir()))
    return [
        path
        for path in cifs
        if suffix_of(path) in _CIFS and path.is_file() and (path.parent, stem_of(path).lower()) not in known
    ]


def _only(found: list[Path], folder: Path) -> Path:
    if len(found) == 1:
        return found[0]
    names = [str(path.relative_to(folder)) for path in found] or sorted(os.listdir(folder))
    listed = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    if found:
        raise ReflectionError(f"{folder}: a folder with {len(found)} data sets ({listed}); give one of them")
    raise ReflectionError(
        f"{folder}: a folder without a data set (it has: {listed or 'nothing'}); expected one reflection file "
        f"({', '.join(LISTS)})"
    )


def _lists_in(folder: Path) -> list[Path]:
    files = sorted(
        (path for path in folder.iterdir() if suffix_of(path) in LISTS and path.is_file()),
        key=lambda path: (stem_of(path).lower(), LISTS.index(suffix_of(path)), path.name),
    )
    of_name: dict[str, Path] = {}
    for path in files:
        if stem_of(path).lower() not in of_name and _has_list(path):
            of_name[stem_of(path).lower()] = path
    return list(of_name.values())


def _has_list(path: Path) -> bool:
    """Whether a file may be a list of reflections: not of a known other kind, and a CIF only with reflections."""
    try:
        content = file_bytes(path, ReflectionError)
    except ReflectionError:
        return True  # its reader says why it cannot be read
    if suffix_of(path) in _CIFS:
        return has_reflections(decoded(content))
    return content[:4] == b"MTZ " or not (foreign_document(content) or foreign_text(decoded(content[:4000])))
