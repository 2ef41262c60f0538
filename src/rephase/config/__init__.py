"""The configuration of a run: pydantic models of the configuration files; an unknown key is an error."""

import json
import os
from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from rephase.config.clusters import ClusterConfig
from rephase.config.completion import CompletionConfig
from rephase.config.crystals import CrystalsConfig
from rephase.config.images import ImagesConfig
from rephase.config.phasing import PhasingConfig
from rephase.config.scattering import ScatteringConfig
from rephase.config.sections import (
    Section,
    Seed,
    fingerprint,
    is_text,
    may_be_null,
    validate,
)
from rephase.config.solving import SolvingConfig
from rephase.config.waves import WavesConfig
from rephase.errors import ConfigError, nearest_name
from rephase.files.plain_yaml import yaml_text, yaml_value
from rephase.files.reading import file_text
from rephase.paths import CONFIGS, SWEEPS

_MOVED = {  # keys of earlier versions, and the present key for each
    "example": "crystals.example",
    "data": "crystals.data",
    "models": "crystals.models",
    "training": "crystals.training",
    "monoclinic": "completion.data",
    "monoclinic_phases": "completion.phases",
    "inference": "completion.comparison",
    "posteriors.saxs": "scattering.saxs",
    "posteriors.oriented": "scattering.oriented",
    "posteriors.gisaxs": "scattering.gisaxs",
    "posteriors.holography": "waves.holography",
    "posteriors.ptychography": "waves.ptychography",
}


class Config(Section):
    """Everything that changes the result of a run, and nothing else: a section for each laboratory."""

    seed: Seed = 0
    crystals: CrystalsConfig = CrystalsConfig()
    solving: SolvingConfig = SolvingConfig()
    completion: CompletionConfig = CompletionConfig()
    phasing: PhasingConfig = PhasingConfig()
    images: ImagesConfig = ImagesConfig()
    scattering: ScatteringConfig = ScatteringConfig()
    waves: WavesConfig = WavesConfig()

    def fingerprint(self) -> str:
        """Eight hex digits that change when any value does."""
        return fingerprint(self.model_dump(mode="json"))

    def changed(self, changes: Mapping[str, Any]) -> "Config":
        """Return a copy with other values, given by path, e.g. ``{"crystals.data.perturbation.kind": "strain"}``.

        Raises
        ------
        ConfigError
            An unknown path, or a value of the wrong type.
        """
        values = self.model_dump()
        for key, value in changes.items():
            _place(values, key, value)
        return _config(values, ", ".join(changes))


class SweepConfig(Section):
    """A configuration that is run repeatedly, over lists and grids of parameters and seeds."""

    base: str = "quick"
    overrides: tuple[str, ...] = Field((), description="changes that apply to every run, path.to.key=value")
    only: tuple[str, ...] = Field((), description="numbers of the notebooks to run; all by default")
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(
        {}, description="path.to.key: values; every combination is run"
    )
    cases: tuple[dict[str, Any], ...] = Field((), description="sets of changes; each set is one run")
    seeds: tuple[Seed, ...] = Field((0,), min_length=1)
    curve_over: str = Field("", description="draw the aligned loss against this parameter")
    cluster: ClusterConfig = ClusterConfig()

    def fingerprint(self) -> str:
        """Eight hex digits that change when a run does; where the runs are computed does not count."""
        return fingerprint(self.model_dump(mode="json", exclude={"cluster"}))


def load_config(source: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Config:
    """Read a configuration.

    Parameters
    ----------
    source
        Path of a YAML file, or the name of one in ``configs/``.
    overrides
        Changes ``path.to.key=value``; a text value, such as a path, is taken as it is, any other is read as YAML.

    Raises
    ------
    ConfigError
        A missing file, a sweep, an unknown key (with the nearest known one), a value of the wrong type.

    Examples
    --------
    >>> load_config("test", ["crystals.data.perturbation.kind=strain"]).crystals.data.perturbation.kind
    'strain'
    """
    return config_of(config_values(source), overrides, str(source))


def config_values(source: str | Path) -> dict[str, Any]:
    """Read the values that the file of a configuration gives; errors as in `load_config`, which also checks them."""
    path = find_config(source)
    values = read_yaml(path)
    if values and values.keys() <= SweepConfig.model_fields.keys() - Config.model_fields.keys():
        named = path.stem if path.resolve().parent == SWEEPS else path
        raise ConfigError(f"config {str(source)!r}: this is a sweep; run it with `rephase sweep {named}`")
    return values


def config_of(values: dict[str, Any], overrides: Iterable[str], origin: str) -> Config:
    """Return the configuration with these values and overrides as in `load_config`; `origin` begins its errors."""
    changed = deepcopy(values)
    for override in overrides:
        _set_value(changed, override)
    return _config(changed, origin)


def load_sweep(source: str | Path) -> tuple[SweepConfig, str]:
    """Read a sweep from a YAML file or by its name in ``configs/sweeps/``; return the sweep and its name."""
    path = _find(source, SWEEPS, "sweep")
    sweep = validate(SweepConfig, read_yaml(path), str(source))
    varied = [
        *sweep.grid,
        *(key for case in sweep.cases for key in case),
        *(o.partition("=")[0] for o in sweep.overrides),
    ]
    for key in varied:
        values: dict[str, Any] = {}
        _place(values, key.strip(), None)
        _check_moved(values, str(source))
    return sweep, path.stem


def load_cluster(source: str | Path | None) -> ClusterConfig:
    """Read a YAML file with the keys of the section ``cluster`` of a sweep; None for the defaults."""
    return ClusterConfig() if source is None else validate(ClusterConfig, read_yaml(Path(source)), str(source))


def find_config(source: str | Path) -> Path:
    """Path of a configuration given as a path or as a name in ``configs/``."""
    return _find(source, CONFIGS, "config")


def _find(source: str | Path, folder: Path, what: str) -> Path:
    for path in (Path(source), folder / source, folder / f"{source}.yaml"):
        if os.path.isfile(path):
            return path
    if os.path.isdir(source):
        raise ConfigError(f"{what} {str(source)!r}: is a folder; give a YAML file, or the name of one in {folder}")
    known = [path.name if Path(source).suffix else path.stem for path in folder.glob("*.yaml")]
    raise ConfigError(f"{what} {str(source)!r}: no such file, nor in {folder}; {nearest_name(str(source), known)}")


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping."""
    values = yaml_value(file_text(path, ConfigError), f"{path}:")
    if not isinstance(values, dict):
        found = "nothing" if values is None else f"a {type(values).__name__}"
        raise ConfigError(f"{path}: expected keys and values, found {found}; give a file such as configs/quick.yaml")
    return values


def dump_config(config: Config) -> str:
    """YAML of the resolved configuration, with every default written out."""
    return yaml_text(config.model_dump(mode="json"))


def override_of(key: str, value: Any) -> str:
    """The change ``path.to.key=value`` that `load_config` reads as this value."""
    return f"{key}={value if isinstance(value, str) and is_text(Config, key) else json.dumps(value)}"


def _config(values: dict[str, Any], origin: str) -> Config:
    _check_moved(values, origin)
    return validate(Config, values, origin)


def _check_moved(values: dict[str, Any], origin: str) -> None:
    """Raise `ConfigError` on keys of earlier versions, and name the new ones."""
    moved = [f"{old} is now {new}" for old, new in _MOVED.items() if _has(values, old.split("."))]
    if moved:
        raise ConfigError(f"{origin}: keys of an earlier version: {', '.join(moved)}; write the new ones")


def _has(values: Any, path: list[str]) -> bool:
    return not path or (isinstance(values, dict) and path[0] in values and _has(values[path[0]], path[1:]))


def _set_value(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    key = key.strip()
    if not (separator and key):
        raise ConfigError(f"override {override!r}: expected path.to.key=value, e.g. crystals.training.epochs=5")
    if not is_text(Config, key):
        value = yaml_value(text, f"override {override!r}: the value is")
    else:
        value = None if text in ("", "null") and may_be_null(Config, key) else text
    _place(values, key, value)


def _place(values: dict[str, Any], key: str, value: Any) -> None:
    """Set the value at a path through nested sections."""
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {}) if isinstance(values, dict) else {}
    if not isinstance(values, dict):
        raise ConfigError(f"{key} = {value!r}: {'.'.join(parents)} is a value, not a section")
    values[last] = value
