"""Absolute paths of the files shipped with rephase and of its results."""

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
IS_INSTALLED = (_PACKAGE / "notebooks").is_dir()  # a wheel carries them inside the package, a checkout beside src/
ROOT = _PACKAGE if IS_INSTALLED else _PACKAGE.parents[1]
CONFIGS = ROOT / "configs"
SWEEPS = CONFIGS / "sweeps"
DATA = ROOT / "data"
CIFS = DATA / "cifs"
WEIGHTS = DATA / "weights"
NOTEBOOKS = ROOT / "notebooks"
BENCHMARKS = ROOT / "benchmarks"  # a wheel has none
RUNS = (Path.cwd() if IS_INSTALLED else ROOT) / "runs"


def weights_file(source: str | Path) -> Path:
    """Return the file of weights, given by its path or by the name of shipped weights, whether it exists or not."""
    return Path(source) if os.path.isfile(source) else WEIGHTS / f"{source}.safetensors"
