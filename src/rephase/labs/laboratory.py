"""What the rest of the program knows of a laboratory."""

import glob
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from rephase.config import Config
from rephase.learning.weights import Weights
from rephase.paths import NOTEBOOKS
from rephase.runs import Run


def _nothing(_: Any) -> Iterator[Any]:
    return iter(())


@dataclass(frozen=True)
class Laboratory:
    """One question, the notebooks that answer it, and what they need and leave.

    Parameters
    ----------
    package
        Dotted name of its code: a notebook is stale when a module that this code imports has changed.
    notebooks
        Their numbers, two digits each, in order.
    folder
        Where the notebooks are, ``NN_name.ipynb``.
    check
        Raises before a run whatever can be known to be wrong in a configuration.
    files
        The user's files that a configuration names; a notebook is stale when the bytes of one have changed.
    large_files
        The same of files too large to be read for that: their size and time count.
    headlines
        Tables at the top of the report, by their titles; one raises `FileNotFoundError` where a run has no results.
    figures
        Functions that draw from what a run has saved, by the names of the figures.
    learning_curve
        Draws the results of a sweep against the parameter that was swept.
    weights
        The trained models of a run, each with its card.
    """

    package: str
    notebooks: tuple[str, ...]
    folder: Path = NOTEBOOKS
    check: Callable[[Config], Any] = _nothing
    files: Callable[[Config], Iterator[Path]] = _nothing
    large_files: Callable[[Config], Iterator[Path]] = _nothing
    headlines: Mapping[str, Callable[[Run], pd.DataFrame]] = field(default_factory=dict)
    figures: Mapping[str, Callable[[Run], Figure]] = field(default_factory=dict)
    learning_curve: Callable[[pd.DataFrame, str], Figure] | None = None
    weights: Callable[[Run], Iterator[Weights[Any, Any]]] = _nothing


def with_neighbours(*named: str | Path | None) -> Iterator[Path]:
    """Files that a configuration names, where they exist, and those beside them with the same stem."""
    for file in named:
        if file is not None and os.path.isfile(file):
            path = Path(file)
            yield from path.parent.glob(f"{glob.escape(path.stem)}.*")
