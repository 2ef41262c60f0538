"""Shared configuration of all posteriors: simulators, flows, their training and scoring, shipped weights."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rephase.config.sections import LearningConfig, NameOrFile, Section, Seed, SplitConfig, TrainingConfig

NotNegative = Annotated[float, Field(ge=0)]


class SimulatorConfig(Section):
    """Fields that all simulated datasets share."""

    n_samples: int = Field(5000, ge=20, description="stored patterns")
    split: SplitConfig = SplitConfig()
    seed: Seed = 0
    chunk: int = Field(500, ge=1, description="samples in one chunk of the store")

    @model_validator(mode="after")
    def _splits_fit(self) -> Self:
        self.split.check(self.n_samples, "n_samples")
        return self


class FlowTraining(TrainingConfig):
    """Training of flows by the likelihood of simulated unknowns; the model options set the weight of the physics."""

    loss: Literal["nll"] = Field("nll", description="negative log-likelihood of the simulated unknowns")
    gradient_norm: float | None = Field(
        10.0, gt=0, description="norm to which larger gradients are scaled down; null: no limit"
    )


class ScoringConfig(Section):
    """New simulated patterns on which the calibration of posteriors is tested."""

    n_patterns: int = Field(500, ge=20, description="number of new patterns")
    n_draws: int = Field(250, ge=20, description="samples of each posterior")


class WeightsConfig(Section):
    """Which flow draws the posterior."""

    weights: NameOrFile | None = Field(
        None, description="shipped weights or a file of them; null: this run's first flow"
    )


class FlowLearning(LearningConfig):
    """Flows for one kind of experiment, and their training."""

    data: SimulatorConfig = SimulatorConfig()
    training: FlowTraining = FlowTraining()
    inference: WeightsConfig = WeightsConfig()
