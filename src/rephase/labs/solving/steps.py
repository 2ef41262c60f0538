"""Steps of notebooks 07 to 09: assess measured data, solve them, benchmark the solvers."""

import time
from collections.abc import Iterator, Sequence
from functools import partial
from math import erfc, exp, pi, sqrt
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from rephase.config import Config
from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.files import read_reflections
from rephase.crystal.reflections.shell_table import Support, d_min_supported, shell_table
from rephase.crystal.reflections.simulation import SOLVED, WELL_SOLVED, Truth, random_phases, simulate_reflections
from rephase.crystal.reflections.statistics import Wilson, normalise, wilson
from rephase.crystal.shells import shell_index, shell_limits
from rephase.crystal.structures import Crystal, read_crystal
from rephase.errors import CifError, ConfigError, check_file
from rephase.files.reading import cif_files
from rephase.labs.solving.record import record
from rephase.labs.solving.structure_statistics import compare_structures
from rephase.random_crystals.crystals import RandomCrystalOptions, random_crystals
from rephase.runs import COLUMNS, Run
from rephase.solvers.choice import SHIPPED, solver_for, weights_of
from rephase.solvers.solution import Solution
from rephase.solvers.solve import solve

_MODEL_SCORES = "r1", "r1_all", "wr2", "goof", "n_parameters", "peak", "hole"
_N_SHELLS = 8  # resolution shells in the scores of a solution
_N_CHANCE = 8  # sets of random phases
_EXPECTED = {  # Wilson (1949): <|E|>, <|E^2 - 1|>, and the shares of |E| above 1, 2 and 3
    "acentric": (sqrt(pi) / 2, 2 / exp(1), *(exp(-(x**2)) for x in (1, 2, 3))),
    "centric": (sqrt(2 / pi), 4 / sqrt(2 * pi * exp(1)), *(erfc(x / sqrt(2)) for x in (1, 2, 3))),
}


class DataQuality(NamedTuple):
    """Quality of a data set: resolution shells, Wilson plot, supported resolution limit, statistics of |E|."""

    shells: pd.DataFrame
    wilson: Wilson
    support: Support
    e_statistics: pd.DataFrame


def check_solving(config: Config) -> None:
    """Raise `ConfigError` if a file or folder is missing, or a solver or the random crystals are invalid.

    Raises
    ------
    WeightsError
        A solver needs weights that are missing, damaged or of another kind.
    """
    solving, benchmark = config.solving, config.solving.benchmark
    check_file("solving.file", solving.file, otherwise=" for simulated reflections")
    if benchmark.folder is not None and not cif_files(benchmark.folder):
        raise ConfigError(
            f"solving.benchmark.folder = {benchmark.folder}: no folder with *.cif in it; null selects random crystals"
        )
    for solver in (solving.solver, *benchmark.solvers):
        for weights in SHIPPED if solving.weights is None else (solving.weights,):
            solver_for(solver, weights)
    RandomCrystalOptions(space_groups=(solving.simulated.space_group,), n_atoms=solving.simulated.n_atoms)
    RandomCrystalOptions(n_atoms=benchmark.n_atoms)


def measured_reflections(run: Run) -> Reflections:
    """Read the file of the configuration, or simulate a random crystal and save its true F in the run."""
    check_solving(run.config)
    options = run.config.solving
    if options.file is not None:
        return read_reflections(options.file, cell=options.cell, space_group=options.space_group)
    simulated = options.simulated
    kinds = RandomCrystalOptions(space_groups=(simulated.space_group,), n_atoms=simulated.n_atoms)
    crystal = _random(1, kinds, simulated.seed)[0]
    measurement = simulated.model_dump(exclude={"space_group", "n_atoms"})
    data, truth = simulate_reflections(crystal, **measurement)
    run.save_arrays("true_F", hkl=truth.hkl, F=truth.F)
    return data


def data_quality(run: Run) -> DataQuality:
    """Assess the measured reflections, and save tables ``quality_*`` and the arrays ``normalised``."""
    merged = measured_reflections(run).merge()
    data = merged.reflections
    E, is_centric = normalise(data), data.group.is_centric(data.hkl)
    quality = DataQuality(shell_table(merged), wilson(data), d_min_supported(merged), _e_statistics(E, is_centric))
    run.save_table("quality_shells", quality.shells)
    run.save_table("quality_wilson", pd.DataFrame(quality.wilson.table))
    run.save_table("quality_e_statistics", quality.e_statistics)
    run.save_arrays("normalised", E=E, is_centric=is_centric)
    return quality


def merging(run: Run) -> pd.DataFrame:
    """Merge the equivalents, and report counts, R_int, systematic absences and contradictory equivalents."""
    merged = measured_reflections(run).merge()
    data = merged.reflections
    rows = {
        "space group": data.group.symbol,
        "a, b, c (Å), α, β, γ (°)": ", ".join(f"{x:.6g}" for x in data.cell.parameters),
        "measured": merged.n_measured,
        "unique": len(data),
        "redundancy": round(merged.redundancy, 2),
        "R_int": round(merged.r_int, 4),
        "d_min (Å)": round(data.d_min, 3),
        "I < 0 (%)": round(100 * float((data.intensity < 0).mean()), 1),
        "systematic absences": merged.n_absent,
        "⟨I/σ⟩ of the absences": round(merged.absent_i_over_sigma, 2),
        "contradictory equivalents": merged.n_contradictory,
    }
    table = pd.DataFrame({data.name: rows})
    run.save_table("merging", table.rename_axis("property").reset_index())
    return table


def _e_statistics(E: np.ndarray, is_centric: np.ndarray) -> pd.DataFrame:
    """Moments of |E| of acentric and centric reflections, as measured and as expected for many random atoms."""
    rows = []
    for kind, chosen in (("acentric", E[~is_centric]), ("centric", E[is_centric])):
        if not len(chosen):
            continue
        found = (chosen.mean(), np.abs(chosen**2 - 1).mean(), *((chosen > x).mean() for x in (1, 2, 3)))
        for source, values in (("measured", found), ("expected", _EXPECTED[kind])):
            rows.append([kind, source, len(chosen), *values])
    return pd.DataFrame(rows, columns=["reflections", "", "n", "⟨|E|⟩", "⟨|E² − 1|⟩", "|E| > 1", "|E| > 2", "|E| > 3"])


def solve_example(run: Run) -> Solution:
    """Solve the measured reflections to the resolution they support, and save files, scores and figures' tables."""
    data, options = measured_reflections(run), run.config.solving
    d_min = options.d_min or d_min_supported(data.merge()).d_min
    start = time.perf_counter()
    solution = solve(
        data,
        d_min=d_min,
        solver=options.solver,
        weights=weights_of(options.solver, options.weights),
        effort=options.effort,
        formula=data.formula or None,
        seed=run.config.seed,
        device=run.device,
    )
    seconds = time.perf_counter() - start
    solution.write(run.folder / "solution", formula=data.formula or None)
    record(run, solution)
    _save_scores(run, solution, seconds)
    return solution


def _save_scores(run: Run, solution: Solution, seconds: float) -> None:
    """Save tables ``solution_shells`` and ``solver_scores_example``, with scores against the truth if it is known."""
    data = solution.reflections
    scores = {"r_factor": solution.r_factor, "mean_fom": float(solution.fom.mean()), "seconds": seconds}
    if solution.model is not None:
        scores |= {name: getattr(solution.model.statistics, name) for name in _MODEL_SCORES}
    limits = shell_limits(float(data.d_hkl.max()), data.d_min, _N_SHELLS)
    index = shell_index(data.d_hkl, limits)
    filled = np.unique(index)
    table = pd.DataFrame({"d_max": limits[filled], "d_min": limits[filled + 1], "n": np.bincount(index)[filled]})
    table["mean_fom"] = [solution.fom[index == shell].mean() for shell in filled]
    if run.config.solving.file is None:
        found = Truth(**run.arrays("true_F")).score(solution.F, data, n_shells=_N_SHELLS)
        for name in ("map_cc", "mean_phase_error_weighted"):
            scores[name], table[name] = float(getattr(found, name)[0]), found.shells[name]
    run.save_table("solution_shells", table)
    values = [{"model": run.config.solving.solver, "metric": name, "value": value} for name, value in scores.items()]
    run.save_table("solver_scores_example", _tidy(run, pd.DataFrame(values).assign(split=data.name, n=len(data))))


def _tidy(run: Run, table: pd.DataFrame) -> pd.DataFrame:
    units = {"seconds": "s", "mean_phase_error_weighted": "deg", "peak": "e/Å³", "hole": "e/Å³"}
    unit = table["metric"].map(units).fillna("")
    return table.assign(experiment="solving", unit=unit, seed=run.config.seed)[COLUMNS].reset_index(drop=True)


def benchmark_crystals(run: Run) -> list[Crystal]:
    """Collect the crystals of the benchmark; table ``left_out`` lists the CIFs that cannot be read, and why."""
    options = run.config.solving.benchmark
    if options.folder is None:
        return _random(options.n_crystals, RandomCrystalOptions(n_atoms=options.n_atoms), options.seed)
    found: list[Crystal] = []
    left_out = []
    for path in cif_files(options.folder):
        if len(found) == options.n_crystals:
            break
        try:
            found.append(read_crystal(path))
        except CifError as error:
            left_out.append({"file": path.name, "reason": str(error)})
    run.save_table("left_out", pd.DataFrame(left_out, columns=["file", "reason"]))
    return found


def _random(n: int, options: RandomCrystalOptions, seed: int) -> list[Crystal]:
    made = random_crystals(n, generator=torch.Generator().manual_seed(seed), options=options, dtype=torch.float64)
    return [made.crystal(i) for i in range(n)]


def compare_crystals(run: Run) -> pd.DataFrame:
    """Describe random crystals, and the real ones of the benchmark if the configuration gives a folder of them.

    Saves tables ``compared_crystals``, ``compared_amplitudes`` and ``compared_shells``; see `compare_structures`.
    """
    options = run.config.solving.benchmark
    kinds = RandomCrystalOptions(n_atoms=options.n_atoms)
    sources: dict[str, Sequence[Crystal]] = {"random": _random(options.n_compared, kinds, options.seed)}
    if options.folder is not None:
        sources = {"real": benchmark_crystals(run), **sources}
    for name, table in compare_structures(sources).items():
        run.save_table(f"compared_{name}", table)
    return crystal_medians(run)


def crystal_medians(run: Run) -> pd.DataFrame:
    """Medians over the random and the real crystals, from the saved table."""
    columns = ["volume_per_atom", "heavy", "hydrogen", "gap", "mean_abs_E2_minus_1"]
    return run.table("compared_crystals").groupby("source", sort=False)[columns].median().round(3)


def benchmark_solvers(run: Run) -> pd.DataFrame:
    """Solve every crystal with every solver at every d_min, and score random phases as ``chance``.

    A solver with a network is tried only at the resolution limits that the network has learned.

    Returns
    -------
    pandas.DataFrame
        One row per solution: solver, d_min (Å), crystal, space_group, is_centric, map_cc,
        mean_phase_error_weighted (degrees), r_factor, rival_r_factor, mean_fom, n_rivals, n_agree, n_trials, verdict,
        lead, probability, seconds.
    """
    check_solving(run.config)
    table = pd.DataFrame(list(_benchmark_rows(run)))
    run.save_table("solver_benchmark", table)
    scores = table.melt(["solver", "d_min"], ["map_cc", "mean_phase_error_weighted", "seconds"], "metric").dropna()
    means = scores.groupby(["solver", "d_min", "metric"], sort=False)["value"].agg(["mean", "size"]).reset_index()
    means = means.rename(columns={"solver": "model", "mean": "value", "size": "n"})
    means["split"] = "d_min=" + means["d_min"].astype(str)
    run.save_table("solver_scores_benchmark", _tidy(run, means))
    return table


def _benchmark_rows(run: Run) -> Iterator[dict[str, object]]:
    options, rng = run.config.solving.benchmark, np.random.default_rng(run.config.seed)
    weights = run.config.solving.weights
    suited = {name: _suited_limits(name, weights, options.d_mins) for name in options.solvers}
    measure = partial(solve_and_score, effort=options.effort, seed=run.config.seed, device=run.device)
    for crystal in benchmark_crystals(run):
        for d_min in options.d_mins:
            data, truth = simulate_reflections(
                crystal, d_min, noise=options.noise, missing=options.missing, seed=options.seed
            )
            for solver in (name for name, limits in suited.items() if d_min in limits):
                yield measure(data, truth, d_min, solver=solver, weights=weights_of(solver, weights))
            merged = data.merge().reflections
            phi = random_phases(merged.hkl, merged.group, _N_CHANCE, rng)
            scores = truth.score(np.sqrt(np.maximum(merged.intensity, 0)) * np.exp(1j * phi), merged)
            yield {
                "solver": "chance",
                **_case(merged, d_min),
                "map_cc": scores.map_cc.mean(),
                "mean_phase_error_weighted": scores.mean_phase_error_weighted.mean(),
            }


def _suited_limits(name: str, weights: str | None, d_mins: tuple[float, ...]) -> tuple[float, ...]:
    """Return the resolution limits for which a solver is made: those that its network has learned, or all."""
    if name != "learned":
        return d_mins
    return tuple(d_min for d_min in d_mins if solver_for("auto", weights, d_min=d_min).network is not None)


def solve_and_score(
    data: Reflections,
    truth: Truth,
    d_min: float,
    *,
    solver: str,
    weights: str | None,
    effort: float,
    seed: int,
    device: str = "auto",
) -> dict[str, object]:
    """Solve reflections, without a model, and score the solution that is ranked first; return a row of a benchmark."""
    start = time.perf_counter()
    solution = solve(data, model=False, solver=solver, weights=weights, effort=effort, seed=seed, device=device)
    seconds = time.perf_counter() - start
    return {"solver": solver, **_case(solution.reflections, d_min), **score_row(solution, truth, seconds)}


def score_row(solution: Solution, truth: Truth, seconds: float) -> dict[str, object]:
    """Scores of a solution for a row of a benchmark."""
    scores = truth.score(solution.F, solution.reflections)
    return {
        "map_cc": round(float(scores.map_cc[0]), 4),
        "mean_phase_error_weighted": round(float(scores.mean_phase_error_weighted[0]), 2),
        "r_factor": round(solution.r_factor, 4),
        "rival_r_factor": round(solution.rival_r_factor, 4),
        "mean_fom": round(float(solution.fom.mean()), 4),
        "n_rivals": solution.n_rivals,
        "n_agree": solution.n_agree,
        "n_trials": solution.n_trials,
        "verdict": solution.verdict,
        "lead": np.nan if solution.lead is None else round(solution.lead, 4),
        "probability": np.nan if solution.probability is None else round(solution.probability, 4),
        "seconds": round(seconds, 2),
    }


def _case(data: Reflections, d_min: float) -> dict[str, object]:
    group = data.group
    return {"d_min": d_min, "crystal": data.name, "space_group": group.symbol, "is_centric": group.is_centrosymmetric}


def solved_shares(table: pd.DataFrame, keys: tuple[str, ...] = ("solver", "d_min")) -> pd.DataFrame:
    """Summarise a benchmark: solved fractions (map_cc >= 0.7), claims and times for each solver and d_min."""

    def row(part: pd.DataFrame) -> dict[str, float]:
        solved, claimed = part["map_cc"] >= SOLVED, part["verdict"] == "solved"
        is_centric = part["is_centric"].astype(bool)
        return {
            "n": len(part),
            "solved": solved.mean(),
            "centric": solved[is_centric].mean(),
            "acentric": solved[~is_centric].mean(),
            "map_cc>=0.9": (part["map_cc"] >= WELL_SOLVED).mean(),
            "median_map_cc": part["map_cc"].median(),
            "claims": claimed.sum(),
            "right": solved[claimed].mean() if claimed.any() else np.nan,
            "median_s": part["seconds"].median(),
            "max_s": part["seconds"].max(),
            **({"named_first": part["named_first"].astype(float).mean()} if "named_first" in part else {}),
        }

    groups = table.groupby(list(keys), sort=False)
    return pd.DataFrame([{**dict(zip(keys, key)), **row(part)} for key, part in groups])
