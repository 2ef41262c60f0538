"""Configuration of everything about diffraction images: what is simulated or read, its noise, and the classifiers."""

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from rephase.config.sections import (
    LearningConfig,
    Name,
    NameOrFile,
    Section,
    Seed,
    SplitConfig,
    TrainingConfig,
    absolute_path,
)


class FileConfig(Section):
    """Measured images."""

    path: str | None = Field(None, description="a CXI, HDF5, TIFF or NumPy file, or a folder of them")
    geometry: Literal["cartesian", "polar"] = Field("cartesian", description="polar: arrays [ring, angle]")
    mask: str | None = Field(None, description="NumPy file of booleans [y, x] for every image, True = measured")
    labels: tuple[str, ...] = Field((), description="names of the labels in order; none: the eleven of CXIDB 94")

    _anywhere = field_validator("path", "mask")(absolute_path)

    @field_validator("labels")
    @classmethod
    def _each_once(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        if twice := sorted({name for name in labels if labels.count(name) > 1}):
            raise ValueError(f"{', '.join(twice)} more than once: expected each label once, in their order in the file")
        return labels


class DetectorConfig(Section):
    """A flat, square detector with a hole for the beam, and how the beam hits it."""

    max_angle_deg: float | None = Field(
        None, gt=0, lt=60, description="scattering angle at the middle of an edge; null: what is usual for the kind"
    )
    hole_deg: float | None = Field(None, ge=0, description="half the opening angle of the hole; null: as usual")
    dead: tuple[tuple[float, float, float, float], ...] = Field(
        (), description="areas that measure nothing: first and last row, first and last column, as parts of the side"
    )
    offset: float = Field(
        0.01, ge=0, lt=0.1, description="droplets: standard deviation of the beam's place, part of the side"
    )
    background: float = Field(0.02, ge=0, description="stray photons per pixel of a shot: at random up to twice this")
    gain: float = Field(1.0, gt=0, description="counts per photon")
    saturation: float = Field(65535.0, gt=0, description="most counts of a pixel")


class FluenceConfig(Section):
    """Photons that droplets or particles meet at random places of a Gaussian focus: uniform in the logarithm."""

    peak: float | None = Field(
        None, gt=0, description="photons per nm^2 in the middle of the focus; null: what is usual for the kind"
    )
    decades: float = Field(3.0, gt=0, description="down to so much weaker shots")


class ImageNoise(Section):
    """What is done to the stored images before anything learns from them or judges them."""

    photons: float = Field(1.0, gt=0, le=1, description="share of the photons that is kept")
    gaussian: float = Field(0.0, ge=0, description="standard deviation, as a part of the image's mean count")
    scale: float = Field(1.0, gt=0, allow_inf_nan=False, description="counts are multiplied by it")


class ImageDataConfig(Section):
    """A data set of diffraction images."""

    kind: Literal["droplets", "single_particles", "file"] = Field(
        "droplets", description="simulated helium nanodroplets, simulated single particles, or a file of images"
    )
    n_samples: int = Field(600, ge=20, description="images; of a file: whatever it has")
    n_views: int = Field(2, ge=1, description="images of each droplet or particle, seen from other sides")
    size: int = Field(64, ge=32, description="pixels along each side")
    energy_ev: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="of simulated photons; null: what is usual for the kind"
    )
    detector: DetectorConfig = DetectorConfig()
    fluence: FluenceConfig = FluenceConfig()
    frequency_power: float = Field(
        1.0, ge=0, le=1, description="droplets: 1, labels drawn as often as measured, to 0, every combination equally"
    )
    wanted: Literal["virus_70", "virus_190", "phage"] = Field(
        "virus_70", description="single particles: the kind that is looked for"
    )
    hit_rate: float = Field(0.1, gt=0, lt=1, description="single particles: share of shots that show it, alone")
    file: FileConfig = FileConfig()
    input: Literal["image", "correlation"] = Field(
        "image", description="what the network sees: the image, or its two-point correlation map"
    )
    noise: ImageNoise = ImageNoise()
    label_fraction: float = Field(1.0, gt=0, le=1, description="share of the training droplets whose labels are used")
    split: SplitConfig = SplitConfig()
    seed: Seed = 0
    chunk: int = Field(100, ge=1, description="samples in one chunk of the store")

    @property
    def shape(self) -> tuple[int, int]:
        """Of what a network takes: y and x of an image, or rings and Δ of its correlation map."""
        return (self.size, self.size) if self.input == "image" else (self.size // 2, self.size)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.input == "correlation" and self.size < 64:
            raise ValueError(f"size = {self.size}: expected at least 64, as maps have half as many rings as pixels")
        if self.kind == "file":
            if self.file.path is None:
                raise ValueError("kind = 'file': expected file.path, the CXI file or folder to read")
            return self
        for name, n in (("n_samples", self.n_samples), ("chunk", self.chunk)):
            if n % self.n_views:
                raise ValueError(f"{name} = {n}: expected a multiple of n_views = {self.n_views}")
        self.split.check(self.n_samples // self.n_views, "n_samples / n_views")
        return self


class ImageTraining(TrainingConfig):
    """Training of the classifiers."""

    loss: Literal["cross_entropy"] = Field("cross_entropy", description="loss of the labels")


class ClassifyConfig(Section):
    """Images that a classifier looks at."""

    path: str | None = Field(
        None, description="a file of images or a folder of them; null: simulated ones, or all of data.file"
    )
    geometry: Literal["cartesian", "polar"] = Field("cartesian", description="polar: arrays [ring, angle]")
    mask: str | None = Field(None, description="NumPy file of booleans [y, x] for every image, True = measured")
    weights: NameOrFile | None = Field(
        None, description="shipped weights or a file of them; null: the first model of this run"
    )
    n_shown: int = Field(8, ge=1, description="images that are drawn")

    _anywhere = field_validator("path", "mask")(absolute_path)


class ImagesConfig(LearningConfig):
    """Diffraction images and the networks that say what is seen on them."""

    data: ImageDataConfig = ImageDataConfig()
    training: ImageTraining = ImageTraining()
    experiments: dict[Name, dict[str, tuple[Any, ...]]] = Field(
        {}, description="paths below `images`, and their values: the first model is trained with every combination"
    )
    seeds: tuple[Seed, ...] = Field((0,), min_length=1, description="of the trainings of experiments, beside the run's")
    classify: ClassifyConfig = ClassifyConfig()
