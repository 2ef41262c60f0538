"""Absolute paths of the project.

They belong to the checkout that contains the package, else to the one around the working directory, else to that
directory itself.
"""

from pathlib import Path


def _project() -> Path:
    """Return the checkout; without one, results go to the working directory, never beside installed packages."""
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
