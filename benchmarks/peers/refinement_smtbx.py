"""Instruction files read and refined by smtbx, the refinement of cctbx, in an environment of its own.

    pip install cctbx-base numpy
    rephase bench instruction_files -- --cod --d-min 0.9 --peer "PYTHON benchmarks/peers/refinement_smtbx.py"

Called as ``refinement_smtbx.py OUT.csv FILE.res ...``; the reflections are those of ``FILE.hkl``. ``r1_read`` is R1 of
I > 2σ for the atoms as they were read, ``r1`` and ``wr2`` those after some cycles. smtbx reads neither EXTI nor the
second sign of a shared occupancy (``-21``) in its constraints: files with either are read, but not refined.
"""

import argparse
import csv
import re
from pathlib import Path

import numpy as np
from cctbx import miller
from scitbx.lstbx import normal_eqns_solving
from smtbx.refinement import model

COLUMNS = ("file", "n_atoms", "n_reflections", "r1_read", "r1", "wr2", "n_parameters", "error")
N_CYCLES = 8


def r1_as_read(read) -> float:
    """Return R1 of I > 2σ with the scale that fits best."""
    observations = read.fo_sq
    kept = observations.data > 2 * observations.sigmas
    chosen = miller.set(read.xray_structure, observations.indices.select(kept), anomalous_flag=False)
    calculated = chosen.structure_factors_from_scatterers(read.xray_structure, algorithm="direct").f_calc()
    size = np.abs(np.array(calculated.data()))
    observed = np.sqrt(np.array(observations.data.select(kept)))
    weight = 1 / np.maximum(observed, 1e-9)  # of F as of F^2: strong reflections do not set the scale alone
    scale = (weight * observed) @ size / ((weight * size) @ size)
    return float(np.abs(observed - scale * size).sum() / observed.sum())


def refined(read) -> dict:
    """Refine; return R1, wR2 and the number of parameters."""
    equations = read.least_squares()
    normal_eqns_solving.levenberg_marquardt_iterations(
        equations, n_max_iterations=N_CYCLES, gradient_threshold=1e-8, step_threshold=1e-8
    )
    equations.build_up(objective_only=True)
    return {
        "r1": equations.r1_factor(cutoff_factor=2)[0],
        "wr2": equations.wR2(),
        "n_parameters": equations.reparametrisation.n_independents,
    }


def row(path: Path) -> dict:
    """Read and refine one file."""
    found = {"file": str(path)}
    try:
        read = model.from_shelx(str(path))
        found |= {"n_atoms": len(read.xray_structure.scatterers()), "n_reflections": len(read.fo_sq.indices)}
        found["r1_read"] = r1_as_read(read)
        if not re.search(r"^EXTI|\s-\d1\.0", path.read_text(), re.MULTILINE):
            found |= refined(read)
    except Exception as error:  # of one file; the others are read nevertheless
        found["error"] = f"{type(error).__name__}: {error}"
    return found


def main() -> None:
    """Read and refine the files, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    options = parser.parse_args()
    with options.out.open("w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows(map(row, options.files))


if __name__ == "__main__":
    main()
