"""How many real crystals are solved at which resolution, by the one solution that the program ranks first.

    rephase bench solve -- --folder ../shared/crystals --d-min 1.0 1.5

Every CIF of a folder gives noise-free |F_calc| (no dispersion), the phases are dropped, and `rephase.solve` runs with
its defaults. ``map_cc`` is best over the allowed origins and both hands. With ``--noise`` and ``--missing`` the
amplitudes get relative Gaussian noise and a share of the reflections is left out. Rows are appended to
``runs/bench/solve.csv``, and what is there is not done again; the table of all rows is printed at the end.
"""

import argparse
import warnings
from pathlib import Path

import pandas as pd

from rephase.crystal.simulation import simulate_reflections
from rephase.crystal.structure import read_crystal
from rephase.paths import RUNS
from rephase.solving import solve_and_score, solved_shares

KEYS = ("solver", "noise", "missing", "effort", "d_min")


def measure(path: Path, d_min: float, options: argparse.Namespace) -> dict[str, object]:
    """Solve one crystal at one resolution; a row of the table."""
    protocol = {"noise": options.noise, "missing": options.missing, "seed": options.seed}
    data, truth = simulate_reflections(read_crystal(path), d_min, **protocol)
    row = solve_and_score(data, truth, d_min, solver=options.solver, effort=options.effort, seed=options.seed)
    return {
        "solver": options.solver, "noise": options.noise, "missing": options.missing, "effort": options.effort,
        "seed": options.seed, "name": path.stem,
        **{key: row[key] for key in ("space_group", "is_centric", "d_min", *list(row)[5:])},
    }  # fmt: skip


def main() -> None:
    """Measure what is asked for and print the table of everything measured so far."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--d-min", type=float, nargs="+", default=[0.8, 1.0, 1.2, 1.5, 2.0])
    parser.add_argument("--every", type=int, default=1, help="take every n-th crystal")
    parser.add_argument("--noise", type=float, default=0.0)
    parser.add_argument("--missing", type=float, default=0.0)
    parser.add_argument("--solver", default="raar")
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
    measured = pd.read_csv(options.out, dtype={"name": str}).sort_values(list(KEYS))
    print(solved_shares(measured, KEYS).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
