"""Fraction of real crystals solved at each resolution, judged by the solution that the program ranks first.

    rephase bench solve -- --folder CIFS --d-min 1.0 1.5

Noise-free |F_calc| (without dispersion) is computed from every CIF of a folder, the phases are dropped, and
`rephase.solve` runs with its defaults. ``map_cc`` is the best over the allowed origins and both hands. Options degrade
the data, or hide the space group; in that case ``named_first`` is the fraction of crystals whose correct group is named
first. Rows are appended to ``runs/bench/solve.csv``, and existing rows are not computed again; the table of all rows is
printed at the end.

``--measured FOLDER`` takes measured reflections instead: files ``.hkl`` with the CIF of their structure under the same
name. They are used in full (d_min 0 in the table) and cut at each ``--d-min``, and judged against F_calc of the CIF at
the same hkl.

``--peer "PYTHON SCRIPT"`` runs another program on the same crystals in the same run: ``PYTHON SCRIPT FOLDER OUT.csv
--d-min ...``, which writes name, d_min, map_cc and seconds; its rows appear in the table as solver ``peer``.
"""

import argparse
import shlex
import shutil
import subprocess
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np
import pandas as pd
import torch

from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.files import read_reflections
from rephase.crystal.reflections.simulation import Truth, random_phases, simulate_reflections
from rephase.crystal.structure_factors import structure_factors
from rephase.crystal.structures import Crystal, read_crystal
from rephase.crystal.symmetry import Symmetry, find_symmetry
from rephase.errors import ReflectionError
from rephase.labs.solving.steps import score_row, solved_shares
from rephase.paths import RUNS
from rephase.random_crystals.crystals import random_crystals
from rephase.solvers.solve import solve

KEYS = ("solver", "data", "effort", "d_min")
SAME = [*KEYS, "seed", "name"]
SPOILING = ("noise", "missing", "strongest_missing", "missing_cone")
_N_CHANCE = 20  # sets of random phases


def data_kind(options: argparse.Namespace) -> str:
    """Describe the data and their degradation in words."""
    kinds = {
        "measured": "measured",
        "random": f"{options.random} random crystals",
        "noise": f"{100 * options.noise:g}% noise", "missing": f"{100 * options.missing:g}% missing",
        "strongest_missing": f"strongest {options.strongest_missing} missing",
        "missing_cone": f"cone of {options.missing_cone:g}° missing", "unknown_group": "group unknown",
    }  # fmt: skip
    return ", ".join(text for name, text in kinds.items() if getattr(options, name)) or "exact"


def chosen_crystals(options: argparse.Namespace) -> dict[str, Crystal]:
    """Choose every n-th crystal of a folder of CIFs, or of those with measured reflections, or random ones, by name."""
    if options.random is None:
        paths = sorted((options.folder or options.measured).glob("*.cif"))
        if options.measured:
            paths = [path for path in paths if path.with_suffix(".hkl").is_file()]
        return {path.stem: read_crystal(path) for path in paths[:: options.every]}
    made = random_crystals(options.random, generator=torch.Generator().manual_seed(options.seed), dtype=torch.float64)
    return {f"random-{i}": made.crystal(i) for i in range(options.random)}


def measured_reflections(path: Path, crystal: Crystal, d_min: float) -> tuple[Reflections, Truth]:
    """Read the reflections of a file to `d_min` in Å (0 for all), with F_calc of the structure at the same hkl."""
    data = read_reflections(path)
    data = data.cut(d_min) if d_min else data
    hkl = data.merge().reflections.hkl
    return data, Truth(hkl, structure_factors(crystal, hkl, energy_kev=None))


def measure(name: str, crystal: Crystal, d_min: float, options: argparse.Namespace) -> dict[str, object]:
    """Solve one crystal at one resolution; return a row of the table."""
    symmetry = find_symmetry(crystal.space_group)
    row = {"solver": options.solver, "data": data_kind(options), "effort": options.effort, "d_min": d_min,
           "seed": options.seed, "name": name, "space_group": symmetry.symbol,
           "is_centric": symmetry.is_centrosymmetric, "verdict": "none", "seconds": np.nan}  # fmt: skip
    protocol = {key: getattr(options, key) for key in (*SPOILING, "seed")}
    try:
        if options.measured:
            data, truth = measured_reflections(options.measured / f"{name}.hkl", crystal, d_min)
        else:
            data, truth = simulate_reflections(crystal, d_min, **protocol)
    except ReflectionError:  # too few reflections
        return row | {"map_cc": 0.0, "verdict": "refused"}
    if options.unknown_group:
        data, truth = replace(data, symmetry=None, is_merged=False), Truth(*symmetry.expand(truth.hkl, truth.F))
    if options.solver == "chance":
        merged = data.merge().reflections
        phi = random_phases(merged.hkl, merged.group, _N_CHANCE, np.random.default_rng(options.seed))
        scores = truth.score(merged.amplitudes().amplitude * np.exp(1j * phi), merged)
        return row | {"map_cc": float(scores.map_cc.mean())}
    start = time.perf_counter()
    solution = solve(data, solver=options.solver, effort=options.effort, seed=options.seed)
    row |= score_row(solution, truth, time.perf_counter() - start)
    if options.unknown_group:
        row["named_first"] = bool(solution.space_groups) and is_same_group(solution.space_groups[0].symmetry, symmetry)
    return row


def is_same_group(one: Symmetry, other: Symmetry) -> bool:
    """Return whether two groups in the same axes are equal, or an enantiomorphic pair, for which |F| is the same."""
    inverse = [gemmi.Op("-x,-y,-z") * gemmi.Op(triplet) * gemmi.Op("-x,-y,-z") for triplet in one.triplets]
    hands = ({gemmi.Op(t).wrap().triplet() for t in one.triplets}, {op.wrap().triplet() for op in inverse})
    without_origin = one.symbol.split(":")[0] == other.symbol.split(":")[0]
    return without_origin or {gemmi.Op(t).wrap().triplet() for t in other.triplets} in hands


def peer_rows(command: str, options: argparse.Namespace, crystals: dict[str, Crystal]) -> pd.DataFrame:
    """Run the peer on CIFs of a folder; return its rows."""
    with tempfile.TemporaryDirectory() as folder:
        for name in crystals:
            shutil.copy(options.folder / f"{name}.cif", folder)
        out = Path(folder) / "peer.csv"
        words = [*shlex.split(command), folder, str(out), "--d-min", *map(str, options.d_min)]
        subprocess.run(words, check=True)
        found = pd.read_csv(out, dtype={"name": str}).dropna(subset="seconds")
    groups = {name: find_symmetry(crystal.space_group) for name, crystal in crystals.items()}
    found["space_group"] = [groups[name].symbol for name in found["name"]]
    found["is_centric"] = [groups[name].is_centrosymmetric for name in found["name"]]
    kept = found[["d_min", "name", "space_group", "is_centric", "map_cc", "seconds"]]
    return kept.assign(solver="peer", data="exact", effort=1.0, seed=options.seed, verdict="none")


def main() -> None:
    """Measure the requested cases and print the table of all rows so far."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--folder", type=Path, help="folder of CIFs")
    source.add_argument("--measured", type=Path, help="folder of reflections NAME.hkl and structures NAME.cif")
    source.add_argument("--random", type=int, help="number of random crystals to use instead")
    parser.add_argument("--d-min", type=float, nargs="+", default=[0.8, 1.0, 1.2, 1.5, 2.0], help="limits (Å)")
    parser.add_argument("--every", type=int, default=1, help="take every n-th crystal")
    parser.add_argument("--noise", type=float, default=0.0, help="relative standard deviation of |F|")
    parser.add_argument("--missing", type=float, default=0.0, help="fraction of the reflections that is missing")
    parser.add_argument("--strongest-missing", type=int, default=0, help="number of strongest reflections missing")
    parser.add_argument("--missing-cone", type=float, default=0.0, help="half-angle (degrees) of a missing cone at c*")
    parser.add_argument("--unknown-group", action="store_true", help="hide the space group")
    parser.add_argument("--solver", default="raar", help="solver of the project, or chance for random phases")
    parser.add_argument("--effort", type=float, default=1.0, help="upper limit of the search effort")
    parser.add_argument("--seed", type=int, default=0, help="seed of the data and of the random starts")
    parser.add_argument("--peer", default="", help='"PYTHON SCRIPT" to run instead, on exact data of a folder')
    parser.add_argument("--out", type=Path, default=RUNS / "bench" / "solve.csv", help="table of results")
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")  # e.g. a formula with more atoms than the file lists
    known = pd.read_csv(options.out, dtype={"name": str}) if options.out.is_file() else pd.DataFrame(columns=SAME)
    crystals = chosen_crystals(options)
    if options.measured and any(getattr(options, name) for name in SPOILING):
        parser.error("--measured takes the data as they are; leave noise and gaps out")
    if options.peer and data_kind(options) != "exact":
        parser.error("--peer takes exact data of a --folder; leave the other options of the data out")
    if options.peer:
        known = pd.concat([known, peer_rows(options.peer, options, crystals)]).drop_duplicates(SAME, keep="last")
        known.to_csv(options.out, index=False)
        crystals = {}
    rows, seen = known.to_dict("records"), set(map(tuple, known[SAME].to_numpy().tolist()))
    for d_min in [0.0, *options.d_min] if options.measured else options.d_min:
        for name, crystal in crystals.items():
            if (options.solver, data_kind(options), options.effort, d_min, options.seed, name) in seen:
                continue
            rows.append(measure(name, crystal, d_min, options))
            pd.DataFrame(rows).to_csv(options.out, index=False)
            print(*rows[-1].values(), flush=True)
    print(solved_shares(pd.DataFrame(rows).sort_values(list(KEYS)), KEYS).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
