"""Random molecular crystals, many at once: realistic space groups, cells, molecules, packing and displacements."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import gemmi
import numpy as np
import torch

from rephase.crystal.cell import Cell
from rephase.crystal.fragments import Library, fragment_library
from rephase.crystal.contacts import CONTACT_SLACK, surroundings
from rephase.crystal.growth import grow, pick, planted
from rephase.crystal.settling import is_free, settle
from rephase.crystal.structure import Atoms, Crystal
from rephase.crystal.symmetry import Symmetry, find_symmetry
from rephase.errors import ConfigError, nearest_name

# Approximate shares (%) of the 20 commonest low-symmetry groups among molecular crystals, after the "CSD space group
# statistics" of the CCDC; only the 34 % of P21/c was checked. P21/c and C2/c are divided over two settings each.
# Molecules lie in general positions.
SPACE_GROUPS = {
    "P -1": 25.0, "P 1 21/c 1": 20.0, "P 1 21/n 1": 14.0, "C 1 2/c 1": 7.5, "P 21 21 21": 7.0, "P 1 21 1": 5.0,
    "P b c a": 3.2, "P n a 21": 1.3, "C 1 c 1": 1.0, "P 1": 1.0, "P n m a": 1.0, "P b c n": 0.8, "C 1 2 1": 0.8,
    "I 1 2/a 1": 0.7, "P c a 21": 0.7, "P 1 2/c 1": 0.6, "P 1 21/m 1": 0.5, "C 1 2/m 1": 0.4, "P 1 c 1": 0.4,
    "P 21 21 2": 0.4, "P c c n": 0.4, "F d d 2": 0.3,
}  # fmt: skip
ELEMENTS = ("C", "N", "O", "F", "S", "Cl", "Br")
_AT_ONCE = 1024  # structures that grow together: enough to hide what each step costs however few there are
_ROOM = 1.3  # radius of the sphere that a molecule keeps to, over that of its volume
_POINTS = 4
_VOLUME, _VOLUME_SD, _VOLUME_RANGE = 16.0, 1.2, (14.0, 19.0)  # Å^3 per non-hydrogen atom of the wanted molecule
_CEILING, _CEILING_SD, _CEILING_RANGE = 19.5, 1.5, (16.0, 23.0)  # of the molecule that was grown
_HOPEFUL = 1.1
_LEAST_SCALE = 0.97
_LOOSER = 1.02  # a cell that could not be filled is made larger by this
_NARROWEST = 4.5  # Å, smallest spacing of (100), (010), (001)


@dataclass(frozen=True)
class RandomCrystalOptions:
    """What the random crystals are like.

    Parameters
    ----------
    space_groups
        Symbols; any triclinic, monoclinic (b unique) or orthorhombic group. Those of `SPACE_GROUPS` come as often as in
        the Cambridge Structural Database, others as the rarest.
    n_atoms
        Fewest and most non-hydrogen atoms of the molecule; there is one in the asymmetric unit.
    u_range
        Smallest and largest U of non-hydrogen atoms, Å^2.
    elements
        Besides hydrogen; carbon must be one.

    Raises
    ------
    ConfigError
        A range that is empty or impossible, an element that no fragment has, no or an unsuitable space group.
    """

    space_groups: tuple[str, ...] = tuple(SPACE_GROUPS)
    n_atoms: tuple[int, int] = (5, 60)
    u_range: tuple[float, float] = (0.01, 0.10)
    elements: tuple[str, ...] = ELEMENTS

    def __post_init__(self) -> None:
        low, high = self.n_atoms
        if not 3 <= low <= high <= 100:
            raise ConfigError(f"n_atoms = {self.n_atoms}: expected fewest and most, from 3 to 100")
        if not 0 <= self.u_range[0] <= self.u_range[1] < 1:
            raise ConfigError(f"u_range = {self.u_range}: expected smallest and largest U in Å², from 0 to 1")
        if "C" not in self.elements:
            raise ConfigError(f"elements = {self.elements}: molecules need carbon; add 'C'")
        for element in self.elements:
            if element not in ELEMENTS:
                raise ConfigError(f"element {element!r}: no fragment has it; {nearest_name(element, ELEMENTS)}")
        if not self.space_groups:
            raise ConfigError("space_groups is empty; name at least one, e.g. 'P 1 21/c 1'")
        for symbol in self.space_groups:
            _system(find_symmetry(symbol))


@dataclass(frozen=True)
class RandomCrystals:
    """Crystals as padded tensors; one general position of each atom, the others follow from the space group.

    Parameters
    ----------
    symmetries
        The space groups that `group` [n] counts.
    lattice
        [n, 3, 3], cell vectors as columns, Å.
    group
        [n], index in `symmetries`.
    xyz_frac
        [n, most_atoms, 3], fractional; a molecule is in one piece.
    numbers
        [n, most_atoms] atomic numbers; 0: no atom.
    u_iso
        [n, most_atoms], Å^2.
    """

    symmetries: tuple[Symmetry, ...]
    lattice: torch.Tensor
    group: torch.Tensor
    xyz_frac: torch.Tensor
    numbers: torch.Tensor
    u_iso: torch.Tensor

    def __len__(self) -> int:
        return len(self.group)

    def take(self, rows: torch.Tensor) -> "RandomCrystals":
        """The crystals at `rows`, without columns that none of them fills."""
        used = int((self.numbers[rows] > 0).sum(1).max()) if len(rows) else 0
        columns = (getattr(self, name)[rows, :used] for name in ("xyz_frac", "numbers", "u_iso"))
        return RandomCrystals(self.symmetries, self.lattice[rows], self.group[rows], *columns)

    def crystal(self, i: int) -> Crystal:
        """Crystal `i` as a `Crystal`, its symmetry applied."""
        there = (self.numbers[i] > 0).cpu().numpy()
        numbers, xyz, u_iso = (t[i].cpu().numpy()[there] for t in (self.numbers, self.xyz_frac, self.u_iso))
        symmetry = self.symmetries[int(self.group[i])]
        xyz = xyz.astype(float)
        images = np.einsum("oij,aj->aoi", symmetry.rotations, xyz) + symmetry.translations
        n_ops = len(symmetry.triplets)
        unit, cell = _atoms(numbers, xyz, u_iso), np.repeat(np.arange(len(xyz)), n_ops)
        atoms = _atoms(numbers[cell], images.reshape(-1, 3) % 1.0, u_iso[cell])
        return Crystal(f"random {i}", _cell(self.lattice[i].cpu().numpy()), symmetry.symbol, unit, atoms)


def _atoms(numbers: np.ndarray, xyz_frac: np.ndarray, u_iso: np.ndarray) -> Atoms:
    elements = tuple(gemmi.Element(int(number)).name for number in numbers)
    labels = tuple(f"{element}{i + 1}" for i, element in enumerate(elements))
    return Atoms(labels, elements, (0,) * len(elements), xyz_frac, np.ones(len(elements)), u_iso.astype(float))


def _cell(lattice: np.ndarray) -> Cell:
    metric = lattice.T.astype(float) @ lattice
    lengths = np.sqrt(np.diag(metric))
    cosines = np.round(metric / np.outer(lengths, lengths), 7)
    angles = np.degrees(np.arccos([cosines[1, 2], cosines[0, 2], cosines[0, 1]]))
    return Cell(*map(float, lengths), *map(float, angles))


def random_crystals(
    n: int,
    *,
    generator: torch.Generator,
    options: RandomCrystalOptions | None = None,
    dtype: torch.dtype = torch.float32,
) -> RandomCrystals:
    """Make `n` random molecular crystals, on the device of the generator.

    A cell of the volume that the wanted molecule takes is drawn; the molecule is grown inside it fragment by fragment,
    clear of its own images, and then turned, shifted and twisted about its bonds until all contacts are those of van
    der Waals radii. What cannot be filled is tried again, a little larger.

    Parameters
    ----------
    n
        How many.
    generator
        Decides every draw and the device.
    options
        Space groups, sizes, displacements, elements; the defaults of `RandomCrystalOptions` where not given.
    dtype
        Of coordinates; float32 or float64.

    Returns
    -------
    RandomCrystals
        The order is random: any part is a fair sample.
    """
    if n < 1:
        raise ConfigError(f"n = {n}: expected at least one crystal")
    options = options or RandomCrystalOptions()
    draws = _draw(n, options, generator, dtype)
    library = fragment_library(options.elements).to(generator.device, dtype)
    made, pending = _blank(n, options, draws), torch.arange(n, device=generator.device)
    while len(pending):
        for rows in _batches(pending, draws):
            _fill(made, draws, rows, library, generator)
        pending = pending[made.numbers[pending, 0] == 0]
        draws.volume[pending] *= _LOOSER
        draws.ceiling[pending] *= _LOOSER
    u_iso = _displacements(made, options, generator)
    return RandomCrystals(draws.symmetries, made.lattice, draws.group, made.xyz_frac, made.numbers, u_iso).take(
        torch.arange(n, device=generator.device)
    )


class _Draws(NamedTuple):
    """What is decided before a crystal is made: [n] each; ``volume`` of the molecule in Å^3."""

    symmetries: tuple[Symmetry, ...]
    group: torch.Tensor
    order: torch.Tensor
    system: torch.Tensor
    size: torch.Tensor
    least: int
    ceiling: torch.Tensor
    volume: torch.Tensor


class _Made(NamedTuple):
    lattice: torch.Tensor
    xyz_frac: torch.Tensor
    numbers: torch.Tensor


def _draw(n: int, options: RandomCrystalOptions, generator: torch.Generator, dtype: torch.dtype) -> _Draws:
    device = generator.device
    symmetries = tuple(find_symmetry(symbol) for symbol in options.space_groups)
    rarest = min(SPACE_GROUPS.values())
    shares = torch.tensor([SPACE_GROUPS.get(s.symbol, rarest) for s in symmetries], dtype=dtype, device=device)
    group = pick(shares.expand(n, -1), generator)
    uniform = torch.rand(n, generator=generator, device=device, dtype=dtype)
    low, high = options.n_atoms
    size = (low + (high + 1 - low) * uniform**1.7).long().clamp(max=high)  # small molecules are commoner
    per_atom = _VOLUME + _VOLUME_SD * torch.randn(n, generator=generator, device=device, dtype=dtype)
    order = torch.tensor([len(s.triplets) for s in symmetries], device=device)[group]
    system = torch.tensor([_system(s) for s in symmetries], device=device)[group]
    ceiling = _CEILING + _CEILING_SD * torch.randn(n, generator=generator, device=device, dtype=dtype)
    per_atom = per_atom.clamp(*_VOLUME_RANGE)
    ceiling = torch.maximum(ceiling.clamp(*_CEILING_RANGE), 1.1 * per_atom)
    return _Draws(symmetries, group, order, system, size, low, ceiling, per_atom * size)


def _system(symmetry: Symmetry) -> int:
    """How many kinds of angle are 90°: 0 triclinic, 1 monoclinic with b unique, 2 orthorhombic."""
    rotations = symmetry.rotations
    if (rotations * np.eye(3, dtype=int) != rotations).any():
        raise ConfigError(f"space group {symmetry.symbol!r}: expected triclinic, monoclinic (b unique) or orthorhombic")
    signs = np.diagonal(rotations, axis1=1, axis2=2)
    mixed = [bool((signs[:, i] != signs[:, j]).any()) for i, j in ((0, 2), (0, 1), (1, 2))]
    if mixed[0]:
        if not (mixed[1] and mixed[2]):
            raise ConfigError(f"space group {symmetry.symbol!r}: expected the unique axis b, e.g. 'P 1 21/c 1'")
        return 2
    return 1 if mixed[1] else 0


def _blank(n: int, options: RandomCrystalOptions, draws: _Draws) -> _Made:
    most = 3 * options.n_atoms[1] + 2
    like = draws.volume
    return _Made(like.new_zeros(n, 3, 3), like.new_zeros(n, most, 3), draws.size.new_zeros(n, most))


def _batches(pending: torch.Tensor, draws: _Draws) -> Iterator[torch.Tensor]:
    """Rows of like size, as many at a time as are fast; the last few rows several times, as one of them may do."""
    pending = pending[draws.size[pending].argsort(stable=True)]
    if len(pending) < _AT_ONCE:
        pending = pending.repeat_interleave(min(4, _AT_ONCE // len(pending)))
    for rows in pending.split(_AT_ONCE):
        yield rows[draws.order[rows].argsort(stable=True)]


def _operations(draws: _Draws, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rotations [n, most, 3, 3], translations [n, most, 3], and which of them there are [n, most]."""
    most = max(len(symmetry.triplets) for symmetry in draws.symmetries)
    table = draws.volume.new_zeros(len(draws.symmetries), most, 3, 4)
    for entry, symmetry in zip(table, draws.symmetries):
        entry[: len(symmetry.triplets), :, :3] = torch.as_tensor(symmetry.rotations)
        entry[: len(symmetry.triplets), :, 3] = torch.as_tensor(symmetry.translations)
    chosen = table[draws.group[rows], : int(draws.order[rows].max())]
    return chosen[..., :3], chosen[..., 3], chosen[..., :3].flatten(2).any(2)


def _fill(made: _Made, draws: _Draws, rows: torch.Tensor, library: Library, generator: torch.Generator) -> None:
    """Try once to make the crystals at `rows`; those that succeed are written."""
    lattice = _draw_lattices(draws.volume[rows] * draws.order[rows], draws.system[rows], generator)
    operations = _operations(draws, rows)
    centre = _free_points(lattice, *operations, generator)
    radius = _ROOM * (3 * draws.volume[rows] / (4 * math.pi)) ** (1 / 3) + 1
    around = surroundings(lattice, *operations, radius, centre)
    molecules = planted(around, draws.size[rows], library, generator)
    grow(molecules, around, draws.size[rows], library, generator)
    per_atom = draws.volume[rows] / molecules.count
    dense = ((per_atom < _HOPEFUL * draws.ceiling[rows]) & (molecules.count >= draws.least)).nonzero()[:, 0]
    molecules, around, rows = molecules.take(dense), around.take(dense), rows[dense]
    if not len(rows):
        return
    used = int(molecules.used.max())
    radii = torch.where(molecules.radii < 0, -1.0, molecules.radii - CONTACT_SLACK / 2)[:, :used]
    settled, scale = settle(molecules.xyz[:, :used], radii, around)
    scale = scale.clamp(min=_LEAST_SCALE) * (1 + 1e-4)
    dense = (per_atom[dense] * scale**3 < draws.ceiling[rows]).nonzero()[:, 0]
    settled, radii, rows, around = settled[dense], radii[dense], rows[dense], around.take(dense).scaled(scale[dense])
    if not len(rows):
        return
    good = is_free(settled, radii, around).nonzero()[:, 0]
    numbers, order = molecules.numbers[dense, :used].sort(dim=1, descending=True, stable=True)
    xyz = torch.linalg.solve(around.lattice[:, None], (settled + around.centre[:, None])[..., None])[..., 0]
    xyz = xyz.gather(1, order[..., None].expand(-1, -1, 3)) * (numbers > 0)[..., None]
    targets = rows[good]
    is_first = torch.ones_like(targets, dtype=torch.bool)
    is_first[1:] = targets[1:] != targets[:-1]  # a row that was tried several times stands in one run
    targets, good = targets[is_first], good[is_first]
    made.lattice[targets], made.xyz_frac[targets, : xyz.shape[1]] = around.lattice[good], xyz[good]
    made.numbers[targets, : xyz.shape[1]] = numbers[good]


def _free_points(
    lattice: torch.Tensor, rotations: torch.Tensor, translations: torch.Tensor, is_there: torch.Tensor,
    generator: torch.Generator,
) -> torch.Tensor:  # fmt: skip
    """Of a few random points of each cell the one that is farthest from its own images, [n, 3], fractional."""
    shape = (len(lattice), _POINTS, 1, 3)
    points = torch.rand(shape, generator=generator, device=lattice.device, dtype=lattice.dtype)
    apart = (rotations[:, None] @ points[..., None])[..., 0] + translations[:, None] - points
    distance = ((apart - apart.round()) @ lattice.mT[:, None]).norm(dim=-1)
    distance.masked_fill_(~is_there[:, None], torch.inf)
    best = distance[..., 1:].amin(2).argmax(1) if distance.shape[2] > 1 else distance.argmax(1)[:, 0]
    return points[torch.arange(len(points), device=points.device), best, 0]


def _draw_lattices(volume: torch.Tensor, system: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Lattices [n, 3, 3] of given volumes in Å^3, upper triangular; axes and angles spread as those of real crystals.

    Of a few the first is taken whose planes (100), (010) and (001) are nowhere too close.
    """
    tries, n = 8, len(volume)
    normal = torch.randn(n, tries, 6, generator=generator, device=volume.device, dtype=volume.dtype)
    beta = 90 + (12 * normal[..., 4]).abs().clamp(max=35)
    oblique = (90 + 12 * normal[..., 3:]).clamp(66, 117)
    is_free = torch.stack([system == 0, system <= 1, system == 0], -1)[:, None]
    oblique = torch.where((system == 1)[:, None, None], beta[..., None], oblique)
    cosines = torch.where(is_free, torch.cos(torch.deg2rad(oblique)), 0.0)
    lattice = _lattices(torch.exp(0.3 * normal[..., :3]), *cosines.unbind(-1))
    lattice = lattice * (volume[:, None] / torch.linalg.det(lattice)).pow(1 / 3)[..., None, None]
    spacing = 1 / torch.linalg.inv(lattice).norm(dim=-1).amax(-1)
    first = torch.where((spacing > _NARROWEST).any(1), (spacing > _NARROWEST).long().argmax(1), spacing.argmax(1))
    return lattice[torch.arange(n, device=volume.device), first]


def _lattices(lengths: torch.Tensor, cos_a: torch.Tensor, cos_b: torch.Tensor, cos_g: torch.Tensor) -> torch.Tensor:
    sin_g = (1 - cos_g**2).sqrt()
    c_y = (cos_a - cos_b * cos_g) / sin_g
    c_z = (1 - cos_b**2 - c_y**2).clamp(min=0.1).sqrt()
    zero = torch.zeros_like(c_z)
    rows = [torch.ones_like(c_z), cos_g, cos_b, zero, sin_g, c_y, zero, zero, c_z]
    return torch.stack(rows, -1).unflatten(-1, (3, 3)) * lengths[..., None, :]


def _displacements(made: _Made, options: RandomCrystalOptions, generator: torch.Generator) -> torch.Tensor:
    """U_iso that grows outwards from the middle of the molecule; hydrogens 1.2 times as much."""
    there = (made.numbers > 0).to(made.lattice)
    xyz = made.xyz_frac @ made.lattice.mT
    middle = (xyz * there[..., None]).sum(1, keepdim=True) / there.sum(1)[:, None, None]
    square = (xyz - middle).square().sum(-1) * there
    low, high = options.u_range
    normal = torch.randn(2, len(xyz), 1, generator=generator, device=xyz.device, dtype=xyz.dtype)
    inner = low + (high - low) * torch.sigmoid(normal[0] * 0.7 - 1.4)
    u_iso = inner * (1 + (0.8 + 0.3 * normal[1]).clamp(min=0) * square / square.amax(1, keepdim=True))
    return u_iso.clamp(low, high) * torch.where(made.numbers == 1, 1.2, 1.0) * there
