"""Configuration of posteriors: what is unknown and how it is measured, for each kind of experiment, and the flows."""

from typing import Literal, Self

from pydantic import Field, model_validator

from rephase.config_sections import LearningConfig, Section, SplitConfig, TrainingConfig


class SimulatorConfig(Section):
    """What the data sets of simulators share."""

    n_samples: int = Field(5000, ge=20, description="stored patterns")
    split: SplitConfig = SplitConfig()
    seed: int = Field(0, ge=0)
    chunk: int = Field(500, ge=1, description="samples in one chunk of the store")

    @model_validator(mode="after")
    def _splits_fit(self) -> Self:
        self.split.check(self.n_samples, "n_samples")
        return self


class FlowTraining(TrainingConfig):
    """Training of flows: by the likelihood of simulated unknowns; weights of the physics are options of the models."""

    loss: Literal["nll"] = "nll"
    gradient_norm: float | None = Field(10.0, gt=0)


class PosteriorLearning(LearningConfig):
    """Flows of one kind of experiment, and how they are trained."""

    training: FlowTraining = FlowTraining()


class SaxsSimulation(SimulatorConfig):
    """Curves of dilute particles of one shape in solution."""

    shape: Literal["sphere", "core_shell_sphere", "ellipsoid", "cylinder"] = "ellipsoid"
    sizes: tuple[float, float] = Field((1.0, 10.0), description="bounds of every size, nm; uniform in the logarithm")
    contrast_ratio: float = Field(
        0.5, gt=0, description="core-shell spheres: contrast of the shell over that of the core"
    )
    spread: tuple[float, float] | None = Field(
        None, description="bounds of the relative standard deviation of the first size; null: all particles are alike"
    )
    forward: tuple[float, float] = Field((1e-1, 1e2), description="bounds of the intensity at q = 0, 1/cm")
    background: tuple[float, float] = Field((1e-4, 1e-2), description="bounds, 1/cm")
    q: tuple[float, float] = Field((0.05, 4.0), description="first and last q, 1/nm; evenly spaced in the logarithm")
    n_q: int = Field(96, ge=16)
    photons: tuple[float, float] = Field(
        (10.0, 1e3), description="bounds of the counts for 1/cm at the first q; they grow in proportion to q"
    )
    hidden: float = Field(0.2, ge=0, lt=0.9, description="largest share of the range of q (logarithm) cut at each end")


class SaxsConfig(PosteriorLearning):
    """Posteriors of solution scattering."""

    data: SaxsSimulation = SaxsSimulation()


class PosteriorsConfig(Section):
    """Every density that explains a pattern."""

    saxs: SaxsConfig = SaxsConfig()
