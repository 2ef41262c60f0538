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


class GisaxsSimulation(SimulatorConfig):
    """Islands of one shape, far apart, on a layer on a substrate; optical constants are delta and beta.

    By default gold on polystyrene on silicon at 8.05 keV.
    """

    shape: Literal["cylinder", "dome", "sphere"] = "cylinder"
    sizes: tuple[float, float] = Field((3.0, 8.0), description="bounds of every size, nm; uniform in the logarithm")
    spread: tuple[float, float] | None = Field(
        (0.05, 0.25), description="bounds of the relative standard deviation of the radius; null: all are alike"
    )
    density: tuple[float, float] = Field((2e-4, 1e-3), description="bounds, islands per nm^2")
    thickness: tuple[float, float] = Field((10.0, 40.0), description="bounds of the layer's, nm")
    roughness: tuple[float, float] = Field((0.1, 2.0), description="bounds, nm: of the top of the layer")
    incidence_deg: tuple[float, float] = Field((0.19, 0.21), description="bounds of the angle of the beam, degrees")
    background: tuple[float, float] = Field((0.01, 0.5), description="bounds, in a pixel for 1e8 photons of the beam")
    particle: tuple[float, float] = (4.7e-5, 4.9e-6)
    layer: tuple[float, float] = (3.6e-6, 5e-9)
    substrate: tuple[float, float] = (7.6e-6, 1.7e-7)
    energy_ev: float = Field(8048.0, gt=0)
    alpha_deg: tuple[float, float] = Field((0.0, 1.0), description="lower and upper edge of the detector, degrees")
    phi_deg: tuple[float, float] = Field((0.0, 2.0), description="its edges beside the plane of incidence, degrees")
    pixels: tuple[int, int] = Field((32, 32), description="rows and columns; one row or one column is a cut")
    photons: tuple[float, float] = Field((0.1, 2.0), description="bounds of the photons that meet the sample, 1e8")
    rod_deg: float = Field(0.2, ge=0, description="widest half of the stop before the specular rod, degrees")
    horizon_deg: float = Field(0.1, ge=0, description="highest exit angle up to which the sample's edge hides, degrees")

    @model_validator(mode="after")
    def _detector_sees(self) -> Self:
        (low, high), sides = self.alpha_deg, self.phi_deg
        if not (0 <= low < high < 90 and -90 < sides[0] < sides[1] < 90 and min(self.pixels) >= 1):
            raise ValueError("alpha_deg, phi_deg, pixels: expected edges in rising order, alpha from 0, and 1 or more")
        half = (sides[1] - sides[0]) / self.pixels[1] / 2
        if self.rod_deg >= max(half - sides[0], sides[1] - half) or self.horizon_deg >= high:
            raise ValueError("rod_deg, horizon_deg: the whole detector may be hidden; lower them or move the detector")
        return self


class GisaxsConfig(PosteriorLearning):
    """Posteriors of scattering at grazing incidence."""

    data: GisaxsSimulation = GisaxsSimulation()


class PosteriorsConfig(Section):
    """Every density that explains a pattern."""

    saxs: SaxsConfig = SaxsConfig()
    gisaxs: GisaxsConfig = GisaxsConfig()
