"""Molecules with an inversion centre, a twofold axis or a mirror, from which molecules on special positions are grown.

Only one of each two equivalent atoms is listed. The origin lies on the symmetry element; a twofold axis, or the normal
of a mirror, is along z.
"""

import itertools
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple, Self

import numpy as np
import torch

from rephase.random_crystals.fragments import (
    SYMBOLS,
    VDW_RADII,
    AtomList,
    Library,
    all_atoms,
    fragments,
    tetrahedral,
    without_hydrogen,
)
from rephase.random_crystals.sites import KINDS

_TURNS = {"-1": np.diag([-1.0, -1.0, -1.0]), "2": np.diag([-1.0, -1.0, 1.0]), "m": np.diag([1.0, 1.0, -1.0])}
_ON_ELEMENT = 0.02  # Å, an atom that is closer than this to its image is on the symmetry element
_WITH_METAL = 0.3  # share of the cores with a metal at the centre
_DONORS = {7: (3, 2.05), 8: (2, 2.00), 17: (1, 2.25)}  # hydrogens of the free ligand, Å to the metal
_BRIDGE = 1.51  # Å, bond across an inversion centre
_S, _C = np.sqrt(2 / 3), np.sqrt(1 / 3)  # sine and cosine of half the tetrahedral angle
_SQUARE, _OCTAHEDRON = ((1, 0, 0), (0, 1, 0)), ((1, 0, 0), (0, 1, 0), (0, 0, 1))
_TETRAHEDRON, _ON_MIRROR = ((_S, 0, _C), (0, _S, -_C)), ((0, -_C, _S), (_S, _C, 0), (-_S, _C, 0))
_COMPLEXES: dict[
    str, list[tuple[int, tuple[tuple[float, ...], ...]]]
] = {  # metals, and directions of one of each two equivalent ligands; the last two on the mirror lie in it
    "-1": [(28, _SQUARE), (29, _SQUARE), (28, _OCTAHEDRON), (29, _OCTAHEDRON), (30, _OCTAHEDRON)],
    "2": [(metal, _TETRAHEDRON) for metal in (28, 29, 30)],
    "m": [(metal, _ON_MIRROR) for metal in (28, 29, 30)],
}


class Seeds(NamedTuple):
    """Complete molecules from which others are grown, as tensors.

    ``numbers`` [n, most] (0: no atom), ``xyz`` [n, most, 3] and ``radii`` [n, most] (negative: no atom) in Å;
    ``carriers`` [n, most], the atom that carries a hydrogen which may be replaced, -1 for other atoms; ``sizes`` [n],
    number of non-hydrogen atoms of the molecule, those that are not listed included; ``weights`` [k, n] for each kind
    of place.
    """

    numbers: torch.Tensor
    xyz: torch.Tensor
    radii: torch.Tensor
    carriers: torch.Tensor
    sizes: torch.Tensor
    weights: torch.Tensor

    def to(self, device: torch.device, dtype: torch.dtype) -> Self:
        """Move to a device, real tensors in `dtype`."""
        return self._replace(
            **{name: t.to(device, dtype if t.is_floating_point() else None) for name, t in self._asdict().items()}
        )


def seeds_of(library: Library) -> Seeds:
    """Return the fragments of a library with the hydrogen that they lose, which comes first."""
    has_more = (library.carriers >= 0).any(1)
    on = torch.where(library.carriers >= 0, library.carriers + 1, -1)
    first = torch.ones_like(on[:, :1])
    return Seeds(
        torch.cat([first, library.numbers], 1),
        torch.cat([library.lost[:, None], library.xyz], 1),
        torch.cat([library.lost_radii[:, None], library.radii], 1),
        torch.cat([first, on], 1),
        library.sizes,
        (library.weights[0] * has_more)[None],
    )


@cache
def cores(elements: tuple[str, ...]) -> Seeds:
    """Return the symmetric molecules that consist of `elements` and hydrogen, in float64 on the CPU.

    The weights [3, n] are those on the site symmetries of `KINDS`.
    """
    found = []
    for row, kind in enumerate(KINDS.values()):
        organic, metallic = (
            [each for each in made if _is_made_of(each[0], elements) and (each[0].carriers >= 0).any()]
            for made in (_organic(kind), _complexes(kind))
        )
        share = _WITH_METAL if metallic else 0.0
        for part, total in ((organic, 1 - share), (metallic, share)):
            weights = np.array([weight for *_, weight in part])
            found += [(row, *each[:2], total * weight) for each, weight in zip(part, weights / weights.sum())]
    return _as_tensors(found)


def _is_made_of(atoms: AtomList, elements: tuple[str, ...]) -> bool:
    return all(number == 1 or SYMBOLS[int(number)] in elements for number in atoms.numbers)


def _as_tensors(found: list[tuple[int, AtomList, int, float]]) -> Seeds:
    n, most = len(found), max(len(atoms.numbers) for _, atoms, *_ in found)
    numbers, carriers = torch.zeros(n, most, dtype=torch.long), torch.full((n, most), -1)
    xyz, radii = torch.zeros(n, most, 3, dtype=torch.float64), torch.full((n, most), -1, dtype=torch.float64)
    weights = torch.zeros(len(KINDS), n, dtype=torch.float64)
    for i, (row, atoms, _, weight) in enumerate(found):
        for table, column in zip((numbers, xyz, radii, carriers), atoms):
            table[i, : len(column)] = torch.as_tensor(column)
        weights[row, i] = weight
    return Seeds(numbers, xyz, radii, carriers, torch.tensor([size for _, _, size, _ in found]), weights)


_Core = tuple[AtomList, int, float]
"""Atoms, number of non-hydrogen atoms with those that are not listed, weight."""


def _organic(kind: str) -> Iterator[_Core]:
    """Yield fragments in each orientation that has the symmetry; for an inversion, also two halves of a molecule."""
    for molecule, lost, weight, _ in fragments():
        if weight == 0:
            continue
        halves = list(_halves(all_atoms(molecule), kind))
        yield from ((*half, weight / len(halves)) for half in halves)
        if kind == "-1" and molecule.numbers[molecule.carriers[lost]] == 6:
            _, half = without_hydrogen(molecule, lost)
            half = half._replace(xyz=half.xyz + [0.0, 0.0, _BRIDGE / 2])
            yield half, 2 * int((half.numbers > 1).sum()), weight


def _halves(atoms: AtomList, kind: str) -> Iterator[tuple[AtomList, int]]:
    """Yield the asymmetric part of a molecule, and its size, in each orientation that has the symmetry."""
    centred = atoms.xyz - atoms.xyz.mean(0)
    for axis in np.eye(3)[2:] if kind == "-1" else _axes(centred):
        turned = centred @ _to_z(axis)
        apart = np.linalg.norm(turned[:, None] @ _TURNS[kind] - turned, axis=-1)
        partner = apart.argmin(1)
        if apart.min(1).max() < _ON_ELEMENT and (atoms.numbers[partner] == atoms.numbers).all():
            yield _half(atoms._replace(xyz=turned), partner, kind)


def _axes(xyz: np.ndarray) -> list[np.ndarray]:
    """List the directions of atoms, and for each two atoms those of their sum, difference and vector product."""
    found: list[np.ndarray] = []
    made = ((a + b, a - b, np.cross(a, b)) for a, b in itertools.combinations(xyz, 2))
    for vector in itertools.chain(xyz, *made):
        length = np.linalg.norm(vector)
        if length > 0.1 and all(abs(vector @ other) < 0.999 * length for other in found):
            found.append(vector / length)
    return found


def _to_z(direction: np.ndarray) -> np.ndarray:
    """Return the reflection [3, 3] that exchanges a unit vector and z."""
    normal = direction - [0.0, 0.0, 1.0]
    return np.eye(3) - 2 * np.outer(normal, normal) / max(1e-12, normal @ normal)


def _half(atoms: AtomList, partner: np.ndarray, kind: str) -> tuple[AtomList, int]:
    """Keep one of each two equivalent atoms, a hydrogen with its carrier; one on the element cannot be replaced."""
    rows = np.arange(len(partner))
    is_kept, carrier = rows <= partner, atoms.carriers
    is_alone = (carrier >= 0) & (partner[carrier] != carrier)  # its partner is bonded to another atom
    is_kept = np.where(is_alone, is_kept[carrier], is_kept)
    xyz = np.where((rows == partner)[:, None], (atoms.xyz + atoms.xyz @ _TURNS[kind]) / 2, atoms.xyz)
    place = np.cumsum(is_kept) - 1
    carriers = np.where((carrier >= 0) & (rows != partner), place[carrier], -1)
    kept = atoms._replace(xyz=xyz, carriers=carriers).take(is_kept)
    return kept, int((atoms.numbers > 1).sum())


def _complexes(kind: str) -> Iterator[_Core]:
    """Yield complexes with a metal at the origin and every choice of ligands; those on a mirror are chlorides."""
    for metal, directions in _COMPLEXES[kind]:
        n_free = 1 if kind == "m" else len(directions)
        for donors in itertools.product(_DONORS, repeat=n_free):
            donors += (17,) * (len(directions) - n_free)
            parts = [_ligand(donor, np.array(way, float)) for donor, way in zip(donors, directions)]
            yield _joined(metal, parts), 1 + 2 * n_free + len(directions) - n_free, 1.0


def _ligand(donor: int, direction: np.ndarray) -> AtomList:
    """Place a ligand that has lost a hydrogen on a metal at the origin."""
    n_hydrogen, length = _DONORS[donor]
    _, ligand = without_hydrogen(tetrahedral(donor, n_hydrogen), 0)
    return ligand._replace(xyz=ligand.xyz @ _to_z(direction) + length * direction)


def _joined(metal: int, ligands: list[AtomList]) -> AtomList:
    starts = np.cumsum([1, *(len(ligand.numbers) for ligand in ligands)])
    carriers = [np.where(each.carriers >= 0, each.carriers + start, -1) for each, start in zip(ligands, starts)]
    return AtomList(
        np.concatenate([[metal], *(ligand.numbers for ligand in ligands)]),
        np.concatenate([np.zeros((1, 3)), *(ligand.xyz for ligand in ligands)]),
        np.concatenate([[VDW_RADII[metal]], *(ligand.radii for ligand in ligands)]),
        np.concatenate([[-1], *carriers]),
    )
