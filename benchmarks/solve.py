"""Fraction of real crystals solved at each resolution, judged by the solution that the program ranks first.

    rephase bench solve -- --cod
    rephase bench solve -- --folder CIFS --d-min 1.0 1.5

``--cod`` takes the entries of the Crystallography Open Database that ``benchmarks/cod_crystals.csv`` lists by number,
space group, number of non-hydrogen sites in the asymmetric unit, and cell volume (Å^3). Each entry is downloaded once,
into the folder that the environment variable ``REPHASE_CRYSTALS`` names, or into ``~/.cache/rephase/cod`` if it is not
set. An entry that cannot be downloaded, or that differs from the list, is reported on stderr.

Noise-free |F_calc| (without dispersion) is computed from every CIF, the phases are dropped, and `rephase.solve` runs
with its defaults, without building a model. ``map_cc`` is the best over the allowed origins and both hands. Options
degrade the data, or hide the space group; in that case ``named_first`` is the fraction of crystals whose correct group
is named first. Rows are appended to ``runs/bench/solve.csv``, and existing rows are not computed again; the table of
all rows is printed at the end.

``--measured FOLDER`` takes measured reflections instead: those in CIFs beside the structure, or in a ``.hkl`` of the
same name. They are used in full (d_min 0 in the table) and cut at each ``--d-min``, and judged against F_calc of the
CIF at the same hkl.

``--reliability`` prints and draws (``runs/bench/solve_reliability.png``) how often answers of a network are right, for
classes of the stated probability. If none is stated (``--uncalibrated``), the probability is that of a fit to the rows.

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
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import gemmi
import numpy as np
import pandas as pd
from cases.crystals import chosen_crystals, crystal_files
from cases.options import case_parser, check_case, data_kind, errors_in_one_line, limits_of
from cases.reflections import case_of, chance, is_same_group
from cases.reliability import draw_reliability, fitted, reliability, stated_by
from cases.rows import Row, continued, replace_rows

from rephase.crystal.structures import Crystal
from rephase.crystal.symmetry import find_symmetry
from rephase.errors import ReflectionError, nearest_name
from rephase.labs.solving.steps import score_row, solved_shares
from rephase.plots import save_figure
from rephase.solvers.choice import NETWORK_SOLVERS, SOLVERS, nearest_shipped
from rephase.solvers.claims import CALIBRATIONS
from rephase.solvers.solve import solve

KEYS = ("solver", "data", "effort", "d_min")
SAME = [*KEYS, "seed", "name"]
CLASSES = {"volume": [0, 1000, 3500, np.inf], "heaviest": [0, 9, 18, np.inf]}


def measure(name: str, crystal: Crystal, d_min: float, options: argparse.Namespace) -> Row:
    """Solve one crystal at one resolution; return what the table says of it."""
    symmetry = find_symmetry(crystal.space_group)
    row: Row = {
        "space_group": symmetry.symbol,
        "is_centric": symmetry.is_centrosymmetric,
        "volume": round(crystal.cell.volume),
        "heaviest": max(gemmi.Element(element).atomic_number for element in crystal.asymmetric_unit.elements),
        "verdict": "none",
        "seconds": np.nan,
    }
    try:
        data, truth = case_of(name, crystal, d_min, options)
    except ReflectionError:  # too few reflections
        return row | {"map_cc": 0.0, "verdict": "refused"}
    if options.solver == "chance":
        return row | {"map_cc": chance(data.merge().reflections, truth, options.seed)}
    start = time.perf_counter()
    search = {key: getattr(options, key) for key in ("solver", "weights", "effort", "seed")}
    solution = solve(data, model=False, **search)
    row |= score_row(solution, truth, time.perf_counter() - start)
    row["network"] = "" if solution.lead is None else options.weights or nearest_shipped(data.d_min)
    if options.unknown_group:
        row["named_first"] = bool(solution.space_groups) and is_same_group(solution.space_groups[0].symmetry, symmetry)
    return row


def shares_by_size(table: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Summarise the rows by classes of the cell volume (Å^3), then of the atomic number of the heaviest atom."""
    for column, limits in CLASSES.items():
        there = table.dropna(subset=column) if column in table else table[:0]
        if len(there):
            named = pd.cut(there[column].astype(float), limits).astype(str)
            shares = solved_shares(there.assign(**{column: named}), (*KEYS, column))
            yield shares[[*KEYS, column, "n", "solved", "map_cc>=0.9"]].sort_values([*KEYS, column])


def cases(crystals: dict[str, Crystal], options: argparse.Namespace) -> Iterator[tuple[Row, Callable[[], Row]]]:
    """List the crystals at each resolution: the keys of a row, and what measures the rest of it."""
    for d_min in limits_of(options):
        for name, crystal in crystals.items():
            asks_other = options.solver in NETWORK_SOLVERS and options.weights
            solver = f"{options.solver} {options.weights}" if asks_other else options.solver
            solver += " uncalibrated" if options.uncalibrated else ""
            values = solver, data_kind(options), options.effort, d_min, options.seed, name
            yield dict(zip(SAME, values)), partial(measure, name, crystal, d_min, options)


def peer_rows(
    command: str, options: argparse.Namespace, files: list[Path], crystals: dict[str, Crystal]
) -> pd.DataFrame:
    """Run the peer on CIFs; return its rows."""
    with tempfile.TemporaryDirectory() as folder:
        for path in files:
            if path.stem in crystals:  # the others could not be read, and were reported
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
    parser = case_parser(__doc__, "solve")
    parser.add_argument("--solver", default="classical", help="solver of the project, or chance for random phases")
    parser.add_argument(
        "--weights", help="network of the solvers learned and auto, if not as shipped: a name, or a file"
    )
    parser.add_argument("--by-size", action="store_true", help="tables by cell volume and by heaviest atom too")
    parser.add_argument(
        "--reliability",
        action="store_true",
        help="how often solutions of a network are right, with a fit and a figure",
    )
    parser.add_argument(
        "--uncalibrated", action="store_true", help="no claims by the confidence of a network, as before a fit of them"
    )
    parser.add_argument("--peer", default="", help='"PYTHON SCRIPT" to run instead, on exact data of CIFs')
    options = parser.parse_args()
    check_case(options, parser)
    if options.solver not in (*SOLVERS, "chance"):
        parser.error(f"--solver {options.solver!r}: {nearest_name(options.solver, [*SOLVERS, 'chance'])}")
    if options.peer and data_kind(options) != "exact":
        parser.error("--peer takes exact data of --folder or --cod; leave the other options of the data out")
    return options


def print_reliability(table: pd.DataFrame, out: Path) -> None:
    """Print how often solutions of a network are right, with a fit to all rows of each; draw it beside `out`."""
    led, keys, tables = table.dropna(subset="lead"), (*KEYS, "network"), []
    recorded = led["network"] if "network" in led else pd.Series(index=led.index, dtype=object)
    led = led.assign(network=recorded.fillna("network not recorded"))
    for (solver, network), part in led.groupby(["solver", "network"], sort=False):
        fit = fitted(part)
        print(f"{solver}, {network}, {', '.join(f'{d_min:g}' for d_min in part['d_min'].unique())} Å:", end=" ")
        # not from how many trials on it holds, which is no part of a fit
        print(dict(zip(fit._fields[:4], fit)) if fit else "too few solutions, or all alike: no fit")
        tables.append(reliability(stated_by(fit, part), keys))
        print(tables[-1].round(3).to_string(index=False))
    if any(map(len, tables)):
        save_figure(draw_reliability(pd.concat(tables), keys), out.parent, f"{out.stem}_reliability")


def main() -> None:
    """Measure the requested cases and print the table of all rows so far."""
    options = parsed_options()
    warnings.simplefilter("ignore")  # e.g. a formula with more atoms than the file lists
    if options.uncalibrated:
        CALIBRATIONS.clear()
    with errors_in_one_line():
        files = crystal_files(options)
        crystals = chosen_crystals(options, files)
        if options.peer:
            replace_rows(options.out, peer_rows(options.peer, options, files, crystals), SAME)
            crystals = {}
        rows = continued(options.out, cases(crystals, options))
    if not rows:
        raise SystemExit("no crystal could be read, and there are no earlier rows: nothing to print")
    table = pd.DataFrame(rows).sort_values(list(KEYS))
    for shares in shares_by_size(table) if options.by_size else ():
        print(shares.round(3).to_string(index=False), end="\n\n")
    if options.reliability and "lead" in table:
        print_reliability(table, options.out)
    print(solved_shares(table, KEYS).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
