"""Charge flipping of cctbx on the crystals of ``benchmarks/solve.py``, in an environment of its own.

    pip install cctbx-base numpy
    rephase bench solve -- --cod --peer "PYTHON benchmarks/peers/charge_flipping_cctbx.py"

Called as ``charge_flipping_cctbx.py FOLDER OUT.csv --d-min 1.0 1.2``. |F_calc| of every CIF is computed to d_min (Å)
without noise and without phases; charge flipping gets three attempts of 500 cycles on quasi-normalised amplitudes.
``map_cc`` is the |F|²-weighted correlation with the true map in P 1, best over every origin shift and both hands. Where
cctbx flags a phase transition, the best of its P 1 phases and of its first three symmetrised solutions counts, so the
figure is optimistic for cctbx. ``seconds`` leaves scoring out; it is empty where cctbx cannot read or solve the file.
"""

import argparse
import csv
import io
import random
import time
from pathlib import Path

import iotbx.cif
import numpy as np
from cctbx.array_family import flex
from smtbx.ab_initio import charge_flipping

COLUMNS = ("name", "d_min", "map_cc", "seconds", "error")
N_ATTEMPTS, N_CYCLES, N_SYMMETRISED = 3, 500, 3


def aligned_map_cc(true, found) -> float:
    """Correlation of two sets of structure factors by an FFT over all origin shifts, for both hands."""
    true, found = (F.expand_to_p1().generate_bijvoet_mates() for F in (true, found))
    true, found = true.common_sets(found)
    hkl = np.array(list(true.indices()))
    F = true.data().as_numpy_array()
    other = np.abs(F) * np.exp(1j * np.angle(found.data().as_numpy_array()))
    shape = 2 * (2 * np.abs(hkl).max(0) + 2)
    best = -1.0
    for hand in (other, other.conj()):
        products = np.zeros(shape, complex)
        products[tuple((hkl % shape).T)] = F.conj() * hand
        best = max(best, np.fft.fftn(products).real.max() / np.sum(np.abs(F) ** 2))
    return float(best)


def flip(amplitudes) -> tuple[list, bool, float]:
    """One attempt: the structure factors that it found, whether cctbx flags success, seconds."""
    start = time.perf_counter()
    flipping = charge_flipping.weak_reflection_improved_iterator(delta=None)
    solving = charge_flipping.solving_iterator(
        flipping,
        amplitudes,
        yield_during_delta_guessing=True,
        yield_solving_interval=1,
        max_attempts_to_get_phase_transition=1,
        max_solving_iterations=N_CYCLES,
        normalisations_for=charge_flipping.amplitude_quasi_normalisations,
    )
    charge_flipping.loop(solving, verbose=False, out=io.StringIO())
    seconds = time.perf_counter() - start
    found = [flipping.f_calc]
    if solving.had_phase_transition:
        found += [solution[0] for solution in (solving.f_calc_solutions or [])[:N_SYMMETRISED]]
    return found, solving.had_phase_transition, seconds


def solve(structure, d_min: float, seed: int) -> tuple[float, float]:
    """map_cc of the last attempt and seconds of all; a flagged transition ends the attempts."""
    random.seed(seed)
    flex.set_random_seed(seed)
    true = structure.structure_factors(d_min=d_min, algorithm="direct").f_calc().as_non_anomalous_array()
    map_cc = total = 0.0
    for _ in range(N_ATTEMPTS):
        try:
            found, is_flagged, seconds = flip(true.as_amplitude_array())
        except AssertionError:  # of cctbx: this attempt came to nothing
            continue
        total += seconds
        map_cc = max(aligned_map_cc(true, F) for F in found)
        if is_flagged:
            break
    return map_cc, total


def rows_of(path: Path, d_mins: list[float], seed: int):
    """A row of each resolution; one with the error where cctbx cannot read or solve the file."""
    try:
        structure = next(iter(iotbx.cif.reader(file_path=str(path)).build_crystal_structures().values()))
        structure.scattering_type_registry(table="it1992")
    except Exception as error:  # whatever cctbx makes of a file that it does not read
        yield path.stem, "", "", "", type(error).__name__
        return
    for d_min in d_mins:
        try:
            map_cc, seconds = solve(structure, d_min, seed)
            yield path.stem, d_min, round(map_cc, 4), round(seconds, 2), ""
        except Exception as error:
            yield path.stem, d_min, "", "", type(error).__name__


def main() -> None:
    """Solve the CIFs of a folder and write the table, a row at a time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--d-min", type=float, nargs="+", default=[0.8, 1.0, 1.2, 1.5, 2.0])
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with options.out.open("w", newline="") as handle:
        table = csv.writer(handle)
        table.writerow(COLUMNS)
        for path in sorted(options.folder.glob("*.cif")):
            for row in rows_of(path, options.d_min, options.seed):
                table.writerow(row)
                handle.flush()


if __name__ == "__main__":
    main()
