"""``rephase solve`` of several files: one table and one page, resumable, a bad file passed over."""

import csv
import html
import re

import pytest
import torch

from rephase.crystal.map_files import write_res
from rephase.crystal.peaks import Peaks
from rephase.crystal.reflections.files import read_reflections, write_hklf4
from rephase.crystal.reflections.simulation import simulate_reflections
from rephase.labs.solving import many
from rephase.labs.solving.many import folder_names, solve_many
from rephase.labs.solving.request import Request, solve_file
from rephase.random_crystals.crystals import RandomCrystalOptions, random_crystals


@pytest.fixture(scope="module")
def crystals(tmp_path_factory):
    """A folder of two data sets, `a` and `b`, with their instructions, and a bad file between them."""
    folder = tmp_path_factory.mktemp("crystals")
    options = RandomCrystalOptions(space_groups=("P 1 21/c 1",), n_atoms=(6, 7))
    made = random_crystals(2, generator=torch.Generator().manual_seed(0), options=options)
    for number, name in enumerate("ab"):
        data = simulate_reflections(made.crystal(number), 0.95)[0]
        write_hklf4(folder / f"{name}.hkl", data)
        write_res(folder / f"{name}.ins", data.cell, data.group, Peaks([[0.1, 0.2, 0.3]], [1.0], ("C",)), formula="C6")
    (folder / "aa.hkl").write_text("no reflections\n")
    return folder


@pytest.fixture(scope="module")
def solved(crystals, tmp_path_factory):
    """The folder of the two solved crystals, the rows of the first call, and the solution of `b`."""
    out, solutions = tmp_path_factory.mktemp("solved") / "out", []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(many, "solve_file", lambda *request: solutions.append(solve_file(*request)) or solutions[-1])
        batch = solve_many(sorted(crystals.glob("*.hkl")), out, Request(effort=0.01, d_min=1.0))
    return out, batch, solutions[-1]


@pytest.fixture
def calls(monkeypatch):
    """Names of the files that are solved; to solve takes no time and fails."""
    found = []

    def refuse(file, out, request):
        found.append(file.name)
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(many, "solve_file", refuse)
    return found


@pytest.fixture
def quick_calls(solved, monkeypatch):
    """Names of the files that are solved; each gets the same solution at once."""
    found = []

    def solve(file, out, request):
        found.append(file.name)
        out.mkdir(exist_ok=True)
        (out / "solution.json").write_text("{}")
        return solved[2]

    monkeypatch.setattr(many, "solve_file", solve)
    return found


def table_of(folder):
    with open(folder / "results.csv", encoding="utf-8") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def test_each_crystal_has_a_row_and_a_folder_and_a_bad_file_its_reason(solved):
    out, batch, _ = solved
    rows = table_of(out)
    assert [row.name for row in batch.rows] == ["a", "aa", "b"]
    assert [rows[name]["verdict"] for name in ("a", "aa", "b")] == ["solved", "failed", "solved"]
    assert (rows["a"]["space_group"], rows["a"]["formula"], rows["a"]["z"]) == ("P 1 21/c 1", "C6", "4")
    assert float(rows["b"]["seconds"]) > 0
    assert 0 < float(rows["a"]["r1"]) < 0.3
    assert rows["aa"]["reason"].startswith("aa.hkl: no reflections")
    assert [row.name for row in batch.failed] == ["aa"]
    for name in "ab":
        assert (out / name / "solution.json").is_file()


def test_the_page_links_each_crystal_and_needs_no_network(solved):
    out, batch, _ = solved
    page = batch.page.read_text(encoding="utf-8")
    links = re.findall(r'href="([^"]*)"', page)
    assert len(links) == 2
    assert all((out / link).is_file() for link in links)
    assert "3 crystals: 2 solved, 1 failed." in page
    assert html.escape(batch.rows[1].reason) in page
    assert "://" not in page
    assert "<script" not in page


def test_a_second_call_solves_only_what_failed_or_changed(solved, crystals, calls):
    files, options = sorted(crystals.glob("*.hkl")), {"effort": 0.01, "d_min": 1.0}
    out, *_ = solved
    before = table_of(out)
    batch = solve_many(files, out, Request(**options))
    assert calls == ["aa.hkl"]
    assert [row.verdict for row in batch.rows] == ["solved", "failed", "solved"]
    assert (batch.rows[1].reason, batch.rows[1].state) == ("ZeroDivisionError: by zero", "")
    assert {name: before[name] for name in "ab"} == {name: table_of(out)[name] for name in "ab"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"again": True}, ["a.hkl", "b.hkl"]),
        ({"seed": 1}, ["a.hkl", "b.hkl"]),
        ({"device": "cpu"}, []),
        ({"text": "b.ins"}, ["b.hkl"]),
    ],
)
def test_what_is_done_again(crystals, tmp_path, quick_calls, change, expected):
    files = [tmp_path / name for name in ("a.hkl", "a.ins", "b.hkl", "b.ins")]
    for file in files:
        file.write_bytes((crystals / file.name).read_bytes())
    solve_many(files[::2], tmp_path / "out", Request())
    quick_calls.clear()
    if name := change.pop("text", None):
        (tmp_path / name).write_text((tmp_path / name).read_text() + "REM changed\n")
    again = change.pop("again", False)
    solve_many(files[::2], tmp_path / "out", Request(**change), again=again)
    assert quick_calls == expected


def test_an_interruption_leaves_what_is_done(crystals, tmp_path, monkeypatch, quick_calls):
    solve = many.solve_file

    def stop_at_b(file, out, request):
        if file.stem == "b":
            raise KeyboardInterrupt
        return solve(file, out, request)

    monkeypatch.setattr(many, "solve_file", stop_at_b)
    files = [crystals / "a.hkl", crystals / "b.hkl"]
    with pytest.raises(KeyboardInterrupt):
        solve_many(files, tmp_path, Request())
    assert list(table_of(tmp_path)) == ["a"]
    monkeypatch.setattr(many, "solve_file", solve)
    solve_many(files, tmp_path, Request())
    assert quick_calls == ["a.hkl", "b.hkl"]


def test_files_of_one_name_get_different_folders(tmp_path):
    files = [tmp_path / name for name in ("x/s.hkl", "y/s.HKL", "x/s.cif", "t.mtz.gz")]
    assert dict(folder_names(files)) == {"x-s": files[0], "y-s": files[1], "x-s-2": files[2], "t": files[3]}


def test_a_folder_on_the_command_line(command, crystals, tmp_path, calls):
    status, printed, complaints = command("solve", crystals, "--out", tmp_path)
    assert status == 1
    assert calls == ["a.hkl", "aa.hkl", "b.hkl"]
    assert complaints.count("failed: ") == 3
    assert printed.splitlines()[-1] == f"written: {tmp_path / 'index.html'}"
    (tmp_path / "empty").mkdir()
    status, _, complaints = command("solve", tmp_path / "empty")
    assert (status, complaints.count("a folder without a data set (it has: nothing)")) == (2, 1)


def test_the_formula_of_the_file_is_checked_and_can_be_refused(crystals, tmp_path, command):
    assert read_reflections(crystals / "a.ins").formula == "C6"
    status, _, complaints = command("solve", crystals / "a.hkl", "--formula", "C200", "--out", tmp_path)
    assert status == 2
    assert re.search(r"the likeliest Z = 1 gives \d\.\d Å\^3 per atom .* g/cm\^3; expected 10 to 40 Å\^3", complaints)
