"""The run folder: what lies where, and that everything in it belongs to one configuration."""

import errno
import json
import platform
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from rephase.config import Config, dump_config, find_config, load_config, read_yaml
from rephase.errors import ConfigError
from rephase.paths import ROOT, RUNS
from rephase.writing import write_whole

# Tables that results.csv puts together.
_RESULTS = ("results", "completion_results", "monoclinic_phases_results", "inference_scores", "solver_scores",
            "image_results", "image_trial_results", "posterior_results", "wave_results")  # fmt: skip
_RECORDED = ("torch", "numpy", "Dans_Diffraction", "gemmi", "lightning", "zarr", "scikit-image")


@dataclass(frozen=True)
class Run:
    """A folder of results that can be made again from its ``config.yaml``.

    Parameters
    ----------
    folder
        Where everything lies.
    config
        What fixes the results.
    device, workers
        How it is computed; they change no result beyond rounding.
    """

    folder: Path
    config: Config
    device: str = "auto"
    workers: int = 2

    @property
    def data_path(self) -> Path:
        """Folder of the perturbed data set."""
        return self.folder / "data" / "perturbed.zarr"

    def checkpoints(self, model: str) -> Path:
        """Folder of the checkpoints and logs of a model."""
        return self.folder / "checkpoints" / model

    def settings(self, *sections: str) -> Styler:
        """Sections of the resolved configuration as a table to read, e.g. ``settings("data", "posteriors.saxs")``."""
        values, chosen = _flatten(self.config.model_dump(mode="json")), tuple(f"{name}." for name in sections)
        shown = {key: _words(value) for key, value in values.items() if f"{key}.".startswith(chosen)}
        return pd.DataFrame({"value": shown}).style.set_properties(**{"text-align": "left"})

    def save_table(self, name: str, table: pd.DataFrame) -> None:
        """Write ``tables/NAME.csv``."""
        path = self.folder / "tables" / f"{name}.csv"
        path.parent.mkdir(exist_ok=True)
        table.to_csv(path, index=False)

    def table(self, name: str) -> pd.DataFrame:
        """Read ``tables/NAME.csv``."""
        return pd.read_csv(self.folder / "tables" / f"{name}.csv")

    def tables(self, prefix: str) -> dict[str, pd.DataFrame]:
        """Tables ``PREFIX_*.csv`` by the rest of their name, models in the order of the configuration.

        Raises
        ------
        FileNotFoundError
            There is none yet.
        """
        found = {
            path.stem.removeprefix(f"{prefix}_"): path for path in (self.folder / "tables").glob(f"{prefix}_*.csv")
        }
        if not found:
            raise FileNotFoundError(errno.ENOENT, "no table yet", f"tables/{prefix}_*.csv")
        config = self.config
        learning = (config, config.completion, config.monoclinic_phases, config.images)
        listed = [name for section in learning for name in section.models]
        order = [*dict.fromkeys(listed), *sorted(found.keys() - set(listed))]
        return {name: pd.read_csv(found[name]) for name in order if name in found}

    def has_results(self, kind: str = "results") -> bool:
        """Whether anything of a kind has been scored."""
        return any((self.folder / "tables").glob(f"{kind}_*.csv"))

    def results(self, kind: str = "results") -> pd.DataFrame:
        """Every result of a kind so far, tidy: ``results``, ``completion_results`` and so on."""
        return pd.concat(self.tables(kind).values(), ignore_index=True)

    def write_results(self) -> None:
        """Write every result so far, of models and of solvers, to ``results.csv``; nothing if there is none."""
        tables = [self.results(kind) for kind in _RESULTS if self.has_results(kind)]
        if tables:
            pd.concat(tables, ignore_index=True).to_csv(self.folder / "results.csv", index=False)

    def save_arrays(self, name: str, **arrays: np.ndarray) -> None:
        """Write ``arrays/NAME.npz``."""
        path = self.folder / "arrays" / f"{name}.npz"
        path.parent.mkdir(exist_ok=True)
        np.savez_compressed(path, allow_pickle=False, **arrays)

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """Read ``arrays/NAME.npz``."""
        with np.load(self.folder / "arrays" / f"{name}.npz") as file:
            return dict(file)


def open_run(
    folder: str | Path | None, config: str | Path, overrides: list[str] | tuple[str, ...] = (), *,
    device: str = "auto", workers: int = 2,
) -> Run:  # fmt: skip
    """Open the run folder of a configuration, or make it.

    Parameters
    ----------
    folder
        Where; None or empty: ``runs/NAME-FINGERPRINT``, so that every configuration has a folder of its own.
    config, overrides
        As in `load_config`.
    device, workers
        As in `Run`.

    Raises
    ------
    ConfigError
        The folder belongs to another configuration; the first key that differs is named.
    """
    resolved = load_config(config, overrides)
    path = Path(folder) if folder else default_folder(config, resolved)
    path = path.resolve()
    if path.exists() and not path.is_dir():
        raise ConfigError(f"run folder {path}: is a file; give a folder with --out")
    if workers < 1:
        raise ConfigError(f"workers = {workers}: expected at least 1")
    path.mkdir(parents=True, exist_ok=True)
    if (path / "config.yaml").is_file():
        _check_same(path, resolved)
    else:
        write_whole(path / "config.yaml", dump_config(resolved))
    write_whole(path / "environment.json", json.dumps(environment(), indent=1))
    return Run(path, resolved, device, workers)


def read_run(folder: str | Path) -> Run:
    """Open a run folder that is there already.

    Raises
    ------
    ConfigError
        The folder is no run.
    """
    path = Path(folder).resolve()
    if not (path / "config.yaml").is_file():
        raise ConfigError(f"{folder}: no run folder (it has no config.yaml); give one that `rephase run` made")
    return Run(path, load_config(path / "config.yaml"))


def default_folder(source: str | Path, config: Config) -> Path:
    """``runs/NAME-FINGERPRINT`` of a configuration."""
    path = find_config(source)
    name = path.parent.name.rsplit("-", 1)[0] if path.stem == "config" else path.stem
    return RUNS / f"{name}-{config.fingerprint()}"


def _check_same(path: Path, config: Config) -> None:
    stored, wanted = (_flatten(values) for values in (read_yaml(path / "config.yaml"), config.model_dump(mode="json")))
    for key in sorted(stored.keys() | wanted.keys()):
        if stored.get(key) != wanted.get(key):
            raise ConfigError(
                f"{path}: this run has {key} = {stored.get(key)!r}, not {wanted.get(key)!r}; choose another folder "
                "with --out, or leave --out away and get a folder of its own"
            )


def _flatten(values: dict, prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in values.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _commit() -> str:
    if shutil.which("git") is None:
        return ""
    describe = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(describe, cwd=ROOT, capture_output=True, text=True).stdout.strip()


def _words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def environment() -> dict[str, object]:
    """Commit, Python, machine and package versions, to be kept beside what was made with them."""
    return {
        "commit": _commit() or "not a git checkout",
        "python": platform.python_version(),
        "machine": platform.machine(),
        "packages": {name: version(name) for name in _RECORDED},
    }
