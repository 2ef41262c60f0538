"""Instruction files of solved crystals, read and refined by another program, beside the figures of rephase.

    rephase bench instruction_files -- FOLDER --peer "PYTHON benchmarks/peers/refinement_smtbx.py"

FOLDER holds the results of `rephase solve`, one folder for each crystal, as ``rephase solve FILES --out FOLDER`` writes
them. The peer reads every ``solution.res`` and ``solution.hkl`` as they are. ``r1_read`` is R1 of the atoms as it reads
them, ``r1_refined`` the one after its own refinement, empty where the file has an extinction or a shared occupancy,
which smtbx does not read; both should be near ``r1``, that of rephase.
"""

import argparse
import json
import shlex
import subprocess
import tempfile
from pathlib import Path

import pandas as pd

from rephase.errors import ConfigError

_NEAR = 0.01  # of R1


def results_in(folder: Path) -> pd.DataFrame:
    """Return the instruction files of a folder of results, with R1 of rephase."""
    files = sorted(folder.glob("*/solution.res"))
    if not files:
        raise ConfigError(f"{folder}: no solution.res in its folders; write them with rephase solve FILES --out FOLDER")
    r1 = [json.loads((file.parent / "solution.json").read_text())["r1"] for file in files]
    names = [file.parent.name for file in files]
    return pd.DataFrame({"name": names, "file": [str(file) for file in files], "r1": pd.to_numeric(r1)})


def read_elsewhere(command: str, files: list[str]) -> pd.DataFrame:
    """Run the peer on instruction files; return its rows."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "peer.csv"
        subprocess.run([*shlex.split(command), str(out), *files], check=True)
        return pd.read_csv(out).rename(columns={"r1": "r1_refined", "wr2": "wr2_refined"})


def main() -> None:
    """Compare the files of a folder, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of folders with results")
    parser.add_argument("--peer", required=True, help='"PYTHON SCRIPT" of the other program')
    options = parser.parse_args()
    own = results_in(options.folder)
    table = own.merge(read_elsewhere(options.peer, list(own["file"])), on="file").drop(columns="file")
    print(table.round(4).to_string(index=False))
    is_read, was_refined = table["r1_read"].notna(), table["r1_refined"].notna()
    near_read, near_refined = (
        (table[column] - table["r1"]).abs()[rows] <= _NEAR
        for column, rows in (("r1_read", is_read), ("r1_refined", was_refined))
    )
    print(f"read: {is_read.sum()} of {len(table)}, R1 within {_NEAR} in {near_read.sum()}")
    print(f"refined: {was_refined.sum()}, R1 within {_NEAR} in {near_refined.sum()}")


if __name__ == "__main__":
    main()
