"""Configuration of diffraction images: simulated or measured data, their noise, and the classifiers."""

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
    labels: tuple[str, ...] = Field(
        (), description="names of the labels, in the order of the file; empty: the eleven labels of CXIDB 94"
    )

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
        None, gt=0, lt=60, description="scattering angle at the middle of an edge; null: the usual one for the kind"
    )
    hole_deg: float | None = Field(
        None, ge=0, description="half the opening angle of the hole; null: the usual one for the kind"
    )
    dead: tuple[tuple[float, float, float, float], ...] = Field(
        (), description="dead areas: first and last row, first and last column, as fractions of the side"
    )
    offset: float = Field(
        0.01, ge=0, lt=0.1, description="droplets: standard deviation of the beam position, as a fraction of the side"
    )
    background: float = Field(
        0.02, ge=0, description="mean number of stray photons per pixel; each shot has 0 to twice this"
    )
    gain: float = Field(1.0, gt=0, description="counts per photon")
    saturation: float = Field(65535.0, gt=0, description="largest count that a pixel can record")


class FluenceConfig(Section):
    """Fluence at the random positions of droplets or particles in a Gaussian focus: uniform in the logarithm."""

    peak: float | None = Field(
        None, gt=0, description="photons per nm^2 in the middle of the focus; null: the usual value for the kind"
    )
    decades: float = Field(3.0, gt=0, description="range of the fluence below the peak, in decades")


class ImageNoise(Section):
    """Changes to the stored images before networks are trained or scored on them."""

    photons: float = Field(1.0, gt=0, le=1, description="fraction of the photons that is kept")
    gaussian: float = Field(0.0, ge=0, description="standard deviation, as a fraction of the mean count of the image")
    scale: float = Field(1.0, gt=0, allow_inf_nan=False, description="factor by which all counts are multiplied")


class ImageDataConfig(Section):
    """A dataset of diffraction images."""

    kind: Literal["droplets", "single_particles", "file"] = Field(
        "droplets", description="simulated helium nanodroplets, simulated single particles, or a file of images"
    )
    n_samples: int = Field(
        600, ge=20, description="number of images; ignored for kind = file, where all images of the file are used"
    )
    n_views: int = Field(2, ge=1, description="images of each droplet or particle, from different directions")
    size: int = Field(64, ge=32, description="pixels along each side")
    energy_ev: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="photon energy of the simulation; null: the usual one for the kind"
    )
    detector: DetectorConfig = DetectorConfig()
    fluence: FluenceConfig = FluenceConfig()
    frequency_power: float = Field(
        1.0,
        ge=0,
        le=1,
        description="droplets: power of the measured label frequencies; 1: as measured, 0: all combinations alike",
    )
    wanted: Literal["virus_70", "virus_190", "phage"] = Field(
        "virus_70", description="single particles: the wanted kind of particle"
    )
    hit_rate: float = Field(
        0.1, gt=0, lt=1, description="single particles: fraction of shots that show one wanted particle alone"
    )
    file: FileConfig = FileConfig()
    input: Literal["image", "correlation"] = Field(
        "image", description="what the network sees: the image, or its two-point correlation map"
    )
    noise: ImageNoise = ImageNoise()
    label_fraction: float = Field(
        1.0, gt=0, le=1, description="fraction of the training droplets whose labels are used"
    )
    split: SplitConfig = SplitConfig()
    seed: Seed = 0
    chunk: int = Field(100, ge=1, description="samples in one chunk of the store")

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the input of a network: [y, x] of an image, or [ring, Δ] of its correlation map."""
        return (self.size, self.size) if self.input == "image" else (self.size // 2, self.size)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.input == "correlation" and self.size < 64:
            raise ValueError(f"size = {self.size}: expected at least 64, as correlation maps have size / 2 rings")
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
    """Images to be classified."""

    path: str | None = Field(
        None, description="a file or folder of images; null: simulated images, or all images of data.file"
    )
    geometry: Literal["cartesian", "polar"] = Field("cartesian", description="polar: arrays [ring, angle]")
    mask: str | None = Field(None, description="NumPy file of booleans [y, x] for every image, True = measured")
    weights: NameOrFile | None = Field(
        None, description="shipped weights or a file of them; null: the first model of this run"
    )
    n_shown: int = Field(8, ge=1, description="number of images in the figure")

    _anywhere = field_validator("path", "mask")(absolute_path)


class ImagesConfig(LearningConfig):
    """Diffraction images and the networks that classify them."""

    data: ImageDataConfig = ImageDataConfig()
    training: ImageTraining = ImageTraining()
    experiments: dict[Name, dict[str, tuple[Any, ...]]] = Field(
        {},
        description="paths below `images` and lists of values; the first model is trained with all combinations",
    )
    seeds: tuple[Seed, ...] = Field(
        (0,), min_length=1, description="offsets to the seed of the run; experiments train once with each"
    )
    classify: ClassifyConfig = ClassifyConfig()
