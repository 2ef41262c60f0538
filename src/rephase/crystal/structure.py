"""The `Crystal`: cell, space group, asymmetric unit and the atoms of the whole cell; reading it from CIF."""

import contextlib
import io
import math
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import gemmi
import numpy as np

from rephase.crystal.cell import Cell
from rephase.crystal.peaks import site_order
from rephase.crystal.shelx import read_instructions
from rephase.crystal.shelx_atoms import read_sites
from rephase.errors import CifError, nearest_name
from rephase.paths import CIFS, NEEDED


@dataclass(frozen=True)
class Atoms:
    """Atoms as columns, in fractional coordinates.

    Parameters
    ----------
    labels, elements
        Site labels and element symbols, length n_atoms.
    charges
        Formal charges as noted in the file; the form factors are those of neutral atoms.
    xyz_frac
        [n_atoms, 3], fractional.
    occupancy
        [n_atoms], in (0, 1].
    u_iso
        [n_atoms], mean-square displacement U in Å^2.
    """

    labels: tuple[str, ...]
    elements: tuple[str, ...]
    charges: tuple[int, ...]
    xyz_frac: np.ndarray
    occupancy: np.ndarray
    u_iso: np.ndarray

    def __len__(self) -> int:
        return len(self.elements)

    def take(self, indices: np.ndarray) -> "Atoms":
        """Return the atoms at `indices`, in that order."""
        pick = lambda column: tuple(column[i] for i in indices)  # noqa: E731
        return Atoms(pick(self.labels), pick(self.elements), pick(self.charges),
                     self.xyz_frac[indices], self.occupancy[indices], self.u_iso[indices])  # fmt: skip


@dataclass(frozen=True)
class Crystal:
    """A crystal structure.

    Parameters
    ----------
    name
        Of the data block or the bundled structure.
    cell
        Lengths in Å, angles in degrees.
    space_group
        Extended Hermann-Mauguin symbol of the setting, e.g. ``F m -3 m``.
    asymmetric_unit
        The sites as listed in the file.
    atoms
        All atoms of one cell, symmetry applied (P1).
    """

    name: str
    cell: Cell
    space_group: str
    asymmetric_unit: Atoms
    atoms: Atoms

    @cached_property
    def formula(self) -> str:
        """Sum of the occupied sites of one cell, e.g. ``Ca4 F8``."""
        totals = {e: sum(o for x, o in zip(self.atoms.elements, self.atoms.occupancy) if x == e)
                  for e in dict.fromkeys(self.atoms.elements)}  # fmt: skip
        return " ".join(f"{element}{total:g}" for element, total in totals.items())


def read_crystal(source: str | Path) -> Crystal:
    """Read a crystal from a CIF file, a SHELX `.res` or `.ins`, from CIF text, or by the name of a bundled structure.

    Parameters
    ----------
    source
        Path of a file; text of a CIF (anything with a line break); or one of `bundled_names`.

    Raises
    ------
    CifError
        The file is missing, unreadable, empty or truncated; cell, space group, an element, a coordinate or an
        occupancy is missing or impossible. Nothing in the file is evaluated.
    ReflectionError, SymmetryError
        A line of a SHELX file that makes no sense.

    Warns
    -----
    UserWarning
        The formula names an element that no atom is: the list of atoms may have been cut.

    Examples
    --------
    >>> read_crystal("Ni").formula
    'Ni4'
    """
    text = str(source)
    if "\n" in text:
        return _crystal_from_cif(text, "CIF text")
    path = Path(source)
    if path.is_file() and path.suffix.lower() in (".res", ".ins"):
        return _crystal_from_shelx(_read_text(path), path.name)
    if path.is_file():
        return _crystal_from_cif(_read_text(path), str(path))
    if (CIFS / f"{text}.cif").is_file():
        return _crystal_from_cif(_read_text(CIFS / f"{text}.cif"), text)
    if text in _shipped_names():
        return _shipped_crystal(text)
    raise CifError(
        f"crystal {text!r}: no such file and no bundled crystal; {nearest_name(text, bundled_names())}{NEEDED}"
    )


def bundled_names() -> list[str]:
    """Names that `read_crystal` knows: the project's own CIFs and the structures of Dans_Diffraction."""
    return sorted({path.stem for path in CIFS.glob("*.cif")} | set(_shipped_names()))


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise CifError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error


def _crystal_from_cif(text: str, origin: str) -> Crystal:
    block = _structure_block(text, origin)
    cell = _read_cell(block, origin)
    small = gemmi.make_small_structure_from_block(block)
    if small.spacegroup is None and not small.symops and small.spacegroup_number:
        small.spacegroup = gemmi.find_spacegroup_by_number(small.spacegroup_number)
        small.setup_cell_images()
    if small.spacegroup is None:
        given = small.spacegroup_hm or small.spacegroup_hall or small.spacegroup_number or small.symops or "nothing"
        raise CifError(
            f"{origin}: space group {given!r} is not in the tables; give _space_group_name_H-M_alt "
            "(e.g. 'P 1 21/c 1') or the operations of _space_group_symop_operation_xyz"
        )
    for site in small.sites:
        site.u_iso = _u_eq(site, small.cell)
    _check_sites(small, block, origin)
    _check_formula(small, block, origin)
    asymmetric_unit = _atoms(small.sites)
    atoms = _atoms(small.get_all_unit_cell_sites())
    return Crystal(block.name or origin, cell, small.spacegroup.xhm(), asymmetric_unit, atoms)


def _crystal_from_shelx(text: str, origin: str) -> Crystal:
    found = read_instructions(text, name=origin)
    if found.cell is None or found.symmetry is None:
        raise CifError(f"{origin}: no CELL in the file; a crystal needs its whole cell")
    small = gemmi.SmallStructure()
    small.cell = gemmi.UnitCell(*found.cell.parameters)
    small.spacegroup = gemmi.find_spacegroup_by_name(found.symmetry.symbol)
    if small.spacegroup is None:
        raise CifError(f"{origin}: {found.symmetry.symbol} of LATT and SYMM is no space group of the tables; mend them")
    small.setup_cell_images()
    u_before = 0.05  # SHELXL's default
    for listed in read_sites(text, name=origin):
        site = gemmi.SmallStructure.Site()
        site.label, site.type_symbol, site.element = listed.label, listed.element, gemmi.Element(listed.element)
        site.fract = gemmi.Fractional(*listed.xyz_frac)
        n_same = site_order(np.array([listed.xyz_frac]), found.cell, found.symmetry)[0]
        site.occ = min(1.0, round(listed.occupation * n_same, 4))
        if len(listed.u) == 1 and listed.u[0] < -0.5:
            site.u_iso = -listed.u[0] * u_before
        else:
            u11, u22, u33, u23, u13, u12 = listed.u if len(listed.u) == 6 else (0.0,) * 6
            site.aniso = gemmi.SMat33d(u11, u22, u33, u12, u13, u23)
            site.u_iso = u_before = listed.u[0] if len(listed.u) == 1 else _u_eq(site, small.cell)
        small.add_site(site)
    if not small.sites:
        raise CifError(f"{origin}: no atoms before HKLF or END; expected lines with a label, a kind and x, y, z")
    _check_sites(small, gemmi.cif.Block("none"), origin)
    return Crystal(origin, found.cell, found.symmetry.symbol, _atoms(small.sites),
                   _atoms(small.get_all_unit_cell_sites()))  # fmt: skip


def _structure_block(text: str, origin: str) -> gemmi.cif.Block:
    """The first data block that lists atoms."""
    if not text.strip():
        raise CifError(f"{origin}: the file is empty; expected a CIF with a cell and a list of atoms")
    try:
        document = gemmi.cif.read_string(text)
    except (ValueError, RuntimeError) as error:
        raise CifError(f"{origin}: not a complete CIF ({error}); it may be truncated, get the file again") from error
    for block in document:
        if all(block.find_loop(f"_atom_site_fract_{axis}") for axis in "xyz"):
            return block
    raise CifError(f"{origin}: no data block lists atoms; expected a loop with _atom_site_fract_x, _y, _z")


def _read_cell(block: gemmi.cif.Block, origin: str) -> Cell:
    tags = [f"_cell_length_{axis}" for axis in "abc"] + [f"_cell_angle_{angle}" for angle in ("alpha", "beta", "gamma")]
    values = []
    for tag in tags:
        value = block.find_value(tag)
        if value is None or math.isnan(gemmi.cif.as_number(value)):
            raise CifError(f"{origin}: {tag} = {value or 'missing'}: expected a number; a crystal needs its whole cell")
        values.append(gemmi.cif.as_number(value))
    return Cell(*values)


def _check_sites(small: gemmi.SmallStructure, block: gemmi.cif.Block, origin: str) -> None:
    occupancies = block.find_values("_atom_site_occupancy")
    unreadable = [value for value in occupancies if value not in ("?", ".") and math.isnan(gemmi.cif.as_number(value))]
    if unreadable:
        raise CifError(f"{origin}: occupancy {unreadable[0]!r} is not a number; expected a value in (0, 1]")
    for site in small.sites:
        if site.element.atomic_number == 0:
            raise CifError(
                f"{origin}: atom {site.label!r} has the unknown element {site.type_symbol!r}; "
                "set _atom_site_type_symbol to a symbol such as Ni or O2-"
            )
        if not all(math.isfinite(x) for x in site.fract.tolist()):
            raise CifError(
                f"{origin}: atom {site.label!r} has no position ({site.fract.tolist()}); give three fractional "
                "coordinates or leave the atom out"
            )
        if not (math.isfinite(site.u_iso) and site.u_iso >= 0):
            raise CifError(f"{origin}: atom {site.label!r} has U = {site.u_iso} Å²; expected a value >= 0")
        if not 0 < site.occ <= 1:
            raise CifError(f"{origin}: atom {site.label!r} has occupancy {site.occ}; expected a value in (0, 1]")


def _check_formula(small: gemmi.SmallStructure, block: gemmi.cif.Block, origin: str) -> None:
    """Warn where the formula names an element that no site has; hydrogens are often left out."""
    formula = gemmi.cif.as_string(block.find_value("_chemical_formula_sum") or "")
    named = {word.capitalize() for word in re.findall(r"[A-Za-z]+", formula)} - {"H", "D"}
    if missing := sorted(named - {site.element.name for site in small.sites}):
        warnings.warn(
            f"{origin}: the formula {formula!r} has {', '.join(missing)}, but no atom is {missing[0]}; the file may be "
            "truncated: get it again, or mend _chemical_formula_sum",
            stacklevel=4,
        )


def _u_eq(site: gemmi.SmallStructure.Site, cell: gemmi.UnitCell) -> float:
    """U_iso as given, else a third of the trace of the anisotropic U (ITC 8.1.3), else 0: an atom at rest."""
    if site.u_iso != 0 or not site.aniso.nonzero():
        return float(site.u_iso)
    lengths = np.diag([cell.reciprocal().a, cell.reciprocal().b, cell.reciprocal().c])
    to_cartesian = np.array(cell.orth.mat.tolist()) @ lengths
    return float(np.trace(to_cartesian @ np.array(site.aniso.as_mat33().tolist()) @ to_cartesian.T) / 3)


def _element(symbol: str) -> str:
    """Deuterium scatters X-rays as hydrogen does."""
    return "H" if symbol == "D" else symbol


def _atoms(sites: Iterable[gemmi.SmallStructure.Site]) -> Atoms:
    sites = list(sites)
    return Atoms(
        labels=tuple(site.label for site in sites),
        elements=tuple(_element(site.element.name) for site in sites),
        charges=tuple(int(site.charge) for site in sites),
        xyz_frac=np.array([site.fract.tolist() for site in sites]).reshape(-1, 3) % 1.0,
        occupancy=np.array([site.occ for site in sites]),
        u_iso=np.array([site.u_iso for site in sites]),
    )


def _shipped_names() -> tuple[str, ...]:
    from Dans_Diffraction.classes_structures import Structures

    return tuple(Structures().list)


@cache  # each takes half a second
def _shipped_crystal(name: str) -> Crystal:
    """A structure of Dans_Diffraction, through its own reader: these files are trusted, and gemmi refuses some."""
    from Dans_Diffraction.classes_structures import Structures

    with contextlib.redirect_stdout(io.StringIO()):  # the reader prints
        shipped = getattr(Structures(), name)()
    xyz_frac, elements, labels, occupancy, u_iso, _ = shipped.Structure.get()
    atoms = _shipped_atoms(labels, elements, xyz_frac, occupancy, u_iso)
    sites = shipped.Atoms
    asymmetric_unit = _shipped_atoms(sites.label, sites.type, sites.uvw(), sites.occupancy, sites.uiso)
    cell = Cell(*(float(x) for x in shipped.Cell.lp()))
    space_group = _space_group_of(shipped.Symmetry.symmetry_operations)
    if space_group is None:  # a magnetic supercell whose lattice translations are no setting of the tables
        return Crystal(name, cell, "P 1", atoms, atoms)
    return Crystal(name, cell, space_group, asymmetric_unit, atoms)


def _shipped_atoms(labels, elements, xyz_frac, occupancy, u_iso) -> Atoms:
    """Columns as `Atoms`, without the empty sites that one shipped supercell lists."""
    elements = [re.findall(r"[A-Z][a-z]?", str(element))[0] for element in elements]
    every = Atoms(tuple(map(str, labels)), tuple(elements), (0,) * len(elements), np.asarray(xyz_frac, float) % 1.0,
                  np.asarray(occupancy, float), np.asarray(u_iso, float))  # fmt: skip
    return every.take(np.flatnonzero(every.occupancy > 0))


def _space_group_of(operations: list[str]) -> str | None:
    """Symbol of the group of the operations without time reversal; None where the tables have no such group."""
    triplets = dict.fromkeys(",".join(operation.split(",")[:3]) for operation in operations)
    group = gemmi.find_spacegroup_by_ops(gemmi.GroupOps([gemmi.Op(triplet) for triplet in triplets]))
    return group.xhm() if group else None
