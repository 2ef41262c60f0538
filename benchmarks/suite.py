"""Every benchmark of speed in one go, beside its peers, and the time and memory of every command.

    rephase bench
    rephase bench --against runs/bench/bench.json

At each size the programs take turns, so that other load on the machine affects all of them. For each row the table has
the median and the quartiles of the rounds, and how many times as long each peer takes (its time over that of rephase
in the same round). Larger sizes of slow peers are left out, by an estimate from the smaller ones. Everything is written
to ``runs/bench/``: ``bench.json`` (every round), ``bench.md`` (the table), and pictures of time against size. Process
times are on one thread; commands are measured in clock time.

Peers that rephase does not depend on have environments of their own, ``FOLDER/NAME``: the environment variable
``REPHASE_PEERS`` names FOLDER; if it is not set, that is ``~/.cache/rephase/peers``. The table says how to install the
missing ones.

``--against`` compares with an earlier ``bench.json`` of the same machine. A row has changed if its medians differ by
more than 5 % and by more than three robust standard errors; behind it is the change of its peers, whose code is the
same. The exit status is 1 if something became slower, or needs more memory, or if a benchmark failed.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read when numpy and torch are imported

import argparse
import sys
import traceback
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

import commands
import completion_training
import droplets
import gisaxs
import image_posteriors
import image_training
import ptychography
import random_crystals
import saxs
import speed_of_solve
import structure_factors
import torch
import unet_training
from measuring.against import compare, other_machine, other_programs, other_work
from measuring.machine import machine, moment, programs
from measuring.pictures import draw_costs
from measuring.tables import FOLDER, markdown, plain, read_results, write_results
from measuring.timing import Comparison, measure

from rephase.errors import ConfigError, RephaseError
from rephase.files.writing import write_whole
from rephase.plots import save_figure

SUITE: dict[str, tuple[Comparison, ...]] = {  # by the name of the file
    "structure_factors": structure_factors.COMPARISONS,
    "random_crystals": random_crystals.COMPARISONS,
    "saxs": saxs.COMPARISONS,
    "gisaxs": gisaxs.COMPARISONS,
    "droplets": droplets.COMPARISONS,
    "ptychography": ptychography.COMPARISONS,
    "image_posteriors": image_posteriors.COMPARISONS,
    "image_training": image_training.COMPARISONS,
    "completion_training": completion_training.COMPARISONS,
    "unet_training": unet_training.COMPARISONS,
    "speed_of_solve": speed_of_solve.COMPARISONS,
    "commands": commands.COMPARISONS,
}


def run_suite(suite: Mapping[str, Iterable[Comparison]], out: Path) -> dict[str, object]:
    """Measure every comparison; one that fails is recorded. What is measured so far is in ``unfinished.json``."""
    results = {"machine": machine(), "programs": programs(), "moments": {"start": moment()}}
    results |= {"missing": {}, "failed": {}, "rows": []}
    for comparisons in suite.values():
        for comparison in comparisons:
            print(f"{comparison.name} ...", file=sys.stderr, flush=True)
            try:
                results["rows"].extend(measure(comparison, results["missing"]))
            except Exception as error:  # of one benchmark; the others are measured nevertheless
                traceback.print_exc()
                results["failed"][comparison.name] = f"{type(error).__name__}: {error}".splitlines()[0]
            results["moments"]["end"] = moment()
            write_results(out / "unfinished.json", results)
    write_results(out / "bench.json", results)
    (out / "unfinished.json").unlink(missing_ok=True)
    return results


def report(results: dict[str, object], out: Path) -> None:
    """Print the table; write it and the pictures."""
    print(plain(results))
    write_whole(out / "bench.md", markdown(results))
    for name, figure in draw_costs(results["rows"]).items():
        save_figure(figure, out, name)
    print(f"\nwritten: {out}")


def main(suite: Mapping[str, Iterable[Comparison]] = SUITE, out: Path = FOLDER) -> int:
    """Measure, print and compare; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="bench.json of an earlier run to compare with")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    earlier = read_results(options.against) if options.against else None
    if earlier and (difference := other_machine(earlier, machine())):
        raise ConfigError(f"--against {options.against}: of another machine ({difference}); expected a run of this one")
    results = run_suite(suite, out)
    report(results, out)
    status = 1 if results["failed"] else 0
    if earlier:
        changes = compare(earlier["rows"], results["rows"])
        notes = [other_programs(earlier, results["programs"]), other_work(earlier, results)]
        print("\n".join([f"\nagainst {options.against}:", *filter(None, notes), changes.text()]))
        status = 1 if changes.slower else status
    return status


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RephaseError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(2)
