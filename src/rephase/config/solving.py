"""Configuration of structure solution: the reflections to solve, and the benchmark of the solvers."""

from pydantic import Field, field_validator

from rephase.config.sections import NameOrFile, Section, Seed, absolute_path


class SimulatedData(Section):
    """A random crystal and its simulated measurement, used when no reflection file is given."""

    space_group: str = Field("P 21 21 21", description="space group of the random crystal, symbol or number")
    n_atoms: tuple[int, int] = Field((12, 20), description="fewest and most non-hydrogen atoms of the molecule")
    d_min: float = Field(0.85, gt=0, description="resolution limit, Å")
    noise: float = Field(0.03, ge=0, lt=1, description="relative standard deviation of |F|")
    background: float = Field(0.03, ge=0, description="standard deviation added to each I, relative to the mean I")
    missing: float = Field(0.05, ge=0, lt=1, description="missing fraction of the reflections")
    n_each: int = Field(3, ge=1, description="measurements of each reflection")
    seed: Seed = 0


class SolverBenchmark(Section):
    """Crystals that several solvers solve at several resolution limits."""

    folder: str | None = Field(None, description="folder of real CIFs; null: random crystals")
    n_crystals: int = Field(4, ge=1, description="number of random crystals, or the most taken from the folder")
    n_atoms: tuple[int, int] = Field((8, 20), description="fewest and most non-hydrogen atoms of a random crystal")
    n_compared: int = Field(60, ge=1, description="number of random crystals in the comparison of statistics")
    d_mins: tuple[float, ...] = Field((1.0, 1.5), min_length=1, description="resolution limits, Å")
    solvers: tuple[str, ...] = Field(
        ("classical", "charge_flipping"), min_length=1, description="solvers that are compared"
    )
    effort: float = Field(0.2, gt=0, description="effort for each crystal, as `solving.effort`")
    noise: float = Field(0.0, ge=0, lt=1, description="relative standard deviation of |F|")
    missing: float = Field(0.0, ge=0, lt=1, description="missing fraction of the reflections")
    seed: Seed = 0

    _anywhere = field_validator("folder")(absolute_path)


class SolvingConfig(Section):
    """Measured reflections, the solver and its effort, and the benchmark of the solvers."""

    file: str | None = Field(None, description="reflections: CIF, SHELX .hkl, .fcf or MTZ; null: simulated")
    cell: tuple[float, float, float, float, float, float] | None = Field(
        None, description="needed if the file has none"
    )
    space_group: str | None = Field(None, description="needed if the file has none")
    simulated: SimulatedData = SimulatedData()
    d_min: float | None = Field(
        None,
        gt=0,
        description="resolution limit, Å; finer reflections are ignored; null: the limit that the data support",
    )
    solver: str = Field(
        "auto",
        description="auto: learned at the resolutions that the network was trained for, else classical; classical "
        "(RAAR, and direct methods where they help); learned, a trained network that improves and ranks classical "
        "trials; or one search: raar, direct_methods, charge_flipping, difference_map, hio, low_density_elimination",
    )
    weights: NameOrFile | None = Field(
        None,
        description="network of learned and auto, also in the benchmark: shipped weights, or a file of them; null: the "
        "shipped weights that were trained for the resolution",
    )
    effort: float = Field(1.0, gt=0, description="effort of the solver; 1: at most about a minute")
    benchmark: SolverBenchmark = SolverBenchmark()

    _anywhere = field_validator("file")(absolute_path)
