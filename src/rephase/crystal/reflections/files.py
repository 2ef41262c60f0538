"""Reading of reflections in any format, with their cell and space group; writing of HKLF 4."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rephase.crystal.cell import Cell
from rephase.crystal.cif_blocks import is_cif
from rephase.crystal.foreign_files import foreign_suffix, foreign_text
from rephase.crystal.reflections import Reflections, estimate_sigma
from rephase.crystal.reflections.checks import check_cell
from rephase.crystal.reflections.cif import from_cif
from rephase.crystal.reflections.columns import from_columns
from rephase.crystal.reflections.data_sets import data_file
from rephase.crystal.reflections.listing import Listing, measured_rows
from rephase.crystal.reflections.mtz import from_mtz, write_mtz, write_mtz_columns
from rephase.crystal.reflections.neighbours import (
    instructions_beside,
    where_a_cell_may_be,
    with_neighbours,
)
from rephase.crystal.reflections.programs import program_of
from rephase.crystal.symmetry import Symmetry, symmetry_in
from rephase.errors import ReflectionError
from rephase.files.foreign_documents import foreign_document
from rephase.files.reading import decoded, file_bytes, name_of
from rephase.files.writing import write_whole

__all__ = ["read_reflections", "write_hklf4", "write_mtz", "write_mtz_columns"]

_POWERS_OF_TEN = 10.0 ** np.arange(1, 9)


def read_reflections(
    path: str | Path,
    *,
    cell: Cell | Sequence[float] | None = None,
    space_group: str | int | Symmetry | None = None,
    column: str | None = None,
    block: str | None = None,
    wavelength: float | None = None,
) -> Reflections:
    """Read a list of measured reflections; the format is recognised from the content of the file.

    MTZ · CIF with a loop of reflections (COD's ``.hkl``, SHELX ``.fcf``, mmCIF, unmerged ``_diffrn_refln_``) or an
    embedded SHELX list · SHELX HKLF 4 (HKLF 3 where the ``.ins`` says so) · lines of h k l I σ, with spaces, commas or
    semicolons, also after a header, which may name the columns · XDS_ASCII, merged SCALEPACK, FullProf's ``.int``.
    Each file may be gzipped. Missing information is taken from the ``.ins``, ``.res``, ``.p4p`` or ``.cif`` of the same
    name in the same folder; any of the first three may be named instead of the list. (0, 0, 0) and reflections without
    a value are left out; reflections marked as excluded, satellites, placeholders and rows with a negative σ are left
    out and counted. A missing or zero σ is estimated. The formula that the files state is kept, unless it is an obvious
    placeholder.

    Parameters
    ----------
    path
        The file, or a folder that holds one data set.
    cell
        a, b, c (Å), α, β, γ (degrees); takes precedence over the file.
    space_group
        Symbol or number; takes precedence over the file. If none is known, the list has no symmetry.
    column
        Label of the intensities or amplitudes, if an MTZ file or a CIF has several.
    block
        Name of the data block, if several blocks of a CIF have reflections.
    wavelength
        Wavelength in Å; takes precedence over the file.

    Returns
    -------
    Reflections
        As measured: not merged.

    Raises
    ------
    ReflectionError
        The file is missing or is not such a list (the message names its format, if known); a folder or a CIF has no
        data set or several; the cell is unknown; a value is wrong (see `Reflections`).

    Warns
    -----
    UserWarning
        Rows were left out, σ were estimated, the file has slips, a file of the same name cannot be read, or the file
        says that the data are of neutrons or electrons.
    """
    if wavelength is not None and not 0.01 < wavelength < 100:
        raise ReflectionError(f"wavelength = {wavelength}: expected an X-ray wavelength; give it in Å, e.g. 0.71073")
    path = data_file(Path(path))
    needed = cell is None or space_group is None
    found = read_listing(path, column, block=block, needed=needed)
    if needed and (found.cell is None or found.space_group is None):
        found = with_neighbours(path, found)
    cell = found.cell if cell is None else _as_cell(cell)
    if cell is None:
        raise ReflectionError(
            f"{path.name}: no cell in the file or beside it; give cell=(a, b, c, α, β, γ) (--cell); "
            f"{where_a_cell_may_be(path)}"
        )
    check_cell(cell, None, name=path.name)
    stated = found.space_group if space_group is None else space_group
    symmetry = None if stated is None else symmetry_in(cell, stated)
    return _reflections(found, cell, symmetry, wavelength or found.wavelength, name_of(path))


def write_hklf4(path: str | Path, reflections: Reflections) -> float:
    """Write the intensities as SHELX HKLF 4: 3I4, 2F8, ended by 0 0 0.

    Each number uses all digits that its eight columns hold. A list that does not fit is scaled by a power of ten.

    Returns
    -------
    float
        The factor by which intensities and σ were multiplied.
    """
    largest = max(np.abs(reflections.intensity).max(), reflections.sigma.max())
    scale = 1.0 if 100 <= largest < 99999 else 10.0 ** (4 - np.floor(np.log10(largest)))
    columns = [each for column in (reflections.intensity, reflections.sigma) for each in _eight_wide(column * scale)]
    rows = zip(reflections.hkl.tolist(), *columns)
    lines = [f"{h:4d}{k:4d}{l:4d}{I:8.{m}f}{sigma:8.{n}f}   1\n" for (h, k, l), I, m, sigma, n in rows]
    write_whole(Path(path), "".join([*lines, "   0   0   0    0.00    0.00   0\n"]))
    return float(scale)


def _eight_wide(values: np.ndarray) -> tuple[list[float], list[int]]:
    """Numbers [n] and their decimals in eight columns: two as in SHELX, or more that leave one column free."""
    digits = 1 + np.searchsorted(_POWERS_OF_TEN, np.abs(np.rint(values)), side="right")
    whole = digits + np.signbit(values)
    return values.tolist(), np.minimum(np.maximum(6 - whole, 2), 7 - whole).tolist()


def read_listing(path: Path, column: str | None = None, *, block: str | None = None, needed: bool = True) -> Listing:
    """Read a file in any format; text columns are interpreted by the `.ins` or `.res` of the same name.

    Parameters
    ----------
    path, column, block
        As in `read_reflections`.
    needed
        Whether invalid instructions are an error; otherwise they cause a warning.

    Raises
    ------
    ReflectionError
        As `read_reflections`.
    """
    content = file_bytes(path, ReflectionError)
    name = path.name
    if content[:4] == b"MTZ ":
        return from_mtz(content, name=name, column=column)
    if what := foreign_document(content):
        raise ReflectionError(f"{name}: this is {what}")
    text = decoded(content)
    if "\0" in text[:4096]:
        raise ReflectionError(f"{name}: a binary file, but no MTZ; expected an MTZ, a CIF, or lines of h k l I σ")
    if is_cif(text):
        return from_cif(text, name=name, column=column, block=block)
    if block is not None:
        raise ReflectionError(f"{name}: block={block!r}, but only a CIF has data blocks; leave it out")
    if column is not None:
        raise ReflectionError(f"{name}: column={column!r}, but the columns of this file have no names; leave it out")
    if reader := program_of(text):
        return reader(text, name=name)
    if what := foreign_text(text):
        raise ReflectionError(f"{name}: this is {what}")
    instructions = instructions_beside(path, needed=needed)
    try:
        return from_columns(text, name=name, instructions=instructions)
    except ReflectionError as error:
        if what := foreign_suffix(path.suffix):
            raise ReflectionError(f"{error}; by its suffix this is {what}") from error
        raise


def _as_cell(cell: Cell | Sequence[float]) -> Cell:
    if isinstance(cell, Cell):
        return cell
    if len(cell) != 6:
        raise ReflectionError(f"cell = {tuple(cell)}: expected six numbers, a, b, c in Å and α, β, γ in degrees")
    return Cell(*map(float, cell))


def _reflections(
    found: Listing, cell: Cell, symmetry: Symmetry | None, wavelength: float | None, name: str
) -> Reflections:
    if found.radiation:
        warnings.warn(
            f"{name}: the file states {found.radiation} diffraction, but the intensities are treated as those of "
            "X-rays: elements, hydrogen atoms and R1 of a model will be wrong",
            stacklevel=3,
        )
    kept = measured_rows(found, name=name)
    hkl, value = found.hkl[kept], found.value[kept]
    sigma = np.full(len(value), np.nan) if found.sigma is None else found.sigma[kept]
    sigma = np.where(sigma > 0, sigma, np.nan)
    has_sigma = bool(np.isfinite(sigma).any())
    if found.is_amplitude:  # σ of the square, exact for a Gaussian |F|
        value, sigma = value * np.abs(value), np.sqrt(4 * value**2 * sigma**2 + 2 * sigma**4)
    sigma = estimate_sigma(value, sigma, name=name) if len(value) else sigma
    phi = None if found.phi_deg is None else np.angle(np.exp(1j * np.radians(found.phi_deg[kept])))
    return Reflections(
        *(hkl, value, sigma, cell, symmetry, phi, wavelength, name),
        has_sigma=has_sigma,
        formula=found.formula,
        radiation=found.radiation,
        temperature=found.temperature,
    )
