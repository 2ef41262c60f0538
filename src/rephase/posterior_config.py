"""Configuration of posteriors: what is unknown and how it is measured, for each kind of experiment, and the flows."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from rephase.config_sections import LearningConfig, ModelConfig, Section, SplitConfig, TrainingConfig, absolute_path


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


class OrientedSimulation(SimulatorConfig):
    """Patterns of dilute particles that all point the same way."""

    shape: Literal["ellipsoid", "cylinder"] = "cylinder"
    sizes: tuple[float, float] = Field((1.0, 10.0), description="bounds of every size, nm; uniform in the logarithm")
    theta_deg: tuple[float, float] = Field((0.0, 90.0), description="bounds of the tilt of the axis against the beam")
    forward: tuple[float, float] = Field((1.0, 1e2), description="bounds of the intensity at q = 0, 1/cm")
    background: tuple[float, float] = Field((1e-3, 1e-1), description="bounds, 1/cm")
    q_max: float = Field(2.0, gt=0, description="in the middle of an edge of the detector, 1/nm")
    n_pixels: int = Field(32, ge=16, description="along each side")
    photons: tuple[float, float] = Field((1.0, 1e3), description="bounds of the counts of a pixel for 1/cm")
    beam_stop: float = Field(0.15, ge=0, lt=0.9, description="largest radius, share of q_max")


class OrientedConfig(PosteriorLearning):
    """Posteriors of patterns of oriented particles."""

    data: OrientedSimulation = OrientedSimulation()


class SaxsConfig(PosteriorLearning):
    """Posteriors of solution scattering."""

    data: SaxsSimulation = SaxsSimulation()


class ObjectsConfig(Section):
    """Random objects: cells of textured matter on a film; see `rephase.datasets.random_objects` for the law."""

    n_cells: tuple[int, int] = Field((1, 5), description="fewest and most, equally often")
    radii: tuple[float, float] = Field((0.08, 0.25), description="bounds of semi-axes over the side; log-uniform")
    texture: float = Field(0.3, ge=0, description="standard deviation of the logarithm of the density of matter")
    grain: float = Field(0.1, gt=0, description="standard deviation of each pixel in z; keeps the prior a density")


class WaveSimulation(SimulatorConfig):
    """What simulations of coherent imaging share."""

    size: int = Field(32, ge=8, description="pixels along each side of the object")
    phase: tuple[float, float] = Field((0.0, -1.2), description="of the empty beam and of the densest object, radians")
    objects: ObjectsConfig = ObjectsConfig()
    photons: tuple[float, float] = Field((1e3, 1e5), description="bounds; log-uniform")
    dead: float = Field(0.02, ge=0, lt=0.5, description="largest share of pixels of the detector that measure nothing")


class HologramSimulation(WaveSimulation):
    """Near-field holograms of pure phase objects."""

    fresnel_numbers: tuple[float, ...] = Field((0.05, 0.08), min_length=1, description="of a pixel, for each distance")
    photons: tuple[float, float] = Field((1e2, 1e4), description="bounds for a pixel of a hologram; log-uniform")
    strengths: tuple[float, ...] = Field(
        (0.003, 0.03), min_length=1, description="regularisations of the linear estimates that flows look at"
    )


class PtychogramSimulation(WaveSimulation):
    """Far-field frames of objects that a known probe steps over."""

    amplitude: tuple[float, float] = Field((1.0, 0.4), description="of the empty beam and of the densest object")
    frame: int = Field(16, ge=4, description="pixels along each side of a frame and of the probe")
    probe_width: float = Field(5.0, gt=0, description="radius of exp(-2) of the intensity of the probe, pixels")
    probe_curvature: float = Field(2.0, description="phase of the probe at that radius, radians")
    n_side: int = Field(6, ge=1, description="positions along each side of the raster")
    step: float = Field(3.0, gt=0, description="between them, pixels")
    jitter: float = Field(0.2, ge=0, lt=0.5, description="largest move of each along each axis, over the step")
    photons: tuple[float, float] = Field((1e4, 1e6), description="bounds for an empty frame; log-uniform")
    n_epochs: int = Field(6, ge=1, description="of ePIE for the estimate that flows look at")


class WaveLearning(PosteriorLearning):
    """Flows of images, how they are trained, and how they and their opponents are judged."""

    models: dict[str, ModelConfig] = Field({"image_flow": ModelConfig()})
    n_judged: int = Field(50, ge=1, description="patterns of the test split that samples are drawn of, at most")
    n_draws: int = Field(64, ge=2, description="posterior samples of each")
    n_shown: int = Field(3, ge=1, description="patterns that are drawn")
    n_start: int = Field(8, ge=1, description="posterior samples whose mean is refined")
    n_iterations: int = Field(100, ge=1, description="of the iterative opponent: iterations, or epochs of a scan")
    n_refined: int = Field(10, ge=1, description="of those that refine the mean of posterior samples")

    @field_validator("models")
    @classmethod
    def _the_one_flow(cls, models: dict[str, ModelConfig]) -> dict[str, ModelConfig]:
        if set(models) != {"image_flow"}:
            raise ValueError(f"{', '.join(models) or 'none'}: expected image_flow, the one flow of images")
        return models


class HolographyConfig(WaveLearning):
    """Posteriors of near-field holography."""

    data: HologramSimulation = HologramSimulation()


class MeasuredScan(Section):
    """A measured scan that is reconstructed with its probe."""

    path: str | None = Field(None, description="a CXI file; null: none")
    focus_mm: float | None = Field(None, gt=0, description="from the focus to the sample; null: a far-field scan")
    n_epochs: int = Field(30, ge=1)
    position_rate: float = Field(0.04, ge=0, description="first steps of refined positions, pixels; 0: they are known")

    _anywhere = field_validator("path")(absolute_path)


class PtychographyConfig(WaveLearning):
    """Posteriors of ptychography."""

    data: PtychogramSimulation = PtychogramSimulation()
    measured: MeasuredScan = MeasuredScan()


class PosteriorsConfig(Section):
    """Every density that explains a pattern."""

    saxs: SaxsConfig = SaxsConfig()
    oriented: OrientedConfig = OrientedConfig()
    holography: HolographyConfig = HolographyConfig()
    ptychography: PtychographyConfig = PtychographyConfig()
