"""`Sites`: the atoms of the asymmetric unit as columns, with displacements, occupancies and riding hydrogen atoms."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rephase.crystal.cell import Cell
from rephase.crystal.peaks import site_order
from rephase.crystal.symmetry import Symmetry

_COLUMNS = "xyz_frac", "U", "is_anisotropic", "occupancy", "parent", "afix", "part"
_COMPONENTS = ([0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1])  # rows and columns of U11 U22 U33 U23 U13 U12


@dataclass(frozen=True, eq=False)
class Sites:
    """Atoms of the asymmetric unit.

    Parameters
    ----------
    labels, elements
        [n], labels and element symbols.
    xyz_frac
        [n, 3], fractional coordinates, not restricted to [0, 1).
    U
        [n, 6], mean-square displacements U11, U22, U33, U23, U13, U12 of the CIF dictionary in Å^2; those of an
        isotropic atom are `isotropic_u`.
    is_anisotropic
        [n], whether the six components are independent (as far as the site symmetry allows).
    occupancy
        [n], occupancy of the site in (0, 1]; 1 for a full atom on a special position.
    parent
        [n], index of the atom on which a hydrogen atom rides, -1 for an atom that is refined by itself.
    afix
        [n], geometry of a riding hydrogen atom as the AFIX code of SHELXL (43: aromatic CH, 23: CH2, 13: CH,
        137: rotated CH3, 147: rotated OH, 93: NH2), 0 for other atoms.
    part
        [n], disorder part: 0 for ordered atoms; atoms of different parts above 0 are not bonded.
    """

    labels: tuple[str, ...]
    elements: tuple[str, ...]
    xyz_frac: np.ndarray
    U: np.ndarray
    is_anisotropic: np.ndarray
    occupancy: np.ndarray
    parent: np.ndarray
    afix: np.ndarray
    part: np.ndarray

    @classmethod
    def isotropic(
        cls, labels: Sequence[str], elements: Sequence[str], xyz_frac: np.ndarray, u_iso: np.ndarray, cell: Cell
    ) -> "Sites":
        """Return full, ordered, isotropic atoms with U_iso [n] in Å^2."""
        n = len(labels)
        return cls(
            labels=tuple(labels),
            elements=tuple(elements),
            xyz_frac=np.asarray(xyz_frac, float).reshape(n, 3),
            U=isotropic_u(np.asarray(u_iso, float), cell),
            is_anisotropic=np.zeros(n, bool),
            occupancy=np.ones(n),
            parent=np.full(n, -1),
            afix=np.zeros(n, int),
            part=np.zeros(n, int),
        )

    def __len__(self) -> int:
        return len(self.elements)

    @property
    def is_hydrogen(self) -> np.ndarray:
        """[n], whether each atom is hydrogen."""
        return np.array([element == "H" for element in self.elements], bool)

    def u_equivalent(self, cell: Cell) -> np.ndarray:
        """Return U_eq [n] in Å^2, a third of the trace of the orthogonalised tensor."""
        return np.einsum("nii->n", cartesian_u(self.U, cell)) / 3

    def take(self, index: np.ndarray) -> "Sites":
        """Return the atoms at `index` (positions, or a boolean [n]); a hydrogen atom without its parent is free."""
        rows = np.arange(len(self))[index]
        place = np.full(len(self) + 1, -1)
        place[rows] = np.arange(len(rows))
        columns = {name: getattr(self, name)[rows] for name in _COLUMNS}
        columns["parent"] = place[self.parent[rows]]  # -1 is the last place, which holds -1
        columns["afix"] = np.where(columns["parent"] < 0, 0, columns["afix"])
        labels, elements = (tuple(values[i] for i in rows) for values in (self.labels, self.elements))
        return Sites(labels, elements, **columns)

    def joined(self, other: "Sites") -> "Sites":
        """Return these atoms followed by the others."""
        columns = {name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in _COLUMNS}
        columns["parent"][len(self) :] += np.where(other.parent >= 0, len(self), 0)
        return Sites(self.labels + other.labels, self.elements + other.elements, **columns)

    def relabelled(self, elements: Sequence[str]) -> "Sites":
        """Return the atoms with other elements and labels numbered within each element: C1, C2, O1, ..."""
        seen: dict[str, int] = {}
        labels = []
        for element in elements:
            seen[element] = seen.get(element, 0) + 1
            labels.append(f"{element}{seen[element]}")
        return replace(self, labels=tuple(labels), elements=tuple(elements))


def isotropic_u(u_iso: np.ndarray, cell: Cell) -> np.ndarray:
    """Return the components [n, 6] of isotropic displacements [n]: ``U_ij = U (a*_i . a*_j) / (a*_i a*_j)``."""
    metric = np.linalg.inv(cell.orthogonalisation.T @ cell.orthogonalisation)
    length = np.sqrt(np.diag(metric))
    return u_iso[:, None] * (metric / np.outer(length, length))[_COMPONENTS]


def cartesian_u(U: np.ndarray, cell: Cell) -> np.ndarray:
    """Return displacement tensors [n, 3, 3] in Å^2 along Cartesian axes, from components [n, 6]."""
    inverse = np.linalg.inv(cell.orthogonalisation)
    to_cartesian = cell.orthogonalisation * np.linalg.norm(inverse, axis=1)  # A N, with N = diag(a*, b*, c*)
    return np.einsum("ij,njk,lk->nil", to_cartesian, _tensors(U), to_cartesian)


def rotated_u(U: np.ndarray, rotations: np.ndarray, cell: Cell) -> np.ndarray:
    """Return the components [n, 6] of displacements after operations with rotations [n, 3, 3] in fractions."""
    length = np.linalg.norm(np.linalg.inv(cell.orthogonalisation), axis=1)  # a*, b*, c*
    turned = rotations * length / length[:, None]
    return (turned @ _tensors(U) @ turned.transpose(0, 2, 1))[:, _COMPONENTS[0], _COMPONENTS[1]]


def _tensors(U: np.ndarray) -> np.ndarray:
    """Return symmetric tensors [n, 3, 3] of components [n, 6]."""
    tensor = np.empty((len(U), 3, 3))
    tensor[:, _COMPONENTS[0], _COMPONENTS[1]] = U
    tensor[:, _COMPONENTS[1], _COMPONENTS[0]] = U
    return tensor


def multiplicity(xyz_frac: np.ndarray, cell: Cell, symmetry: Symmetry) -> np.ndarray:
    """Return the number of images [n] of each position in the cell."""
    return len(symmetry.triplets) // site_order(xyz_frac, cell, symmetry)
