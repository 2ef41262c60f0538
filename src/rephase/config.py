"""What a run is made of: pydantic models of the configuration files; an unknown key is an error."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from rephase.config_sections import (
    LearningConfig,
    ModelConfig,
    Name,
    NameOrFile,
    Section,
    Seed,
    SplitConfig,
    TrainingConfig,
    absolute_path,
    is_text,
    may_be_null,
    validate,
)
from rephase.errors import ConfigError, nearest_name
from rephase.image_config import ImagesConfig
from rephase.paths import CONFIGS, NEEDED
from rephase.plain_yaml import yaml_text, yaml_value
from rephase.posterior_config import PosteriorsConfig
from rephase.reading import file_text


class SingleAtom(Section):
    """One atom moves along one axis by N(0, sigma_frac) of the lattice constant."""

    sigma_frac: float = Field(0.05, gt=0, description="standard deviation, fractional")
    axis: Literal["a", "b", "c"] = "a"
    atom: int = Field(0, ge=0, description="which atom of the cell")


class AllAtoms(Section):
    """Every atom moves by an isotropic normal displacement."""

    sigma: float = Field(0.1, gt=0, description="standard deviation along each Cartesian axis, Å")


class Strain(AllAtoms):
    """The lattice is strained and every atom moves."""

    sigma_strain: float = Field(0.01, gt=0, lt=0.2, description="standard deviation of the diagonal strain components")


class PerturbationConfig(Section):
    """Which perturbation, and the options of each."""

    kind: Literal["single_atom", "all_atoms", "strain"] = "single_atom"
    single_atom: SingleAtom = SingleAtom()
    all_atoms: AllAtoms = AllAtoms()
    strain: Strain = Strain()


LargestIndex = Annotated[int, Field(ge=0, le=200)]


class DataConfig(Section):
    """The perturbed data set."""

    crystals: tuple[str, ...] = Field(min_length=1, description="crystals that are trained on")
    unseen: tuple[str, ...] = Field((), description="crystals left out of training: the by-parent split")
    n_per_crystal: int = Field(1000, ge=10)
    energy_kev: float = Field(10.0, gt=0, allow_inf_nan=False)
    h_max: tuple[LargestIndex, LargestIndex, LargestIndex] = (6, 6, 6)
    d_min: float | None = Field(
        0.0, ge=0, description="Å; 0: the whole grid, as in the reference work; null: the limiting sphere λ/2"
    )
    perturbation: PerturbationConfig = PerturbationConfig()
    split: SplitConfig = SplitConfig()
    seed: Seed = 0
    chunk: int = Field(100, ge=1, description="samples in one chunk of the store")

    @model_validator(mode="after")
    def _check_splits(self) -> Self:
        names = [*self.crystals, *self.unseen]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{', '.join(repeated)} stands twice in crystals and unseen; a split would leak")
        self.split.check(self.n_per_crystal, "n_per_crystal")
        return self


class PhaseTraining(TrainingConfig):
    """Training of the models of phases."""

    loss: Literal["sum", "mean", "amplitude_weighted", "aligned", "complex_F"] = "aligned"


class AmplitudeTraining(TrainingConfig):
    """Training of the models that complete amplitudes."""

    loss: Literal["mse", "r_factor"] = "mse"


class MonoclinicPhaseTraining(TrainingConfig):
    """Training of the models that give phases to monoclinic crystals."""

    loss: Literal["amplitude_weighted"] = "amplitude_weighted"


class CompletionConfig(LearningConfig):
    """The models that complete amplitudes."""

    training: AmplitudeTraining = AmplitudeTraining()


class MonoclinicPhaseConfig(LearningConfig):
    """The same networks, for the other task: phases of monoclinic crystals."""

    training: MonoclinicPhaseTraining = MonoclinicPhaseTraining()


class SimulatedData(Section):
    """A random crystal and a measurement of it, where no file of reflections is given."""

    space_group: str = "P 21 21 21"
    n_atoms: tuple[int, int] = Field((12, 20), description="fewest and most non-hydrogen atoms of the molecule")
    d_min: float = Field(0.85, gt=0, description="Å")
    noise: float = Field(0.03, ge=0, lt=1, description="standard deviation of |F|, as a part of it")
    background: float = Field(0.03, ge=0, description="standard deviation of I, as a part of the mean I")
    missing: float = Field(0.05, ge=0, lt=1, description="share of the reflections")
    n_each: int = Field(3, ge=1, description="measurements of each reflection")
    seed: Seed = 0


class SolverBenchmark(Section):
    """Crystals that are solved by several solvers at several resolutions."""

    folder: str | None = Field(None, description="CIFs of real crystals; null: random crystals")
    n_crystals: int = Field(4, ge=1, description="random ones, or at most so many of the folder")
    n_atoms: tuple[int, int] = Field((8, 20), description="of the random crystals")
    n_compared: int = Field(60, ge=1, description="random crystals whose statistics are looked at")
    d_mins: tuple[float, ...] = Field((1.0, 1.5), min_length=1, description="Å")
    solvers: tuple[str, ...] = Field(("raar", "charge_flipping"), min_length=1)
    effort: float = Field(0.2, gt=0)
    noise: float = Field(0.0, ge=0, lt=1, description="standard deviation of |F|, as a part of it")
    missing: float = Field(0.0, ge=0, lt=1, description="share of the reflections")
    seed: Seed = 0

    _anywhere = field_validator("folder")(absolute_path)


class SolvingConfig(Section):
    """Measured reflections, how they are solved, and how well the solvers do."""

    file: str | None = Field(None, description="reflections: CIF, SHELX .hkl, .fcf or MTZ; null: simulated ones")
    cell: tuple[float, float, float, float, float, float] | None = Field(None, description="where the file has none")
    space_group: str | None = Field(None, description="where the file has none")
    simulated: SimulatedData = SimulatedData()
    d_min: float | None = Field(
        None, gt=0, description="Å; reflections beyond are left out; null: what the data support"
    )
    solver: str = "raar"
    effort: float = Field(1.0, gt=0, description="1: about a minute at most")
    benchmark: SolverBenchmark = SolverBenchmark()

    _anywhere = field_validator("file")(absolute_path)


class MeasuredPart(Section):
    """Which reflections of a crystal are given: those to a cut-off, some of them missing."""

    d_min: tuple[float, float] = Field((1.5, 1.5), description="Å; each crystal's cut-off is drawn between the two")
    missing: float = Field(0.0, ge=0, lt=0.5, description="largest share that is missing, drawn for each crystal")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not 0 < self.d_min[0] <= self.d_min[1]:
            raise ValueError(f"d_min = {self.d_min}: expected two positive numbers in rising order")
        return self


class MonoclinicConfig(Section):
    """Random monoclinic crystals with all their structure factors on one grid."""

    space_groups: tuple[str, ...] = Field(("P 1 21/c 1", "C 1 2 1"), min_length=1, description="equally often")
    n_atoms: tuple[int, int] = Field((5, 30), description="fewest and most non-hydrogen atoms of the molecule")
    shape: tuple[int, int, int] = Field((26, 18, 23), description="points along h, k, l: h −13…12, k 0…17, l 0…22")
    d_min: float = Field(0.8, gt=0, description="Å")
    measured: MeasuredPart = MeasuredPart()
    n_samples: int = Field(2000, ge=20)
    split: SplitConfig = SplitConfig()
    folder: str | None = Field(None, description="CIFs, e.g. an export of the CSD, as one more test set")
    seed: Seed = 0
    chunk: int = Field(100, ge=1, description="samples in one chunk of the store")

    _anywhere = field_validator("folder")(absolute_path)

    @model_validator(mode="after")
    def _something_is_missing(self) -> Self:
        if self.measured.d_min[0] <= self.d_min:
            raise ValueError(
                f"measured.d_min = {self.measured.d_min}: expected coarser than d_min = {self.d_min} Å; "
                "else nothing is left to complete"
            )
        return self


class SimulatedCrystal(Section):
    """A random crystal, where no file of reflections is given."""

    space_group: str = "P 1 21/c 1"
    n_atoms: tuple[int, int] = Field((10, 14), description="fewest and most non-hydrogen atoms of the molecule")
    seed: Seed = 0


class InferenceConfig(Section):
    """A crystal whose reflections are cut, completed again by several routes, and compared with what was cut off."""

    file: str | None = Field(None, description="reflections: CIF, SHELX .hkl, .fcf or MTZ; null: simulated ones")
    cell: tuple[float, float, float, float, float, float] | None = Field(None, description="where the file has none")
    space_group: str | None = Field(None, description="where the file has none")
    simulated: SimulatedCrystal = SimulatedCrystal()
    d_cut: float = Field(1.5, gt=0, description="Å; what is given to the routes")
    d_min: float = Field(0.8, ge=0.4, description="Å; what is wanted of them")
    models: tuple[NameOrFile, ...] | None = Field(
        None, min_length=1, description="routes, shipped weights or files of weights; null: whatever is there"
    )
    effort: float = Field(0.3, gt=0, description="of the solver")

    _anywhere = field_validator("file")(absolute_path)

    @model_validator(mode="after")
    def _something_is_cut(self) -> Self:
        if self.d_cut <= self.d_min:
            raise ValueError(f"d_cut = {self.d_cut}: expected coarser than d_min = {self.d_min} Å; else nothing is cut")
        return self


class Config(LearningConfig):
    """Everything that changes the result of a run, and nothing else."""

    seed: Seed = 0
    example: str = Field("Ni", description="the crystal of notebook 01")
    data: DataConfig
    models: dict[Name, ModelConfig]
    training: PhaseTraining = PhaseTraining()
    solving: SolvingConfig = SolvingConfig()
    monoclinic: MonoclinicConfig = MonoclinicConfig()
    completion: CompletionConfig = CompletionConfig()
    monoclinic_phases: MonoclinicPhaseConfig = MonoclinicPhaseConfig()
    inference: InferenceConfig = InferenceConfig()
    images: ImagesConfig = ImagesConfig()
    posteriors: PosteriorsConfig = PosteriorsConfig()

    def fingerprint(self) -> str:
        """Eight hex digits that change when any value does."""
        return fingerprint(self.model_dump(mode="json"))

    def changed(self, changes: Mapping[str, Any]) -> "Config":
        """The same with other values, by their paths, e.g. ``{"data.perturbation.kind": "strain"}``.

        Raises
        ------
        ConfigError
            An unknown path, or a value of the wrong type.
        """
        values = self.model_dump()
        for key, value in changes.items():
            _place(values, key, value)
        return validate(Config, values, ", ".join(changes))


class SweepConfig(Section):
    """A configuration run again over lists and grids of parameters and seeds."""

    base: str = "quick"
    overrides: tuple[str, ...] = Field((), description="changes that every run shares, path.to.key=value")
    only: tuple[str, ...] = Field((), description="numbers of the notebooks; all by default")
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(
        {}, description="path.to.key: values; every combination is run"
    )
    cases: tuple[dict[str, Any], ...] = Field((), description="changes that belong together; each is run")
    seeds: tuple[Seed, ...] = Field((0,), min_length=1)
    curve_over: str = Field("", description="draw the aligned loss against this parameter")


def fingerprint(values: Any) -> str:
    """Eight hex digits of the canonical JSON of plain values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]


def load_config(source: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Config:
    """Read a configuration.

    Parameters
    ----------
    source
        Path of a YAML file, or the name of one in ``configs/``.
    overrides
        Changes of the form ``path.to.key=value``; a text, such as a path, as it stands; any other value in YAML.

    Raises
    ------
    ConfigError
        A missing file, an unknown key (with the nearest known one), a value of the wrong type.

    Examples
    --------
    >>> load_config("test", ["data.perturbation.kind=strain"]).data.perturbation.kind
    'strain'
    """
    values = read_yaml(find_config(source))
    for override in overrides:
        _set_value(values, override)
    return validate(Config, values, str(source))


def load_sweep(source: str | Path) -> tuple[SweepConfig, str]:
    """Read a sweep from a YAML file or by its name in ``configs/sweeps/``; the sweep and its name."""
    named = CONFIGS / "sweeps" / f"{source}.yaml"
    path = named if os.path.isfile(named) else find_config(source)
    return validate(SweepConfig, read_yaml(path), str(source)), path.stem


def find_config(source: str | Path) -> Path:
    """Path of a configuration given as a path or as a name in ``configs/``."""
    for path in (Path(source), CONFIGS / source, CONFIGS / f"{source}.yaml"):
        if os.path.isfile(path):
            return path
    if os.path.isdir(source):
        raise ConfigError(f"config {str(source)!r}: is a folder; give a YAML file, or the name of one in {CONFIGS}")
    known = (str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.yaml"))
    raise ConfigError(
        f"config {str(source)!r}: no such file, nor in {CONFIGS}; {nearest_name(str(source), known)}{NEEDED}"
    )


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping."""
    values = yaml_value(file_text(path, ConfigError), f"{path}:")
    if not isinstance(values, dict):
        found = "nothing" if values is None else f"a {type(values).__name__}"
        raise ConfigError(f"{path}: expected keys and values, found {found}; give a file such as configs/quick.yaml")
    return values


def dump_config(config: Config) -> str:
    """YAML of the resolved configuration, every default spelled out."""
    return yaml_text(config.model_dump(mode="json"))


def override_of(key: str, value: Any) -> str:
    """The change ``path.to.key=value`` that `load_config` reads as this value."""
    return f"{key}={value if isinstance(value, str) and is_text(Config, key) else json.dumps(value)}"


def _set_value(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    key = key.strip()
    if not (separator and key):
        raise ConfigError(f"override {override!r}: expected path.to.key=value, e.g. training.epochs=5")
    if not is_text(Config, key):
        value = yaml_value(text, f"override {override!r}: the value is")
    else:
        value = None if text in ("", "null") and may_be_null(Config, key) else text
    _place(values, key, value)


def _place(values: dict[str, Any], key: str, value: Any) -> None:
    """Put a value where a path through sections leads."""
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {}) if isinstance(values, dict) else {}
    if not isinstance(values, dict):
        raise ConfigError(f"{key} = {value!r}: {'.'.join(parents)} is a value, not a section")
    values[last] = value
