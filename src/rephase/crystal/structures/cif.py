"""Crystals from CIF: core CIF with tags of both dictionaries, mmCIF, magnetic and modulated structures."""

import math
import warnings

import gemmi

from rephase.crystal.atoms import Atoms, Crystal, atoms_of, whole_cell
from rephase.crystal.cell import Cell
from rephase.crystal.cif_blocks import cif_document, space_group_of, text_of
from rephase.crystal.peaks import parse_formula
from rephase.crystal.space_group_names import settings_of
from rephase.crystal.structures.cell_contents import choose_setting, warn_of_contents
from rephase.crystal.structures.sites import lists_sites, read_sites
from rephase.crystal.symmetry import Symmetry, find_symmetry, is_without_setting
from rephase.errors import CifError, SymmetryError

_CELL_TAGS = [f"_cell_length_{axis}" for axis in "abc"] + [
    f"_cell_angle_{angle}" for angle in ("alpha", "beta", "gamma")
]
_MODULATED = (
    "_space_group_ssg_name",
    "_space_group_ssg_name_IT",
    "_space_group_ssg_name_WJJ",
    "_space_group_symop_ssg_operation_algebraic",
    "_atom_site_displace_Fourier_atom_site_label",
    "_atom_site_occ_Fourier_atom_site_label",
    "_atom_site_Fourier_wave_vector_seq_id",
    "_cell_wave_vector_seq_id",
)
_MAGNETIC = (
    "_space_group_symop_magn_operation_xyz",
    "_space_group_symop_magn_operation_mxmymz",
    "_space_group_symop_magn_ssg_operation_algebraic",
    "_space_group_magn_name_BNS",
    "_space_group_magn_number_BNS",
    "_space_group_magn_ssg_name",
    "_atom_site_moment_label",
    "_atom_site_moment_crystalaxis_x",
)
_NUMBER_TAGS = ("_space_group_IT_number", "_symmetry_Int_Tables_number")
_LARGEST_Z = 10_000


def crystal_from_cif(text: str, origin: str) -> Crystal:
    """Read the first block of a CIF that lists atoms.

    Raises
    ------
    CifError
        As `read_crystal`.

    Warns
    -----
    UserWarning
        Something was left out or assumed, or the cell does not contain its formula.
    """
    block = _structure_block(text, origin)
    cell = _read_cell(block, origin)
    stated, symmetry = _stated_group(block, origin)
    formula = _formula(block, origin)
    sites = atoms_of(read_sites(block, cell, formula, name=origin))
    z = gemmi.cif.as_number(text_of(block, "_cell_formula_units_Z") or "?")
    n_units = z if 0 < z < _LARGEST_Z else None
    symmetry = choose_setting(_settings(stated, symmetry), sites, cell, formula, n_units, name=origin)
    atoms = whole_cell(sites, symmetry, cell)
    _warn_of_what_is_left_out(block, origin)
    _warn_of_misfit(symmetry, cell, origin)
    _check_contents(atoms, formula, n_units, text_of(block, "_chemical_formula_sum"), origin)
    name = block.name or origin
    if symmetry.table_entry is None:
        warnings.warn(
            f"{origin}: the {len(symmetry.triplets)} operations are not a tabulated setting; all atoms of the cell "
            "are listed in P 1",
            stacklevel=3,
        )
        return Crystal(name, cell, "P 1", atoms, atoms)
    return Crystal(name, cell, symmetry.symbol, sites, atoms)


def _structure_block(text: str, origin: str) -> gemmi.cif.Block:
    """The first data block that lists atoms."""
    if not text.strip():
        raise CifError(f"{origin}: the file is empty; expected a CIF with a cell and a list of atoms")
    blocks = [block for block in cif_document(text, name=origin, error=CifError) if lists_sites(block)]
    if not blocks:
        raise CifError(
            f"{origin}: no data block lists atoms with coordinates; expected a loop with _atom_site_fract_x, _y, _z"
        )
    if others := [block.name for block in blocks[1:]]:
        warnings.warn(
            f"{origin}: {len(blocks)} blocks list atoms; {blocks[0].name!r} is read, and not {', '.join(others[:5])}",
            stacklevel=4,
        )
    return blocks[0]


def _read_cell(block: gemmi.cif.Block, origin: str) -> Cell:
    values = []
    for tag in _CELL_TAGS:
        value = text_of(block, tag)
        if math.isnan(gemmi.cif.as_number(value)):
            raise CifError(f"{origin}: {tag} = {value or 'missing'}: expected a number; a crystal needs its whole cell")
        values.append(gemmi.cif.as_number(value))
    try:
        return Cell(*values)
    except CifError as error:
        raise CifError(f"{origin}: {error}") from error


def _stated_group(block: gemmi.cif.Block, origin: str) -> tuple[str | list[str], Symmetry]:
    """The statement of a block about its group, and the group."""
    _check_number(block, origin)
    stated = space_group_of(block) or []
    if not stated and _has(block, _MAGNETIC):
        raise CifError(
            f"{origin}: a magnetic CIF, whose operations with time reversal are not read; give the CIF of the nuclear "
            "structure, or state _space_group_symop_operation_xyz without time reversal"
        )
    try:
        symmetry = find_symmetry(stated)
    except SymmetryError as error:
        raise CifError(
            f"{origin}: space group {stated or 'nothing'!r:.200} is not in the tables; give "
            "_space_group_name_H-M_alt (e.g. 'P 1 21/c 1') or the operations of _space_group_symop_operation_xyz"
        ) from error
    return stated, symmetry


def _settings(stated: str | list[str], symmetry: Symmetry) -> list[Symmetry]:
    """The settings that a statement may mean, each with its operations in the order of the tables."""
    entry = symmetry.table_entry
    if entry is None:
        return [symmetry]
    meant = settings_of(entry) if is_without_setting(stated) else [entry]
    return [find_symmetry(group.xhm()) for group in meant]


def _warn_of_misfit(symmetry: Symmetry, cell: Cell, origin: str) -> None:
    if operation := symmetry.misfit(cell):
        warnings.warn(
            f"{origin}: {symmetry.symbol} does not fit the cell {cell.parameters}: {operation} changes its lengths or "
            "angles; correct the group or the cell",
            stacklevel=4,
        )


def _check_number(block: gemmi.cif.Block, origin: str) -> None:
    """Refuse an impossible number of the group, whatever else the block states; 0 means unknown."""
    for tag in _NUMBER_TAGS:
        number = text_of(block, tag)
        if number and ("(" in number or gemmi.cif.as_number(number) not in range(231)):
            raise CifError(
                f"{origin}: {tag} = {number:.80}: expected a number from 1 to 230; correct it or leave it out"
            )


def _formula(block: gemmi.cif.Block, origin: str) -> dict[str, float]:
    """Counts of the formula; empty if there is none, or if it does not consist of elements and counts."""
    written = text_of(block, "_chemical_formula_sum")
    try:
        return parse_formula(written.replace(",", " ")) if written else {}
    except CifError as error:
        warnings.warn(f"{origin}: {error}; the atoms are not compared with it", stacklevel=4)
        return {}


def _check_contents(atoms: Atoms, formula: dict[str, float], z: float | None, written: str, origin: str) -> None:
    """Warn of elements without atoms (hydrogen excepted, which lists often leave out), or of differing counts."""
    if missing := sorted(formula.keys() - {"H", "D"} - set(atoms.elements)):
        warnings.warn(
            f"{origin}: the formula {written!r} has {', '.join(missing)}, but no atom is {missing[0]}; the file may be "
            "truncated: get it again, or correct _chemical_formula_sum",
            stacklevel=4,
        )
    elif formula and z is not None:
        warn_of_contents(atoms.counts, formula, z, name=origin)


def _warn_of_what_is_left_out(block: gemmi.cif.Block, origin: str) -> None:
    if _has(block, _MODULATED):
        warnings.warn(
            f"{origin}: a modulated structure; its modulation is left out, and the average structure is read",
            stacklevel=4,
        )
    if _has(block, _MAGNETIC):
        warnings.warn(
            f"{origin}: a magnetic CIF; its moments are left out, and the nuclear structure is read",
            stacklevel=4,
        )


def _has(block: gemmi.cif.Block, tags: tuple[str, ...]) -> bool:
    return any(len(list(block.find_values(tag))) for tag in tags)
