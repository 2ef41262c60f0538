"""The laboratory of real crystals as an entry of the table of laboratories."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from rephase.config import Config
from rephase.files.inputs import with_neighbours
from rephase.files.reading import cif_files
from rephase.labs.laboratory import Laboratory, saved
from rephase.labs.solving import figures
from rephase.labs.solving.steps import check_solving, crystal_medians, solved_shares
from rephase.learning.weights import shipped_files
from rephase.runs import Run
from rephase.solvers.learned.cards import PHASES


def files(config: Config) -> Iterator[Path]:
    """Input files: reflections, CIFs of the benchmark and weights of a configuration, and the shipped weights."""
    yield from with_neighbours(config.solving.file, config.solving.weights)
    if config.solving.benchmark.folder is not None:
        yield from cif_files(config.solving.benchmark.folder)
    yield from shipped_files(PHASES)


def _scores(run: Run) -> pd.DataFrame:
    return run.table("solver_scores_example")[["metric", "value", "unit", "n"]]


LABORATORY = Laboratory(
    package="rephase.labs.solving",
    notebooks=("07", "08", "09"),
    check=check_solving,
    files=files,
    tables={
        "solution_scores": _scores,
        "solution_contents": saved("contents"),
        "solution_atoms": saved("model_atoms"),
        "solution_statistics": lambda run: run.table("model_statistics").T.rename(columns={0: "value"}),
        "solution_agreement": saved("agreement"),
        "systematic_absences": saved("absences"),
        "solution_hints": saved("hints"),
        "merged_data": saved("merging"),
        "data_shells": saved("quality_shells"),
        "e_statistics": saved("quality_e_statistics"),
        "crystal_medians": crystal_medians,
        "solved_shares": lambda run: solved_shares(run.table("solver_benchmark")),
        "benchmark_solutions": saved("solver_benchmark"),
    },
    figures={
        "data_quality": figures.data_quality,
        "e_distribution": figures.e_distribution,
        "solution_density": figures.solution_density,
        "solution_shells": figures.solution_shells,
        "solution_molecule": figures.solution_molecule,
        "solution_r1": figures.solution_r1,
        "solution_amplitudes": figures.solution_amplitudes,
        "solution_residuals": figures.solution_residuals,
        "solution_trials": figures.solution_trials,
        "solution_wilson": figures.solution_wilson,
        "solver_benchmark": figures.solver_benchmark,
        "compared_crystals": figures.compared_crystals,
    },
)
