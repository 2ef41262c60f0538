"""Configuration of the learned solver: random crystals on FFT grids, the networks, and their training."""

import math
from typing import Literal, Self, cast

from pydantic import Field, field_validator, model_validator

from rephase.config.sections import LearningConfig, NameOrFile, Section, Seed, TrainingConfig, added_field


class PhasingData(Section):
    """Random crystals whose amplitudes are measured to a resolution limit, with noise and gaps."""

    space_groups: tuple[str, ...] | None = Field(None, min_length=1, description="null: all groups of the generator")
    n_atoms: tuple[int, int] = Field((5, 30), description="fewest and most non-hydrogen atoms of the asymmetric unit")
    n_molecules: int = added_field(1, ge=1, le=4, description="most molecules of the asymmetric unit")
    on_special: float = added_field(
        0.0,
        ge=0,
        le=1,
        description="share with a molecule on an inversion centre, twofold axis or mirror, of groups that have any",
    )
    u_range: tuple[float, float] = Field((0.01, 0.10), description="smallest and largest U, Å²")
    d_min: tuple[float, float] = Field((1.2, 2.2), description="Å; each crystal's limit is drawn between the two")
    missing: float = Field(0.15, ge=0, lt=0.5, description="largest missing fraction; each crystal's is drawn")
    noise: float = Field(0.05, ge=0, lt=1, description="largest relative σ of |F|; each crystal's is drawn")
    shapes: tuple[tuple[int, int, int], ...] = Field(
        ((12, 16, 20), (16, 20, 24), (20, 24, 32), (24, 32, 40)),
        min_length=1,
        description="points of the FFT grids along a <= b <= c; crystals that fit none are left out",
    )
    n_epoch: int = Field(2048, ge=1, description="crystals in an epoch; each epoch has new ones")
    n_validation: int = Field(48, ge=1, description="crystals of the validation, always the same")
    seed: Seed = 0

    @field_validator("shapes")
    @classmethod
    def _rising(cls, shapes: tuple[tuple[int, int, int], ...]) -> tuple[tuple[int, int, int], ...]:
        sizes = [math.prod(shape) for shape in shapes]
        if sizes != sorted(sizes) or not all(0 < a <= b <= c for a, b, c in shapes):
            raise ValueError(f"{shapes}: expected points 0 < a <= b <= c of each grid, and the smallest grid first")
        return shapes

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not 0 < self.d_min[0] <= self.d_min[1]:
            raise ValueError(f"d_min = {self.d_min}: expected two positive numbers in rising order")
        return self


class PhasingSearch(Section):
    """A search with a network: random starts, each with the same number of steps."""

    n_starts: int = Field(24, ge=1, description="random starts of each crystal")
    n_steps: int = Field(24, ge=1, description="steps from each start")


class PhasingTraining(TrainingConfig):
    """Training through several steps of the network at once."""

    loss: Literal["phasor_misfit"] = Field("phasor_misfit", description="loss of the phasors after each step")
    gradient_norm: float | None = Field(1.0, gt=0, description="largest norm of the gradient; null: no limit")
    n_free: int = Field(10, ge=0, description="most steps without gradient before; each batch's number is drawn")
    n_steps: int = Field(5, ge=1, description="steps with gradient")
    near: float = Field(0.3, ge=0, le=1, description="fraction of the starts that are mixed with the true phases")
    free: float = Field(0.5, ge=0, le=1, description="fraction of the starts that do not obey the space group")
    averaging: float = Field(0.998, ge=0, lt=1, description="decay of the running mean of the weights in each step")
    validation: PhasingSearch = Field(PhasingSearch(n_starts=8), description="search that judges each epoch")
    start: NameOrFile | None = added_field(
        None,
        description="shipped weights or a file of them that the training improves; null: random weights",
    )
    n_streamed: int = Field(0, description="always 0: no crystals are stored, each epoch has n_epoch new ones")

    @field_validator("n_streamed")
    @classmethod
    def _nothing_stored(cls, n_streamed: int) -> int:
        if n_streamed:
            raise ValueError("expected 0, as each epoch has new crystals; phasing.data.n_epoch is their number")
        return n_streamed


class PhasingExample(Section):
    """A random crystal whose phases a network finds step by step; all else about it is as in `PhasingData`."""

    weights: NameOrFile | None = Field(
        "recurrent", description="shipped weights or a file of them; null: this run's first network"
    )
    space_group: str = Field("P 1 21/c 1", description="space group of the crystal, symbol or number")
    n_atoms: tuple[int, int] = Field((12, 16), description="fewest and most non-hydrogen atoms of the asymmetric unit")
    d_min: float = Field(2.0, gt=0, description="resolution limit, Å")
    search: PhasingSearch = PhasingSearch()
    seed: Seed = 4


class PhasingConfig(LearningConfig):
    """Random crystals, the networks that find their phases, and a crystal on which a network is watched."""

    data: PhasingData = PhasingData()
    training: PhasingTraining = PhasingTraining()
    example: PhasingExample = PhasingExample()

    @property
    def starts(self) -> dict[str, str]:
        """The weights from which trainings start, by the names of the models."""
        found = {name: cast(PhasingTraining, self.training_of(name)).start for name in self.models}
        return {name: start for name, start in found.items() if start is not None}
