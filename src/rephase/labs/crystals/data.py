"""Perturbed crystals and their structure factors on a grid: generation, storage, splits and batches."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from rephase.config.crystals import DataConfig
from rephase.crystal.cell import limiting_d_min
from rephase.crystal.structure_factors import GridKernel, grid_hkl, sphere_mask
from rephase.crystal.structures import Crystal, read_crystal
from rephase.labs.crystals.perturb import perturb
from rephase.learning.batches import SplitData
from rephase.learning.store import Shard, Store

UNDEFINED = 1e-6  # |F| below this fraction of the sample's largest is rounding noise and has no phase


class Batch(NamedTuple):
    """Samples as the models and the scoring see them; grids are [batch, h, k, l] in FFT order.

    ``F`` are the true structure factors (a model may use only their amplitudes), ``mask`` is the measured sphere, and
    ``scale`` the complex Wilson scale of the parent: its modulus is sqrt(sum |f|^2), its phase is that of sum f.
    ``E = F/scale`` are normalised structure factors. ``F_parent`` are the structure factors of the unperturbed crystal.
    Mask and volume (Å^3) belong to the sample's own lattice, strained or not; the scale belongs to the parent.
    """

    F: torch.Tensor
    mask: torch.Tensor
    scale: torch.Tensor
    F_parent: torch.Tensor
    parent: torch.Tensor
    volume: torch.Tensor

    @property
    def E(self) -> torch.Tensor:
        """Normalised structure factors F/scale."""
        return self.F / self.scale

    @property
    def scored(self) -> torch.Tensor:
        """True where a phase counts: measured, defined, and not F(000)."""
        amplitude = self.F.abs()
        scored = self.mask & (amplitude > UNDEFINED * amplitude.amax((1, 2, 3), keepdim=True))
        scored[:, 0, 0, 0] = False
        return scored


@dataclass(frozen=True)
class Parents:
    """The unperturbed crystals, and everything that the samples of one parent share."""

    crystals: tuple[Crystal, ...]
    config: DataConfig

    @cached_property
    def kernels(self) -> list[GridKernel]:
        """One structure-factor kernel per parent."""
        return [GridKernel(c, self.config.h_max, energy_kev=self.config.energy_kev) for c in self.crystals]

    @cached_property
    def F(self) -> torch.Tensor:
        """Structure factors of the parents, complex [n_parents, h, k, l]."""
        return torch.cat([kernel(torch.as_tensor(kernel.crystal.atoms.xyz_frac)[None]) for kernel in self.kernels])

    @cached_property
    def scale(self) -> torch.Tensor:
        """Complex Wilson scale [n_parents, h, k, l]: sqrt(sum |f|^2) with the phase of sum f."""
        scales = []
        for kernel in self.kernels:
            one_by_one = [_sum_of_factors(kernel, power) for power in (1, 2)]
            scales.append(torch.polar(one_by_one[1].abs().sqrt(), one_by_one[0].angle()))
        return torch.stack(scales)

    @property
    def d_min(self) -> float:
        """Resolution limit in Å; that of the limiting sphere if the configuration gives none."""
        d_min = self.config.d_min
        return limiting_d_min(self.config.energy_kev) if d_min is None else d_min

    @cached_property
    def lattice(self) -> torch.Tensor:
        """Cell vectors of the parents as columns in Å, [n_parents, 3, 3]."""
        return torch.as_tensor(np.stack([crystal.cell.orthogonalisation for crystal in self.crystals]))

    @cached_property
    def mask(self) -> torch.Tensor:
        """The measured sphere of each parent, boolean [n_parents, h, k, l]."""
        return sphere_mask(self.lattice, self.config.h_max, self.d_min)

    @cached_property
    def d_hkl(self) -> torch.Tensor:
        """d-spacings in Å, [n_parents, h, k, l]."""
        return torch.as_tensor(np.stack([c.cell.d_spacing(grid_hkl(self.config.h_max)) for c in self.crystals]))

    def generate(self, parent: int, n: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw `n` variants of a parent; return their F, complex64 [n, h, k, l], and lattices [n, 3, 3] in Å."""
        variants = perturb(self.crystals[parent], n, rng, self.config.perturbation)
        xyz_frac = torch.as_tensor(variants.xyz_frac)
        if variants.lattice is None:
            return self.kernels[parent](xyz_frac), self.lattice[parent].expand(n, 3, 3)
        lattice = torch.as_tensor(variants.lattice)
        return self.kernels[parent](xyz_frac, lattice), lattice

    def batch(self, F: torch.Tensor, parent: torch.Tensor, lattice: torch.Tensor) -> Batch:
        """Make a `Batch` of samples F, the indices of their parents [n] and their lattices [n, 3, 3] in Å."""
        mask = sphere_mask(lattice, self.config.h_max, self.d_min)
        volume = torch.linalg.det(lattice).to(F.real.dtype)
        return Batch(F, mask, self.scale[parent], self.F[parent], parent, volume)

    def draw(self, n: int, rng: np.random.Generator) -> Batch:
        """Draw `n` variants of the training crystals."""
        parent = np.sort(rng.integers(len(self.config.crystals), size=n))
        drawn = [self.generate(int(p), int(count), rng) for p, count in zip(*np.unique(parent, return_counts=True))]
        F, lattice = (torch.cat(parts) for parts in zip(*drawn))
        return self.batch(F, torch.as_tensor(parent), lattice)


def _sum_of_factors(kernel: GridKernel, power: int) -> torch.Tensor:
    """Sum over the atoms of occ f or |occ f|^2 on the grid; even in h, so the half grid is enough."""
    half = kernel.species_weights
    occupancy = kernel.scatterers.occupancy.split(kernel.scatterers.counts)
    total = sum((o**power).sum() * (w if power == 1 else w.abs() ** 2 + 0j) for o, w in zip(occupancy, half))
    shape = tuple(2 * m + 1 for m in kernel.h_max)
    positive = total.reshape(kernel.h_max[0] + 1, *shape[1:])
    return torch.cat([positive, positive[1:].flip(0, 1, 2).roll((1, 1), (1, 2))])


class PerturbedData(SplitData[Batch]):
    """The stored samples in memory; indexing with a list of sample numbers gives a `Batch`.

    Parameters
    ----------
    store
        A filled store.
    parents
        The crystals from which the store was built.
    """

    config: DataConfig

    def __init__(self, store: Store, parents: Parents):
        self.parents, self.config = parents, parents.config
        self.F, self.lattice = store.load("F"), store.load("lattice")
        self.parent = torch.arange(len(parents.crystals)).repeat_interleave(self.config.n_per_crystal)
        self.splits = split_samples(self.config)

    @property
    def shape(self) -> tuple[int, ...]:
        """Points of the grid along h, k, l."""
        return tuple(self.F.shape[1:])

    def __len__(self) -> int:
        return len(self.F)

    def __getitem__(self, samples: list[int] | np.ndarray | torch.Tensor) -> Batch:
        index = torch.as_tensor(samples)
        return self.parents.batch(self.F[index], self.parent[index], self.lattice[index])

    def draw(self, n: int, rng: np.random.Generator) -> Batch:
        """Draw `n` variants of the training crystals."""
        return self.parents.draw(n, rng)


def read_parents(config: DataConfig) -> Parents:
    """Read the crystals of a dataset, the training crystals first."""
    return Parents(tuple(read_crystal(name) for name in (*config.crystals, *config.unseen)), config)


def split_samples(config: DataConfig) -> dict[str, np.ndarray]:
    """Sample numbers of each split.

    ``train``, ``validation`` and ``test`` divide the samples of every training crystal in the same proportions (the
    by-sample split of the reference work, convolutional-neural-nets); ``unseen`` holds all samples of the crystals
    that are excluded from training (the split by parent).
    """
    n = config.n_per_crystal
    splits: dict[str, list[np.ndarray]] = {"train": [], "validation": [], "test": []}
    cuts = [round(n * config.split.train), round(n * (config.split.train + config.split.validation))]
    for parent in range(len(config.crystals)):
        shuffled = parent * n + np.random.default_rng([config.seed, 1, parent]).permutation(n)
        for name, part in zip(splits, np.split(shuffled, cuts)):
            splits[name].append(np.sort(part))
    every = {name: np.concatenate(parts) for name, parts in splits.items()}
    first = n * len(config.crystals)
    return every | {"unseen": np.arange(first, first + n * len(config.unseen))}


def open_perturbed(path: Path, config: DataConfig, *, workers: int = 1) -> PerturbedData:
    """Open the dataset of a configuration; build any chunks that are missing.

    The samples of a chunk depend only on the seed, the parent and their position: a build that is killed at any moment
    and restarted gives a store identical, bit for bit, to that of an uninterrupted build.

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
    StoreError
        The folder holds another dataset or a damaged chunk, or the disk is full.
    """
    parents = read_parents(config)
    return PerturbedData(fill_perturbed(path, parents, workers=workers), parents)


def fill_perturbed(path: Path, parents: Parents, *, workers: int = 1, shard: Shard | None = None) -> Store:
    """Open the store of the perturbed crystals, and build the missing chunks, or those of a shard."""
    config = parents.config
    shape = tuple(2 * m + 1 for m in config.h_max)
    layout = {"lattice": ((3, 3), "float64"), "F": (shape, "complex64")}
    described = [
        {"name": c.name, "space_group": c.space_group, "cell": list(c.cell.parameters), "formula": c.formula}
        for c in parents.crystals
    ]
    identity = {"config": config.model_dump(mode="json"), "parents": described}
    n = config.n_per_crystal
    store = Store(path, layout, n * len(parents.crystals), config.chunk, identity)

    def build(rows: slice) -> dict[str, np.ndarray]:
        parts = []
        for parent in range(rows.start // n, (rows.stop - 1) // n + 1):
            first, last = max(rows.start, parent * n), min(rows.stop, (parent + 1) * n)
            rng = np.random.default_rng([config.seed, 0, parent, first])
            parts.append(parents.generate(parent, last - first, rng))
        F, lattice = (torch.cat(each).numpy() for each in zip(*parts))
        return {"F": F, "lattice": lattice}

    parents.kernels  # noqa: B018  built once, before the workers share them
    store.fill(build, workers=workers, label="structure factors", shard=shard)
    return store
