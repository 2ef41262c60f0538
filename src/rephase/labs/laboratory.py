"""The interface of a laboratory to the rest of the program."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from rephase.config import Config
from rephase.learning.store import Shard
from rephase.learning.training import Training
from rephase.learning.weights import Weights
from rephase.paths import NOTEBOOKS
from rephase.runs import Run


class DataSet(NamedTuple):
    """A data set of a run: the name of its store in ``data/``, and what builds one shard of it."""

    name: str
    build: Callable[[Shard], object]


def _nothing(_: Any) -> Iterator[Any]:
    return iter(())


def saved(name: str) -> Callable[[Run], pd.DataFrame]:
    """Return a function that reads a saved table of a run, for `Laboratory.tables`."""
    return lambda run: run.table(name)


@dataclass(frozen=True)
class Laboratory:
    """A question, the notebooks that answer it, and their inputs and results.

    Parameters
    ----------
    package
        Dotted name of its code; a notebook is out of date when a module that this code imports has changed.
    notebooks
        Notebook numbers, two digits each, in order.
    folder
        Folder of the notebooks ``NN_name.ipynb``.
    check
        Function that raises, before a run, every error that can be found in a configuration.
    files
        User files named by a configuration; a notebook is out of date when the bytes of one have changed.
    large_files
        User files too large to be read for that; they count as changed by their size and time.
    data_sets
        Data sets that the notebooks of a run would build; an earlier one may be read to build a later one.
    tables
        Functions that make a table from the saved results of a run, by name; they raise `FileNotFoundError` if a run
        lacks the results. The first table is also at the top of the report. No name is that of a table that
        `Run.save_table` writes.
    figures
        Functions that draw a figure from the saved results of a run, by figure name.
    learning_curve
        Function that draws the results of a sweep against the swept parameter.
    weights
        Trained models of a run, each with its card.
    trainings
        Trainings of a run, finished or not, as its notebooks need them.
    shows_all
        Whether its notebooks show the results of all others: they are out of date when any other has run again.
    """

    package: str
    notebooks: tuple[str, ...]
    folder: Path = NOTEBOOKS
    check: Callable[[Config], Any] = _nothing
    files: Callable[[Config], Iterator[Path]] = _nothing
    large_files: Callable[[Config], Iterator[Path]] = _nothing
    data_sets: Callable[[Run], Iterator[DataSet]] = _nothing
    tables: Mapping[str, Callable[[Run], pd.DataFrame]] = field(default_factory=dict)
    figures: Mapping[str, Callable[[Run], Figure]] = field(default_factory=dict)
    learning_curve: Callable[[pd.DataFrame, str], Figure] | None = None
    weights: Callable[[Run], Iterator[Weights[Any, Any]]] = _nothing
    trainings: Callable[[Run], Iterator[Training[Any, Any]]] = _nothing
    shows_all: bool = False
