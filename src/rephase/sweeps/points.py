"""The runs of a sweep: what each changes in the configuration, and its folder."""

import itertools
from pathlib import Path
from typing import Any

from rephase.config import SweepConfig
from rephase.config.sections import fingerprint


def sweep_points(sweep: SweepConfig) -> list[dict[str, Any]]:
    """List every combination of the grid, the cases and the seeds, as overrides by path."""
    grids = [dict(zip(sweep.grid, values)) for values in itertools.product(*sweep.grid.values())]
    return [
        grid | dict(entry) | {"seed": seed} for grid in grids for entry in (sweep.cases or [{}]) for seed in sweep.seeds
    ]


def point_folder(folder: Path, point: dict[str, Any]) -> Path:
    """Return the folder of one run, named after what it changes."""
    words = ",".join(f"{key.split('.')[-1]}={value}" for key, value in point.items())
    plain = "".join(c if c.isascii() and c.isprintable() and c not in "/\\" else "_" for c in words.replace(" ", ""))
    return folder / f"{plain[:100]}-{fingerprint(point)}"
