"""Absolute paths of the project: of the checkout that the package lies in, or that we work in, else of the folder."""

from pathlib import Path


def _project() -> Path:
    """The checkout; where there is none, results go to the working directory, and never beside installed packages."""
    package, here = Path(__file__).resolve(), Path.cwd()
    for folder in (package.parents[2], here, *here.parents):
        if (folder / "src" / "rephase" / "paths.py").is_file() and (folder / "notebooks").is_dir():
            return folder
    return here


ROOT = _project()
CONFIGS = ROOT / "configs"
CIFS = ROOT / "data" / "cifs"
DROPLET_LABELS = ROOT / "data" / "droplet_labels.csv"
WEIGHTS = ROOT / "data" / "weights"
NOTEBOOKS = ROOT / "notebooks"
BENCHMARKS = ROOT / "benchmarks"
RUNS = ROOT / "runs"
NEEDED = "" if NOTEBOOKS.is_dir() else "; this needs a checkout of rephase: work in one, or pip install -e one"
