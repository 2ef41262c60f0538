"""Seconds from measured intensities to phases, and from the command to the page with a model.

    rephase bench speed_of_solve -- --folder CIFS --every 5
    rephase bench speed_of_solve -- --folder CIFS --peer "PYTHON benchmarks/peers/charge_flipping_cctbx.py"

Noise-free intensities to ``--d-min`` are computed from every CIF. ``phases`` is the time of `rephase.solve` without a
model, in this process. ``page`` is the time of ``rephase solve`` in a process of its own, which reads a file, builds
a model and writes all results. ``--peer`` runs another program on the same crystals, as `rephase bench solve` does.

The last lines give the medians, and for each program the time of all crystals divided by the number of solved ones,
and their ratio.
"""

import argparse
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import pandas as pd
import torch
from cases.crystals import crystal_files, read_crystals
from measuring.peers import interpreter
from measuring.timing import Comparison, Task
from solve import peer_rows

from rephase.crystal.map_files import write_cif
from rephase.crystal.peaks import Peaks
from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.files import write_hklf4
from rephase.crystal.reflections.simulation import SOLVED, simulate_reflections
from rephase.crystal.structures import Crystal
from rephase.crystal.symmetry import find_symmetry
from rephase.paths import BENCHMARKS
from rephase.random_crystals.crystals import RandomCrystalOptions, random_crystals
from rephase.solvers.solve import solve


def seconds_of_phases(crystal: Crystal, d_min: float) -> tuple[float, float]:
    """Solve the phases of a crystal; return the seconds, and map_cc with the truth."""
    data, truth = simulate_reflections(crystal, d_min)
    start = time.perf_counter()
    solution = solve(data, model=False)
    return time.perf_counter() - start, float(truth.score(solution.F, solution.reflections).map_cc[0])


def seconds_of_page(data: Reflections) -> float:
    """Run the command on a file of the data; return its seconds."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["solve", *written(data, Path(folder)), "--out", f"{folder}/out"]
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "rephase.cli", *words], check=True, capture_output=True)
        return time.perf_counter() - start


def written(data: Reflections, folder: Path) -> list[str]:
    """Write reflections to a file; return the arguments that a command needs to read it."""
    file = folder / "crystal.hkl"
    write_hklf4(file, data)
    return [str(file), "--cell", ",".join(map(str, data.cell.parameters)), "--space-group", data.group.symbol]


def random_crystal(n_atoms: int) -> Crystal:
    """Make a crystal of P 1 21/c 1 with a number of atoms, hydrogen included, in its molecule."""
    kinds = RandomCrystalOptions(space_groups=("P 1 21/c 1",), n_atoms=(n_atoms, n_atoms + 1))
    return random_crystals(1, generator=torch.Generator().manual_seed(0), options=kinds).crystal(0)


def phases(n_atoms: int) -> Task:
    """Solve the phases of a random crystal to 1 Å."""
    return Task(lambda: _seconds(*seconds_of_phases(random_crystal(n_atoms), 1.0)))


def phases_of_cctbx(n_atoms: int) -> Task:
    """Solve the same crystal with the charge flipping of cctbx."""
    crystal, script = random_crystal(n_atoms), str(BENCHMARKS / "peers" / "charge_flipping_cctbx.py")
    sites, symmetry = crystal.asymmetric_unit, find_symmetry(crystal.space_group)
    peaks = Peaks(sites.xyz_frac, sites.occupancy, sites.elements)
    python = interpreter("cctbx")

    def run() -> dict[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out.csv"
            write_cif(Path(folder) / "crystal.cif", crystal.cell, symmetry, peaks)
            subprocess.run([python, script, folder, str(out), "--d-min", "1.0"], check=True)
            (found,) = pd.read_csv(out).to_dict("records")
        return _seconds(found["seconds"], found["map_cc"])

    return Task(run)


def _seconds(seconds: float, map_cc: float) -> dict[str, float]:
    """Return the seconds of a solution; raise an error if it is not one."""
    if not map_cc >= SOLVED:
        raise RuntimeError(f"not solved: map_cc {map_cc:.2f} after {seconds:.1f} s")
    return {"s": seconds}


COMPARISONS = (
    Comparison(
        name="phases of a crystal",
        ours=phases,
        peers={"cctbx": phases_of_cctbx},
        sizes=(10, 20, 40),
        axis="atoms",
        per="crystal",
    ),
)


def print_shares(program: str, table: pd.DataFrame) -> float:
    """Print the number of crystals that a program solved, and its seconds for each; return the latter."""
    n_solved = int((table["map_cc"] >= SOLVED).sum())
    share = table["seconds"].sum() / n_solved if n_solved else float("inf")
    median = table["seconds"].median()
    print(f"{program}: {n_solved} of {len(table)} solved, {share:.2f} s per solved, median {median:.2f} s")
    return float(share)


def parsed_options() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="folder of CIFs")
    parser.add_argument("--every", type=int, default=1, help="take every n-th crystal")
    parser.add_argument("--d-min", type=float, default=1.0, help="resolution limit (Å)")
    parser.add_argument("--no-page", dest="page", action="store_false", help="measure the phases only")
    parser.add_argument("--peer", default="", help='"PYTHON SCRIPT" to run on the same crystals')
    parser.set_defaults(cod=False, measured=None, random=None, seed=0)
    return parser.parse_args()


def main() -> None:
    """Measure every crystal, print its row, then the summary."""
    options = parsed_options()
    warnings.simplefilter("ignore")
    files = crystal_files(options)
    crystals, rows = read_crystals(files), []
    for name, crystal in crystals.items():
        phases, map_cc = seconds_of_phases(crystal, options.d_min)
        page = seconds_of_page(simulate_reflections(crystal, options.d_min)[0]) if options.page else float("nan")
        rows.append({"name": name, "map_cc": map_cc, "seconds": phases, "page_s": page})
        shown = f", page {page:.2f} s" if options.page else ""
        print(f"{name}: map_cc {map_cc:.3f}, phases {phases:.2f} s{shown}", flush=True)
    table = pd.DataFrame(rows)
    if options.page:
        print(f"command to page: median {table['page_s'].median():.2f} s")
    ours = print_shares("phases", table)
    if options.peer:
        options.d_min = [options.d_min]
        theirs = print_shares("peer", peer_rows(options.peer, options, files, crystals))
        print(f"phases / peer: {ours / theirs:.2f} in seconds per solved crystal")


if __name__ == "__main__":
    main()
