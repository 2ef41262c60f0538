"""The chaos run: careless work is found out by kills, full disks, flipped bits and pairs; careful work passes."""

import json
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from rephase.deadlines import check_time
from rephase.errors import PipelineError, StoreError
from rephase.files.writing import ResultSet, write_whole
from rephase.paths import BENCHMARKS

sys.path.insert(0, str(BENCHMARKS))

import chaos
from disturbances import flipped_bits
from disturbances.flipped_bits import Stored, flip
from disturbances.full_disks import can_mount, fill
from disturbances.kills import kill, undisturbed
from disturbances.pairs import pair
from disturbances.parts import kill_part
from disturbances.pieces import cut
from disturbances.works import WORKS, Work, checksum

NAMES = ("one", "two", "three")


def write_old(folder: Path) -> None:
    folder.mkdir(parents=True)
    with ResultSet(folder / "out", NAMES).staged() as stage:
        for name in NAMES:
            (stage / name).write_text(f"old {name}")


def state(folder: Path) -> dict[str, str]:
    return {path.name: checksum(path.read_bytes()) for path in (folder / "out").iterdir() if path.name in NAMES}


def write_one_by_one(folder: Path) -> None:
    for name in NAMES:
        time.sleep(0.4)
        (folder / "out" / name).write_bytes(b"new" * 10_000)


def write_set(folder: Path) -> None:
    with ResultSet(folder / "out", NAMES).staged() as stage:
        for name in NAMES:
            time.sleep(0.4)
            (stage / name).write_bytes(b"new" * 10_000)


def leave_children(folder: Path) -> None:
    subprocess.Popen(["sleep", "60"])
    write_set(folder)


def write_more_each_time(folder: Path) -> None:
    path = folder / "out" / "one"
    path.write_text(path.read_text().replace("old", "") + "new")


def write_at_once(folder: Path) -> None:
    (folder / "out" / "one").write_text("new")


CAREFUL, CARELESS = (Work(name, write_old, do, state) for name, do in (("set", write_set), ("files", write_one_by_one)))


@pytest.fixture
def place(tmp_path):
    (tmp_path / "reference").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("work", "problem"), [(CAREFUL, ""), (CARELESS, "neither the old nor the new results are left")]
)
def test_kills_find_old_files_beside_new_ones(place, work, problem):
    reference = undisturbed(work, place / "reference")
    found = kill(work, reference, place / "kill", Random(3), is_late=True)  # after a quarter of the time of writing
    assert found.partition(":")[0] == problem


def test_kills_find_processes_that_live_on(place):
    work = Work("children", write_old, leave_children, state)
    reference = undisturbed(work, place / "reference")
    assert kill(work, reference, place / "kill", Random(0), is_late=True) == "1 processes survived the kill"


def test_a_kill_after_the_end_does_not_count(place):
    work = Work("quick", write_old, write_at_once, state)
    reference = undisturbed(work, place / "reference")._replace(seconds=1e6)
    found = kill(work, reference, place / "kill", Random(0), is_late=False)
    assert found == "there was nothing left to kill in each of 5 tries"


PART = "import pathlib, sys, time; time.sleep(1.5); pathlib.Path(sys.argv[1]).write_text('new')"


def start_parts(folder):
    return [subprocess.Popen([sys.executable, "-c", PART, folder / "out" / name]) for name in NAMES]


def forget_parts(folder: Path) -> None:
    for part in start_parts(folder):
        part.wait()


def wait_for_parts(folder: Path) -> None:
    if any([part.wait() for part in start_parts(folder)]):
        raise PipelineError("a part was lost; do it again")


def wait_for_ever(folder: Path) -> None:
    if any([part.wait() for part in start_parts(folder)]):
        time.sleep(60)


def parts(do, **options):
    return Work("parts", write_old, do, state, part="pathlib", **options)


def test_killed_parts_find_work_that_goes_on_without_them(place):
    reference = undisturbed(parts(wait_for_parts), place / "reference")
    assert kill_part(parts(wait_for_parts), reference, place / "careful", Random(0)) == ""
    problem = kill_part(parts(forget_parts), reference, place / "careless", Random(0))
    assert problem.startswith("called again: other results: ")
    problem = kill_part(parts(wait_for_parts, is_replaced=True), reference, place / "replaced", Random(0))
    assert problem == "ended with status 2: PipelineError: a part was lost; do it again"


def test_killed_parts_find_work_that_waits_for_them_for_ever(place, monkeypatch):
    reference = undisturbed(parts(wait_for_parts), place / "reference")
    monkeypatch.setattr("disturbances.processes._LONGEST_S", 5.0)
    found = kill_part(parts(wait_for_ever), reference, place / "careless", Random(0))
    assert found == "ended with status 124: had not ended after 5 s"


def count_to_ten(folder: Path) -> None:
    """Append a digit in each step, from where the file ends."""
    path = folder / "out" / "one"
    while (written := path.read_text().removeprefix("old one")) != "0123456789":
        write_whole(path, f"{written}{len(written)}")
        time.sleep(0.1)
        check_time("a digit")


def count_from_zero(folder: Path) -> None:
    path = folder / "out" / "one"
    for digit in range(10):
        path.write_text(f"{path.read_text()}{digit}")
        time.sleep(0.1)
        check_time("a digit")


def test_pieces_find_work_that_begins_again(place):
    work = Work("careful", write_old, count_to_ten, state)
    reference = undisturbed(work, place / "reference")
    assert cut(work, reference, place / "careful", Random(0)) == ""
    work = Work("careless", write_old, count_from_zero, state)
    assert cut(work, reference, place / "careless", Random(0)) == "called again: other results: one"


def test_pairs_find_work_that_is_done_twice(place):
    reference = undisturbed(CAREFUL, place / "reference")
    assert pair(CAREFUL, reference, place / "careful", Random(0)) == ""
    work = Work("twice", write_old, write_more_each_time, state)
    (place / "other").mkdir()
    reference = undisturbed(work, place / "other")
    assert "other results: one" in pair(work, reference, place / "careless", Random(0))


@pytest.mark.parametrize(
    ("work", "problem"), [(CAREFUL, ""), (CARELESS, "no error of the domain in one line: OSError")]
)
def test_full_disks_find_raw_errors(place, work, problem):
    if not can_mount(place):
        pytest.skip("no file system can be mounted here")
    reference = undisturbed(work, place / "reference")
    assert problem in fill(work, reference, place / "full", 0.4)


def write_json(folder: Path) -> None:
    (folder / "stored.json").write_text(json.dumps({"value": 1234567, "sum": checksum(b"1234567")}))


def trusting(folder: Path) -> dict[str, str]:
    return {"value": str(json.loads((folder / "stored.json").read_bytes())["value"])}


def careful(folder: Path) -> dict[str, str]:
    try:
        found = json.loads((folder / "stored.json").read_bytes())
        if checksum(str(found["value"]).encode()) != found["sum"]:
            raise StoreError("damaged")
        return {"value": str(found["value"])}
    except (ValueError, KeyError) as error:
        raise StoreError("damaged") from error


def test_flipped_bits_find_values_that_are_not_checked(place, monkeypatch):
    for name, value in (("trusting", trusting), ("careful", careful)):
        monkeypatch.setitem(flipped_bits.STORED, name, Stored(write_json, "stored.json", value))
    found = flip("trusting", 60, 0, place / "trusting")
    assert any(problem.endswith("other values without an error") for problem in found)
    assert any("JSONDecodeError" in problem for problem in found)
    assert not any(flip("careful", 60, 0, place / "careful"))


def test_status_and_table_report_what_is_bad(monkeypatch, capsys):
    monkeypatch.setattr(chaos.Chaos, "pair", lambda self, name: iter(["", "wrong"] if name == "run" else [""]))
    assert chaos.main(["--cases", "pair sweep"]) == 0
    assert chaos.main(["--cases", "pair sweep", "pair run"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].split() == ["pair", "run", "2", "1", "1", "wrong"]
    assert lines[-1] == "2 cases, 3 tries, 1 bad: pair run"


def test_results_of_completion_survive_a_kill(place):
    work = WORKS["complete"]
    reference = undisturbed(work, place / "reference")
    assert kill(work, reference, place / "kill", Random(0), is_late=True) == ""
