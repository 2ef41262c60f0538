"""Changed files of every kind, read and used: what comes out, how long the slowest takes, and how much memory.

    rephase bench fuzz_readers
    rephase bench fuzz_readers -- --kinds NXcanSAS images.cxi --examples 500 --seed 1 --keep runs/fuzz

Only a result or an error of the domain, one line long, may come out of a reader, within five seconds and two GB. Good
files are made small; each input is one of them, changed in up to three places: bytes, lines, columns and values of
text, links, shapes, types and attributes of HDF5, tags of TIFF, headers of arrays, trees of JSON and YAML. Kind, seed
and number fix an input. Each kind has a process of its own; one that dies or hangs is a failure. The status is 1 where
there is any failure, and ``--keep`` names a folder for the inputs that failed, each with its reason.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read when numpy is imported

import argparse
from pathlib import Path

from fuzzing import crystal_targets, optics_targets, stored_targets
from fuzzing.trials import HEAD, Summary, fuzz, summarise

TARGETS = {**crystal_targets.TARGETS, **optics_targets.TARGETS, **stored_targets.TARGETS}


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, help="inputs of each kind; 10,000 in all where not given")
    parser.add_argument("--kinds", nargs="+", choices=TARGETS, default=list(TARGETS), metavar="KIND")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the inputs that failed")
    return parser.parse_args(arguments)


def table(options: argparse.Namespace) -> list[Summary]:
    """A row of each kind, printed as soon as it is known."""
    n = options.examples or -(-10_000 // len(options.kinds))
    print(HEAD, flush=True)
    rows = []
    for name in options.kinds:
        rows.append(summarise(name, fuzz(name, TARGETS[name], n, seed=options.seed, keep=options.keep)))
        print(rows[-1], flush=True)
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 where anything failed."""
    rows = table(options_of(arguments))
    n_failed = sum(row.failures.total() for row in rows)
    print(f"{sum(row.inputs for row in rows)} inputs, {n_failed} failures")
    return 1 if n_failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
