"""How many real crystals are solved at which resolution, by the one solution that the program ranks first.

    rephase bench solve -- --folder ../shared/crystals --d-min 1.0 1.5

Every CIF of a folder gives noise-free |F_calc| (no dispersion), the phases are dropped, and `rephase.solve` runs with
its defaults. ``map_cc`` is best over the allowed origins and both hands. With ``--noise`` and ``--missing`` the
amplitudes get relative Gaussian noise and a share of the reflections is left out. Rows are appended to
``runs/bench/solve.csv``, and what is there is not done again; the table of all rows is printed at the end.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from rephase.crystal.phase_scores import score_phases
from rephase.crystal.reflections import Reflections
from rephase.crystal.statistics import unique_hkl
from rephase.crystal.structure import Crystal, read_crystal
from rephase.crystal.structure_factors import structure_factors
from rephase.crystal.symmetry import find_symmetry
from rephase.paths import RUNS
from rephase.solvers.solve import solve

SOLVED, WELL_SOLVED = 0.7, 0.9  # map_cc


def simulate(crystal: Crystal, d_min: float, *, noise: float, missing: float, seed: int) -> tuple[Reflections, dict]:
    """Reflections of a crystal, and its true F by index."""
    symmetry, rng = find_symmetry(crystal.space_group), np.random.default_rng(seed)
    hkl = unique_hkl(crystal.cell, symmetry, d_min)
    F = structure_factors(crystal, hkl, energy_kev=None)
    amplitude = np.abs(F) * (1 + noise * rng.normal(size=len(F)))
    kept = rng.random(len(F)) >= missing
    sigma = np.maximum(2 * max(noise, 0.001) * np.abs(F) ** 2, 1e-6 * (np.abs(F) ** 2).max())
    data = Reflections(hkl[kept], amplitude[kept] ** 2, sigma[kept], crystal.cell, symmetry, name=crystal.name)
    return data, dict(zip(map(tuple, hkl.tolist()), F))


def measure(path: Path, d_min: float, options: argparse.Namespace) -> dict[str, object]:
    """Solve one crystal at one resolution; a row of the table."""
    crystal = read_crystal(path)
    data, truth = simulate(crystal, d_min, noise=options.noise, missing=options.missing, seed=options.seed)
    start = time.perf_counter()
    solution = solve(
        data, solver=None if options.solver == "default" else options.solver, effort=options.effort, seed=options.seed
    )
    seconds = time.perf_counter() - start
    true = np.array([truth[tuple(h)] for h in solution.hkl.tolist()])
    group = solution.reflections.group
    scores = score_phases(solution.F, true, hkl=solution.hkl, cell=crystal.cell, symmetry=group)
    return {
        "solver": options.solver, "noise": options.noise, "missing": options.missing, "effort": options.effort,
        "seed": options.seed, "name": path.stem, "space_group": group.symbol,
        "is_centric": group.is_centrosymmetric, "d_min": d_min, "map_cc": round(float(scores.map_cc[0]), 4),
        "mean_phase_error_weighted": round(float(scores.mean_phase_error_weighted[0]), 2),
        "r_factor": round(solution.r_factor, 4),
        "rival_r_factor": round(solution.rival_r_factor, 4), "n_agree": solution.n_agree, "n_trials": solution.n_trials,
        "verdict": solution.verdict, "seconds": round(seconds, 2),
    }  # fmt: skip


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Solved shares, claims and times for each resolution and way of working."""
    keys = ["solver", "noise", "missing", "effort", "d_min"]

    def row(part: pd.DataFrame) -> pd.Series:
        solved, claimed = part["map_cc"] >= SOLVED, part["verdict"] == "solved"
        return pd.Series({
            "n": len(part),
            "solved": solved.mean(),
            "centric": solved[part["is_centric"]].mean(),
            "acentric": solved[~part["is_centric"]].mean(),
            "map_cc>=0.9": (part["map_cc"] >= WELL_SOLVED).mean(),
            "claims": claimed.sum(),
            "right": solved[claimed].mean() if claimed.any() else np.nan,
            "median_s": part["seconds"].median(),
            "max_s": part["seconds"].max(),
        })  # fmt: skip

    return pd.DataFrame([{**dict(zip(keys, key)), **row(part)} for key, part in table.groupby(keys)])


def main() -> None:
    """Measure what is asked for and print the table of everything measured so far."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--d-min", type=float, nargs="+", default=[0.8, 1.0, 1.2, 1.5, 2.0])
    parser.add_argument("--every", type=int, default=1, help="take every n-th crystal")
    parser.add_argument("--noise", type=float, default=0.0)
    parser.add_argument("--missing", type=float, default=0.0)
    parser.add_argument("--solver", default="default")
    parser.add_argument("--effort", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RUNS / "bench" / "solve.csv")
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    same = ["solver", "noise", "missing", "effort", "seed", "name", "d_min"]
    done = pd.read_csv(options.out, dtype={"name": str}) if options.out.is_file() else pd.DataFrame(columns=same)
    seen = set(map(tuple, done[same].to_numpy().tolist()))
    for d_min in options.d_min:
        for path in sorted(options.folder.glob("*.cif"))[:: options.every]:
            key = (options.solver, options.noise, options.missing, options.effort, options.seed, path.stem, d_min)
            if key in seen:
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a formula that names more than the file lists
                row = measure(path, d_min, options)
            pd.DataFrame([row]).to_csv(options.out, mode="a", header=not options.out.is_file(), index=False)
            print(*row.values(), flush=True)
    print(summary(pd.read_csv(options.out, dtype={"name": str})).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
