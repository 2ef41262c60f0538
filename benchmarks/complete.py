"""Accuracy of the amplitudes that each route predicts for reflections finer than the resolution limit of the data.

    rephase bench complete -- --folder CIFS
    rephase bench complete -- --random 24 --space-groups "P 1 21/c 1" --model wilson fourier_unet

Noise-free |F_calc| of the monoclinic CIFs of a folder, or of random crystals, is cut at --d-cut; `rephase.complete`
gets that part, and `score_completion` judges all reflections to --d-min. Models are the routes ``atoms`` and
``wilson``, the names of shipped weights and weights files. Two references are compared with them: ``zero``, and
``median``, the true median of each shell, which is unknown in practice. With --true-phases, `atoms` does not need the
solver. Rows are appended to ``runs/bench/complete.csv``, and existing rows are not computed again. The medians of all
rows are printed at the end, with the mean squared difference times 1000.
"""

import argparse
import time
import warnings
from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np
import pandas as pd
import torch

from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.simulation import Truth, simulate_reflections
from rephase.crystal.reflections.statistics import absolute_amplitude
from rephase.crystal.shells import shell_index, shell_limits
from rephase.crystal.structures import Crystal, read_crystal
from rephase.crystal.symmetry import rows_of
from rephase.errors import RephaseError
from rephase.labs.completion.comparison import Example, score_completion
from rephase.labs.completion.complete import Completion, complete
from rephase.paths import RUNS
from rephase.random_crystals.crystals import RandomCrystalOptions, random_crystals
from rephase.solvers.solution import Solution

KEYS = ["crystals", "phases", "effort", "d_cut", "d_min", "model"]
GUESSES = ("zero", "median")  # references without σ
SAME = [*KEYS, "seed", "name"]
SHOWN = [
    "r_factor",
    "r_factor_missing",
    "mse",
    "ssim",
    "map_ssim",
    "map_cc",
    "within_sigma",
    "relative_sigma",
    "seconds",
]
_N_SHELLS = 20


def kind(options: argparse.Namespace) -> str:
    """Describe the crystals in words."""
    return "real" if options.folder is not None else f"{options.random} random {', '.join(options.space_groups)}"


def chosen_crystals(options: argparse.Namespace) -> dict[str, Crystal]:
    """Choose every n-th monoclinic crystal of a folder, or random ones, by name."""
    if options.folder is not None:
        found = {path.stem: read_crystal(path) for path in sorted(options.folder.glob("*.cif"))}
        return dict([(name, crystal) for name, crystal in found.items() if is_monoclinic(crystal)][:: options.every])
    wanted = RandomCrystalOptions(space_groups=tuple(options.space_groups), n_atoms=(8, 25))
    generator = torch.Generator().manual_seed(options.seed)
    made = random_crystals(options.random, generator=generator, options=wanted, dtype=torch.float64)
    return {f"random-{i}": made.crystal(i) for i in range(0, options.random, options.every)}


def is_monoclinic(crystal: Crystal) -> bool:
    """Return whether a crystal's space group is monoclinic."""
    return gemmi.SpaceGroup(crystal.space_group).crystal_system_str() == "monoclinic"


def with_true_phases(data: Reflections, truth: Truth) -> Solution:
    """Return the solution of a perfect solver."""
    phi = np.angle(truth.F[rows_of(data.hkl, truth.hkl)])
    return Solution(data, absolute_amplitude(data), phi, np.ones(len(phi)), 0.0, np.inf, 1, 1, "solved")


def median_of_shells(amplitude: np.ndarray, d_hkl: np.ndarray) -> np.ndarray:
    """Return the median amplitude [n] of each reflection's shell."""
    shell = shell_index(d_hkl, shell_limits(float(d_hkl.max()), float(d_hkl.min()), _N_SHELLS))
    return pd.Series(amplitude).groupby(shell).transform("median").to_numpy()


def completed(model: str, data: Reflections, truth: Truth, options: argparse.Namespace) -> Completion:
    """Complete one crystal with one model; models that are not routes have no σ."""
    common = {"d_min": options.d_min, "effort": options.effort, "seed": options.seed}
    if model not in GUESSES:
        solution = with_true_phases(data, truth) if options.true_phases and model == "atoms" else None
        return complete(data, model=model, solution=solution, **common)
    found = complete(data, model="wilson", **common)
    missing, true = ~found.is_observed, np.abs(truth.F[rows_of(found.hkl, truth.hkl)])
    amplitude = np.where(missing, 0.0, found.amplitude)
    if model == "median":
        amplitude[missing] = median_of_shells(true[missing], found.d_hkl[missing])
    return replace(found, amplitude=amplitude, sigma=np.full(len(true), np.nan))


def measure(model: str, crystal: Crystal, options: argparse.Namespace) -> dict[str, object]:
    """Complete one crystal with one model; return its scores, or the reason why there are none."""
    everything, truth = simulate_reflections(crystal, options.d_min)
    data = everything.cut(options.d_cut)
    start = time.perf_counter()
    try:
        found = completed(model, data, truth, options)
    except RephaseError as error:
        return {"left_out": str(error)}
    seconds = time.perf_counter() - start
    facts = {f"of_atoms_{name}": value for name, value in found.facts.items()} if model == "atoms" else {}
    unsure = {"within_sigma": np.nan} if model in GUESSES else {}
    return {
        **score_completion(found, Example(data, truth.hkl, truth.F)),
        **unsure,
        "seconds": seconds,
        **facts,
        "outside_training": "; ".join(found.outside),
    }


def medians(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the medians over crystals, and the number of completed crystals."""
    scores = rows.reindex(columns=[*KEYS, *SHOWN]).dropna(subset="r_factor")
    scores["mse"] *= 1000
    groups = scores.groupby(KEYS, sort=False)
    return groups[SHOWN].median().round(4).assign(n=groups.size())


def main() -> None:
    """Measure the requested cases and print the medians of all rows so far."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--folder", type=Path, help="folder of CIFs")
    source.add_argument("--random", type=int, help="number of random crystals to use instead")
    parser.add_argument("--model", nargs="+", default=["zero", "wilson", "median", "atoms"], help="models to compare")
    parser.add_argument("--space-groups", nargs="+", default=["P 1 21/c 1", "C 1 2 1"], help="for random crystals")
    parser.add_argument("--d-cut", type=float, default=1.5, help="resolution limit (Å) of the observed part")
    parser.add_argument("--d-min", type=float, default=0.8, help="resolution limit (Å) of the completed data")
    parser.add_argument("--true-phases", action="store_true", help="use the true phases instead of the solver's")
    parser.add_argument("--effort", type=float, default=1.0, help="effort of the solver and of the fit of atoms")
    parser.add_argument("--every", type=int, default=1, help="take every n-th crystal")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random crystals and of the routes")
    parser.add_argument("--out", type=Path, default=RUNS / "bench" / "complete.csv", help="table of results")
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")  # e.g. a formula with more atoms than the file lists
    rows = pd.read_csv(options.out, dtype={"name": str}).to_dict("records") if options.out.is_file() else []
    seen, phases = {tuple(row[key] for key in SAME) for row in rows}, "exact" if options.true_phases else "solved"
    asked = (kind(options), phases, options.effort, options.d_cut, options.d_min)
    for name, crystal in chosen_crystals(options).items():
        for model in options.model:
            same = dict(zip(SAME, (*asked, Path(model).stem, options.seed, name)))
            if tuple(same.values()) in seen:
                continue
            rows.append({**same, "space_group": crystal.space_group, **measure(model, crystal, options)})
            pd.DataFrame(rows).to_csv(options.out, index=False)
            print(*rows[-1].values(), flush=True)
    with pd.option_context("display.width", 250, "display.max_columns", None):
        print(medians(pd.DataFrame(rows)).to_string())


if __name__ == "__main__":
    main()
