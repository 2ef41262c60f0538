"""Configuration of scattering: for each kind of experiment, its unknowns, its measurement and its flows."""

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from rephase.config.inference import (
    FlowLearning,
    FlowTraining,
    NotNegative,
    ScoringConfig,
    SimulatorConfig,
    WeightsConfig,
)
from rephase.config.sections import (
    ModelConfig,
    Name,
    Section,
    Seed,
    absolute_path,
)

_FEWEST = 5  # points of a curve


_WIDEST_CUT = 0.1  # degrees


class ChainsConfig(Section):
    """Markov chain Monte Carlo (MCMC): the posterior without a network."""

    n_walkers: int = Field(48, ge=8, description="walkers of the ensemble")
    n_burn: int = Field(200, ge=1, description="burn-in steps, which are discarded")
    n_steps: int = Field(600, ge=1, description="steps after the burn-in")


class AdaptationConfig(Section):
    """Adaptation of a flow to one pattern, with the forward model alone."""

    n_steps: int = Field(300, ge=20, description="optimiser steps")
    n_samples: int = Field(32, ge=1, description="samples of each pattern in one step")
    learning_rate: float = Field(1e-3, gt=0, description="learning rate of Adam")


class InferenceConfig(WeightsConfig):
    """One pattern and its posterior by every method."""

    truth: dict[str, float] | None = Field(
        None, description="values of the unknowns of the simulated pattern, by name; null: drawn from the prior"
    )
    seed: Seed = Field(0, description="seed of the simulated pattern and of the samples")
    n_draws: int = Field(1000, ge=50, description="samples of each posterior")
    chains: ChainsConfig = ChainsConfig()
    adaptation: AdaptationConfig | None = Field(
        None, description="adaptation of a copy of the flow to this pattern, with the forward model alone; null: none"
    )


class LossExperiment(Section):
    """Comparison of training with likelihood and with physics, on patterns like the training data and unlike them."""

    data: dict[str, Any] = Field({}, description="changes to `data` for the whole experiment")
    trained: dict[str, Any] = Field({}, description="further changes to the training data")
    cases: dict[Name, dict[str, Any]] = Field({}, description="changes to the test patterns of each case, by its name")
    flows: dict[Name, ModelConfig] = Field({}, description="models by the name of their training; all of kind nsf")
    training: FlowTraining = FlowTraining()
    n_patterns: int = Field(50, ge=2, description="patterns of each case")
    n_compared: int = Field(3, ge=1, description="patterns of each case that MCMC and adaptation use too")
    adaptation: AdaptationConfig = AdaptationConfig()


class PosteriorLearning(FlowLearning):
    """Flows of parameters, their scoring, and the pattern whose posterior they draw."""

    scoring: ScoringConfig = ScoringConfig()
    inference: InferenceConfig = InferenceConfig()
    losses: LossExperiment = LossExperiment()


class SaxsSimulation(SimulatorConfig):
    """Curves of dilute particles of one shape in solution."""

    shape: Literal["sphere", "core_shell_sphere", "ellipsoid", "cylinder"] = Field(
        "ellipsoid", description="shape of the particles"
    )
    sizes: tuple[float, float] = Field((1.0, 10.0), description="bounds of every size, nm; uniform in the logarithm")
    contrast_ratio: float = Field(
        0.5, gt=0, description="core-shell spheres: contrast of the shell over that of the core"
    )
    spread: tuple[float, float] | None = Field(
        None,
        description="bounds of the standard deviation of the logarithm of the first size, which is then the median of "
        "a log-normal distribution; null: all particles are alike",
    )
    forward: tuple[float, float] = Field((1e-1, 1e2), description="bounds of the intensity at q = 0, 1/cm")
    background: tuple[float, float] = Field((1e-4, 1e-2), description="bounds of the background, 1/cm")
    q: tuple[float, float] = Field((0.05, 4.0), description="first and last q, 1/nm; evenly spaced in the logarithm")
    n_q: int = Field(96, ge=16, description="number of points of a curve")
    photons: tuple[float, float] = Field(
        (10.0, 300.0), description="bounds of the counts at the first q for an intensity of 1/cm"
    )
    growth: tuple[float, float] = Field(
        (0.0, 2.0), description="bounds of the power of q with which photons per point grow; rings of a detector: 1"
    )
    hidden: float = Field(
        0.2, ge=0, lt=0.9, description="largest fraction of the range of log q that is cut at each end"
    )
    missing: float = Field(
        0.3, ge=0, lt=0.9, description="largest fraction of the remaining points that is not measured"
    )

    @model_validator(mode="after")
    def _points_are_left(self) -> Self:
        if (1 - 2 * self.hidden) * (1 - self.missing) * (self.n_q - 1) < _FEWEST:
            raise ValueError(
                f"hidden = {self.hidden}, missing = {self.missing}, n_q = {self.n_q}: expected {_FEWEST} "
                "or more points on average at the largest hidden and missing; lower hidden or missing, or raise n_q"
            )
        return self


class SaxsFileConfig(Section):
    """A measured curve, in 1/cm."""

    path: str | None = Field(
        None, description="text file with columns q, I, sigma, or NXcanSAS; null: a simulated curve"
    )
    q_unit: Literal["1/nm", "1/A"] | None = Field(None, description="unit of q where the file does not name it")
    relative_sigma: float | None = Field(None, gt=0, description="sigma / I where the file has no sigma")
    entry: str | None = Field(None, description="name of the curve in an HDF5 or XML file that has several")

    _anywhere = field_validator("path")(absolute_path)


class OrientedSimulation(SimulatorConfig):
    """Patterns of dilute particles that all point the same way."""

    shape: Literal["ellipsoid", "cylinder"] = Field("cylinder", description="shape of the particles")
    sizes: tuple[float, float] = Field((1.0, 10.0), description="bounds of every size, nm; uniform in the logarithm")
    theta_deg: tuple[float, float] = Field((0.0, 90.0), description="bounds of the tilt of the axis against the beam")
    forward: tuple[float, float] = Field((1.0, 1e2), description="bounds of the intensity at q = 0, 1/cm")
    background: tuple[float, float] = Field((1e-3, 1e-1), description="bounds of the background, 1/cm")
    q_max: float = Field(2.0, gt=0, description="q at the middle of an edge of the detector, 1/nm")
    n_pixels: int = Field(32, ge=16, description="pixels along each side")
    photons: tuple[float, float] = Field(
        (0.1, 10.0), description="bounds of the counts of a pixel for an intensity of 1/cm"
    )
    beam_stop: float = Field(0.15, ge=0, lt=0.9, description="largest radius of the beam stop, as a fraction of q_max")


class OrientedConfig(PosteriorLearning):
    """Posteriors of patterns of oriented particles."""

    data: OrientedSimulation = OrientedSimulation()


class SaxsConfig(PosteriorLearning):
    """Posteriors of solution scattering."""

    data: SaxsSimulation = SaxsSimulation()
    file: SaxsFileConfig = SaxsFileConfig()


class GisaxsSimulation(SimulatorConfig):
    """Islands of one shape, far apart, on a layer on a substrate; optical constants are delta and beta.

    By default gold on polystyrene on silicon at 8.05 keV.
    """

    shape: Literal["cylinder", "dome", "sphere"] = Field("cylinder", description="shape of the islands")
    sizes: tuple[float, float] = Field((3.0, 8.0), description="bounds of every size, nm; uniform in the logarithm")
    spread: tuple[float, float] | None = Field(
        (0.05, 0.25), description="bounds of the relative standard deviation of the radius; null: all are alike"
    )
    density: tuple[float, float] = Field((2e-4, 1e-3), description="bounds of the number of islands per nm^2")
    thickness: tuple[float, float] = Field((15.0, 25.0), description="bounds of the thickness of the layer, nm")
    roughness: tuple[float, float] = Field(
        (0.1, 2.0), description="bounds of the roughness of the top of the layer, nm"
    )
    incidence_deg: tuple[float, float] = Field((0.19, 0.21), description="bounds of the angle of incidence, degrees")
    background: tuple[float, float] = Field(
        (0.01, 0.5), description="bounds, counts per pixel for 1e8 incident photons"
    )
    particle: tuple[float, NotNegative] = Field((4.7e-5, 4.9e-6), description="delta and beta of the islands")
    layer: tuple[float, NotNegative] = Field((3.6e-6, 5e-9), description="delta and beta of the layer")
    substrate: tuple[float, NotNegative] = Field((7.6e-6, 1.7e-7), description="delta and beta of the substrate")
    energy_ev: float = Field(8048.0, gt=0, description="photon energy, eV")
    alpha_deg: tuple[float, float] = Field((0.0, 1.0), description="lower and upper edge of the detector, degrees")
    phi_deg: tuple[float, float] = Field(
        (0.0, 2.0), description="left and right edge of the detector, from the plane of incidence, degrees"
    )
    pixels: tuple[int, int] = Field((32, 32), description="rows and columns; a single narrow row or column is a cut")
    photons: tuple[float, float] = Field((0.05, 0.5), description="bounds of the number of photons on the sample, 1e8")
    rod_deg: float = Field(0.2, ge=0, description="largest half-width of the stop before the specular rod, degrees")
    horizon_deg: float = Field(0.1, ge=0, description="largest exit angle that the edge of the sample hides, degrees")

    @model_validator(mode="after")
    def _detector_sees(self) -> Self:
        (low, high), sides = self.alpha_deg, self.phi_deg
        if not (0 <= low < high < 90 and -90 < sides[0] < sides[1] < 90 and min(self.pixels) >= 1):
            raise ValueError(
                "alpha_deg, phi_deg, pixels: expected edges in rising order, alpha_deg from 0, and 1 or more pixels"
            )
        for name, edges, n in zip(("alpha_deg", "phi_deg"), (self.alpha_deg, sides), self.pixels):
            if n == 1 and edges[1] - edges[0] > _WIDEST_CUT * (1 + 1e-6):
                raise ValueError(
                    f"{name} = {edges} of a single pixel: expected at most {_WIDEST_CUT} degrees from edge to edge, as "
                    "the intensity in the middle stands for the whole pixel; give narrower edges, or more pixels"
                )
        halves = [(edges[1] - edges[0]) / n / 2 for edges, n in zip((self.alpha_deg, self.phi_deg), self.pixels)]
        farthest = max(-sides[0], sides[1]) - halves[1]
        if self.rod_deg >= farthest or self.horizon_deg >= high - halves[0]:
            raise ValueError("rod_deg, horizon_deg: the whole detector may be hidden; lower them or move the detector")
        return self


class GisaxsConfig(PosteriorLearning):
    """Posteriors of grazing-incidence scattering."""

    data: GisaxsSimulation = GisaxsSimulation()


class ScatteringConfig(Section):
    """Posteriors of parameters for each kind of experiment."""

    saxs: SaxsConfig = SaxsConfig()
    oriented: OrientedConfig = OrientedConfig()
    gisaxs: GisaxsConfig = GisaxsConfig()
