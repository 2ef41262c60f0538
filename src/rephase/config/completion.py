"""Configuration of completion: monoclinic crystals, the models, and the comparison of routes."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from rephase.config.sections import (
    LearningConfig,
    NameOrFile,
    Section,
    Seed,
    SplitConfig,
    TrainingConfig,
    absolute_path,
)


class AmplitudeTraining(TrainingConfig):
    """Training of the models that complete amplitudes."""

    loss: Literal["mse", "r_factor"] = Field("mse", description="loss of the amplitudes")


class MonoclinicPhaseTraining(TrainingConfig):
    """Training of the models that predict the phases of monoclinic crystals."""

    loss: Literal["amplitude_weighted"] = Field("amplitude_weighted", description="loss of the phases")


class MonoclinicPhaseConfig(LearningConfig):
    """The same networks, trained for another task: the phases of monoclinic crystals."""

    training: MonoclinicPhaseTraining = MonoclinicPhaseTraining()


class MeasuredPart(Section):
    """The given reflections of a crystal: all up to a resolution limit, except for a missing fraction."""

    d_min: tuple[float, float] = Field((1.5, 1.5), description="Å; each crystal's limit is drawn between the two")
    missing: float = Field(0.0, ge=0, lt=0.5, description="largest missing fraction; each crystal's is drawn")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not 0 < self.d_min[0] <= self.d_min[1]:
            raise ValueError(f"d_min = {self.d_min}: expected two positive numbers in rising order")
        return self


class MonoclinicConfig(Section):
    """Random monoclinic crystals, each with all its structure factors on one grid."""

    space_groups: tuple[str, ...] = Field(("P 1 21/c 1", "C 1 2 1"), min_length=1, description="drawn equally often")
    n_atoms: tuple[int, int] = Field((5, 30), description="fewest and most non-hydrogen atoms of the molecule")
    shape: tuple[int, int, int] = Field((26, 18, 23), description="points along h, k, l: h −13…12, k 0…17, l 0…22")
    d_min: float = Field(0.8, gt=0, description="resolution limit, Å")
    measured: MeasuredPart = MeasuredPart()
    n_samples: int = Field(2000, ge=20, description="random crystals")
    split: SplitConfig = SplitConfig()
    folder: str | None = Field(None, description="folder of CIFs, e.g. a CSD export, as another test set")
    seed: Seed = 0
    chunk: int = Field(100, ge=1, description="samples per chunk of the store")

    _anywhere = field_validator("folder")(absolute_path)

    @model_validator(mode="after")
    def _something_is_missing(self) -> Self:
        if self.measured.d_min[0] <= self.d_min:
            raise ValueError(
                f"measured.d_min = {self.measured.d_min}: expected coarser than d_min = {self.d_min} Å; "
                "otherwise nothing is left to complete"
            )
        return self


class SimulatedCrystal(Section):
    """A random crystal, used when no reflection file is given."""

    space_group: str = Field("P 1 21/c 1", description="space group of the random crystal, symbol or number")
    n_atoms: tuple[int, int] = Field((10, 14), description="fewest and most non-hydrogen atoms of the molecule")
    seed: Seed = 0


class ComparisonConfig(Section):
    """A crystal whose reflections are truncated and completed by several routes, to compare with the removed ones."""

    file: str | None = Field(None, description="reflections: CIF, SHELX .hkl, .fcf or MTZ; null: simulated")
    cell: tuple[float, float, float, float, float, float] | None = Field(
        None, description="needed if the file has none"
    )
    space_group: str | None = Field(None, description="needed if the file has none")
    simulated: SimulatedCrystal = SimulatedCrystal()
    d_cut: float = Field(1.5, gt=0, description="resolution limit of the given reflections, Å")
    d_min: float = Field(0.8, ge=0.4, description="resolution limit of the completed reflections, Å")
    models: tuple[NameOrFile, ...] | None = Field(
        None, min_length=1, description="routes, shipped weights or weight files; null: all that are available"
    )
    effort: float = Field(0.3, gt=0, description="effort of the solver")

    _anywhere = field_validator("file")(absolute_path)

    @model_validator(mode="after")
    def _something_is_cut(self) -> Self:
        if self.d_cut <= self.d_min:
            raise ValueError(
                f"d_cut = {self.d_cut}: expected coarser than d_min = {self.d_min} Å; otherwise nothing is cut"
            )
        return self


class CompletionConfig(LearningConfig):
    """Monoclinic crystals, the models that complete their amplitudes, and the comparison of routes."""

    data: MonoclinicConfig = MonoclinicConfig()
    training: AmplitudeTraining = AmplitudeTraining()
    phases: MonoclinicPhaseConfig = MonoclinicPhaseConfig()
    comparison: ComparisonConfig = ComparisonConfig()
