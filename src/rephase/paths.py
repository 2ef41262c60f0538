"""Absolute paths of the project, derived from where the package lies."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
CIFS = ROOT / "data" / "cifs"
DROPLET_LABELS = ROOT / "data" / "droplet_labels.csv"
WEIGHTS = ROOT / "data" / "weights"
NOTEBOOKS = ROOT / "notebooks"
BENCHMARKS = ROOT / "benchmarks"
RUNS = ROOT / "runs"
