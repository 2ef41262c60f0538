"""Configuration of posteriors of images: random objects, holography, ptychography."""

import math
from typing import Annotated

from pydantic import Field, field_validator

from rephase.config.inference import FlowLearning, NotNegative, SimulatorConfig
from rephase.config.sections import (
    ModelConfig,
    Name,
    Section,
    Seed,
    absolute_path,
)


class ObjectsConfig(Section):
    """Random objects: cells of textured matter on a film, as `rephase.labs.waves.data.objects` defines them."""

    n_cells: tuple[int, int] = Field((1, 5), description="fewest and most cells; uniform")
    radii: tuple[float, float] = Field(
        (0.08, 0.25), description="bounds of the semi-axes, as fractions of the side; log-uniform"
    )
    texture: float = Field(0.3, ge=0, description="standard deviation of the logarithm of the density of matter")
    grain: float = Field(0.1, gt=0, description="standard deviation of each pixel in z; gives the prior a density")


class WaveSimulation(SimulatorConfig):
    """Fields that all simulations of coherent imaging share."""

    size: int = Field(32, ge=8, description="pixels along each side of the object")
    phase: tuple[float, float] = Field(
        (0.0, -1.2), description="phases of the empty beam and of the densest object, radians"
    )
    objects: ObjectsConfig = ObjectsConfig()
    photons: tuple[float, float] = Field((1e3, 1e5), description="bounds of the exposure; log-uniform")
    dead: float = Field(0.02, ge=0, lt=0.5, description="largest fraction of dead pixels of the detector")

    @field_validator("phase")
    @classmethod
    def _does_not_wrap(cls, phase: tuple[float, float]) -> tuple[float, float]:
        if max(map(abs, phase)) > math.pi:
            raise ValueError("expected radians within [-pi, pi], as larger phases wrap; give a weaker object")
        return phase


class HologramSimulation(WaveSimulation):
    """Near-field holograms of pure phase objects."""

    fresnel_numbers: tuple[float, ...] = Field(
        (0.05, 0.08), min_length=1, description="Fresnel number of a pixel at each distance"
    )
    photons: tuple[float, float] = Field(
        (1e2, 1e4), description="bounds of the photons in a pixel of an empty hologram; log-uniform"
    )
    strengths: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (0.003, 0.03), min_length=1, description="regularisations of the linear estimates that condition the flow"
    )


class PtychogramSimulation(WaveSimulation):
    """Far-field frames of objects that are scanned with a known probe."""

    amplitude: tuple[NotNegative, NotNegative] = Field(
        (1.0, 0.4), description="amplitudes of the empty beam and of the densest object"
    )
    frame: int = Field(16, ge=4, description="pixels along each side of a frame and of the probe")
    probe_width: float = Field(
        5.0, gt=0, description="radius where the intensity of the probe is exp(-2) of its peak, pixels"
    )
    probe_curvature: float = Field(2.0, description="phase of the probe at that radius, radians")
    n_side: int = Field(6, ge=1, description="scan positions along each side of the raster")
    step: float = Field(3.0, gt=0, description="distance between neighbouring positions, pixels")
    jitter: float = Field(
        0.2, ge=0, lt=0.5, description="largest random shift of a position along each axis, as a fraction of the step"
    )
    jitter_seed: Seed = Field(0, description="seed of these shifts, which are the same in all scans")
    photons: tuple[float, float] = Field((1e5, 1e7), description="bounds of the photons in an empty frame; log-uniform")
    n_epochs: int = Field(12, ge=1, description="conjugate-gradient epochs of the estimate that conditions the flow")


class WaveLearning(FlowLearning):
    """Flows of images, their training, and their comparison with classical methods."""

    models: dict[Name, ModelConfig] = Field({"image_flow": ModelConfig()})
    n_judged: int = Field(50, ge=1, description="largest number of test patterns whose posteriors are sampled")
    n_draws: int = Field(64, ge=2, description="posterior samples of each pattern")
    n_shown: int = Field(3, ge=1, description="patterns in the figure")
    n_iterations: int = Field(100, ge=1, description="iterations (ptychography: epochs) of the iterative engine")
    n_refined: int = Field(10, ge=1, description="iterations that refine the estimate and the centre of the posterior")

    @field_validator("models")
    @classmethod
    def _the_one_flow(cls, models: dict[str, ModelConfig]) -> dict[str, ModelConfig]:
        if set(models) != {"image_flow"}:
            raise ValueError(f"{', '.join(models) or 'none'}: expected image_flow, the only flow of images")
        return models


class HolographyConfig(WaveLearning):
    """Posteriors of near-field holography."""

    data: HologramSimulation = HologramSimulation()


class MeasuredScan(Section):
    """A measured scan that is reconstructed with its probe."""

    path: str | None = Field(None, description="a CXI file; null: no measured scan")
    focus_mm: float | None = Field(
        None, gt=0, description="distance from the focus to the sample, mm; null: a far-field scan"
    )
    n_epochs: int = Field(30, ge=1, description="epochs of the reconstruction")
    position_rate: float = Field(
        0.04, ge=0, description="first step of the refinement of positions, pixels; 0: positions are known"
    )

    _anywhere = field_validator("path")(absolute_path)


class PtychographyConfig(WaveLearning):
    """Posteriors of ptychography."""

    data: PtychogramSimulation = PtychogramSimulation()
    measured: MeasuredScan = MeasuredScan()


class WavesConfig(Section):
    """Posteriors of images for each kind of experiment."""

    holography: HolographyConfig = HolographyConfig()
    ptychography: PtychographyConfig = PtychographyConfig()
