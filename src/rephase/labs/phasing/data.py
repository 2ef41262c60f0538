"""Random crystals streamed to a training: their amplitudes on FFT grids, with noise and gaps like measured ones."""

import itertools
import math
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from rephase.config.phasing import PhasingData
from rephase.crystal.symmetry import Symmetry, cell_of, reduced_cell
from rephase.devices import at_once
from rephase.errors import ConfigError, GridError
from rephase.learning.batches import Batches, Loader, SplitData, loader_of
from rephase.random_crystals.crystals import SPACE_GROUPS, RandomCrystalOptions, RandomCrystals, random_crystals
from rephase.random_crystals.structure_factors import many_structure_factors
from rephase.solvers.learned.spheres import Measured, Spheres, measured, points_needed
from rephase.solvers.learned.starts import Operations

_MADE_AT_ONCE = 256  # crystals: fewer would take almost the same time
_STREAM, _VALIDATION = 7, 8  # distinguish the random numbers of the two
_WITH_STRONG_GAPS, _STRONG_GAPS = 0.3, 0.15  # share of crystals that lack strong reflections; most, of all missing
_CPU = torch.device("cpu")


class PhasingBatch(NamedTuple):
    """Crystals in their reduced primitive cells, and lists [n, n_refl] of the reflections of their spheres with l >= 0.

    Of the plane l = 0, both Friedel mates are listed. ``place`` are the places of the reflections on the flattened half
    grid of the crystal, 0 for padding; ``F`` is the true structure factor in electrons; ``amplitude`` is |F| with noise
    where ``is_measured``, else 0. ``shape`` [n, 3] are the points of its grid, ``lattice`` [n, 3, 3] has the cell
    vectors as columns in Å, ``d_min`` [n] is the resolution limit in Å; the last three are its `Operations`.
    """

    place: torch.Tensor
    F: torch.Tensor
    amplitude: torch.Tensor
    is_measured: torch.Tensor
    shape: torch.Tensor
    lattice: torch.Tensor
    d_min: torch.Tensor
    rotations: torch.Tensor
    translations: torch.Tensor
    is_there: torch.Tensor

    def take(self, rows: torch.Tensor) -> "PhasingBatch":
        """Return the crystals at `rows`."""
        return PhasingBatch(*(field[rows] for field in self))


class Part(NamedTuple):
    """Crystals of a batch that share a grid: their data, groups, and true phasors [n, h, k, l] on half grids.

    As in `State`, a true phasor has length 1 if it is measured, else that of the amplitude relative to the expected.
    """

    data: Measured
    operations: Operations
    true: torch.Tensor

    def __len__(self) -> int:
        return len(self.true)

    @property
    def without_group(self) -> Operations:
        """No operations but the identity, for starts without symmetry."""
        return self.operations.without_group(torch.ones(len(self), dtype=torch.bool))


def parts(batch: PhasingBatch) -> Iterator[Part]:
    """Yield the crystals of a batch by grid, as many at once as suit the device."""
    device = batch.F.device
    for shape in torch.unique(batch.shape, dim=0).tolist():
        rows = (batch.shape == batch.shape.new_tensor(shape)).all(1).nonzero()[:, 0]
        for some in rows.split(max(1, at_once("phasing maps", device) // math.prod(shape))):
            yield _part(batch.take(some), tuple(shape))


def _part(batch: PhasingBatch, shape: tuple[int, int, int]) -> Part:
    spheres = Spheres(shape, batch.lattice, batch.d_min)
    F, amplitude, is_measured = (_on_grid(batch.place, each, spheres) for each in batch[1:4])
    data = measured(spheres, amplitude, is_measured)
    size = torch.where(data.is_measured, F.abs(), data.amplitude * data.scale)
    true = F.conj() / size.clamp(min=torch.finfo(size.dtype).tiny) * spheres.inside  # as rfftn: F*
    return Part(data, Operations(*batch[-3:]), true)


def _on_grid(place: torch.Tensor, values: torch.Tensor, spheres: Spheres) -> torch.Tensor:
    """Put lists on half grids, zero elsewhere; the padding has zeros for F(000)."""
    grid = values.new_zeros(len(values), *spheres.hkl.shape[:3])
    grid.flatten(1).scatter_(1, place, values)
    return grid


class PhasingCrystals(SplitData[PhasingBatch]):
    """Random crystals: new ones in each epoch of a training, and always the same for its validation.

    The crystals of a batch depend only on the seed and the number of the batch, which counts on from epoch to epoch. A
    training that continues thus sees the same crystals as one in one piece.
    """

    config: PhasingData

    def __init__(self, config: PhasingData):
        self.config = config
        self.splits = {"train": np.arange(config.n_epoch), "validation": np.arange(config.n_validation)}

    @property
    def shape(self) -> tuple[int, ...]:
        """The smallest grid."""
        return self.config.shapes[0]

    def __getitem__(self, samples: list[int] | np.ndarray | torch.Tensor) -> PhasingBatch:
        return self._validation.take(torch.as_tensor(samples))

    @cached_property
    def _validation(self) -> PhasingBatch:
        n, made = self.config.n_validation, 0
        found: list[PhasingBatch] = []
        while sum(len(each.F) for each in found) < n:
            found.append(self.draw(max(n, _MADE_AT_ONCE), np.random.default_rng([self.config.seed, _VALIDATION, made])))
            made += 1
        return joined(found).take(torch.arange(n))

    def draw(self, n: int, rng: np.random.Generator) -> PhasingBatch:
        """Make `n` crystals; return those that fit a grid.

        Raises
        ------
        GridError
            None fits.
        """
        generator = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
        crystals = random_crystals(n, generator=generator, options=kinds_of(self.config))
        return batch_of(crystals, self.config, generator)

    def loader(
        self,
        split: str,
        batch_size: int,
        *,
        seed: int | None = None,
        rank: int = 0,
        n_ranks: int = 1,
        device: torch.device = _CPU,
    ) -> Loader[PhasingBatch]:
        """Return the batches of a split; those of the training have at most `batch_size` crystals, made on the fly.

        Raises
        ------
        ConfigError
            Several processes want to train: all would see the same crystals.
        """
        if split != "train":
            return super().loader(split, batch_size, seed=seed, rank=rank, n_ranks=n_ranks, device=device)
        if n_ranks > 1:
            raise ConfigError(
                f"{n_ranks} processes: expected 1 for networks that find phases, as all would see the same crystals; "
                "leave --devices and --nodes out"
            )
        n_batches = -(-self.config.n_epoch // batch_size)
        return CrystalLoader(self, batch_size, seed or 0, NumberedBatches(np.arange(n_batches), 1, None), device)


def kinds_of(config: PhasingData) -> RandomCrystalOptions:
    """Return the properties of the random crystals of a configuration; errors as of `RandomCrystalOptions`."""
    return RandomCrystalOptions(
        config.space_groups or tuple(SPACE_GROUPS),
        config.n_atoms,
        config.u_range,
        n_molecules=config.n_molecules,
        on_special=config.on_special,
    )


class NumberedBatches(Batches):
    """Numbers of batches that count on from epoch to epoch."""

    def _batch(self, order: np.ndarray, number: int) -> list[int]:
        return [self.epoch * len(self) + number]


class CrystalBlocks(Dataset[PhasingBatch]):
    """Blocks of `n` new crystals by number; those that fit no grid are left out."""

    def __init__(self, data: PhasingCrystals, n: int, seed: int):
        self.data, self.n, self.seed = data, n, seed

    def __getitem__(self, block: int) -> PhasingBatch:
        return self.data.draw(self.n, np.random.default_rng([self.data.config.seed, self.seed, _STREAM, block]))


class CrystalLoader:
    """Batches of new crystals in the order of `sampler`.

    Several small batches are a block, whose crystals are made together, for a GPU by worker processes. A block is
    divided in this process: workers that get batches in turn would each make the whole block for one of them.
    """

    def __init__(
        self, data: PhasingCrystals, batch_size: int, seed: int, sampler: NumberedBatches, device: torch.device
    ):
        self.sampler = sampler
        self._per_block = max(1, _MADE_AT_ONCE // batch_size)
        blocks = CrystalBlocks(data, batch_size * self._per_block, seed)
        self._blocks = loader_of(blocks, _BlocksOf(sampler, self._per_block), device)

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[PhasingBatch]:
        for (_, places), made in zip(_by_block(self.sampler, self._per_block), self._blocks):
            for place in places:
                yield made.take(torch.arange(place, len(made.F), self._per_block))


class _BlocksOf:
    """Numbers of the blocks that hold the batches of an order."""

    def __init__(self, order: NumberedBatches, per_block: int):
        self.order, self.per_block = order, per_block

    def __iter__(self) -> Iterator[int]:
        return (block for block, _ in _by_block(self.order, self.per_block))


def _by_block(order: NumberedBatches, per_block: int) -> Iterator[tuple[int, list[int]]]:
    """Yield the number of each block, and the places in it of the batches of an order."""
    for block, numbers in itertools.groupby((number for (number,) in order), lambda number: number // per_block):
        yield block, [number % per_block for number in numbers]


def joined(batches: list[PhasingBatch]) -> PhasingBatch:
    """Join batches; shorter lists are padded."""
    most = max(batch.place.shape[1] for batch in batches)
    lists = ([torch.nn.functional.pad(each, (0, most - each.shape[1])) for each in batch[:4]] for batch in batches)
    return PhasingBatch(*map(torch.cat, [*zip(*lists), *zip(*(batch[4:] for batch in batches))]))


def batch_of(crystals: RandomCrystals, config: PhasingData, generator: torch.Generator) -> PhasingBatch:
    """Calculate the structure factors of the crystals that fit a grid; draw limits, noise and gaps.

    Raises
    ------
    GridError
        None fits.
    """
    n = len(crystals)
    low, high = config.d_min
    d_min = low + (high - low) * torch.rand(n, generator=generator)
    lattice, basis, operations = _reduced(crystals)
    needed, shapes = points_needed(lattice.norm(dim=1), d_min), torch.tensor(config.shapes)
    fits = (needed[:, None] <= shapes).all(2)
    if not fits.any():
        smallest = needed[needed.prod(1).argmin()].tolist()
        raise GridError(
            f"phasing.data.shapes = {config.shapes}: none of {n} crystals fits, the smallest needs {tuple(smallest)}; "
            "add larger grids, or take fewer atoms or a larger d_min"
        )
    chosen = torch.where(fits.any(1), fits.int().argmax(1), -1)
    made = []
    for number, shape in enumerate(config.shapes):
        rows = (chosen == number).nonzero()[:, 0]
        if len(rows):
            own = Operations(*(each[rows] for each in operations))
            spheres = Spheres(shape, lattice[rows], d_min[rows])
            made.append(_sampled(crystals.take(rows), basis[rows], spheres, own, config, generator))
    order = torch.cat([(chosen == number).nonzero()[:, 0] for number in range(len(shapes))]).argsort()
    return joined(made).take(order)  # any part is a fair sample again


def _reduced(crystals: RandomCrystals) -> tuple[torch.Tensor, torch.Tensor, Operations]:
    """Return reduced lattices [n, 3, 3] in Å, their vectors in terms of the old axes [n, 3, 3], and the operations."""
    lattices, bases, rotations, translations = [], [], [], []
    most = max(len(symmetry.point_group) for symmetry in crystals.symmetries)
    there = torch.zeros(len(crystals), most, dtype=torch.bool)
    for i, (lattice, group) in enumerate(zip(crystals.lattice.double().numpy(), crystals.group.tolist())):
        symmetry: Symmetry = crystals.symmetries[group]
        basis = reduced_cell(cell_of(lattice), symmetry).basis
        inverse, chosen = np.linalg.inv(basis), symmetry.point_group
        pad = ((0, most - len(chosen)), (0, 0))
        rotations.append(np.pad(np.rint(inverse @ symmetry.rotations[chosen] @ basis), (*pad, (0, 0))))
        translations.append(np.pad(symmetry.translations[chosen] @ inverse.T, pad))
        lattices.append(lattice @ basis)
        bases.append(basis)
        there[i, : len(chosen)] = True
    as_tensor = [torch.as_tensor(np.stack(each)).float() for each in (lattices, bases, rotations, translations)]
    return as_tensor[0], as_tensor[1], Operations(as_tensor[2], as_tensor[3], there)


def _sampled(
    crystals: RandomCrystals,
    basis: torch.Tensor,
    spheres: Spheres,
    operations: Operations,
    config: PhasingData,
    generator: torch.Generator,
) -> PhasingBatch:
    """Calculate F of crystals that share a grid, and draw which amplitudes are measured."""
    inside = spheres.inside.flatten(1)
    place = inside.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, : int(inside.sum(1).max())]
    is_listed = inside.gather(1, place)
    place = place * is_listed  # place 0 is that of F(000)
    hkl = spheres.hkl.flatten(0, 2)[place]
    old = (hkl.float() @ torch.linalg.inv(basis)).round().long()
    F = many_structure_factors(crystals, old, energy_kev=None) * is_listed
    amplitude, is_measured = _as_measured(F, place, _representative(hkl, spheres, operations), config, generator)
    is_measured &= is_listed
    shape = torch.tensor(spheres.shape).expand(len(F), 3)
    return PhasingBatch(
        place, F, amplitude * is_measured, is_measured, shape, spheres.lattice, spheres.d_min, *operations
    )


def _representative(hkl: torch.Tensor, spheres: Spheres, operations: Operations) -> torch.Tensor:
    """Return the smallest place among those of the equivalents of each index [n, n_refl, 3], with Friedel mates."""
    n_h, n_k, n_l = spheres.shape
    best = torch.full(hkl.shape[:2], n_h * n_k * n_l)
    for rotation, there in zip(operations.rotations.unbind(1), operations.is_there.unbind(1)):
        image = (hkl.float() @ rotation).round().long()
        for sign in (1, -1):
            h, k, l = (sign * image).unbind(2)
            place = ((h % n_h) * n_k + k % n_k) * (n_l // 2 + 1) + l
            best = torch.where((l >= 0) & there[:, None], torch.minimum(best, place), best)
    return best


def _as_measured(
    F: torch.Tensor, place: torch.Tensor, representative: torch.Tensor, config: PhasingData, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return |F| with noise [n, n_refl], and which are measured; equivalents have the same noise and gaps.

    Besides gaps at random, some crystals lack their strongest reflections, as behind a beam stop or saturated.
    """
    n, size = len(F), int(representative.max()) + 1
    uniform = torch.rand(n, size, generator=generator).gather(1, representative)
    normal = torch.randn(n, size, generator=generator).gather(1, representative)
    share = torch.rand(4, n, 1, generator=generator)
    amplitude = F.abs()
    lost = torch.where(share[2] < _WITH_STRONG_GAPS, config.missing * _STRONG_GAPS * share[3], 0)
    rank = (lost * (place > 0).sum(1, keepdim=True)).long()
    weakest_lost = amplitude.sort(dim=1, descending=True).values.gather(1, rank)
    is_strong = amplitude > weakest_lost * (1 + 1e-4)  # not a part of the equivalents that have this amplitude
    is_measured = (uniform >= config.missing * share[0]) & ~(is_strong & (lost > 0))
    noisy = amplitude * (1 + config.noise * share[1] * normal).clamp(min=0)
    return noisy, is_measured
