"""Configuration of everything about diffraction images: what is simulated or read, its noise, and the classifiers."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from rephase.config_sections import LearningConfig, Section, SplitConfig, TrainingConfig, absolute_path


class FileConfig(Section):
    """Measured images."""

    path: str | None = Field(None, description="a CXI, HDF5, TIFF or NumPy file, or a folder of them")
    geometry: Literal["cartesian", "polar"] = Field("cartesian", description="polar: arrays [ring, angle]")

    _anywhere = field_validator("path")(absolute_path)


class ImageNoise(Section):
    """What is done to the stored images before anything learns from them or judges them."""

    photons: float = Field(1.0, gt=0, le=1, description="share of the photons that is kept")
    gaussian: float = Field(0.0, ge=0, description="standard deviation, as a part of the image's mean count")
    scale: float = Field(1.0, gt=0, allow_inf_nan=False, description="counts are multiplied by it")


class ImageDataConfig(Section):
    """A data set of diffraction images."""

    kind: Literal["droplets", "single_particles", "file"] = "droplets"
    n_samples: int = Field(600, ge=20, description="images; of a file: whatever it has")
    n_views: int = Field(2, ge=1, description="images of each droplet or particle, seen from other sides")
    size: int = Field(64, ge=16, description="pixels along each side")
    file: FileConfig = FileConfig()
    input: Literal["image", "correlation"] = "image"
    noise: ImageNoise = ImageNoise()
    label_fraction: float = Field(1.0, gt=0, le=1, description="share of the training droplets whose labels are used")
    split: SplitConfig = SplitConfig()
    seed: int = Field(0, ge=0)
    chunk: int = Field(100, ge=1, description="samples in one chunk of the store")

    @model_validator(mode="after")
    def _file_is_named(self) -> Self:
        if self.kind == "file" and self.file.path is None:
            raise ValueError("kind = 'file' needs file.path")
        return self


class ImageTraining(TrainingConfig):
    """Training of the classifiers."""

    loss: Literal["cross_entropy"] = "cross_entropy"


class ImagesConfig(LearningConfig):
    """Diffraction images and the networks that say what is seen on them."""

    data: ImageDataConfig = ImageDataConfig()
    training: ImageTraining = ImageTraining()
