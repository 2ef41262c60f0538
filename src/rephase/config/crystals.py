"""Configuration of perturbed crystals: the dataset, and the models that predict phases."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rephase.config.sections import LearningConfig, Section, Seed, SplitConfig, TrainingConfig


class SingleAtom(Section):
    """One atom moves along one axis; its displacement, as a fraction of the lattice constant, is normal."""

    sigma_frac: float = Field(0.05, gt=0, description="standard deviation, fractional coordinates")
    axis: Literal["a", "b", "c"] = Field("a", description="cell axis along which the atom moves")
    atom: int = Field(0, ge=0, description="index of the atom in the cell")


class AllAtoms(Section):
    """Every atom moves by an isotropic normal displacement."""

    sigma: float = Field(0.1, gt=0, description="standard deviation along each Cartesian axis, Å")


class Strain(AllAtoms):
    """The lattice is strained and every atom moves."""

    sigma_strain: float = Field(0.01, gt=0, lt=0.2, description="standard deviation of the diagonal strain components")


class PerturbationConfig(Section):
    """The kind of perturbation, and the options of each kind."""

    kind: Literal["single_atom", "all_atoms", "strain"] = Field(
        "single_atom", description="which of the following perturbations is used"
    )
    single_atom: SingleAtom = SingleAtom()
    all_atoms: AllAtoms = AllAtoms()
    strain: Strain = Strain()


LargestIndex = Annotated[int, Field(ge=0, le=200)]


class DataConfig(Section):
    """The dataset of perturbed crystals."""

    crystals: tuple[str, ...] = Field(("Ni",), min_length=1, description="crystals used for training")
    unseen: tuple[str, ...] = Field((), description="crystals left out of training: the by-parent split")
    n_per_crystal: int = Field(1000, ge=10, description="perturbations of each crystal")
    energy_kev: float = Field(10.0, gt=0, allow_inf_nan=False, description="photon energy, keV")
    h_max: tuple[LargestIndex, LargestIndex, LargestIndex] = Field(
        (6, 6, 6), description="largest |h|, |k|, |l| of the grid"
    )
    d_min: float | None = Field(
        0.0, ge=0, description="Å; 0: the whole grid, as in convolutional-neural-nets; null: the limiting sphere λ/2"
    )
    perturbation: PerturbationConfig = PerturbationConfig()
    split: SplitConfig = SplitConfig()
    seed: Seed = 0
    chunk: int = Field(100, ge=1, description="samples per chunk of the store")

    @model_validator(mode="after")
    def _check_splits(self) -> Self:
        names = [*self.crystals, *self.unseen]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(
                f"{', '.join(repeated)} occurs twice in crystals and unseen; test data would leak into training"
            )
        self.split.check(self.n_per_crystal, "n_per_crystal")
        return self


class PhaseTraining(TrainingConfig):
    """Training of the models that predict phases."""

    loss: Literal["sum", "mean", "amplitude_weighted", "aligned", "complex_F"] = Field(
        "aligned", description="loss of the phases; aligned: at the best allowed origin and enantiomorph"
    )


class CrystalsConfig(LearningConfig):
    """Perturbed crystals, and the models that predict their phases."""

    example: str = Field("Ni", description="crystal shown in notebook 01")
    data: DataConfig = DataConfig()
    training: PhaseTraining = PhaseTraining()
