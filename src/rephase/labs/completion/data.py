"""Monoclinic crystals, random or from CIFs: all structure factors on one grid, and which of them are measured."""

import itertools
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from rephase.config.completion import MeasuredPart, MonoclinicConfig
from rephase.crystal.cell import Cell
from rephase.crystal.density import density_from_F
from rephase.crystal.reflections.statistics import unique_hkl
from rephase.crystal.structure_factors import structure_factors
from rephase.crystal.structures import read_crystal
from rephase.crystal.symmetry import Symmetry, cell_of, find_symmetry
from rephase.errors import CifError, GridError, RephaseError, SymmetryError
from rephase.files.reading import cif_files
from rephase.labs.completion.grid_phases import monoclinic_operations, whole_sphere
from rephase.labs.completion.grids import MonoclinicGrid
from rephase.learning.batches import SplitData, shuffled_splits
from rephase.learning.store import Shard, Store
from rephase.random_crystals.crystals import RandomCrystalOptions, RandomCrystals, random_crystals
from rephase.random_crystals.structure_factors import many_structure_factors

_DRAWN_AT_ONCE = 1.2  # crystals generated per crystal still needed: some do not fit the grid
_HOPELESS = 200  # consecutive crystals of which none fits the grid: at most about one in a hundred would
_LARGER = 1 + 1e-9  # includes a reflection on the surface of a sphere in spite of rounding
_ORDERS = np.eye(3, dtype=int)[list(itertools.permutations(range(3)))]  # of the axes; the first leaves them unchanged
_BASES = [order * (1, round(np.linalg.det(order)), 1) for order in _ORDERS]  # right-handed: b may change its sign


class CompletionBatch(NamedTuple):
    """Samples on the grid of a dataset, [batch, h, k, l] unless stated otherwise.

    ``F`` are the true structure factors in electrons, complex; a model may use only the ``observed`` amplitudes.
    ``mask`` is True where a reflection exists (inside the sphere, not absent). ``s_squared`` is (2d)^-2 in Å^-2,
    ``lattice`` [batch, 3, 3] has the cell vectors in Å as columns, ``group`` [batch] is the index of the space group in
    the dataset, and ``operations`` [batch, 4, 2, 3] are those of `monoclinic_operations`.
    """

    F: torch.Tensor
    mask: torch.Tensor
    observed: torch.Tensor
    s_squared: torch.Tensor
    lattice: torch.Tensor
    group: torch.Tensor
    operations: torch.Tensor

    @property
    def scale(self) -> torch.Tensor:
        """The largest observed |F|, [batch, 1, 1, 1], by which amplitudes are divided as in the reference work."""
        return (self.F.abs() * self.observed).amax((1, 2, 3), keepdim=True)

    @property
    def missing(self) -> torch.Tensor:
        """True for reflections that exist but were not measured."""
        return self.mask & ~self.observed

    def density(self, F: torch.Tensor) -> torch.Tensor:
        """Compute maps [batch, x, y, z] in e/Å^3, without F(000), of complex F [batch, h, k, l] that obeys the groups.

        A map has as many points along each axis as the full sphere has reflections.
        """
        whole = whole_sphere(F, self.operations, MonoclinicGrid.of(F))
        volume = torch.linalg.det(self.lattice).to(F.real.dtype)
        return density_from_F(whole, volume[:, None, None, None], tuple(whole.shape[-3:]))


class MonoclinicData(SplitData[CompletionBatch]):
    """Structure factors of many crystals in memory; indexing with sample numbers gives a `CompletionBatch`.

    Parameters
    ----------
    F
        Structure factors in electrons without dispersion, complex [n, h, k, l].
    lattice
        Cell vectors in Å as columns, [n, 3, 3].
    group
        Index of the space group in `symmetries`, [n].
    symmetries
        Space groups of the dataset.
    config
        Grid, resolution limit and the measured part, which is drawn once per sample.
    splits
        Sample numbers of each split.
    """

    config: MonoclinicConfig

    def __init__(
        self,
        F: torch.Tensor,
        lattice: torch.Tensor,
        group: torch.Tensor,
        symmetries: Sequence[Symmetry],
        config: MonoclinicConfig,
        splits: dict[str, np.ndarray],
    ):
        self.F, self.lattice, self.group, self.symmetries = F, lattice, group, tuple(symmetries)
        self.config, self.splits, self.grid = config, splits, MonoclinicGrid(config.shape)
        self._is_present = torch.as_tensor(np.stack([self.grid.is_present(symmetry) for symmetry in symmetries]))
        self._operations = torch.as_tensor(np.stack([monoclinic_operations(symmetry) for symmetry in symmetries]))
        self._measured = draw_measured(config.measured, len(F), self.grid, np.random.default_rng([config.seed, 3]))

    @property
    def shape(self) -> tuple[int, ...]:
        """Points of the grid along h, k, l."""
        return tuple(self.F.shape[1:])

    def __len__(self) -> int:
        return len(self.F)

    def __getitem__(self, samples: list[int] | np.ndarray | torch.Tensor) -> CompletionBatch:
        index = torch.as_tensor(samples)
        measured = tuple(part[index] for part in self._measured)
        return self._batch(self.F[index], self.lattice[index], self.group[index], *measured)

    def draw(self, n: int, rng: np.random.Generator) -> CompletionBatch:
        """Draw `n` new random crystals, and which of their reflections are measured."""
        generator = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
        made = _random_samples(self.config, np.arange(n) % len(self.symmetries), generator)
        F, lattice, group = (torch.as_tensor(made[name]) for name in ("F", "lattice", "group"))
        return self._batch(F, lattice, group, *draw_measured(self.config.measured, n, self.grid, rng))

    def _batch(
        self, F: torch.Tensor, lattice: torch.Tensor, group: torch.Tensor, cut_off: torch.Tensor, is_kept: torch.Tensor
    ) -> CompletionBatch:
        s_squared = self.grid.s_squared(lattice)
        mask = self._is_present[group] & (s_squared <= _LARGER / (4 * self.config.d_min**2))
        observed = mask & is_kept & (s_squared <= _LARGER / (4 * cut_off[:, None, None, None] ** 2))
        return CompletionBatch(F, mask, observed, s_squared.to(F.real.dtype), lattice, group, self._operations[group])


def draw_measured(
    part: MeasuredPart, n: int, grid: MonoclinicGrid, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw the resolution limit of `n` samples in Å, [n], and which reflections are not in gaps, [n, h, k, l].

    Equivalent reflections are missing together.
    """
    cut_off = torch.as_tensor(rng.uniform(*part.d_min, n))
    if part.missing == 0:
        return cut_off, torch.ones(1, dtype=torch.bool).expand(n, *grid.shape)
    share = rng.uniform(0, part.missing, n)
    drawn = rng.integers(0, 256, (n, *grid.shape), dtype=np.uint8)  # one byte each: the array is large
    kept = torch.as_tensor(drawn >= (256 * share)[:, None, None, None])
    return cut_off, torch.where(torch.as_tensor(grid.hkl[..., 0] < 0), grid.partner(kept), kept)


def open_monoclinic(path: Path, config: MonoclinicConfig, *, workers: int = 1) -> MonoclinicData:
    """Open the random crystals of a configuration; build any chunks that are missing.

    Crystals that do not fit the grid are drawn again, so large and long cells are rarer than in the generator's
    distribution. A chunk depends only on the seed and its number: a build that is killed at any moment and restarted
    gives an identical store, bit for bit.

    Parameters
    ----------
    path
        Folder of the store.
    config
        The dataset to generate.
    workers
        Number of chunks built in parallel.

    Raises
    ------
    ConfigError, SymmetryError
        A space group is unknown, or not monoclinic with b unique.
    GridError
        Hardly any crystal with this number of atoms fits the grid; the message gives a grid that is large enough.
    StoreError
        The folder holds another dataset or a damaged chunk, or the disk is full.
    """
    store = fill_monoclinic(path, config, workers=workers)
    symmetries = [monoclinic_group(symbol) for symbol in config.space_groups]
    splits = shuffled_splits(config.n_samples, config.split, config.seed)  # each sample is a crystal of its own
    F, lattice, group = (store.load(name) for name in ("F", "lattice", "group"))
    return MonoclinicData(F, lattice, group, symmetries, config, splits)


def fill_monoclinic(path: Path, config: MonoclinicConfig, *, workers: int = 1, shard: Shard | None = None) -> Store:
    """Open the store of the random crystals, and build the missing chunks, or those of a shard."""
    layout = {"lattice": ((3, 3), "float64"), "group": ((), "int64"), "F": (config.shape, "complex64")}
    shown = config.model_dump(mode="json", exclude={"measured", "folder", "split"})
    store = Store(path, layout, config.n_samples, config.chunk, {"config": shown})
    store.fill(lambda rows: _chunk(config, rows), workers=workers, label="monoclinic crystals", shard=shard)
    return store


def one_crystal(
    hkl: np.ndarray, F: np.ndarray, is_observed: np.ndarray, setting: "Setting", config: MonoclinicConfig
) -> CompletionBatch:
    """Place one crystal as a batch on the grid of a configuration.

    Parameters
    ----------
    hkl
        Miller indices of unique reflections on the original axes, before the change of setting, [n_refl, 3].
    F
        Complex structure factors or amplitudes, [n_refl]; only the observed reflections are required.
    is_observed
        True for observed reflections, [n_refl].
    setting
        Setting as returned by `setting_on_grid`.
    config
        Configuration with the grid and the resolution limit.
    """
    grid, hkl = MonoclinicGrid(config.shape), hkl @ setting.basis
    placed, _ = grid.from_list(hkl, F, setting.symmetry)
    sample = MonoclinicData(
        torch.as_tensor(placed).to(torch.complex64)[None],
        torch.as_tensor(setting.lattice)[None],
        torch.tensor([0]),
        [setting.symmetry],
        config,
        {},
    )[[0]]
    observed, _ = grid.from_list(hkl, is_observed.astype(float), setting.symmetry)
    return sample._replace(observed=torch.as_tensor(observed > 0) & sample.mask)


def beta_of(lattice: torch.Tensor) -> torch.Tensor:
    """Compute β in degrees, [...], of lattices [..., 3, 3] with cell vectors as columns."""
    a, c = lattice[..., 0], lattice[..., 2]
    return torch.rad2deg(torch.acos((a * c).sum(-1) / (a.norm(dim=-1) * c.norm(dim=-1))))


def monoclinic_group(symbol: str) -> Symmetry:
    """Find a space group by its symbol; raise `SymmetryError` unless it is monoclinic with b unique."""
    symmetry = find_symmetry(symbol)
    if not _is_b_unique(symmetry):
        raise SymmetryError(
            f"space group {symmetry.symbol!r}: expected a monoclinic one with b unique, e.g. 'P 1 21/c 1' or 'C 1 2 1'"
        )
    return symmetry


def _is_b_unique(symmetry: Symmetry) -> bool:
    """Whether a group is monoclinic with its twofold axis, or the normal of its mirror, along b."""
    axes = np.diagonal(symmetry.rotations, axis1=1, axis2=2) * np.linalg.det(symmetry.rotations)[:, None]
    is_diagonal = (np.abs(symmetry.rotations) == np.eye(3, dtype=int)).all()
    return bool(is_diagonal) and {tuple(axis) for axis in axes.round().astype(int).tolist()} == {(1, 1, 1), (-1, 1, -1)}


def _chunk(config: MonoclinicConfig, rows: slice) -> dict[str, np.ndarray]:
    """Generate the samples of a chunk, with the space groups in turn."""
    seed = int(np.random.default_rng([config.seed, 0, rows.start]).integers(1 << 62))
    numbers = np.arange(rows.start, rows.stop) % len(config.space_groups)
    return _random_samples(config, numbers, torch.Generator().manual_seed(seed))


def _random_samples(config: MonoclinicConfig, numbers: np.ndarray, generator: torch.Generator) -> dict[str, np.ndarray]:
    """Generate crystals that fit the grid; `numbers` [n] are the indices of their space groups."""
    grid = MonoclinicGrid(config.shape)
    lattice, F = np.zeros((len(numbers), 3, 3)), np.zeros((len(numbers), *config.shape), np.complex64)
    for number, symbol in enumerate(config.space_groups):
        places = np.flatnonzero(numbers == number)
        crystals = _fitting_crystals(len(places), symbol, config, grid, generator) if len(places) else []
        for part in crystals:
            now, places = places[: len(part)], places[len(part) :]
            lattice[now], F[now] = part.lattice.numpy(), _on_grid(part, grid, config.d_min)
    return {"lattice": lattice, "group": numbers, "F": F}


def _fitting_crystals(
    n: int, symbol: str, config: MonoclinicConfig, grid: MonoclinicGrid, generator: torch.Generator
) -> Iterator[RandomCrystals]:
    """Yield `n` random crystals of one group whose whole sphere is on the grid; `GridError` if hardly any fits."""
    longest, n_in_vain = grid.longest_axes(config.d_min), 0
    options = RandomCrystalOptions(space_groups=(symbol,), n_atoms=config.n_atoms, longest=longest)
    while n > 0:
        made = random_crystals(max(8, int(_DRAWN_AT_ONCE * n)), generator=generator, options=options)
        fitting = grid.holds(made.lattice, config.d_min).nonzero()[:n, 0]
        n -= len(fitting)
        n_in_vain = 0 if len(fitting) else n_in_vain + len(made)
        if len(fitting):
            yield made.take(fitting)
        elif n_in_vain >= _HOPELESS:
            axes, would_do = ", ".join(f"{axis:.1f}" for axis in longest), grid.shape_for(made.lattice, config.d_min)
            raise GridError(
                f"completion.data.n_atoms = {config.n_atoms}: none of {n_in_vain} random crystals in {symbol!r} has "
                f"axes a, b, c below {axes} Å, where the grid {grid.shape} ends at {config.d_min} Å; "
                f"take fewer atoms, or completion.data.shape = {would_do}"
            )


def _on_grid(crystals: RandomCrystals, grid: MonoclinicGrid, d_min: float) -> np.ndarray:
    """Calculate F of crystals of one group, complex64 [n, h, k, l], zero outside the sphere."""
    present = torch.as_tensor(grid.is_present(crystals.symmetries[0]))
    mask = (present & (grid.s_squared(crystals.lattice.double()) <= _LARGER / (4 * d_min**2))).flatten(1)
    order = mask.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, : int(mask.sum(1).max())]
    hkl = torch.as_tensor(grid.hkl.reshape(-1, 3))[order] * mask.gather(1, order)[..., None]
    listed = many_structure_factors(crystals, hkl, energy_kev=None)
    F = torch.zeros(mask.shape, dtype=torch.complex64).scatter(1, order, listed.to(torch.complex64))
    return (F * mask).reshape(-1, *grid.shape).numpy()


class FolderData(NamedTuple):
    """Crystals of a folder as a dataset with the single split ``real``, their names, and the excluded files.

    ``left_out`` has the columns ``file`` and ``reason``.
    """

    data: MonoclinicData
    names: list[str]
    left_out: pd.DataFrame


def read_monoclinic_folder(folder: Path, config: MonoclinicConfig) -> FolderData:
    """Read every CIF of a folder, e.g. an export of the CSD, as samples on the grid of a configuration.

    Each crystal is in the first setting that `setting_on_grid` finds, with a and c swapped if only that fits the grid.

    Raises
    ------
    CifError
        No file of the folder can be used; the message gives the reason for the first one.
    """
    grid, found, left_out = MonoclinicGrid(config.shape), [], []
    for path in cif_files(folder):
        try:
            found.append((path.stem, *_crystal_on_grid(path, grid, config.d_min)))
        except RephaseError as error:
            left_out.append({"file": path.name, "reason": str(error)})
    if not found:
        why = f"{left_out[0]['file']}: {left_out[0]['reason']}" if left_out else "there is no *.cif"
        raise CifError(f"{folder}: no monoclinic crystal that fits the grid {config.shape}; {why}")
    names, F, lattice, groups = zip(*found)
    symmetries = list(dict.fromkeys(groups))
    group = torch.tensor([symmetries.index(symmetry) for symmetry in groups])
    data = MonoclinicData(
        torch.as_tensor(np.stack(F)).to(torch.complex64),
        torch.as_tensor(np.stack(lattice)),
        group,
        symmetries,
        config,
        {"real": np.arange(len(names))},
    )
    return FolderData(data, list(names), pd.DataFrame(left_out, columns=["file", "reason"]))


def _crystal_on_grid(path: Path, grid: MonoclinicGrid, d_min: float) -> tuple[np.ndarray, np.ndarray, Symmetry]:
    """Read a CIF; return F on the grid, lattice and space group."""
    crystal = read_crystal(path)
    symmetry = find_symmetry(crystal.space_group)
    setting = setting_on_grid(crystal.cell, symmetry, grid, d_min)
    hkl = unique_hkl(crystal.cell, symmetry, d_min)
    F = structure_factors(crystal, hkl, energy_kev=None)
    placed, _ = grid.from_list(hkl @ setting.basis, F.astype(np.complex64), setting.symmetry)
    return placed, setting.lattice, setting.symmetry


class Setting(NamedTuple):
    """A choice of axes: `basis` [3, 3] with the new axes as columns, the new lattice [3, 3] in Å and space group.

    Indices ``hkl [n, 3]`` become ``hkl @ basis``.
    """

    basis: np.ndarray
    lattice: np.ndarray
    symmetry: Symmetry


def setting_on_grid(
    cell: Cell, symmetry: Symmetry, grid: MonoclinicGrid, d_min: float, *, preferred: Collection[str] = ()
) -> Setting:
    """Find the first order of the axes in which b is unique and every reflection with d >= d_min (Å) is on a grid.

    Settings in which the group has one of the `preferred` symbols are tried first, then the original axes. With a and c
    swapped, a crystal may fit a grid that it does not fit otherwise; the space-group symbol then changes
    (P 1 21/c 1 becomes P 1 21/a 1).

    Raises
    ------
    SymmetryError
        The group is not monoclinic, or its unique axis is not along a cell axis.
    GridError
        The cell is too large; the message gives a grid that is large enough.
    """
    settings = [setting for basis in _BASES if _is_b_unique((setting := _setting(cell, symmetry, basis)).symmetry)]
    if not settings:
        raise SymmetryError(
            f"space group {symmetry.symbol!r}: expected a monoclinic space group, b unique in some order of the axes"
        )
    settings.sort(key=lambda setting: setting.symmetry.symbol not in preferred)
    fitting = (each for each in settings if grid.holds(torch.as_tensor(each.lattice)[None], d_min))
    chosen = next(fitting, settings[0])
    grid.check(cell_of(chosen.lattice), d_min)
    return chosen


def _setting(cell: Cell, symmetry: Symmetry, basis: np.ndarray) -> Setting:
    same = (basis == np.eye(3)).all()
    moved = symmetry if same else find_symmetry(symmetry.in_basis(basis).triplets)
    return Setting(basis, cell.orthogonalisation @ basis, moved)
