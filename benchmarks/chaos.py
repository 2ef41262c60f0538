"""Kills, full disks, flipped bits, two processes on one folder: no result may be lost, or wrong without an error.

    rephase bench chaos
    rephase bench chaos -- --cases "kill solve" "flip card" --tries 30 --seed 1

``kill``: a task is killed at random moments, every other time while it writes. The old or the new results must remain
complete, no process that it started may survive, and a second call must end with the same bits as an undisturbed call.
``part``: one of the processes that share a task is killed (a worker or the scheduler of Dask, a process of a training,
a shard of a data set); the task must end with the same bits, or with one line and a second call with them. ``pieces``:
a task is killed in one piece, pauses in up to two others, and must end with the same bits in the last. Each try of
these three has one kill, and is repeated if the kill came after the end.
``full disk``: a file system in memory that is too small must end the task with one line and leave the earlier results;
with enough space the task must succeed. This case is left out if file systems cannot be mounted. ``flip``: one bit of a
stored file is flipped; the file must be refused by name, or the flip must have no effect. ``pair``: two simultaneous
processes must end with the correct results, or one must be refused by name. The exit status is 1 if anything failed.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read when numpy is imported
os.environ["SOURCE_DATE_EPOCH"] = "0"  # figures without the time of drawing

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
from disturbances.parts import kill_part
from disturbances.pieces import cut
from disturbances.processes import CONTEXT
from disturbances.shared_works import SHARED
from disturbances.works import WORKS
from tqdm import tqdm

TASKS = WORKS | SHARED
KILLED = ("generation", "training", "sweep", "solve", "complete", "shared training", "shards")
SHARED_OUT = ("shards", "shared training", "dask sweep", "scheduled sweep")
CUT = ("train command", "notebooks")
FILLED = ("generation", "training", "solve", "complete", "run")
PAIRED = ("run", "sweep", "generation", "training", "solve")
N_KILLS, N_PAIRS, N_FLIPS = 20, 3, 40
HEAD = f"{'case':<28}{'tries':>6}{'good':>6}{'bad':>6}  the first that is bad"


class Chaos:
    """Every case in its own folder; each task is done undisturbed only once."""

    def __init__(self, place: Path, *, tries: int | None, seed: int):
        self.place, self.tries, self.seed = place, tries, seed
        self.reference = cache(self._reference)

    def _reference(self, name: str) -> Undisturbed:
        place = self.place / f"reference {name}"
        place.mkdir()
        return undisturbed(TASKS[name], place)

    def kill(self, name: str) -> Iterator[str]:
        """Yield the problem of each kill."""
        random, place = Random(f"{self.seed} kill {name}"), self.place / f"kill {name}"
        for number in range(self.tries or N_KILLS):
            reference = self.reference(name)
            yield kill(TASKS[name], reference, place / str(number), random, is_late=number % 2 == 1)

    def part(self, name: str) -> Iterator[str]:
        """Yield the problem of each kill of a part."""
        random, place = Random(f"{self.seed} part {name}"), self.place / f"part {name}"
        for number in range(self.tries or N_KILLS):
            yield kill_part(TASKS[name], self.reference(name), place / str(number), random)

    def pieces(self, name: str) -> Iterator[str]:
        """Yield the problem of each task that is cut into pieces."""
        random, place = Random(f"{self.seed} pieces {name}"), self.place / f"pieces {name}"
        for number in range(self.tries or N_KILLS):
            yield cut(TASKS[name], self.reference(name), place / str(number), random)

    def full_disk(self, name: str) -> Iterator[str]:
        """Yield the problem of each full disk."""
        for part in PARTS:
            yield fill(TASKS[name], self.reference(name), self.place / f"full disk {name}" / str(part), part)

    def flip(self, name: str) -> Iterator[str]:
        """Yield the problem of each flipped bit, found in a process that may crash."""
        with ProcessPoolExecutor(1, CONTEXT) as pool:
            place = self.place / f"flip {name}"
            yield from pool.submit(flip, name, self.tries or N_FLIPS, self.seed, place).result()

    def pair(self, name: str) -> Iterator[str]:
        """Yield the problem of each pair of processes."""
        random, place = Random(f"{self.seed} pair {name}"), self.place / f"pair {name}"
        for number in range(self.tries or N_PAIRS):
            yield pair(TASKS[name], self.reference(name), place / str(number), random)

    def cases(self) -> dict[str, Callable[[], Iterator[str]]]:
        """Return every case by its name."""
        named = {
            "kill": (self.kill, KILLED),
            "part": (self.part, SHARED_OUT),
            "pieces": (self.pieces, CUT),
            "full disk": (self.full_disk, FILLED),
            "flip": (self.flip, STORED),
            "pair": (self.pair, PAIRED),
        }
        return {f"{kind} {name}": partial(case, name) for kind, (case, names) in named.items() for name in names}


class Row(NamedTuple):
    """A case with the problem of each try, empty if there was none."""

    name: str
    problems: list[str]

    @property
    def bad(self) -> list[str]:
        """The problems found."""
        return [problem for problem in self.problems if problem]

    def __str__(self) -> str:
        n, bad = len(self.problems), self.bad
        return f"{self.name:<28}{n:6d}{n - len(bad):6d}{len(bad):6d}  {bad[0][:300] if bad else ''}"


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the options."""
    names = list(Chaos(Path(), tries=None, seed=0).cases())
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=names, default=names, metavar="CASE", help="cases to run")
    parser.add_argument("--tries", type=int, help="number of tries of each case, except full disks")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random moments and bits")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Print the table; return 1 if anything failed."""
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
            rows.append(Row(name, list(tqdm(cases[name](), desc=name, unit="try", leave=False))))
            print(rows[-1], flush=True)
    n_tries, bad = sum(len(row.problems) for row in rows), [row for row in rows if row.bad]
    where = f": {', '.join(row.name for row in bad)}" if bad else ""
    print(f"{len(rows)} cases, {n_tries} tries, {sum(len(row.bad) for row in rows)} bad{where}")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
