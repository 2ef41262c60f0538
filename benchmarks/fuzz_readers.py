"""Fuzzing of every reader: changed files are read and used, with limits on outcome, time and memory.

    rephase bench fuzz_readers
    rephase bench fuzz_readers -- --kinds NXcanSAS images.cxi --examples 500 --seed 1 --keep runs/fuzz

A reader must return a result or raise a domain error of one line, within five seconds and two GB. Good files are small;
each input is one of them, changed in up to three places: bytes, lines, columns and values of text; links, shapes, types
and attributes of HDF5; tags of TIFF; headers of arrays; trees of JSON and YAML. Kind, seed and number determine an
input. Each kind is read in its own process; if that dies or hangs, this is a failure. The exit status is 1 if there is
any failure, and ``--keep`` names a folder for the inputs that failed, each with its reason.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read when numpy is imported

import argparse
from pathlib import Path

from fuzzing import crystal_targets, optics_targets, stored_targets
from fuzzing.trials import HEAD, Summary, fuzz, summarise

TARGETS = {**crystal_targets.TARGETS, **optics_targets.TARGETS, **stored_targets.TARGETS}


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, help="inputs of each kind; by default 10,000 in total")
    parser.add_argument(
        "--kinds", nargs="+", choices=TARGETS, default=list(TARGETS), metavar="KIND", help="kinds of files to read"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the changes")
    parser.add_argument("--keep", type=Path, help="folder for the inputs that failed")
    return parser.parse_args(arguments)


def table(options: argparse.Namespace) -> list[Summary]:
    """Return a row for each kind, printed as soon as it is complete."""
    n = options.examples or -(-10_000 // len(options.kinds))
    print(HEAD, flush=True)
    rows = []
    for name in options.kinds:
        rows.append(summarise(name, fuzz(name, TARGETS[name], n, seed=options.seed, keep=options.keep)))
        print(rows[-1], flush=True)
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Print the table; return 1 if anything failed."""
    rows = table(options_of(arguments))
    n_failed = sum(row.failures.total() for row in rows)
    print(f"{sum(row.inputs for row in rows)} inputs, {n_failed} failures")
    return 1 if n_failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
