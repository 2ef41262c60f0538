"""Random molecular crystals, many at a time: realistic space groups, cells, molecules, packing and displacements."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import gemmi
import numpy as np
import torch

from rephase.crystal.cell import Cell
from rephase.crystal.structures import Atoms, Crystal
from rephase.crystal.symmetry import Symmetry, find_symmetry
from rephase.devices import at_once
from rephase.errors import ConfigError, nearest_name
from rephase.random_crystals.cells import draw_lattices, free_points
from rephase.random_crystals.contacts import CONTACT_SLACK, Surroundings, surroundings
from rephase.random_crystals.cores import Seeds, cores, seeds_of
from rephase.random_crystals.draws import Draws, drawn, packing
from rephase.random_crystals.fragments import Library, fragment_library
from rephase.random_crystals.growth import Molecules, grow
from rephase.random_crystals.planting import planted
from rephase.random_crystals.settling import is_free, settle
from rephase.random_crystals.sites import SAME_PLACE

# Approximate frequencies (%) of the 20 commonest low-symmetry groups among molecular crystals, after the "CSD space
# group statistics" of the CCDC; only the 34 % of P21/c was checked. P21/c and C2/c are divided between two settings.
SPACE_GROUPS = {
    "P -1": 25.0,
    "P 1 21/c 1": 20.0,
    "P 1 21/n 1": 14.0,
    "C 1 2/c 1": 7.5,
    "P 21 21 21": 7.0,
    "P 1 21 1": 5.0,
    "P b c a": 3.2,
    "P n a 21": 1.3,
    "C 1 c 1": 1.0,
    "P 1": 1.0,
    "P n m a": 1.0,
    "P b c n": 0.8,
    "C 1 2 1": 0.8,
    "I 1 2/a 1": 0.7,
    "P c a 21": 0.7,
    "P 1 2/c 1": 0.6,
    "P 1 21/m 1": 0.5,
    "C 1 2/m 1": 0.4,
    "P 1 c 1": 0.4,
    "P 21 21 2": 0.4,
    "P c c n": 0.4,
    "F d d 2": 0.3,
}
ELEMENTS = ("C", "N", "O", "F", "S", "Cl", "Br", "Ni", "Cu", "Zn")  # the metals only on special positions
_SAME_FRAC = 1e-3  # fractional coordinates that are closer are the same
_AT_LEAST = 256  # attempts made together: fewer would take almost the same time
_ROOM = 1.2  # radius of the sphere for a molecule, relative to a sphere of its volume
_HOPEFUL = 1.03  # relative to the ceiling: a structure with a larger volume before settling is discarded
_LEAST_SCALE = 0.97  # smallest scale of a cell that shrinks; contacts are searched down to this scale only
_LOOSER = 1.02  # factor by which a cell that could not be filled grows, as does the allowed volume per atom


@dataclass(frozen=True)
class RandomCrystalOptions:
    """Properties of the random crystals.

    Parameters
    ----------
    space_groups
        Symbols of groups. Those of `SPACE_GROUPS` are as frequent as in the Cambridge Structural Database, others as
        frequent as the rarest.
    n_atoms
        Smallest and largest number of non-hydrogen atoms in the asymmetric unit.
    u_range
        Smallest and largest U of non-hydrogen atoms, Å^2.
    elements
        Elements besides hydrogen; carbon must be one of them.
    longest
        Axes a, b and c in Å that a cell should not exceed; the cell of a large molecule still may.
    n_molecules
        Largest number of independent molecules, among which the atoms are divided at random. Each further molecule is
        half as frequent as one fewer.
    on_special
        Share of crystals with a molecule on an inversion centre, a twofold axis or a mirror, of those whose group has
        such positions; half of the molecule is then in the asymmetric unit. Some have a metal at the centre.

    Raises
    ------
    ConfigError
        A range is empty or impossible, no fragment has an element, or no space group is named.
    SymmetryError
        A space group is not known.
    """

    space_groups: tuple[str, ...] = tuple(SPACE_GROUPS)
    n_atoms: tuple[int, int] = (5, 60)
    u_range: tuple[float, float] = (0.01, 0.10)
    elements: tuple[str, ...] = ELEMENTS
    longest: tuple[float, float, float] = (math.inf, math.inf, math.inf)
    n_molecules: int = 1
    on_special: float = 0.0

    def __post_init__(self) -> None:
        low, high = self.n_atoms
        if not 3 <= low <= high <= 100:
            raise ConfigError(f"n_atoms = {self.n_atoms}: expected smallest and largest number, from 3 to 100")
        if not 0 <= self.u_range[0] <= self.u_range[1] < 1:
            raise ConfigError(f"u_range = {self.u_range}: expected smallest and largest U in Å², from 0 to 1")
        if "C" not in self.elements:
            raise ConfigError(f"elements = {self.elements}: molecules need carbon; add 'C'")
        for element in self.elements:
            if element not in ELEMENTS:
                raise ConfigError(f"element {element!r}: no fragment contains it; {nearest_name(element, ELEMENTS)}")
        if not all(length > 0 for length in self.longest):
            raise ConfigError(f"longest = {self.longest}: expected three lengths above 0 in Å")
        if not 1 <= self.n_molecules <= 4:
            raise ConfigError(f"n_molecules = {self.n_molecules}: expected the largest number, from 1 to 4")
        if not 0 <= self.on_special <= 1:
            raise ConfigError(f"on_special = {self.on_special}: expected a share of the crystals, from 0 to 1")
        if not self.space_groups:
            raise ConfigError("space_groups is empty; name at least one, e.g. 'P 1 21/c 1'")
        for symbol in self.space_groups:
            find_symmetry(symbol)


@dataclass(frozen=True)
class RandomCrystals:
    """Crystals as padded tensors, with one position of each atom; the others follow from the space group.

    Parameters
    ----------
    symmetries
        Space groups to which `group` [n] refers.
    lattice
        [n, 3, 3], cell vectors as columns, Å.
    group
        [n], index in `symmetries`.
    xyz_frac
        [n, most_atoms, 3], fractional; molecules are not split by cell boundaries.
    numbers
        [n, most_atoms] atomic numbers; 0 means no atom.
    u_iso
        [n, most_atoms], Å^2.
    occupancy
        [n, most_atoms], share of the images by all operations that are different atoms: 1 in general positions, 1/2 on
        special ones, 0 for no atom.
    """

    symmetries: tuple[Symmetry, ...]
    lattice: torch.Tensor
    group: torch.Tensor
    xyz_frac: torch.Tensor
    numbers: torch.Tensor
    u_iso: torch.Tensor
    occupancy: torch.Tensor

    def __len__(self) -> int:
        return len(self.group)

    def take(self, rows: torch.Tensor) -> "RandomCrystals":
        """Return the crystals at `rows`, without columns that are empty in all of them."""
        used = int((self.numbers[rows] > 0).sum(1).max()) if len(rows) else 0
        columns = (getattr(self, name)[rows, :used] for name in ("xyz_frac", "numbers", "u_iso", "occupancy"))
        return RandomCrystals(self.symmetries, self.lattice[rows], self.group[rows], *columns)

    def crystal(self, i: int) -> Crystal:
        """Return crystal `i` as a `Crystal` with its symmetry applied."""
        there = (self.numbers[i] > 0).cpu().numpy()
        numbers, xyz, u_iso = (t[i].cpu().numpy()[there] for t in (self.numbers, self.xyz_frac, self.u_iso))
        symmetry = self.symmetries[int(self.group[i])]
        xyz = xyz.astype(float)
        images = np.einsum("oij,aj->aoi", symmetry.rotations, xyz) + symmetry.translations
        n_ops = len(symmetry.triplets)
        unit, of = _atoms(numbers, xyz, u_iso), np.repeat(np.arange(len(xyz)), n_ops)
        is_distinct = _are_distinct(images, self.occupancy[i].cpu().numpy()[there]).ravel()
        of, xyz = of[is_distinct], images.reshape(-1, 3)[is_distinct] % 1.0
        atoms = _atoms(numbers[of], xyz, u_iso[of])
        return Crystal(f"random {i}", _cell(self.lattice[i].cpu().numpy()), symmetry.symbol, unit, atoms)


def _are_distinct(images: np.ndarray, occupancy: np.ndarray) -> np.ndarray:
    """Return which images [n_atoms, n_ops, 3] are not repetitions of an earlier one of the same atom."""
    distinct = np.ones(images.shape[:2], bool)
    special = occupancy < 1
    apart = images[special, :, None] - images[special, None]
    is_same = (np.abs(apart - np.rint(apart)) < _SAME_FRAC).all(-1)
    distinct[special] = is_same.argmax(2) == np.arange(images.shape[1])
    return distinct


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

    A cell with the volume of the planned molecule is drawn. The molecule is grown inside it fragment by fragment, clear
    of its own images, until it is complete or nothing more fits. Then it rotates and shifts as a whole, and the cell is
    scaled until the closest contact is that of van der Waals radii. Structures that are not dense are tried again.
    Several molecules grow side by side. One on a special position grows from a core that has its symmetry.

    Parameters
    ----------
    n
        Number of crystals.
    generator
        Generator of all random numbers; its device is that of the result.
    options
        Space groups, sizes, displacements and elements; by default those of `RandomCrystalOptions`.
    dtype
        Dtype of the coordinates, float32 or float64.

    Returns
    -------
    RandomCrystals
        The crystals in random order, so that any part is a fair sample.
    """
    if n < 1:
        raise ConfigError(f"n = {n}: expected at least one crystal")
    options = options or RandomCrystalOptions()
    draws = _drawn(n, options, generator, dtype)
    work = _Work.of(options, generator, dtype)
    made, pending, looser = _blank(n, options, draws), torch.arange(n, device=generator.device), 1.0
    while len(pending):
        for rows in _batches(pending, draws):
            _fill(made, draws, rows, work)
        pending = pending[made.numbers[pending, 0] == 0]
        looser *= _LOOSER
        volume, ceiling = packing(draws.size[pending], generator, dtype)
        draws.volume[pending], draws.ceiling[pending] = looser * volume, looser * ceiling
    u_iso = _displacements(made, draws, options, generator)
    columns = (made.lattice, draws.group, made.xyz_frac, made.numbers, u_iso, made.occupancy)
    return RandomCrystals(draws.symmetries, *columns).take(torch.arange(n, device=generator.device))


class _Work(NamedTuple):
    """Fragments from which molecules are made, what they begin with in general and special positions; generator."""

    library: Library
    seeds: Seeds
    cores: Seeds | None
    longest: tuple[float, float, float]
    generator: torch.Generator

    @classmethod
    def of(cls, options: RandomCrystalOptions, generator: torch.Generator, dtype: torch.dtype) -> "_Work":
        library = fragment_library(options.elements).to(generator.device, dtype)
        symmetric = cores(options.elements).to(generator.device, dtype) if options.on_special else None
        return cls(library, seeds_of(library), symmetric, options.longest, generator)


class _Made(NamedTuple):
    lattice: torch.Tensor
    xyz_frac: torch.Tensor
    numbers: torch.Tensor
    occupancy: torch.Tensor


def _drawn(n: int, options: RandomCrystalOptions, generator: torch.Generator, dtype: torch.dtype) -> Draws:
    symmetries = tuple(find_symmetry(symbol) for symbol in options.space_groups)
    rarest = min(SPACE_GROUPS.values())
    shares = torch.tensor([SPACE_GROUPS.get(s.symbol, rarest) for s in symmetries], dtype=dtype)
    return drawn(
        n,
        symmetries,
        shares.to(generator.device),
        generator,
        n_atoms=options.n_atoms,
        n_molecules=options.n_molecules,
        on_special=options.on_special,
    )


def _blank(n: int, options: RandomCrystalOptions, draws: Draws) -> _Made:
    most = 3 * options.n_atoms[1] + 2 * options.n_molecules
    like, numbers = draws.volume, draws.size.new_zeros(n, most)
    return _Made(like.new_zeros(n, 3, 3), like.new_zeros(n, most, 3), numbers, like.new_zeros(n, most))


def _batches(pending: torch.Tensor, draws: Draws) -> Iterator[torch.Tensor]:
    """Yield batches of rows of similar size; the last few rows are repeated, because one attempt may succeed.

    Special positions have batches of their own.
    """
    pending = pending[draws.size[pending].argsort(stable=True)]
    is_special = draws.site[pending] >= 0
    for part in (pending[~is_special], pending[is_special]):
        if len(part):
            part = part.repeat_interleave(max(1, _AT_LEAST // len(part)))
            n_batches = math.ceil(len(part) / at_once("random crystals", part.device))
            for rows in part.tensor_split(n_batches):
                yield rows[draws.order[rows].argsort(stable=True)]


def _operations(draws: Draws, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return rotations [n, most, 3, 3], translations [n, most, 3], and which of them are not padding [n, most]."""
    most = max(len(symmetry.triplets) for symmetry in draws.symmetries)
    table = draws.volume.new_zeros(len(draws.symmetries), most, 3, 4)
    for entry, symmetry in zip(table, draws.symmetries):
        entry[: len(symmetry.triplets), :, :3] = torch.as_tensor(symmetry.rotations)
        entry[: len(symmetry.triplets), :, 3] = torch.as_tensor(symmetry.translations)
    chosen = table[draws.group[rows], : int(draws.order[rows].max())]
    return chosen[..., :3], chosen[..., 3], chosen[..., :3].flatten(2).any(2)


def _fill(made: _Made, draws: Draws, rows: torch.Tensor, work: _Work) -> None:
    """Try once to make the crystals at `rows`, all in general or all on special positions; write those that succeed."""
    generator, is_special = work.generator, bool(draws.site[rows[0]] >= 0)
    sites = draws.sites.take(draws.site[rows]) if is_special else None
    rotations, _, is_there = operations = _operations(draws, rows)
    lattice = draw_lattices(draws.volume[rows] * draws.order[rows], rotations, is_there, work.longest, generator)
    centre = free_points(lattice, *operations, generator, sites)
    n_copies = 2 if is_special else 1
    volume, room = draws.volume[rows] * n_copies, draws.size[rows] * n_copies
    radius = _ROOM * (3 * volume / (4 * math.pi)) ** (1 / 3) + 1
    around = surroundings(lattice, *operations, radius, centre, sites)
    first = (work.cores, sites.kind) if work.cores and sites else (work.seeds, torch.zeros_like(rows))
    molecules = planted(around, room, first, work.seeds, draws.n_molecules[rows], generator)
    grow(molecules, around, room, work.library, generator)
    hopeful = volume < _HOPEFUL * draws.ceiling[rows] * molecules.count
    kept = (hopeful & (molecules.count >= draws.least * n_copies)).nonzero()[:, 0]
    if len(kept):
        _finish(made, draws, rows[kept], molecules.take(kept), around.take(kept))


def _finish(made: _Made, draws: Draws, rows: torch.Tensor, molecules: Molecules, around: Surroundings) -> None:
    """Settle molecules, scale their cells, and write those that are dense and free of short contacts."""
    used = int(molecules.used.max())
    radii = torch.where(molecules.radii < 0, -1.0, molecules.radii - CONTACT_SLACK / 2)[:, :used]
    molecule = molecules.molecule[:, :used]
    xyz, scale = settle(molecules.xyz[:, :used], radii, molecule, around, least=_LEAST_SCALE)
    around = around.scaled(scale)
    good = draws.volume[rows] * around.n_copies * scale**3 < draws.ceiling[rows] * molecules.count
    if not good.any():
        return
    good[good.clone()] = is_free(xyz[good], radii[good], molecule[good], around.take(good))
    targets, kept = rows[good], good.nonzero()[:, 0]
    is_first = torch.ones_like(targets, dtype=torch.bool)
    is_first[1:] = targets[1:] != targets[:-1]  # repeated attempts at a row are consecutive
    targets, kept = targets[is_first], kept[is_first]
    numbers, order = molecules.numbers[kept, :used].sort(dim=1, descending=True, stable=True)
    xyz, occupancy = _occupied(xyz[kept], around.site[kept])
    lattice, centred = around.lattice[kept], xyz + around.centre[kept, None]
    xyz = torch.linalg.solve(lattice[:, None], centred[..., None])[..., 0]
    xyz = xyz.gather(1, order[..., None].expand(-1, -1, 3)) * (numbers > 0)[..., None]
    occupancy = occupancy.gather(1, order) * (numbers > 0)
    columns = min(used, made.numbers.shape[1])
    made.lattice[targets], made.xyz_frac[targets, :columns] = lattice, xyz[:, :columns]
    made.numbers[targets, :columns], made.occupancy[targets, :columns] = numbers[:, :columns], occupancy[:, :columns]


def _occupied(xyz: torch.Tensor, site: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return positions [n, atoms, 3], exact on symmetry elements, and occupancies: 1/2 there, else 1."""
    occupancy = torch.ones_like(xyz[..., 0])
    for turn in site.unbind(1):
        middle = (xyz + xyz @ turn.mT) / 2
        is_special = (xyz - middle).norm(dim=-1) < SAME_PLACE
        xyz = torch.where(is_special[..., None], middle, xyz)
        occupancy = torch.where(is_special, 0.5, 1.0).to(xyz)
    return xyz, occupancy


def _displacements(
    made: _Made, draws: Draws, options: RandomCrystalOptions, generator: torch.Generator
) -> torch.Tensor:
    """Draw U_iso, increasing outwards from the centre of the molecule; that of hydrogens is 1.2 times as large."""
    there = (made.numbers > 0).to(made.lattice)
    xyz = made.xyz_frac @ made.lattice.mT
    middle = (xyz * there[..., None]).sum(1, keepdim=True) / there.sum(1)[:, None, None]
    special = (draws.site >= 0).nonzero()[:, 0]
    if len(special):
        lattice, sites = made.lattice[special], draws.sites.take(draws.site[special])
        middle_frac = torch.linalg.solve(lattice, middle[special, 0])
        middle[special, 0] = (lattice @ sites.nearest(middle_frac)[..., None])[..., 0]
    square = (xyz - middle).square().sum(-1) * there
    low, high = options.u_range
    normal = torch.randn(2, len(xyz), 1, generator=generator, device=xyz.device, dtype=xyz.dtype)
    inner = low + (high - low) * torch.sigmoid(normal[0] * 0.7 - 1.4)
    u_iso = inner * (1 + (0.8 + 0.3 * normal[1]).clamp(min=0) * square / square.amax(1, keepdim=True))
    return u_iso.clamp(low, high) * torch.where(made.numbers == 1, 1.2, 1.0) * there
