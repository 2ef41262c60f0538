"""The laboratory of real crystals as an entry of the table of laboratories."""

from collections.abc import Iterator
from pathlib import Path

from rephase.config import Config
from rephase.files.inputs import with_neighbours
from rephase.files.reading import cif_files
from rephase.labs.laboratory import Laboratory
from rephase.labs.solving import figures
from rephase.labs.solving.steps import check_solving


def files(config: Config) -> Iterator[Path]:
    """Input files of the configuration: the reflections, and the CIFs of the benchmark."""
    yield from with_neighbours(config.solving.file)
    if config.solving.benchmark.folder is not None:
        yield from cif_files(config.solving.benchmark.folder)


LABORATORY = Laboratory(
    package="rephase.labs.solving",
    notebooks=("07", "08", "09"),
    check=check_solving,
    files=files,
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
