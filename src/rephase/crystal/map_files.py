"""Maps and peaks in files for other programs: CCP4 maps, SHELX ``.res``, CIF."""

from pathlib import Path
from typing import NamedTuple

import gemmi
import numpy as np

from rephase.crystal.cell import Cell
from rephase.crystal.cif_head import block_name, write_head
from rephase.crystal.labels import numbered_labels
from rephase.crystal.peaks import UNASSIGNED, Peaks, common_images, parse_formula, site_order, units_in_cell
from rephase.crystal.shelx import head_lines
from rephase.crystal.symmetry import Symmetry, find_symmetry
from rephase.errors import GridError
from rephase.files.reading import file_bytes, plain_copy
from rephase.files.writing import write_whole

_U_ISO = 0.05  # Å^2, starting value for refinement


class DensityMap(NamedTuple):
    """A map ``density`` [x, y, z] of the whole cell in e/Å^3."""

    density: np.ndarray
    cell: Cell
    symmetry: Symmetry


def write_density(path: str | Path, density: np.ndarray, cell: Cell, symmetry: Symmetry) -> None:
    """Write the map [x, y, z] of a whole cell in CCP4 format (float32); an untabulated space group becomes P 1."""
    grid = gemmi.FloatGrid(np.ascontiguousarray(density, dtype=np.float32))
    grid.set_unit_cell(gemmi.UnitCell(*cell.parameters))
    grid.spacegroup = symmetry.table_entry or gemmi.SpaceGroup("P 1")
    ccp4 = gemmi.Ccp4Map()
    ccp4.grid = grid
    ccp4.update_ccp4_header()
    write_whole(Path(path), ccp4.ccp4_header + np.asarray(grid.array).tobytes(order="F"))


def read_density(path: str | Path) -> DensityMap:
    """Read a CCP4 map; a map of part of the cell is completed by symmetry.

    Raises
    ------
    GridError
        The file is missing or damaged, or the map does not cover the cell.
    """
    content = file_bytes(path, GridError)
    try:
        with plain_copy(content) as copy:
            ccp4 = gemmi.read_ccp4_map(copy)
        ccp4.setup(float("nan"))
    except (RuntimeError, ValueError, OSError, MemoryError) as error:
        raise GridError(f"{path}: not a complete CCP4 map ({error}); get the file again") from error
    with np.errstate(invalid="ignore"):  # damaged points may be signalling NaNs
        density = np.array(ccp4.grid.array, dtype=float)
    if not (is_there := np.isfinite(density)).all():
        raise GridError(f"{path}: the map has {(~is_there).sum()} empty points; expected a whole cell")
    group = ccp4.grid.spacegroup
    return DensityMap(density, Cell(*ccp4.grid.unit_cell.parameters), find_symmetry(group.xhm() if group else "P 1"))


def write_res(
    path: str | Path,
    cell: Cell,
    symmetry: Symmetry,
    peaks: Peaks,
    *,
    wavelength: float | None = None,
    formula: str | None = None,
    title: str = "rephase",
) -> None:
    """Write peaks as a SHELX ``.res``, ready to be refined against the HKLF 4 file of the same name.

    Peaks without an element follow as Q peaks after END, where SHELXL ignores them and viewers show them.

    Parameters
    ----------
    peaks
        Peaks; those with an element are written as atoms.
    wavelength
        Wavelength in Å; None: Mo Kα (0.71073).
    formula
        Formula of one formula unit, e.g. ``C20 H22 N2 O3``, for SFAC and UNIT; without it the atoms are counted.
    """
    order = site_order(peaks.xyz_frac, cell, symmetry)
    contents, n_units = _contents(cell, symmetry, peaks, order, formula)
    head = [
        *head_lines(title, cell, symmetry, contents, n_units, wavelength),
        "L.S. 4",
        "FMAP 2",
        "PLAN 20",
        "WGHT 0.1",
        "FVAR 1.0",
    ]
    atoms, rest = [], []
    numbers = list(contents)
    for label, element, xyz, height, n_same in zip(
        numbered_labels(peaks.elements), peaks.elements, peaks.xyz_frac, peaks.height, order
    ):
        place = " ".join(f"{x:.6f}" for x in xyz)
        kind = numbers.index(element) + 1 if element in contents else 1
        line = f"{label:<4} {kind} {place} {10 + 1 / n_same:.5f} {_U_ISO:.5f}"
        if element == UNASSIGNED:
            rest.append(f"{line} {height:.2f}")
        else:
            atoms.append(line)
    text = "\n".join([*head, *atoms, "HKLF 4", "END", *rest, ""])
    write_whole(Path(path), text.encode("ascii", errors="replace"))


def write_cif(path: str | Path, cell: Cell, symmetry: Symmetry, peaks: Peaks, *, title: str = "rephase") -> None:
    """Write peaks as the atoms of a CIF; a peak without an element is written as carbon."""
    document = gemmi.cif.Document()
    block = document.add_new_block(block_name(title))
    write_head(block, cell, symmetry)
    tags = ["label", "type_symbol", "fract_x", "fract_y", "fract_z", "U_iso_or_equiv", "occupancy"]
    atoms = block.init_loop("_atom_site_", tags)
    for label, element, xyz in zip(numbered_labels(peaks.elements), peaks.elements, peaks.xyz_frac):
        symbol = "C" if element == UNASSIGNED else element
        atoms.add_row([label, symbol, *(f"{x:.6f}" for x in xyz), f"{_U_ISO:g}", "1"])
    write_whole(Path(path), document.as_string())


def _contents(
    cell: Cell, symmetry: Symmetry, peaks: Peaks, order: np.ndarray, formula: str | None
) -> tuple[dict[str, float], int]:
    """Atoms of each element in the cell, and the number of formula units."""
    n_images = len(symmetry.triplets)
    counted: dict[str, float] = {}
    for element, n_same in zip(peaks.elements, order):
        element = "C" if element == UNASSIGNED else element
        counted[element] = counted.get(element, 0.0) + n_images / n_same
    if formula is None:
        return counted or {"C": 1.0}, n_images
    counts = parse_formula(formula)
    n_units = units_in_cell(counts, symmetry, cell, unit=common_images(n_images // order))
    from_formula = {element: count * n_units for element, count in counts.items()}
    others = {element: counted[element] for element in peaks.elements if element not in (*counts, UNASSIGNED)}
    return from_formula | others, n_units
