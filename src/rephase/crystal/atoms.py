"""The `Crystal`: cell, space group, asymmetric unit and the atoms of the whole cell."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import gemmi
import numpy as np

from rephase.crystal.cell import Cell
from rephase.crystal.peaks import distances
from rephase.crystal.symmetry import Symmetry, find_symmetry

_ONE_ATOM = 0.4  # Å; images of a site that are closer than this are one atom on a special position


@dataclass(frozen=True)
class Atoms:
    """Atoms as columns, in fractional coordinates.

    Parameters
    ----------
    labels, elements
        Site labels and element symbols, [n_atoms].
    charges
        Formal charges as stated in the file; the form factors are those of neutral atoms.
    xyz_frac
        Fractional coordinates, [n_atoms, 3].
    occupancy
        Occupancies, [n_atoms], in (0, 1].
    u_iso
        Isotropic mean-square displacements U in Å^2, [n_atoms]: U_eq of anisotropic atoms.
    u_aniso
        Components U11, U22, U33, U23, U13, U12 in Å^2, [n_atoms, 6], NaN for isotropic atoms; None: all are isotropic
        or, as for the atoms of the whole cell, they are not kept. Structure factors on grids use `u_iso`.
    """

    labels: tuple[str, ...]
    elements: tuple[str, ...]
    charges: tuple[int, ...]
    xyz_frac: np.ndarray
    occupancy: np.ndarray
    u_iso: np.ndarray
    u_aniso: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.elements)

    @cached_property
    def counts(self) -> dict[str, float]:
        """Number of atoms of each element; a partly occupied site counts as its occupancy."""
        elements = np.array(self.elements, dtype=object)
        return {element: float(sum(self.occupancy[elements == element])) for element in dict.fromkeys(self.elements)}

    def take(self, indices: np.ndarray) -> "Atoms":
        """Return the atoms at `indices`, in that order."""
        return Atoms(
            tuple(self.labels[i] for i in indices),
            tuple(self.elements[i] for i in indices),
            tuple(self.charges[i] for i in indices),
            self.xyz_frac[indices],
            self.occupancy[indices],
            self.u_iso[indices],
            None if self.u_aniso is None else self.u_aniso[indices],
        )


@dataclass(frozen=True)
class Crystal:
    """A crystal structure.

    Parameters
    ----------
    name
        Name of the data block or of the bundled structure.
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
        """Contents of one cell, weighted by occupancy, e.g. ``Ca4 F8``."""
        return " ".join(f"{element}{total:g}" for element, total in self.atoms.counts.items())


class Site(NamedTuple):
    """One atom as a file lists it; ``occupancy`` is the occupancy of the site, ``u_iso`` and ``u_aniso`` in Å^2."""

    label: str
    element: str
    charge: int
    xyz_frac: tuple[float, float, float]
    occupancy: float
    u_iso: float
    u_aniso: tuple[float, ...] | None = None  # U11, U22, U33, U23, U13, U12


def atoms_of(sites: Sequence[Site]) -> Atoms:
    """Put sites into columns; deuterium becomes hydrogen, which scatters X-rays alike."""
    labels, elements, charges, xyz_frac, occupancy, u_iso, u_aniso = zip(*sites)
    elements = tuple("H" if element == "D" else element for element in elements)
    isotropic = (np.nan,) * 6
    return Atoms(
        labels,
        elements,
        charges,
        np.array(xyz_frac) % 1.0,
        np.array(occupancy, float),
        np.array(u_iso, float),
        np.array([u or isotropic for u in u_aniso]) if any(u_aniso) else None,
    )


def whole_cell(sites: Atoms, symmetry: Symmetry, cell: Cell) -> Atoms:
    """Generate all atoms of one cell; images of a site within 0.4 Å of each other become one atom."""
    rotations, translations = symmetry.rotations, symmetry.translations
    rows: list[int] = []
    images = []
    for row, xyz in enumerate(sites.xyz_frac):
        found = _distinct(rotations @ xyz + translations, cell)
        rows += [row] * len(found)
        images.append(found)
    everything = sites.take(np.array(rows))
    return replace(everything, xyz_frac=np.concatenate(images) % 1.0, u_aniso=None)


def at_origin_of(crystal: Crystal, group: Symmetry) -> Crystal:
    """Move a crystal to the origin of `group` if both differ only in the choice between the two tabulated origins."""
    own, other = find_symmetry(crystal.space_group).table_entry, group.table_entry
    if own is None or other is None or own.hm != other.hm or {own.ext, other.ext} != {"1", "2"}:
        return crystal
    shift = np.array((other.basisop * own.basisop.inverse()).tran) / gemmi.Op.DEN
    moved = (
        replace(atoms, xyz_frac=(atoms.xyz_frac + shift) % 1.0) for atoms in (crystal.asymmetric_unit, crystal.atoms)
    )
    return Crystal(crystal.name, crystal.cell, group.symbol, *moved)


def _distinct(images: np.ndarray, cell: Cell) -> np.ndarray:
    """Return the images [n, 3] of a site, each distinct atom once."""
    if (distances(images - images[0], cell) < _ONE_ATOM).sum() == 1:
        return images  # a general position: if no operation fixes the first image, all images are distinct
    kept: list[np.ndarray] = []
    for image in images:
        if not kept or distances(np.array(kept) - image, cell).min() >= _ONE_ATOM:
            kept.append(image)
    return np.array(kept)
