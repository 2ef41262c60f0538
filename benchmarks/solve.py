"""Fraction of real crystals solved at each resolution, judged by the solution that the program ranks first.

    rephase bench solve -- --cod
    rephase bench solve -- --folder CIFS --d-min 1.0 1.5

``--cod`` takes the entries of the Crystallography Open Database that ``benchmarks/cod_crystals.csv`` lists by number,
space group, number of non-hydrogen sites in the asymmetric unit, and cell volume (Å^3). Each entry is downloaded once,
into the folder that the environment variable ``REPHASE_CRYSTALS`` names, or into ``~/.cache/rephase/cod`` if it is not
set. An entry that cannot be downloaded, or that differs from the list, is reported on stderr.

Noise-free |F_calc| (without dispersion) is computed from every CIF, the phases are dropped, and `rephase.solve` runs
with its defaults. ``map_cc`` is the best over the allowed origins and both hands. Options degrade the data, or hide the
space group; in that case ``named_first`` is the fraction of crystals whose correct group is named first. Rows are
appended to ``runs/bench/solve.csv``, and existing rows are not computed again; the table of all rows is printed at the
end.

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
import sys
import tempfile
import time
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import gemmi
import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.files import read_reflections
from rephase.crystal.reflections.simulation import Truth, random_phases, simulate_reflections
from rephase.crystal.reflections.statistics import unique_hkl
from rephase.crystal.structure_factors import structure_factors
from rephase.crystal.structures import Crystal, read_crystal
from rephase.crystal.symmetry import Symmetry, find_symmetry
from rephase.errors import CifError, ConfigError, ReflectionError
from rephase.files.writing import writable_folder
from rephase.formats import cod
from rephase.labs.solving.steps import score_row, solved_shares
from rephase.paths import RUNS
from rephase.random_crystals.crystals import random_crystals
from rephase.solvers.solve import solve

COD_CRYSTALS = Path(__file__).with_name("cod_crystals.csv")
KEYS = ("solver", "data", "effort", "d_min")
SAME = [*KEYS, "seed", "name"]
SPOILING = ("noise", "leak", "missing", "strongest_missing", "missing_cone")
_N_CHANCE = 20  # sets of random phases


def data_kind(options: argparse.Namespace) -> str:
    """Describe the data and their degradation in words."""
    kinds = {
        "measured": "measured",
        "random": f"{options.random} random crystals",
        "noise": f"{100 * options.noise:g}% noise",
        "leak": f"{100 * options.leak:g}% leak into absences",
        "missing": f"{100 * options.missing:g}% missing",
        "strongest_missing": f"strongest {options.strongest_missing} missing",
        "missing_cone": f"cone of {options.missing_cone:g}° missing",
        "unknown_group": "group unknown",
    }
    return ", ".join(text for name, text in kinds.items() if getattr(options, name)) or "exact"


def crystal_files(options: argparse.Namespace) -> list[Path]:
    """Choose every n-th CIF of the COD, of a folder, or of those with measured reflections."""
    if options.cod:
        numbers = cod_crystals().index[:: options.every].tolist()
        return fetched_files(numbers, options.url)
    paths = sorted((options.folder or options.measured).glob("*.cif"))
    if options.measured:
        paths = [path for path in paths if path.with_suffix(".hkl").is_file()]
    return paths[:: options.every]


def cod_crystals() -> pd.DataFrame:
    """Read space group, number of non-hydrogen sites and cell volume (Å^3) of the COD entries, by number."""
    return pd.read_csv(COD_CRYSTALS, dtype={"cod": str}, index_col="cod")


def fetched_files(numbers: list[str], url: str) -> list[Path]:
    """Download the entries; report those that fail, and return the CIFs of the others."""
    folder = writable_folder(cod.cache_folder(), name="REPHASE_CRYSTALS")
    report = cod.fetch_cod(numbers, folder, base_url=url, progress=partial(tqdm, unit="file", desc=str(folder)))
    for number, reason in report.failed.items():
        print(f"{number}: not downloaded: {reason}", file=sys.stderr)
    return [folder / f"{number}.cif" for number in numbers if number not in report.failed]


def read_crystals(paths: list[Path]) -> dict[str, Crystal]:
    """Read the crystals by the names of their files; report those that cannot be read."""
    crystals = {}
    for path in paths:
        try:
            crystals[path.stem] = read_crystal(path)
        except CifError as error:
            print(f"{path.stem}: not read: {error}", file=sys.stderr)
    return crystals


def describe(crystal: Crystal) -> dict[str, object]:
    """Describe a crystal as `cod_crystals` does."""
    n_sites = sum(element != "H" for element in crystal.asymmetric_unit.elements)
    symbol, volume = find_symmetry(crystal.space_group).symbol, round(crystal.cell.volume, 1)
    return {"space_group": symbol, "n_non_hydrogen": n_sites, "volume_A3": volume}


def name_changes(crystals: dict[str, Crystal]) -> None:
    """Report the COD entries that differ from the table."""
    for number, stated in cod_crystals().loc[list(crystals)].to_dict("index").items():
        found = describe(crystals[number])
        if found != stated:
            print(f"{number}: differs from cod_crystals.csv: {found}, expected {stated}", file=sys.stderr)


def made_crystals(options: argparse.Namespace) -> dict[str, Crystal]:
    """Generate random crystals, by name."""
    made = random_crystals(options.random, generator=torch.Generator().manual_seed(options.seed), dtype=torch.float64)
    return {f"random-{i}": made.crystal(i) for i in range(options.random)}


def measured_reflections(path: Path, crystal: Crystal, d_min: float) -> tuple[Reflections, Truth]:
    """Read the reflections of a file to `d_min` in Å (0 for all), with F_calc of the structure at the same hkl."""
    data = read_reflections(path)
    data = data.cut(d_min) if d_min else data
    hkl = data.merge().reflections.hkl
    return data, Truth(hkl, structure_factors(crystal, hkl, energy_kev=None))


def whole_truth(crystal: Crystal, data: Reflections) -> Truth:
    """Compute F of every reflection of the sphere, absences and Friedel mates included, for any group of the answer."""
    hkl = unique_hkl(crystal.cell, find_symmetry("P 1"), data.d_min * (1 - 1e-6))
    F = structure_factors(crystal, hkl, energy_kev=None)
    return Truth(np.concatenate([hkl, -hkl]), np.concatenate([F, F.conj()]))


def measure(name: str, crystal: Crystal, d_min: float, options: argparse.Namespace) -> dict[str, object]:
    """Solve one crystal at one resolution; return a row of the table."""
    symmetry = find_symmetry(crystal.space_group)
    row = {
        "solver": options.solver,
        "data": data_kind(options),
        "effort": options.effort,
        "d_min": d_min,
        "seed": options.seed,
        "name": name,
        "space_group": symmetry.symbol,
        "is_centric": symmetry.is_centrosymmetric,
        "verdict": "none",
        "seconds": np.nan,
    }
    protocol = {key: getattr(options, key) for key in (*SPOILING, "seed")}
    try:
        if options.measured:
            data, truth = measured_reflections(options.measured / f"{name}.hkl", crystal, d_min)
        else:
            data, truth = simulate_reflections(crystal, d_min, **protocol)
    except ReflectionError:  # too few reflections
        return row | {"map_cc": 0.0, "verdict": "refused"}
    if options.unknown_group:
        data, truth = replace(data, symmetry=None, is_merged=False), whole_truth(crystal, data)
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


def peer_rows(
    command: str, options: argparse.Namespace, files: list[Path], crystals: dict[str, Crystal]
) -> pd.DataFrame:
    """Run the peer on CIFs; return its rows."""
    with tempfile.TemporaryDirectory() as folder:
        for path in files:
            shutil.copy(path, folder)
        out = Path(folder) / "peer.csv"
        words = [*shlex.split(command), folder, str(out), "--d-min", *map(str, options.d_min)]
        subprocess.run(words, check=True)
        found = pd.read_csv(out, dtype={"name": str}).dropna(subset="seconds")
    groups = {name: find_symmetry(crystal.space_group) for name, crystal in crystals.items()}
    found["space_group"] = [groups[name].symbol for name in found["name"]]
    found["is_centric"] = [groups[name].is_centrosymmetric for name in found["name"]]
    kept = found[["d_min", "name", "space_group", "is_centric", "map_cc", "seconds"]]
    return kept.assign(solver="peer", data="exact", effort=1.0, seed=options.seed, verdict="none")


def parsed_options() -> argparse.Namespace:
    """Parse the command line; exit where options contradict each other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--cod", action="store_true", help="the entries of the COD that benchmarks/cod_crystals.csv names"
    )
    source.add_argument("--folder", type=Path, help="folder of CIFs")
    source.add_argument("--measured", type=Path, help="folder of reflections NAME.hkl and structures NAME.cif")
    source.add_argument("--random", type=int, help="number of random crystals to use instead")
    parser.add_argument("--url", default=cod.COD, help="with --cod: address of a folder of NUMBER.cif")
    parser.add_argument("--d-min", type=float, nargs="+", default=[0.8, 1.0, 1.2, 1.5, 2.0], help="limits (Å)")
    parser.add_argument("--every", type=int, default=1, help="take every n-th crystal")
    parser.add_argument("--noise", type=float, default=0.0, help="relative standard deviation of |F|")
    parser.add_argument("--leak", type=float, default=0.0, help="mean intensity of the absences relative to the others")
    parser.add_argument("--missing", type=float, default=0.0, help="fraction of the reflections that is missing")
    parser.add_argument("--strongest-missing", type=int, default=0, help="number of strongest reflections missing")
    parser.add_argument("--missing-cone", type=float, default=0.0, help="half-angle (degrees) of a missing cone at c*")
    parser.add_argument("--unknown-group", action="store_true", help="hide the space group")
    parser.add_argument("--solver", default="raar", help="solver of the project, or chance for random phases")
    parser.add_argument("--effort", type=float, default=1.0, help="upper limit of the search effort")
    parser.add_argument("--seed", type=int, default=0, help="seed of the data and of the random starts")
    parser.add_argument("--peer", default="", help='"PYTHON SCRIPT" to run instead, on exact data of CIFs')
    parser.add_argument("--out", type=Path, default=RUNS / "bench" / "solve.csv", help="table of results")
    options = parser.parse_args()
    if options.measured and any(getattr(options, name) for name in SPOILING):
        parser.error("--measured takes the data as they are; leave noise and gaps out")
    if options.peer and data_kind(options) != "exact":
        parser.error("--peer takes exact data of --folder or --cod; leave the other options of the data out")
    return options


def main() -> None:
    """Measure the requested cases and print the table of all rows so far."""
    options = parsed_options()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")  # e.g. a formula with more atoms than the file lists
    known = pd.read_csv(options.out, dtype={"name": str}) if options.out.is_file() else pd.DataFrame(columns=SAME)
    try:
        files = crystal_files(options) if options.random is None else []
    except ConfigError as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from None
    crystals = read_crystals(files) if options.random is None else made_crystals(options)
    if options.cod:
        name_changes(crystals)
    if options.peer:
        known = pd.concat([known, peer_rows(options.peer, options, files, crystals)]).drop_duplicates(SAME, keep="last")
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
    if not rows:
        raise SystemExit("no crystal could be read, and there are no earlier rows: nothing to print")
    print(solved_shares(pd.DataFrame(rows).sort_values(list(KEYS)), KEYS).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
