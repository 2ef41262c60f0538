"""Instruction files that `rephase.solve` writes, read and refined by another program.

    rephase bench instruction_files -- --cod --d-min 0.9 --noise 0.02 --peer "PYTHON SCRIPT"
    rephase bench instruction_files -- --measured FOLDER --d-min 1.0 --peer "PYTHON SCRIPT"

SCRIPT is ``benchmarks/peers/refinement_smtbx.py``. The options that choose crystals and degrade their reflections are
those of ``rephase bench solve``. The peer reads every ``solution.res`` and ``solution.hkl`` as written. ``r1`` is that
of rephase, ``r1_read`` that of the atoms as the peer reads them, ``r1_refined`` the one after its own refinement, empty
where the file has an extinction or a shared occupancy, which smtbx does not read. The table is also written to
``runs/bench/instruction_files.csv``.
"""

import argparse
import shlex
import subprocess
import tempfile
import warnings
from pathlib import Path

import pandas as pd
from cases.crystals import chosen_crystals, crystal_files
from cases.options import case_parser, check_case, limits_of
from cases.reflections import case_of

from rephase.crystal.structures import Crystal
from rephase.solvers.solve import solve

_NEAR = 0.01  # of R1


def written_files(crystals: dict[str, Crystal], options: argparse.Namespace, folder: Path) -> pd.DataFrame:
    """Solve crystals and write their files into a folder; return a row for each with a model."""
    rows = []
    for d_min in limits_of(options):
        for name, crystal in crystals.items():
            data, _ = case_of(name, crystal, d_min, options)
            solution = solve(data, effort=options.effort, seed=options.seed)
            if solution.model is not None:
                file = solution.write(folder / f"{name}_{d_min:g}") / "solution.res"
                rows.append({"d_min": d_min, "name": name, "file": str(file), "r1": solution.model.r1})
    return pd.DataFrame(rows)


def read_elsewhere(command: str, files: list[str], out: Path) -> pd.DataFrame:
    """Run the peer on instruction files; return its rows."""
    subprocess.run([*shlex.split(command), str(out), *files], check=True)
    return pd.read_csv(out).rename(columns={"r1": "r1_refined", "wr2": "wr2_refined"})


def summary(table: pd.DataFrame, column: str) -> str:
    """Count the files with a value in a column of R1, and those near R1 of rephase."""
    there = table[column].notna()
    near = (table[column] - table["r1"]).abs()[there] <= _NEAR
    return f"{column}: {there.sum()} of {len(table)} files, within {_NEAR} of r1 in {near.sum()}"


def main() -> None:
    """Solve the crystals, have their files read, and print the table."""
    parser = case_parser(__doc__, "instruction_files")
    parser.add_argument("--peer", required=True, help='"PYTHON SCRIPT" of the other program')
    options = parser.parse_args()
    check_case(options, parser)
    warnings.simplefilter("ignore", UserWarning)  # of single crystals
    crystals = chosen_crystals(options, crystal_files(options))
    with tempfile.TemporaryDirectory() as folder:
        own = written_files(crystals, options, Path(folder))
        elsewhere = read_elsewhere(options.peer, list(own["file"]), Path(folder) / "peer.csv")
    table = own.merge(elsewhere, on="file").drop(columns="file")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(options.out, index=False)
    print(table.drop(columns="error").round(4).to_string(index=False))
    for name, error in table.dropna(subset="error")[["name", "error"]].itertuples(index=False):
        print(f"{name}: {error}")
    print(summary(table, "r1_read"))
    print(summary(table, "r1_refined"))


if __name__ == "__main__":
    main()
