"""The run folder: its layout, and the checks that everything in it belongs to one configuration."""

import errno
import io
import json
import os
import platform
import shutil
import subprocess
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from rephase import __version__
from rephase.config import Config, dump_config, find_config, load_config, read_yaml
from rephase.config.sections import LearningConfig, Section
from rephase.errors import ConfigError, StoreError, check_count
from rephase.files.checksums import beside, checked_bytes, write_checked
from rephase.files.writing import LOCK, PARTIAL, disk_errors, writable_folder, write_whole
from rephase.paths import ROOT, RUNS
from rephase.runs.tables import styled

_CONFIG, _ENVIRONMENT = "config.yaml", "environment.json"  # written in this order
_AGAIN = "make it again: delete status.json of the run, and run its notebooks"
_UNREADABLE = (ValueError, KeyError, EOFError, OSError, NotImplementedError, zipfile.BadZipFile, zlib.error)
_RECORDED = ("torch", "numpy", "Dans_Diffraction", "gemmi", "lightning", "zarr", "scikit-image")

Content = TypeVar("Content")
COLUMNS = ["experiment", "model", "split", "metric", "unit", "value", "n", "seed"]
"""Of every table of scores, one row for each."""


@dataclass(frozen=True)
class Run:
    """A folder of results that can be reproduced from its ``config.yaml``.

    Parameters
    ----------
    folder
        Run folder.
    config
        Configuration, which determines the results.
    device, workers
        Device and number of workers; they change results only by rounding.
    """

    folder: Path
    config: Config
    device: str = "auto"
    workers: int = 2

    def checkpoints(self, model: str) -> Path:
        """Return the folder of a model's checkpoints and logs."""
        return self.folder / "checkpoints" / model

    def settings(self, *sections: str) -> Styler:
        """Show sections of the resolved configuration as a table, e.g. ``settings("seed", "scattering.saxs")``."""
        values, chosen = _flatten(self.config.model_dump(mode="json")), tuple(f"{name}." for name in sections)
        shown = {key: _words(value) for key, value in values.items() if f"{key}.".startswith(chosen)}
        table = styled(pd.DataFrame({"value": shown})).set_table_attributes('class="settings"')
        return table.set_properties(**{"text-align": "left"})

    def save_table(self, name: str, table: pd.DataFrame) -> None:
        """Write ``tables/NAME.csv``; `DiskError` if the disk refuses."""
        text = table.to_csv(index=False)
        write_checked(self.folder / "tables" / f"{name}.csv", text.encode(errors="backslashreplace"))

    def table(self, name: str) -> pd.DataFrame:
        """Read ``tables/NAME.csv``; `FileNotFoundError` if it does not exist yet, `StoreError` if it is damaged."""
        return _read(self.folder / "tables" / f"{name}.csv", lambda content: pd.read_csv(io.BytesIO(content)))

    def tables(self, prefix: str) -> dict[str, pd.DataFrame]:
        """Read the tables ``PREFIX_*.csv`` by the rest of their names, models in the order of the configuration.

        Raises
        ------
        FileNotFoundError
            There is no such table yet.
        StoreError
            A table is damaged.
        """
        found = {
            path.stem.removeprefix(f"{prefix}_"): path for path in (self.folder / "tables").glob(f"{prefix}_*.csv")
        }
        if not found:
            raise FileNotFoundError(errno.ENOENT, "no table yet", f"tables/{prefix}_*.csv")
        listed = dict.fromkeys(_models_in(self.config))
        order = [*listed, *sorted(found.keys() - listed.keys())]
        return {name: self.table(found[name].stem) for name in order if name in found}

    def has_results(self, kind: str = "results") -> bool:
        """Whether there are results of this kind."""
        return any((self.folder / "tables").glob(f"{kind}_*.csv"))

    def results(self, kind: str = "results") -> pd.DataFrame:
        """Read all results of a kind so far as one tidy table; kinds are ``results``, ``completion_results``, ..."""
        return pd.concat(self.tables(kind).values(), ignore_index=True)

    def write_results(self) -> None:
        """Write all tables of scores so far, those with the columns `COLUMNS`, to ``results.csv``, if there are any."""
        if text := self._scores():
            write_whole(self.folder / "results.csv", text)

    def has_written_results(self) -> bool:
        """Whether ``results.csv`` has all tables of scores so far; `StoreError` if one of them is damaged."""
        path = self.folder / "results.csv"
        return not (text := self._scores()) or (path.is_file() and path.read_bytes() == text.encode())

    def _scores(self) -> str:
        saved = (self.table(path.stem) for path in sorted((self.folder / "tables").glob("*.csv")))
        tables = [table for table in saved if list(table.columns) == COLUMNS]
        return pd.concat(tables, ignore_index=True).to_csv(index=False) if tables else ""

    def save_arrays(self, name: str, **arrays: np.ndarray) -> None:
        """Write ``arrays/NAME.npz``; `DiskError` if the disk refuses."""
        content = io.BytesIO()
        np.savez_compressed(content, allow_pickle=False, **arrays)
        write_checked(self.folder / "arrays" / f"{name}.npz", content.getvalue())

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """Read ``arrays/NAME.npz``; `FileNotFoundError` if it does not exist yet, `StoreError` if it is damaged."""
        return _read(self.folder / "arrays" / f"{name}.npz", lambda content: dict(np.load(io.BytesIO(content))))


def open_run(
    folder: str | Path | None,
    config: str | Path,
    overrides: list[str] | tuple[str, ...] = (),
    *,
    device: str = "auto",
    workers: int = 2,
) -> Run:
    """Open the run folder of a configuration, or create it.

    Parameters
    ----------
    folder
        Run folder; None or empty for ``runs/NAME-FINGERPRINT``, so that every configuration has its own folder.
    config, overrides
        As in `load_config`.
    device, workers
        As in `Run`.

    Raises
    ------
    ConfigError
        The folder belongs to another configuration (the message names the first key that differs), holds something
        other than a run, or cannot be written.
    """
    resolved = load_config(config, overrides)
    check_count("workers", workers, remedy="give the number of parallel workers that build data")
    path = _run_folder(Path(folder) if folder else default_folder(config, resolved))
    if (path / _CONFIG).is_file():
        _check_same(path, resolved)
    else:
        write_checked(path / _CONFIG, dump_config(resolved).encode())
    write_whole(path / _ENVIRONMENT, json.dumps(environment(), indent=1))
    return Run(path, resolved, device, workers)


def read_run(folder: str | Path) -> Run:
    """Open an existing run folder.

    Raises
    ------
    ConfigError
        The folder is not a run, or its configuration is damaged.
    """
    path = Path(os.path.realpath(folder))
    if not os.path.isfile(path / _CONFIG):
        raise ConfigError(f"{folder}: no run folder (it has no config.yaml); give one that `rephase run` made")
    _check_config(path)
    return Run(path, load_config(path / _CONFIG))


def newest_run() -> Path:
    """Return the folder in ``runs/`` whose results were written last.

    Raises
    ------
    ConfigError
        No run there has results.
    """
    found = [path for path in RUNS.glob("*/results.csv") if (path.parent / _CONFIG).is_file()]
    if not found:
        raise ConfigError(f"RUN: no run in {RUNS} has results; give a run folder, or start one with `rephase run`")
    return max(found, key=lambda path: path.stat().st_mtime).parent


def default_folder(source: str | Path, config: Config) -> Path:
    """Return the folder ``runs/NAME-FINGERPRINT`` of a configuration."""
    path = find_config(source)
    name = path.parent.name.rsplit("-", 1)[0] if path.stem == "config" else path.stem
    return RUNS / f"{name}-{config.fingerprint()}"


def _run_folder(folder: Path) -> Path:
    """Return the folder, created if necessary; a folder that holds something other than a run is refused.

    A run that was killed while it was being opened leaves only the files written first; such a folder is accepted.
    """
    if os.path.isfile(folder):
        raise ConfigError(f"run folder {folder}: is a file; give a folder with --out")
    if not str(folder).isprintable():
        raise ConfigError(f"--out {folder}: notebooks cannot store this name; give a folder with printable letters")
    path = writable_folder(folder, name="--out").resolve()
    with disk_errors(path):
        found = set(os.listdir(path))
    first = {LOCK, beside(path / _CONFIG).name, _CONFIG}
    foreign = sorted(name for name in found - first if not name.endswith(PARTIAL))
    if foreign and not found >= {_CONFIG, _ENVIRONMENT}:
        raise ConfigError(
            f"--out {path}: holds {foreign[0]!r} and is not a run, so its files could be lost; give a new folder, an "
            "empty one, or a run of this configuration"
        )
    return path


def _check_config(path: Path) -> None:
    """Raise if the configuration of a run was changed after it was written."""
    checked_bytes(path / _CONFIG, ConfigError, remedy="give the run a new folder")


def _read(path: Path, parse: Callable[[bytes], Content]) -> Content:
    content = checked_bytes(path, StoreError, remedy=_AGAIN)
    try:
        return parse(content)
    except _UNREADABLE as error:
        raise StoreError(f"{path}: damaged ({error}); {_AGAIN}") from error


def _check_same(path: Path, config: Config) -> None:
    _check_config(path)
    stored, wanted = (_flatten(values) for values in (read_yaml(path / _CONFIG), config.model_dump(mode="json")))
    for key in sorted(stored.keys() | wanted.keys()):
        if stored.get(key) != wanted.get(key):
            raise ConfigError(
                f"{path}: this run has {key} = {stored.get(key)!r}, not {wanted.get(key)!r}; choose another folder "
                "with --out, or omit --out to use this configuration's own folder"
            )


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in values.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _models_in(section: Section) -> Iterator[str]:
    """List the names of the models in a configuration, section by section."""
    if isinstance(section, LearningConfig):
        yield from section.models
    for name in type(section).model_fields:
        part = getattr(section, name)
        if isinstance(part, Section):
            yield from _models_in(part)


def _commit() -> str:
    if shutil.which("git") is None or not (ROOT / ".git").exists():  # git would take the repository around packages
        return ""
    describe = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(describe, cwd=ROOT, capture_output=True, text=True).stdout.strip()


def _words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def environment() -> dict[str, Any]:
    """Return the commit and the versions of Python, machine and packages, which a run keeps beside its results."""
    return {
        "commit": _commit() or "not a git checkout",
        "python": platform.python_version(),
        "machine": platform.machine(),
        "packages": {"rephase": __version__} | {name: version(name) for name in _RECORDED},
    }
