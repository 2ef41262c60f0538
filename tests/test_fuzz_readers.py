"""The fuzzing of readers: every kind of good file is read, changed ones are read or refused, failures are found."""

import os
import signal
import sys
import time
import warnings
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
import pytest

from rephase.errors import CurveError
from rephase.paths import BENCHMARKS

sys.path.insert(0, str(BENCHMARKS))

import fuzz_readers
from fuzzing import trials
from fuzzing.crystal_targets import write_text
from fuzzing.trials import Target, changed_file, fuzz, make, summarise, used_file

N = 3  # changed files of each kind
NAMED = ("planar.tif",)  # a kind that is named and not read


@pytest.mark.parametrize("name", fuzz_readers.TARGETS)
def test_good_files_are_read_and_changed_ones_are_read_or_refused(tmp_path, name):
    target = fuzz_readers.TARGETS[name]
    with warnings.catch_warnings(action="ignore"):
        made = make(target, tmp_path / "good")
    assert used_file(target, made, 0).found == ("refused" if name in NAMED else "read")
    for number in range(N):
        path = changed_file(target, tmp_path / "good", tmp_path / str(number), Random(f"{name} {number}"))
        outcome = used_file(target, path, number)
        assert not outcome.is_failure, f"{outcome.found}: {outcome.reason}"


def test_the_same_number_is_the_same_input(tmp_path):
    target = fuzz_readers.TARGETS["curve.dat"]
    make(target, tmp_path / "good")
    read = [changed_file(target, tmp_path / "good", tmp_path / str(n), Random(n // 2)).read_bytes() for n in range(4)]
    assert read[0] == read[1] != read[2] == read[3]


def raw_error(path: Path) -> None:
    raise KeyError(path)


def several_lines(path: Path) -> None:
    error = CurveError("first")
    error.args = ("first\nsecond",)
    raise error


def memory(path: Path) -> None:
    np.ones(3 * 2**30, np.uint8)


def memory_behind(path: Path) -> None:
    try:
        memory(path)
    except MemoryError as error:
        raise CurveError("damaged") from error


def death(path: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def silence(path: Path) -> None:
    time.sleep(60)


@pytest.mark.parametrize(
    ("use", "found"),
    [
        (raw_error, "KeyError"),
        (several_lines, "long message"),
        (memory, "memory"),
        (memory_behind, "memory"),
        (death, "died with status -9"),
        (silence, "hangs"),
    ],
)
def test_a_broken_reader_is_a_failure_and_the_next_input_is_read(monkeypatch, tmp_path, use, found):
    monkeypatch.setattr(trials, "_HANG_S", 2.0)
    target = Target(partial(write_text, "good.txt", "1 2 3\n"), use)
    outcomes = list(fuzz("broken", target, 2, keep=tmp_path / "kept"))
    assert [(outcome.number, outcome.found) for outcome in outcomes] == [(0, found), (1, found)]
    assert summarise("broken", outcomes).failures == {found: 2}
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {"broken-0", "broken-1"}
    assert (tmp_path / "kept" / "broken-1" / "good.txt").is_file()


def test_status_and_table_report_failures(monkeypatch, capsys):
    kinds = {"good": use_nothing, "broken": raw_error}
    targets = {name: Target(partial(write_text, "good.txt", "1 2 3\n"), use) for name, use in kinds.items()}
    monkeypatch.setattr(fuzz_readers, "TARGETS", targets)
    assert fuzz_readers.main(["--examples", "2", "--kinds", "good"]) == 0
    assert fuzz_readers.main(["--examples", "2"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].split()[:4] == ["broken", "2", "0", "0"]
    assert lines[-2].endswith("KeyError 2")
    assert lines[-1] == "4 inputs, 2 failures"


def use_nothing(path: Path) -> None:
    path.read_bytes()
