"""Fragments from which molecules are grown: a fragment that has lost a hydrogen replaces a hydrogen of the molecule."""

from functools import cache
from typing import NamedTuple

import numpy as np
import torch

# X-ray distances to hydrogen (ITC C 9.5 minus the shift of the electron); mean bond lengths of Allen et al. (1987),
# doi:10.1039/p298700000s1, all in Å
_TO_HYDROGEN = {6: 0.95, 7: 0.88, 8: 0.84, 9: 0.92, 16: 1.20, 17: 1.27, 35: 1.41}
_BONDS = {
    (6, 6): 1.51,
    (6, 7): 1.44,
    (6, 8): 1.40,
    (6, 9): 1.35,
    (6, 16): 1.78,
    (6, 17): 1.74,
    (6, 35): 1.90,
}
# Van der Waals radii: Bondi (1964), doi:10.1021/j100785a001; H: Rowland & Taylor (1996), doi:10.1021/jp953141+
VDW_RADII = {1: 1.10, 6: 1.70, 7: 1.55, 8: 1.52, 9: 1.47, 16: 1.80, 17: 1.75, 28: 1.63, 29: 1.40, 30: 1.39, 35: 1.85}
SYMBOLS = {6: "C", 7: "N", 8: "O", 9: "F", 16: "S", 17: "Cl", 35: "Br", 28: "Ni", 29: "Cu", 30: "Zn"}
POLAR_HYDROGEN_RADIUS = 0.95  # on N and O: a hydrogen bond is shorter than the sum of the radii
_MOST_ATOMS = 11  # of a fragment, not counting the lost hydrogen


class Molecule(NamedTuple):
    """Atomic numbers [n], positions [n, 3] in Å, and for each hydrogen its position and direction from its atom."""

    numbers: list[int]
    xyz: np.ndarray
    carriers: list[int]
    directions: np.ndarray


class AtomList(NamedTuple):
    """Atomic numbers [n], positions [n, 3] and radii [n] in Å; atoms [n] that carry a hydrogen, -1 for other atoms."""

    numbers: np.ndarray
    xyz: np.ndarray
    radii: np.ndarray
    carriers: np.ndarray

    def take(self, rows: np.ndarray) -> "AtomList":
        """Return the atoms at `rows`, without a change of `carriers`."""
        return AtomList(*(column[rows] for column in self))


class Library(NamedTuple):
    """Fragments as tensors: the atom that loses a hydrogen comes first, at the origin, its lost bond along -z.

    ``numbers`` [n, most] (0: no atom), ``xyz`` [n, most, 3] and ``radii`` [n, most] (negative: no atom) of the atoms,
    hydrogens last; ``carriers`` [n, most], the atom to which a hydrogen is bonded, -1 for other atoms. ``lost`` [n, 3]
    and ``lost_radii`` [n] of the lost hydrogen; ``sizes`` [n], number of non-hydrogen atoms; ``weights`` [2, n] of a
    fragment on carbon and on another element; ``bond_lengths`` [36, 36] in Å by atomic number.
    """

    numbers: torch.Tensor
    xyz: torch.Tensor
    radii: torch.Tensor
    carriers: torch.Tensor
    lost: torch.Tensor
    lost_radii: torch.Tensor
    sizes: torch.Tensor
    weights: torch.Tensor
    bond_lengths: torch.Tensor

    def to(self, device: torch.device, dtype: torch.dtype) -> "Library":
        """Move to a device, real tensors in `dtype`."""
        return Library(*(t.to(device, dtype if t.is_floating_point() else None) for t in self))

    def part(self, chosen: torch.Tensor) -> "Library":
        """Return the fragments `chosen`, [n] booleans, without columns that are empty in all of them."""
        used = int((self.numbers[chosen] > 0).sum(1).max())
        atoms = {name: getattr(self, name)[chosen, :used] for name in ("numbers", "xyz", "radii", "carriers")}
        others = {name: getattr(self, name)[chosen] for name in ("lost", "lost_radii", "sizes")}
        return self._replace(**atoms, **others, weights=self.weights[:, chosen])

    @property
    def middle(self) -> float:
        """Distance in Å from the first atom along z to the common centre of the fragments."""
        return float(self.xyz[..., 2].max()) / 2

    def reach(self, middle: float) -> float:
        """Return how far in Å atoms of the fragments extend from a centre at z = `middle`, for all bond lengths."""
        away = (self.xyz - self.xyz.new_tensor([0.0, 0.0, middle])).norm(dim=-1) + self.radii
        return float(torch.where(self.radii < 0, 0.0, away).max()) + float(np.ptp(list(_BONDS.values())))


def tetrahedral(number: int, n_hydrogen: int) -> Molecule:
    """Return one atom with one hydrogen, two at 112°, three in a plane, or four at 109.5°."""
    tilt = np.radians({4: 109.47, 3: 120.0, 2: 112.0 if number == 8 else 98.0, 1: 0.0}[n_hydrogen])
    turns = np.arange(n_hydrogen - 1) * 2 * np.pi / max(1, n_hydrogen - 1)
    ways = [np.sin(tilt) * np.cos(turns), np.sin(tilt) * np.sin(turns), np.full(len(turns), np.cos(tilt))]
    return Molecule(
        [number], np.zeros((1, 3)), [0] * n_hydrogen, np.concatenate([[[0.0, 0.0, 1.0]], np.stack(ways, 1)])
    )


def _planar(center: int, ends: list[tuple[int, float]], angle_deg: float, n_hydrogen: int) -> Molecule:
    """Return a trigonal or linear centre with a hydrogen along +z and ends [(element, bond)] `angle_deg` from it."""
    angle = np.radians(angle_deg)
    signs = [1, -1][: len(ends)]
    ways = np.array([[sign * np.sin(angle), 0.0, np.cos(angle)] for sign in signs])
    directions = [[0.0, 0.0, 1.0], [-np.sin(angle), 0.0, np.cos(angle)]][:n_hydrogen]
    xyz = np.concatenate([np.zeros((1, 3)), ways * [[length] for _, length in ends]])
    return Molecule([center, *(number for number, _ in ends)], xyz, [0] * n_hydrogen, np.array(directions))


def _joined(base: Molecule, hydrogen: int, group: Molecule, length: float) -> Molecule:
    """Replace a hydrogen of a flat base, y = 0, by a group; the flat part of the group lies in the same plane."""
    x, _, z = base.directions[hydrogen]
    turn = np.array([[z, 0.0, x], [0.0, 1.0, 0.0], [-x, 0.0, z]])  # from z to the direction of the hydrogen
    added, carrier = aligned(group, 0), base.carriers[hydrogen]
    kept, n = [i for i in range(len(base.carriers)) if i != hydrogen], len(base.numbers)
    return Molecule(
        base.numbers + added.numbers,
        np.concatenate([base.xyz, base.xyz[carrier] + length * base.directions[hydrogen] + added.xyz @ turn.T]),
        [base.carriers[i] for i in kept] + [n + c for c in added.carriers[1:]],
        np.concatenate([base.directions[kept], added.directions[1:] @ turn.T]),
    )


def _ring(numbers: list[int], lengths: list[float], bare: tuple[int, ...] = ()) -> Molecule:
    """Return a flat ring with all atoms on one circle and bond i from atom i to the next; hydrogens point outwards."""
    low, high = max(lengths) / 2, sum(lengths)
    for _ in range(60):  # bisection: the bonds span the whole circle
        radius = (low + high) / 2
        spans = 2 * np.arcsin(np.array(lengths) / 2 / radius)
        low, high = (radius, high) if spans.sum() > 2 * np.pi else (low, radius)
    turns = np.concatenate([[0.0], np.cumsum(spans)[:-1]])
    outwards = np.stack([np.sin(turns), np.zeros(len(turns)), np.cos(turns)], 1)
    carriers = [i for i in range(len(numbers)) if i not in bare]
    return Molecule(numbers, radius * outwards, carriers, outwards[carriers])


def aligned(molecule: Molecule, lost: int) -> Molecule:
    """Reorder and turn a molecule: hydrogen `lost` and its atom first, the atom at the origin, their bond along -z."""
    normal = molecule.directions[lost] + [0.0, 0.0, 1.0]
    normal = normal / np.linalg.norm(normal) if np.linalg.norm(normal) > 1e-6 else np.array([1.0, 0.0, 0.0])

    def reflect(v: np.ndarray) -> np.ndarray:
        return v - 2 * np.outer(v @ normal, normal)

    first = molecule.carriers[lost]
    order = [first, *(i for i in range(len(molecule.numbers)) if i != first)]
    hydrogens = [lost, *(i for i in range(len(molecule.carriers)) if i != lost)]
    return Molecule(
        [molecule.numbers[i] for i in order],
        reflect((molecule.xyz - molecule.xyz[first])[order]),
        [order.index(molecule.carriers[i]) for i in hydrogens],
        reflect(molecule.directions[hydrogens]),
    )


def fragments() -> list[tuple[Molecule, int, float, float]]:
    """List molecules with the hydrogen they lose, weight on carbon, weight on N, O and S (which bind only carbon)."""
    aromatic = 1.386
    benzene = _ring([6] * 6, [aromatic] * 6)
    pyridine = _ring([6, 6, 6, 7, 6, 6], [aromatic, aromatic, 1.34, 1.34, aromatic, aromatic], bare=(3,))
    pyrrole = _ring([7, 6, 6, 6, 6], [1.37, 1.37, 1.42, 1.37, 1.37])
    imidazole = _ring([7, 6, 7, 6, 6], [1.35, 1.32, 1.38, 1.36, 1.37], bare=(2,))
    furan = _ring([8, 6, 6, 6, 6], [1.36, 1.35, 1.43, 1.35, 1.36], bare=(0,))
    thiophene = _ring([16, 6, 6, 6, 6], [1.71, 1.37, 1.42, 1.37, 1.71], bare=(0,))
    methane, ammonia, water = tetrahedral(6, 4), tetrahedral(7, 3), tetrahedral(8, 2)
    aldehyde = _planar(6, [(8, 1.22)], 121.0, 2)
    methoxy, acid = _joined(water, 1, methane, 1.42), _joined(aldehyde, 1, water, 1.31)
    return [
        (methoxy, 0, 0.8, 0.0),
        (acid, 0, 0.2, 0.0),
        (_joined(aldehyde, 1, ammonia, 1.33), 0, 0.3, 0.0),
        (_joined(aldehyde, 1, methane, 1.50), 0, 0.6, 0.6),
        (_joined(aldehyde, 1, methoxy, 1.34), 0, 0.6, 0.0),
        (_joined(methane, 0, methane, 1.52), 0, 3.0, 2.0),
        (methane, 0, 11.0, 11.0),
        (ammonia, 0, 2.0, 0.0),
        (water, 0, 1.2, 0.0),
        (tetrahedral(9, 1), 0, 0.3, 0.0),
        (tetrahedral(17, 1), 0, 0.7, 0.0),
        (tetrahedral(35, 1), 0, 0.2, 0.0),
        (tetrahedral(16, 2), 0, 0.3, 0.0),
        (aldehyde, 0, 1.0, 1.0),  # carbonyl
        (_planar(6, [(7, 1.145)], 180.0, 1), 0, 0.2, 0.0),  # nitrile
        (_planar(7, [(8, 1.22), (8, 1.22)], 118.0, 1), 0, 0.15, 0.0),  # nitro
        (benzene, 0, 4.0, 2.5),
        (pyridine, 1, 0.4, 0.2),
        (pyridine, 0, 0.4, 0.2),
        (pyrrole, 0, 0.3, 0.0),
        (imidazole, 1, 0.3, 0.1),
        (furan, 0, 0.3, 0.1),
        (thiophene, 0, 0.4, 0.1),
    ]


@cache
def fragment_library(elements: tuple[str, ...]) -> Library:
    """Return the fragments that consist of `elements` and hydrogen, in float64 on the CPU."""
    chosen = [row for row in fragments() if all(SYMBOLS[z] in elements for z in row[0].numbers)]
    n = len(chosen)
    numbers, carriers = torch.zeros(n, _MOST_ATOMS, dtype=torch.long), torch.full((n, _MOST_ATOMS), -1)
    xyz, lost = torch.zeros(n, _MOST_ATOMS, 3, dtype=torch.float64), torch.zeros(n, 3, dtype=torch.float64)
    radii, lost_radii = torch.full((n, _MOST_ATOMS), -1, dtype=torch.float64), torch.zeros(n, dtype=torch.float64)
    for i, (molecule, hydrogen, *_) in enumerate(chosen):
        lost_atom, rest = without_hydrogen(molecule, hydrogen)
        used = len(rest.numbers)
        numbers[i, :used], xyz[i, :used] = torch.as_tensor(rest.numbers), torch.as_tensor(rest.xyz)
        radii[i, :used] = torch.as_tensor(rest.radii).float()  # rounded, as in every data set so far
        carriers[i, :used] = torch.as_tensor(rest.carriers)
        lost[i], lost_radii[i] = torch.as_tensor(lost_atom.xyz[0]), lost_atom.radii[0]
    weights = torch.tensor([[row[2] for row in chosen], [row[3] for row in chosen]], dtype=torch.float64)
    return Library(numbers, xyz, radii, carriers, lost, lost_radii, (numbers > 1).sum(1), weights, _bond_lengths())


def all_atoms(molecule: Molecule) -> AtomList:
    """List all atoms of a molecule, its hydrogens last, in their order."""
    of = [molecule.numbers[carrier] for carrier in molecule.carriers]
    lengths = np.array([_TO_HYDROGEN[number] for number in of])[:, None]
    return AtomList(
        np.array(molecule.numbers + [1] * len(of)),
        np.concatenate([molecule.xyz, molecule.xyz[molecule.carriers] + lengths * molecule.directions]),
        np.array(
            [VDW_RADII[z] for z in molecule.numbers]
            + [POLAR_HYDROGEN_RADIUS if z in (7, 8) else VDW_RADII[1] for z in of]
        ),
        np.array([-1] * len(molecule.numbers) + molecule.carriers),
    )


def without_hydrogen(molecule: Molecule, lost: int) -> tuple[AtomList, AtomList]:
    """Turn a molecule as `aligned` does; return its lost hydrogen, and its other atoms."""
    atoms, size = all_atoms(aligned(molecule, lost)), len(molecule.numbers)
    is_lost = np.arange(len(atoms.numbers)) == size
    return atoms.take(is_lost), atoms.take(~is_lost)


def _bond_lengths() -> torch.Tensor:
    lengths = torch.full((36, 36), 1.5, dtype=torch.float64)
    for (first, second), length in _BONDS.items():
        lengths[first, second] = lengths[second, first] = length
    return lengths
