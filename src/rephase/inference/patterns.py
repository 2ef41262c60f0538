"""Patterns and the unknowns that they were simulated from: the contract of simulators, and their datasets."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import torch

from rephase.config.inference import SimulatorConfig
from rephase.errors import ConfigError, PosteriorError
from rephase.inference.priors import BoxPrior
from rephase.learning.batches import SplitData, shuffled_splits
from rephase.learning.store import Layout, Shard, Store
from rephase.optics.noise import count, poisson_log_likelihood

_BEYOND = 20.0  # z at which every unknown is at its bound


class PatternBatch(NamedTuple):
    """Patterns, and the unknowns behind them.

    Attributes
    ----------
    u
        Unknowns in physical units, [sample, *u_shape].
    counts
        Photons, [sample, *pattern], 0 where not measured.
    photons
        Expected counts for one unit of the forward model's intensity; broadcasts with `counts`.
    mask
        Boolean [sample, *pattern], True = measured.
    """

    u: torch.Tensor
    counts: torch.Tensor
    photons: torch.Tensor
    mask: torch.Tensor


class Simulator(Protocol):
    """A prior of unknowns and a forward model with Poisson counts.

    ``u_shape`` is (parameter,) or (channel, row, column), and ``names`` and ``units`` are those of its first axis.
    ``axes`` maps the label of an axis to the coordinates of a pattern along it; it is empty if axes are not drawn.
    Flows, samplers and scores work on z, the unknowns in an unbounded space.
    """

    u_shape: tuple[int, ...]
    pattern_shape: tuple[int, ...]
    names: tuple[str, ...]
    units: tuple[str, ...]
    axes: Mapping[str, torch.Tensor]

    @property
    def config(self) -> SimulatorConfig:
        """Configuration that fixes the simulator."""

    def draw(self, n: int, rng: np.random.Generator) -> PatternBatch:
        """Draw `n` unknowns from the prior, and a pattern for each."""

    def intensity(self, u: torch.Tensor) -> torch.Tensor:
        """Intensity [sample, *pattern] of unknowns, differentiable by them."""

    def to_normal(self, u: torch.Tensor) -> torch.Tensor:
        """Map unknowns to unbounded z of the same shape."""

    def from_normal(self, z: torch.Tensor) -> torch.Tensor:
        """Map z to unknowns, which are within their bounds for any z."""

    def log_prior(self, z: torch.Tensor) -> torch.Tensor | None:
        """Logarithm of the prior density of z [..., *u_shape]: [...]; None if the prior is known only by samples."""


SimulatorType = TypeVar("SimulatorType", bound=Simulator)


class SummingSimulator(Simulator, Protocol):
    """A simulator that provides the most informative sums over many pixels of its patterns."""

    def summaries(self, batch: PatternBatch) -> torch.Tensor:
        """Sums of about unit size, [sample, n]; hidden pixels do not enter."""


def expected_of(simulator: Simulator, u: torch.Tensor, batch: PatternBatch) -> torch.Tensor:
    """Expected counts [..., sample, *pattern] of unknowns [..., sample, *u_shape] at the exposure of the batch."""
    samples = u.shape[: u.ndim - len(simulator.u_shape)]
    return batch.photons * simulator.intensity(u.reshape(-1, *simulator.u_shape)).unflatten(0, samples)


def log_joint(
    simulator: Simulator, z: torch.Tensor, batch: PatternBatch, *, expected: torch.Tensor | None = None
) -> torch.Tensor:
    """Logarithm of prior density times likelihood, [..., sample], of z [..., sample, *u_shape] in its dtype.

    If the prior is known only by samples, the result is the likelihood alone; ``batch.u`` is ignored. Pass the
    `expected` counts of z if they are already computed.
    """
    if expected is None:
        expected = expected_of(simulator, simulator.from_normal(z), batch)
    likelihood = poisson_log_likelihood(expected, batch.counts, batch.mask)
    prior = simulator.log_prior(z)
    return likelihood if prior is None else likelihood + prior


def pattern_of(simulator: Simulator, u: torch.Tensor, rng: np.random.Generator) -> PatternBatch:
    """Simulate patterns of given unknowns [sample, *u_shape], with exposures and masks drawn by the simulator."""
    drawn = simulator.draw(len(u), rng)._replace(u=u)
    generator = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
    counts = count(expected_of(simulator, u, drawn).detach().double(), generator=generator).to(u)
    return drawn._replace(counts=torch.where(drawn.mask, counts, 0.0))


def check_range(name: str, ends: tuple[float, float], *, is_log: bool = True) -> None:
    """Raise `ConfigError` unless a range has two finite ends in rising order, above 0 if it is log-uniform."""
    low, high = ends
    if not (-math.inf < low <= high < math.inf and (low > 0 or not is_log)):
        above = " above 0" if is_log else ""
        raise ConfigError(f"{name} = ({low}, {high}): expected two numbers{above} in rising order")


def check_simulator(simulator: Simulator) -> None:
    """Raise unless patterns can be simulated over the whole prior; this simulates one at each end.

    Raises
    ------
    ConfigError, OpticsError
        Impossible bounds of the unknowns, or of the exposures and masks.
    """
    ends = torch.tensor([-_BEYOND, _BEYOND]).reshape(2, *[1] * len(simulator.u_shape)).expand(2, *simulator.u_shape)
    batch = pattern_of(simulator, simulator.from_normal(ends), np.random.default_rng(0))
    if not batch.counts.isfinite().all():
        raise ConfigError("patterns at the ends of the prior are not finite: expected numbers; check the bounds")


def check_patterns(batch: PatternBatch) -> None:
    """Raise `PosteriorError` unless every pattern has measured points, all with valid counts and photons."""
    if batch.mask.dtype != torch.bool or batch.mask.shape != batch.counts.shape:
        raise PosteriorError(
            f"mask of {batch.mask.dtype}, shape {tuple(batch.mask.shape)}: expected booleans of the shape of the "
            f"counts, {tuple(batch.counts.shape)}, True where measured"
        )
    measured = batch.mask.flatten(1).any(1)
    if not measured.all():
        number = int(measured.int().argmin())
        raise PosteriorError(f"pattern {number}: the mask hides everything: expected True at the measured points")
    photons = batch.photons.expand_as(batch.counts)
    for name, values, is_right, expected in (
        ("counts", batch.counts, batch.counts >= 0, "0 or above"),
        ("photons", photons, photons > 0, "above 0"),
    ):
        wrong = (batch.mask & ~(is_right & values.isfinite())).nonzero()
        if len(wrong):
            first = tuple(wrong[0].tolist())
            raise PosteriorError(
                f"{name} = {values[first].item():g} at point {first[1:]} of pattern {first[0]}: expected a finite "
                f"number {expected} where the mask is True; mask such points"
            )


def check_shape(batch: PatternBatch, shape: tuple[int, ...]) -> None:
    """Raise `ConfigError` unless patterns have the shape that a flow was made for."""
    if tuple(batch.counts.shape[1:]) != tuple(shape):
        raise ConfigError(
            f"patterns of shape {tuple(batch.counts.shape[1:])}: this flow was made for {tuple(shape)}; "
            "resample them, or train a flow for their shape"
        )


def log_intensity(counts: torch.Tensor, photons: torch.Tensor) -> torch.Tensor:
    """Logarithm of (counts + 1/2) / photons, divided by 3 to be of unit size; 0 without photons."""
    return torch.where(photons > 0, ((counts + 0.5) / photons.where(photons > 0, 1.0)).log() / 3, 0.0)


def projections(batch: PatternBatch) -> torch.Tensor:
    """`log_intensity` of each row and of each column of images [sample, row, column]: [sample, row + column].

    A single pixel has few photons; sums determine intensities and the positions of edges far better.
    """
    counts, photons = (torch.where(batch.mask, field, 0.0) for field in (batch.counts, batch.photons))
    return torch.cat([log_intensity(counts.sum(axis), photons.sum(axis)) for axis in (2, 1)], 1)


class BoundedSimulator(SummingSimulator, Protocol):
    """A simulator of parameters between bounds."""

    prior: BoxPrior


class ParameterSimulator:
    """Base of simulators of a few bounded parameters, whose z is normal under the prior.

    Parameters
    ----------
    prior
        Prior of the parameters.
    pattern_shape
        Shape of a pattern.
    """

    axes: Mapping[str, torch.Tensor] = {}

    def __init__(self, prior: BoxPrior, pattern_shape: tuple[int, ...]):
        self.prior, self.pattern_shape = prior, pattern_shape
        self.u_shape: tuple[int, ...] = (len(prior),)
        self.names, self.units = prior.names, prior.units

    def to_normal(self, u: torch.Tensor) -> torch.Tensor:
        """Map parameters [..., parameter] to unbounded z."""
        return self.prior.to_normal(u)

    def from_normal(self, z: torch.Tensor) -> torch.Tensor:
        """Map z [..., parameter] to parameters."""
        return self.prior.from_normal(z)

    def log_prior(self, z: torch.Tensor) -> torch.Tensor:
        """Logarithm of the prior density of z [..., parameter]: [...]."""
        return self.prior.log_density(z)

    def summaries(self, batch: PatternBatch) -> torch.Tensor:
        """`projections` of images; [sample, 0] for curves."""
        return projections(batch) if batch.counts.ndim == 3 else batch.counts.new_zeros(len(batch.counts), 0)


class PatternData(SplitData[PatternBatch], Generic[SimulatorType]):
    """Stored patterns of a simulator; indexing with a list of samples reads only these.

    Parameters
    ----------
    simulator
        Simulator that drew the patterns, and draws more.
    store
        Store that holds the patterns.
    """

    config: SimulatorConfig

    def __init__(self, simulator: SimulatorType, store: Store):
        self.simulator, self.store, self.config = simulator, store, simulator.config
        self.built_with = {"simulator": simulator}
        self.splits = shuffled_splits(store.n_samples, self.config.split, self.config.seed)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a pattern."""
        return self.simulator.pattern_shape

    def __len__(self) -> int:
        return self.store.n_samples

    def __getitem__(self, samples: list[int] | np.ndarray | torch.Tensor) -> PatternBatch:
        numbers = np.asarray(samples)
        return PatternBatch(*(torch.as_tensor(self.store.take(name, numbers)) for name in PatternBatch._fields))

    def draw(self, n: int, rng: np.random.Generator) -> PatternBatch:
        """Draw `n` new patterns, which are in no split."""
        return self.simulator.draw(n, rng)


def store_patterns(path: Path, simulator: SimulatorType, *, workers: int = 1) -> PatternData[SimulatorType]:
    """Open the store of a simulator's patterns, and simulate its missing chunks.

    Raises
    ------
    StoreError
        The folder holds another dataset or a damaged chunk, or the disk is full.
    """
    store = fill_patterns(path, simulator, workers=workers)
    store.check()
    return PatternData(simulator, store)


def fill_patterns(path: Path, simulator: Simulator, *, workers: int = 1, shard: Shard | None = None) -> Store:
    """Open the store of a simulator's patterns, and simulate the missing chunks, or those of a shard."""
    config = simulator.config
    example = simulator.draw(1, np.random.default_rng(config.seed))
    layout: Layout = {
        name: (tuple(field.shape[1:]), str(field.numpy().dtype)) for name, field in example._asdict().items()
    }
    identity: dict[str, Any] = {"kind": type(simulator).__name__, "config": config.model_dump(mode="json")}
    store = Store(path, layout, config.n_samples, config.chunk, identity)

    def build(rows: slice) -> dict[str, np.ndarray]:
        drawn = simulator.draw(rows.stop - rows.start, np.random.default_rng([config.seed, 3, rows.start]))
        return {name: field.numpy() for name, field in drawn._asdict().items()}

    store.fill(build, workers=workers, label="patterns", shard=shard)
    return store


class PosteriorModel(Protocol):
    """The contract of models of posteriors; densities are those of z, the unknowns in an unbounded space."""

    simulator: Simulator

    def loss(self, batch: PatternBatch) -> torch.Tensor:
        """Loss of a batch, one number."""

    def log_prob(self, batch: PatternBatch) -> torch.Tensor:
        """Logarithm of the density, [..., sample], of ``batch.u`` [..., sample, *u_shape] given the pattern."""

    def sample(self, batch: PatternBatch, n: int) -> torch.Tensor:
        """Draw `n` unknowns for each pattern: [n, sample, *u_shape]."""
