"""Crystals from the `.res` and `.ins` files of SHELX."""

import warnings

import numpy as np

from rephase.crystal.atoms import Crystal, Site, atoms_of, whole_cell
from rephase.crystal.cell import Cell
from rephase.crystal.peaks import site_order
from rephase.crystal.shelx import instruction_lines, read_instructions
from rephase.crystal.structures.displacements import AT_REST, SLIGHTLY_NEGATIVE, equivalent_u, tensor_of_u
from rephase.crystal.structures.shelx_atoms import ListedSite, read_sites
from rephase.crystal.symmetry import Symmetry
from rephase.errors import CifError

_MULTIPLE = -0.5  # a lower U is a multiple of the U of the preceding atom
_FARTHEST = 1000.0  # unit cells


def crystal_from_shelx(text: str, origin: str) -> Crystal:
    """Read a crystal: the cell, the space group and the atoms up to HKLF or END.

    Raises
    ------
    CifError, ReflectionError, SymmetryError
        As `read_crystal`.

    Warns
    -----
    UserWarning
        Peaks were left out, displacements are slightly negative, or LATT is missing.
    """
    found = read_instructions(text, name=origin)
    if found.cell is None or found.symmetry is None:
        raise CifError(f"{origin}: no CELL in the file; a crystal needs its whole cell")
    if found.symmetry.table_entry is None:
        raise CifError(
            f"{origin}: {found.symmetry.symbol} of LATT and SYMM is not a tabulated space group; correct them"
        )
    listed = read_sites(text, name=origin)
    if not listed:
        raise CifError(f"{origin}: no atoms before HKLF or END; expected lines with a label, a kind and x, y, z")
    sites = atoms_of(_sites(listed, found.cell, found.symmetry, origin))
    if not any(line[:4].upper() == "LATT" for line in instruction_lines(text)):
        warnings.warn(f"{origin}: no LATT in the file: LATT 1, an inversion centre, is assumed; add it", stacklevel=3)
    return Crystal(origin, found.cell, found.symmetry.symbol, sites, whole_cell(sites, found.symmetry, found.cell))


def _sites(listed: list[ListedSite], cell: Cell, symmetry: Symmetry, origin: str) -> list[Site]:
    sites, negative, before = [], [], AT_REST
    for site in listed:
        is_multiple = len(site.u) == 1 and site.u[0] < _MULTIPLE
        u_iso = -site.u[0] * before if is_multiple else _u_iso(site, cell)
        if SLIGHTLY_NEGATIVE <= u_iso < 0:
            negative.append(site.label)
            u_iso = 0.0
        if not is_multiple:
            before = u_iso
        sites.append(_site(site, u_iso, cell, symmetry, origin))
    if negative:
        warnings.warn(
            f"{origin}: slightly negative displacements, taken as 0: {len(negative)} ({', '.join(negative[:5])})",
            stacklevel=4,
        )
    return sites


def _site(site: ListedSite, u_iso: float, cell: Cell, symmetry: Symmetry, origin: str) -> Site:
    if np.abs(site.xyz_frac).max() > _FARTHEST:
        raise CifError(f"{origin}: atom {site.label!r} lies at {site.xyz_frac}; expected fractional coordinates")
    if u_iso < 0:
        raise CifError(f"{origin}: atom {site.label!r} has U = {u_iso:.6g} Å²; expected a value >= 0")
    n_same = site_order(np.array([site.xyz_frac]), cell, symmetry)[0]
    occupancy = min(1.0, round(site.occupation * n_same, 4))
    if occupancy <= 0:
        raise CifError(f"{origin}: atom {site.label!r} has occupancy {occupancy}; expected a value in (0, 1]")
    x, y, z = site.xyz_frac
    return Site(site.label, site.element, 0, (x, y, z), occupancy, u_iso, site.u if len(site.u) == 6 else None)


def _u_iso(site: ListedSite, cell: Cell) -> float:
    if len(site.u) == 1:
        return site.u[0]
    u11, u22, u33, u23, u13, u12 = site.u
    return equivalent_u(tensor_of_u("U", np.array([u11, u22, u33, u12, u13, u23]), cell), cell)
