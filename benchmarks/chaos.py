"""Kills, full disks, flipped bits, two processes on one folder: whether anything is lost or wrong in silence.

    rephase bench chaos
    rephase bench chaos -- --cases "kill solve" "flip card" --tries 30 --seed 1

``kill``: the process of a piece of work is killed at random moments, every other time while it writes; what is left is
the old results or the new ones, nothing that it started lives on, and called again it ends with the bits of an
undisturbed call. ``full disk``: a file system in memory that is too small ends it with one line and leaves the earlier
results; with space it ends well. It is left out where nothing can be mounted. ``flip``: one bit of a stored file is
flipped; it is refused by name, or has no effect. ``pair``: two processes at once end with the right results, or one is
refused by name. The status is 1 where anything is bad.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read when numpy is imported
os.environ["SOURCE_DATE_EPOCH"] = "0"  # figures without the time at which they were drawn

import argparse
import tempfile
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import NamedTuple

from disturbances.flipped_bits import STORED, flip
from disturbances.full_disks import PARTS, can_mount, fill
from disturbances.kills import Undisturbed, kill, undisturbed
from disturbances.pairs import pair
from disturbances.processes import CONTEXT
from disturbances.works import WORKS

KILLED = ("generation", "training", "sweep", "solve", "complete")
FILLED = ("generation", "training", "solve", "complete", "run")
PAIRED = ("run", "sweep", "generation", "training", "solve")
N_PAIRS, N_FLIPS = 3, 40
HEAD = f"{'what':<28}{'tries':>6}{'good':>6}{'bad':>6}  the first that is bad"


class Chaos:
    """Every case in a folder of its own; the same work is done undisturbed only once."""

    def __init__(self, place: Path, *, tries: int | None, seed: int):
        self.place, self.tries, self.seed = place, tries, seed
        self.reference = cache(self._reference)

    def _reference(self, name: str) -> Undisturbed:
        place = self.place / f"reference {name}"
        place.mkdir()
        return undisturbed(WORKS[name], place)

    def kill(self, name: str) -> Iterator[str]:
        """Problems of kills."""
        random, place = Random(f"{self.seed} kill {name}"), self.place / f"kill {name}"
        for number in range(self.tries or 12):
            reference = self.reference(name)
            yield kill(WORKS[name], reference, place / str(number), random, is_late=number % 2 == 1)

    def full_disk(self, name: str) -> Iterator[str]:
        """Problems of full disks."""
        for part in PARTS:
            yield fill(WORKS[name], self.reference(name), self.place / f"full disk {name}" / str(part), part)

    def flip(self, name: str) -> Iterator[str]:
        """Problems of flipped bits, in a process that may die of them."""
        with ProcessPoolExecutor(1, CONTEXT) as pool:
            place = self.place / f"flip {name}"
            yield from pool.submit(flip, name, self.tries or N_FLIPS, self.seed, place).result()

    def pair(self, name: str) -> Iterator[str]:
        """Problems of two processes."""
        random, place = Random(f"{self.seed} pair {name}"), self.place / f"pair {name}"
        for number in range(self.tries or N_PAIRS):
            yield pair(WORKS[name], self.reference(name), place / str(number), random)

    def cases(self) -> dict[str, Callable[[], Iterator[str]]]:
        """Every case by its name."""
        named = {"kill": (self.kill, KILLED), "full disk": (self.full_disk, FILLED),
                 "flip": (self.flip, STORED), "pair": (self.pair, PAIRED)}  # fmt: skip
        return {f"{kind} {name}": partial(case, name) for kind, (case, names) in named.items() for name in names}


class Row(NamedTuple):
    """A case: what is wrong in each try, or nothing."""

    name: str
    problems: list[str]

    @property
    def bad(self) -> list[str]:
        """What is wrong."""
        return [problem for problem in self.problems if problem]

    def __str__(self) -> str:
        n, bad = len(self.problems), self.bad
        return f"{self.name:<28}{n:6d}{n - len(bad):6d}{len(bad):6d}  {bad[0][:300] if bad else ''}"


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    """What is asked for."""
    names = list(Chaos(Path(), tries=None, seed=0).cases())
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=names, default=names, metavar="CASE")
    parser.add_argument("--tries", type=int, help="of each case; not of full disks")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 where anything is bad."""
    options = options_of(arguments)
    warnings.simplefilter("ignore")
    print(HEAD, flush=True)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        cases = Chaos(Path(folder), tries=options.tries, seed=options.seed).cases()
        is_mountable = can_mount(Path(folder))
        for name in options.cases:
            if name.startswith("full disk") and not is_mountable:
                print(f"{name:<28} left out: no file system can be mounted here", flush=True)
                continue
            rows.append(Row(name, list(cases[name]())))
            print(rows[-1], flush=True)
    n_bad = sum(len(row.bad) for row in rows)
    print(f"{sum(len(row.problems) for row in rows)} tries, {n_bad} bad")
    return 1 if n_bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
