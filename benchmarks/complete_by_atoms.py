"""How well atoms, found and refined at low resolution, foretell the amplitudes beyond it.

    rephase bench complete_by_atoms -- --folder ../shared/crystals
    rephase bench complete_by_atoms -- --random 24 --space-groups "P 1 21/c 1"

Noise-free |F_calc| of the monoclinic CIFs of a folder, or of random crystals, is cut at --d-cut; `rephase.solve` and
`fit_atoms` see that part, and everything to --d-min is judged: R = sum ||F_out| - |F|| / sum |F| over the unique
reflections, all of them (``all_``; the observed part is the observed data) and the missing ones alone (``missing_``).
Beside ``calc``, the plain |F_calc| of the atoms, and ``expected``, what `expected_amplitudes` makes of it, stand what
needs no phases: ``zero``; ``wilson``, the mean amplitude of Wilson's line through the observed part; ``median``, the
true median of each shell, which nobody can know. ``within_sigma`` is the share of missing amplitudes within one σ,
0.68 at best. With --true-phases the solver is left out. Rows are appended to ``runs/bench/complete_by_atoms.csv``, and
what is there is not done again; the medians of all rows are printed at the end.
"""

import argparse
import time
import warnings
from pathlib import Path

import gemmi
import numpy as np
import pandas as pd
import torch

from rephase.crystal.random_crystals import RandomCrystalOptions, random_crystals
from rephase.crystal.reflections import Reflections
from rephase.crystal.shells import shell_index, shell_limits
from rephase.crystal.simulation import Truth, simulate_reflections
from rephase.crystal.statistics import expected_intensity
from rephase.crystal.structure import Crystal, read_crystal
from rephase.crystal.symmetry import rows_of
from rephase.paths import RUNS
from rephase.solvers.atoms import expected_amplitudes, fit_atoms
from rephase.solvers.rice import amplitude_moments
from rephase.solvers.solution import Solution, absolute_amplitude
from rephase.solvers.solve import solve

KEYS = ["crystals", "phases", "effort", "d_cut", "d_min"]
SAME = [*KEYS, "seed", "name"]
GUESSES = ("zero", "wilson", "median", "calc", "expected")
SHOWN = [*(f"{part}_{guess}" for guess in GUESSES for part in ("all", "missing")), "within_sigma", "fit_seconds"]
_N_SHELLS = 20


def kind(options: argparse.Namespace) -> str:
    """Which crystals, in words."""
    return "real" if options.folder is not None else f"{options.random} random {', '.join(options.space_groups)}"


def chosen_crystals(options: argparse.Namespace) -> dict[str, Crystal]:
    """Every n-th monoclinic crystal of a folder, or random ones, by name."""
    if options.folder is not None:
        found = {path.stem: read_crystal(path) for path in sorted(options.folder.glob("*.cif"))}
        return dict([(name, crystal) for name, crystal in found.items() if is_monoclinic(crystal)][:: options.every])
    wanted = RandomCrystalOptions(space_groups=tuple(options.space_groups), n_atoms=(8, 25))
    generator = torch.Generator().manual_seed(options.seed)
    made = random_crystals(options.random, generator=generator, options=wanted, dtype=torch.float64)
    return {f"random-{i}": made.crystal(i) for i in range(0, options.random, options.every)}


def is_monoclinic(crystal: Crystal) -> bool:
    """Whether the space group is."""
    return gemmi.SpaceGroup(crystal.space_group).crystal_system_str() == "monoclinic"


def with_true_phases(data: Reflections, truth: Truth) -> Solution:
    """What a perfect solver would give."""
    phi = np.angle(truth.F[rows_of(data.hkl, truth.hkl)])
    return Solution(data, absolute_amplitude(data), phi, np.ones(len(phi)), 0.0, np.inf, 1, 1, "solved")


def median_of_shells(amplitude: np.ndarray, d_hkl: np.ndarray) -> np.ndarray:
    """The median amplitude [n] of each reflection's shell."""
    shell = shell_index(d_hkl, shell_limits(float(d_hkl.max()), float(d_hkl.min()), _N_SHELLS))
    return pd.Series(amplitude).groupby(shell).transform("median").to_numpy()


def measure(name: str, crystal: Crystal, options: argparse.Namespace) -> dict[str, object]:
    """Complete one crystal; a row of the table."""
    everything, truth = simulate_reflections(crystal, options.d_min)
    data, hkl = everything.cut(options.d_cut), everything.hkl
    effort, seed = options.effort, options.seed
    solution = with_true_phases(data, truth) if options.true_phases else solve(data, effort=effort, seed=seed)
    start = time.perf_counter()
    model = fit_atoms(solution, seed=seed)
    seconds = time.perf_counter() - start
    is_missing, is_centric = everything.d_hkl < options.d_cut * (1 - 1e-9), data.group.is_centric(hkl)
    amplitude, missing = np.abs(truth.F), everything.d_hkl[is_missing]
    expected, sigma = expected_amplitudes(model, data, hkl)
    guesses = {
        "zero": np.zeros(len(hkl)),
        "wilson": amplitude_moments(np.zeros(len(hkl)), expected_intensity(data, hkl), is_centric)[0],
        "median": np.zeros(len(hkl)),
        "calc": model.scale * np.abs(model.structure_factors(hkl)),
        "expected": expected,
    }
    guesses["median"][is_missing] = median_of_shells(amplitude[is_missing], missing)
    difference = {guess: np.abs(values - amplitude)[is_missing].sum() for guess, values in guesses.items()}
    return {
        "crystals": kind(options), "phases": "exact" if options.true_phases else "solved", "effort": effort,
        "d_cut": options.d_cut, "d_min": options.d_min, "seed": seed, "name": name, "space_group": data.group.symbol,
        "verdict": solution.verdict, "map_cc": float(truth.score(solution.F, solution.reflections).map_cc[0]),
        "n_atoms": len(model.atoms), "r_factor": model.r_factor, "r_free": model.r_free,
        "correlation": model.trust.correlation, "inflation": model.trust.inflation,
        **{f"all_{guess}": value / amplitude.sum() for guess, value in difference.items()},
        **{f"missing_{guess}": value / amplitude[is_missing].sum() for guess, value in difference.items()},
        "within_sigma": float((np.abs(expected - amplitude) <= sigma)[is_missing].mean()), "fit_seconds": seconds,
    }  # fmt: skip


def medians(rows: pd.DataFrame) -> pd.DataFrame:
    """Medians over crystals, all and those whose phases were right."""
    parts = {"all": rows, "map_cc > 0.7": rows[rows["map_cc"] > 0.7]}
    tables = [part.groupby(KEYS)[SHOWN].median().assign(which=which, n=part.groupby(KEYS).size())
              for which, part in parts.items()]  # fmt: skip
    return pd.concat(tables).reset_index().set_index([*KEYS, "which", "n"]).round(3)


def main() -> None:
    """Measure what is asked for and print the medians of everything measured so far."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--folder", type=Path, help="of CIFs")
    source.add_argument("--random", type=int, help="how many random crystals instead")
    parser.add_argument("--space-groups", nargs="+", default=["P 1 21/c 1", "C 1 2 1"], help="of the random crystals")
    parser.add_argument("--d-cut", type=float, default=1.5, help="Å, of what is observed")
    parser.add_argument("--d-min", type=float, default=0.8, help="Å, of what is wanted")
    parser.add_argument("--true-phases", action="store_true", help="instead of those of the solver")
    parser.add_argument("--effort", type=float, default=0.3, help="of the solver")
    parser.add_argument("--every", type=int, default=1, help="take every n-th crystal")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RUNS / "bench" / "complete_by_atoms.csv")
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")  # a formula that names more than the file lists
    rows = pd.read_csv(options.out, dtype={"name": str}).to_dict("records") if options.out.is_file() else []
    seen = {tuple(row[key] for key in SAME) for row in rows}
    phases = "exact" if options.true_phases else "solved"
    for name, crystal in chosen_crystals(options).items():
        if (kind(options), phases, options.effort, options.d_cut, options.d_min, options.seed, name) in seen:
            continue
        rows.append(measure(name, crystal, options))
        pd.DataFrame(rows).to_csv(options.out, index=False)
        print(*rows[-1].values(), flush=True)
    with pd.option_context("display.width", 250, "display.max_columns", None):
        print(medians(pd.DataFrame(rows)).T.to_string())


if __name__ == "__main__":
    main()
