"""``rephase bench``: programs that take turns, the file and the table of results, and comparisons with earlier runs."""

import json
import math
import sys
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest
from typer.testing import CliRunner

from rephase.commands import app
from rephase.commands.benchmarks import ACCURACY
from rephase.errors import ConfigError
from rephase.paths import BENCHMARKS

sys.path.insert(0, str(BENCHMARKS))  # as for a script of this folder

import suite
from measuring import processes, timing
from measuring.against import change, compare, other_work, standard_error
from measuring.peers import INSTALL, script_task
from measuring.pictures import draw_costs
from measuring.tables import lines, markdown, read_results, shown, title, write_results
from measuring.timing import Comparison, MissingPeer, Task, measure

ROW = {"name": "a", "size": 10, "axis": "atoms", "per": "atom", "unit": "s", "skipped": {}}


def row(values, **changed):
    return ROW | changed | {"values": values if isinstance(values, dict) else {"rephase": values}}


@dataclass
class Clock:
    """Time that passes only where a program says so."""

    seconds: float = 0.0
    log: list[str] = field(default_factory=list)

    def perf_counter(self):
        return self.seconds

    def program(self, name, per_size, n_items=1):
        def prepare(size):
            def run():
                self.log.append(f"{name} {size}")
                self.seconds += per_size * size
                return {"s": per_size * size}

            return Task(run, n_items)

        return prepare


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(timing, "time", made)
    return made


def test_programs_take_turns_after_a_first_run(clock):
    peers = {"peer": clock.program("peer", 0.003)}
    (found,) = measure(Comparison("a", clock.program("ours", 0.001, n_items=4), peers, sizes=(10,)), {})
    assert clock.log[:2] == clock.log[2:4] == ["ours 10", "peer 10"]
    assert len(clock.log) == 2 * (1 + 15)
    assert found["values"] == {"rephase": [0.0025] * 15, "peer": [pytest.approx(0.03)] * 15}


@pytest.mark.parametrize(("seconds", "n_runs", "n_values"), [(0.1, 16, 15), (1.0, 6, 5), (20.0, 3, 3)])
def test_long_runs_are_repeated_less_often(clock, seconds, n_runs, n_values):
    (found,) = measure(Comparison("a", clock.program("ours", seconds)), {})
    assert (len(clock.log), len(found["values"]["rephase"])) == (n_runs, n_values)


def test_larger_sizes_of_a_slow_peer_are_left_out_by_an_estimate_and_named(clock):
    peers = {"slow": clock.program("slow", 1.0), "fast": clock.program("fast", 1e-4)}
    rows = list(measure(Comparison("a", clock.program("ours", 1e-4), peers, sizes=(1, 100, 1000)), {}))
    assert [list(found["values"]) for found in rows] == [["rephase", "slow", "fast"]] + [["rephase", "fast"]] * 2
    assert [found["skipped"] for found in rows[1:]] == [
        {"slow": f"left out, about {size} s for a run"} for size in (100, 1000)
    ]


def test_a_peer_that_fails_is_named_and_ours_is_raised(clock):
    def fail(_):
        raise RuntimeError("no\nluck")

    (found,) = measure(Comparison("a", clock.program("ours", 1.0), {"peer": fail}), {})
    assert found["skipped"] == {"peer": "no"}
    with pytest.raises(RuntimeError, match="luck"):
        list(measure(Comparison("a", fail), {}))


def test_every_unit_is_a_row():
    task = Task(lambda: {"s": 2.0, "MB": 30.0})
    rows = list(measure(Comparison("a", lambda _: task), {}))
    assert [(found["unit"], set(found["values"]["rephase"])) for found in rows] == [("s", {2.0}), ("MB", {30.0})]


@pytest.mark.parametrize("peer", INSTALL)
def test_a_missing_peer_is_named_once_with_its_installation(peer, tmp_path, monkeypatch, clock):
    monkeypatch.setenv("REPHASE_PEERS", str(tmp_path))
    missing = {}
    peers = {peer: lambda n: script_task(peer, "none.py", list, n)}
    for found in measure(Comparison("a", clock.program("ours", 1.0), peers, sizes=(1, 2)), missing):
        assert found["skipped"][peer].startswith(f"not installed; python -m venv {tmp_path / peer} && ")
    assert list(missing) == [peer]


def test_a_peer_measures_itself(tmp_path, monkeypatch):
    python = tmp_path / "sasmodels" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    script = tmp_path / "script.py"
    script.write_text(
        "import json, sys, numpy\n"
        "given, out = sys.argv[1:]\n"
        "numpy.savez(out, seconds=[n / 10 for n in json.load(open(given))])\n"
    )
    monkeypatch.setenv("REPHASE_PEERS", str(tmp_path))
    assert script_task("sasmodels", str(script), lambda: [1, 2], 2).run() == {"s": pytest.approx(0.3)}


def test_every_benchmark_is_in_the_suite_or_one_of_accuracy():
    files = {path.stem for path in BENCHMARKS.glob("*.py")}
    assert not set(suite.SUITE) & set(ACCURACY)
    assert {*suite.SUITE, *ACCURACY, "suite"} == files


EVERY = [comparison for comparisons in suite.SUITE.values() for comparison in comparisons]


def test_names_and_sizes_identify_rows():
    assert Counter(comparison.name for comparison in EVERY).most_common(1)[0][1] == 1
    for comparison in EVERY:
        assert sorted(set(comparison.sizes)) == list(comparison.sizes)
        assert bool(comparison.axis) == (comparison.sizes != (1,))
        assert comparison.name.isprintable()


@pytest.mark.parametrize(
    "comparison",
    [c for name, entries in suite.SUITE.items() if name != "commands" for c in entries],
    ids=lambda c: c.name,
)
def test_the_smallest_size_of_each_comparison_runs(comparison):
    task = comparison.ours(comparison.sizes[0])
    assert task.run()["s"] > 0
    assert task.n >= 1


def results(rows, **changed):
    empty = {"machine": {"cores": 2}, "programs": {"torch": "1", "commit": "a"}, "missing": {}, "failed": {}}
    return empty | {"moments": {"start": {"time": "now", "load": 0.1}}, "rows": rows} | changed


@pytest.fixture
def fake(tmp_path, monkeypatch, capsys):
    """Run the suite on programs of known times; its status and what it printed on either stream."""
    monkeypatch.setattr(suite, "machine", lambda: {"cores": 2})
    monkeypatch.setattr(suite, "programs", lambda: {"torch": "1", "commit": "a"})

    def missing(_):
        raise MissingPeer("not installed; pip install it")

    def broken(_):
        raise ZeroDivisionError("of a test")

    def run(*options, seconds=0.01, fails=False):
        def program(factor):
            return lambda size: Task(lambda: {"s": factor * seconds * size}, size)

        peers = {"gemmi": program(3), "sasmodels": missing}
        entries = [Comparison("fast", program(1), peers, (1, 8, 27), "atoms", "atom")]
        entries += [Comparison("broken", broken)] if fails else []
        monkeypatch.setattr(sys, "argv", ["suite.py", *map(str, options)])
        return suite.main({"file": entries}, tmp_path / "bench"), *capsys.readouterr()

    return run


def test_the_suite_writes_everything_and_prints_its_table(fake, tmp_path):
    status, printed, _ = fake()
    folder = tmp_path / "bench"
    assert status == 0
    assert {path.name for path in folder.iterdir()} == {
        "bench.json",
        "bench.md",
        "cost_of_atoms.pdf",
        "cost_of_atoms.png",
    }
    found = json.loads((folder / "bench.json").read_text())
    assert list(found) == ["format", "machine", "programs", "moments", "missing", "failed", "rows"]
    assert [(r["name"], r["size"], r["unit"], len(r["values"]["rephase"])) for r in found["rows"]] == [
        ("fast", size, "s", 15) for size in (1, 8, 27)
    ]
    assert set(found["moments"]) == {"start", "end"}
    assert found["missing"] == {"sasmodels": "not installed; pip install it"}
    assert read_results(folder / "bench.json") == found
    for text in (printed, (folder / "bench.md").read_text()):
        assert "sasmodels: not installed; pip install it" in text
        assert "fast, 1 atom " in text
        assert "10 (10 to 10) ms, 15 rounds" in text
        assert "gemmi 3× (3 to 3); sasmodels: not installed" in text


def test_a_benchmark_that_fails_is_recorded_and_the_others_are_measured(fake, tmp_path):
    status, printed, said = fake(fails=True)
    assert status == 1
    assert "broken: ZeroDivisionError: of a test" in printed
    assert "Traceback" in said
    assert len(read_results(tmp_path / "bench" / "bench.json")["rows"]) == 3


@pytest.mark.parametrize(
    ("factor", "status", "line"),
    [
        (1.0, 0, "nothing changed beyond noise"),
        (1.04, 0, "nothing changed beyond noise"),
        (1.5, 1, "slower or larger: fast, 8 atoms: 10 ms → 15 ms (1.50×, gemmi 1.50×)"),
        (0.5, 0, "faster or smaller: fast, 8 atoms: 10 ms → 5 ms (0.50×, gemmi 0.50×)"),
    ],
)
def test_a_later_run_is_compared(fake, tmp_path, factor, status, line):
    fake()
    earlier = (tmp_path / "bench" / "bench.json").rename(tmp_path / "earlier.json")
    found, printed, _ = fake("--against", earlier, seconds=0.01 * factor)
    assert found == status
    assert line in printed.splitlines()
    assert f"the peers took {factor:.2f} times as long" in printed


def test_another_machine_is_refused_before_anything_is_measured(fake, tmp_path):
    earlier = tmp_path / "earlier.json"
    write_results(earlier, results([row([1e-6], name="fast")], machine={"cores": 64}))
    with pytest.raises(ConfigError, match=r"of another machine \(cores 64 instead of 2\); expected a run of this one"):
        fake("--against", earlier)
    assert not (tmp_path / "bench").exists()


def test_other_work_on_the_machine_is_named():
    def run(load):
        return results([], moments={"start": {"time": "now", "load": load}})

    assert other_work(run(0.9), run(1.0)) == ""
    assert other_work(run(0.1), run(7.8)).startswith(
        "the later run started at a load of 7.8 on 2 cores: changes may be"
    )
    assert " and the later run " in other_work(run(3.0), run(7.8))


def test_the_change_of_the_peers_is_beside_that_of_the_row():
    before, after = ([row({"rephase": [v] * 3, "gemmi": [w] * 3})] for v, w in ((1.0, 4.0), (2.0, 6.0)))
    assert compare(before, after).slower == ["a, 10 atoms: 1 s → 2 s (2.00×, gemmi 1.50×)"]


def test_other_versions_are_named(fake, tmp_path):
    earlier = tmp_path / "earlier.json"
    write_results(earlier, results([], programs={"torch": "0", "commit": "b"}))
    assert "torch 0, now 1\n" in fake("--against", earlier)[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read ([Errno 2] No such file"),
        ("{", "cannot be read (Expecting"),
        ("[1]", "format none, expected 1"),
        ('{"format": 2}', "format 2, expected 1"),
        ('{"format": 1}', "damaged (KeyError: 'rows')"),
        ('{"format": 1, "rows": [{"name": 1}], "machine": {}, "programs": {}}', "damaged (KeyError: 'size')"),
        (json.dumps({"format": 1, **results([row([])])}), "damaged (ValueError"),
        (json.dumps({"format": 1, **results([row([1.0, math.nan])])}), "damaged (ValueError"),
        (json.dumps({"format": 1, **results([row(["x"])])}), "damaged (TypeError"),
        (json.dumps({"format": 1, **results([row({"gemmi": [1.0]})])}), "damaged (KeyError: 'rephase')"),
        (json.dumps({"format": 1, **results([], machine=3)}), "damaged (TypeError"),
        (json.dumps({"format": 1, **results([], moments={})}), "damaged (KeyError: 'start'"),
    ],
)
def test_a_damaged_file_is_refused_before_anything_is_measured(fake, tmp_path, content, message):
    earlier = tmp_path / "earlier.json"
    if content is not None:
        earlier.write_text(content)
    with pytest.raises(ConfigError, match="; give the bench.json of an earlier `rephase bench`") as refused:
        fake("--against", earlier)
    assert str(refused.value).startswith(f"--against {earlier}: {message}")
    assert not (tmp_path / "bench").exists()


QUIET = [1.00, 1.01, 0.99, 1.02, 0.98]


def test_the_standard_error_ignores_a_disturbed_round():
    assert standard_error(QUIET) == pytest.approx(standard_error([*QUIET[:-2], 9.0, 0.98]))
    assert standard_error(QUIET) == pytest.approx(1.2533 * 1.4826 * 1.206 * 0.01 / 5**0.5)
    assert standard_error([1.0]) == math.inf


@pytest.mark.parametrize(
    ("later", "expected"),
    [
        (QUIET, 1.0),
        ([1.04 * value for value in QUIET], 1.0),  # less than 5 %
        ([1.2 * value for value in QUIET], 1.2),
        ([0.8 * value for value in QUIET], 0.8),
        ([0.8, 1.0, 1.2, 1.4, 1.6], 1.0),  # as noisy as it is slow
        ([*QUIET[:4], 30.0], 1.0),
    ],
)
def test_a_change_is_larger_than_the_noise_of_both(later, expected):
    assert change(QUIET, later) == pytest.approx(expected)
    assert change(later, QUIET) == pytest.approx(1 / expected)


def test_rows_that_are_gone_or_new_are_named_and_memory_is_compared():
    before = [row(QUIET), row(QUIET, name="old"), row([100.0] * 3, unit="MB")]
    after = [row(QUIET), row(QUIET, name="new"), row(QUIET, name="new", unit="MB"), row([150.0] * 3, unit="MB")]
    found = compare(before, after)
    assert (found.gone, found.new) == (["old, 10 atoms"], ["new, 10 atoms", "new, 10 atoms, MB"])
    assert found.slower == ["a, 10 atoms: 100 MB → 150 MB (1.50×)"]
    assert found.peers == ""


def test_values_are_printed_with_three_digits():
    assert [shown(v, "s") for v in (123.4, 1.5, 0.0125, 2.5e-6)] == ["123 s", "1.5 s", "12.5 ms", "2.5 µs"]
    assert title(row(QUIET, size=1)) == "a, 1 atom"
    assert title(row(QUIET, size=31**3)) == "a, 29,791 atoms"
    assert title(row(QUIET, axis="")) == "a"
    (cells,) = lines([row({"rephase": [1.0, 2.0, 3.0], "gemmi": [2.0, 2.0, 9.0]}, skipped={"b": "no; pip install b"})])
    assert cells[1:] == ("atom", "2 (1.5 to 2.5) s, 3 rounds", "gemmi 2× (1.5 to 2.5); b: no")


def test_every_line_of_the_markdown_table_has_four_cells():
    text = markdown(results([row(QUIET), row({"rephase": QUIET, "gemmi": QUIET}), row(QUIET, name="mean |F|")]))
    tables = [line.replace(r"\|", "") for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in tables} == {5}


def test_pictures_are_of_three_sizes_or_more_and_their_names_do_not_overlap():
    def rows(name, sizes, axis):
        values = {"rephase": [1e-3, 2e-3], "gemmi": [1.1e-3, 2e-3], "numpy": [0.9e-3, 2e-3], "sasmodels": [1.0, 1.1]}
        return [
            row(
                {n: v for n, v in values.items() if n != "sasmodels" or size == sizes[0]},
                name=name,
                size=size,
                axis=axis,
            )
            for size in sizes
        ]

    drawn = draw_costs(
        [
            *rows("grids", (13**3, 31**3, 65**3), "grid points"),
            *(r for name in ("a", "b", "c", "d") for r in rows(name, (1, 4, 16, 64), "atoms")),
            *rows("two", (1, 2), "beams"),
            row([300.0], unit="MB"),
        ]
    )
    assert list(drawn) == ["cost_of_grid_points", "cost_of_atoms"]
    assert [t.get_text() for t in drawn["cost_of_grid_points"].axes[0].get_xticklabels()] == ["13³", "31³", "65³"]
    for figure in drawn.values():
        figure.canvas.draw()
        for ax in filter(lambda ax: ax.get_visible(), figure.axes):
            boxes = sorted((text.get_window_extent() for text in ax.texts), key=lambda box: box.y0)
            assert len(boxes) == 4
            assert not any(one.overlaps(other) for one, other in pairwise(boxes))
            assert all(ax.get_window_extent().x1 >= box.x1 for box in boxes)


HOLD = """
import subprocess, sys, time
held = bytearray(100_000_000)
held[::4096] = b"x" * len(held[::4096])
{then}
time.sleep(0.4)
"""


@pytest.mark.skipif(not processes._PROC.is_dir(), reason="the system has no /proc")
def test_the_memory_of_a_command_includes_that_of_its_children():
    own = HOLD.format(then="")
    both = HOLD.format(then=f"subprocess.run([sys.executable, '-c', {own!r}])")
    alone, small = (
        processes.run_command([sys.executable, "-c", code])["MB"] for code in (own, "import time; time.sleep(0.4)")
    )
    assert 100 < alone < 100 + small + 20
    assert 200 < processes.run_command([sys.executable, "-c", both])["MB"] < 200 + 2 * small + 20


def test_a_command_that_fails_says_why():
    with pytest.raises(processes.subprocess.CalledProcessError) as failed:
        processes.run_command([sys.executable, "-c", "print('a reason'); raise SystemExit(3)"])
    assert (failed.value.returncode, failed.value.output) == (3, "a reason\n")


def test_the_list_says_which_benchmarks_are_in_the_suite():
    said = CliRunner().invoke(app, ["bench", "--list"]).output
    speed, accuracy = said.split("accuracy, ")
    assert [line.split()[0] for line in speed.splitlines()[1:]] == ["suite", *sorted(suite.SUITE)]
    assert [line.split()[0] for line in accuracy.splitlines()[1:]] == sorted(ACCURACY)


def test_the_beginning_of_a_name_is_a_hint():
    failed = CliRunner().invoke(app, ["bench", "unet"])
    assert str(failed.exception) == "no benchmark 'unet'; did you mean 'unet_training'?"


def test_one_benchmark_is_not_compared(tmp_path):
    failed = CliRunner().invoke(app, ["bench", "saxs", "--against", str(tmp_path)])
    assert isinstance(failed.exception, ConfigError)
    assert f"--against {tmp_path}: expected no NAME" in str(failed.exception)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 7, 8, 9, 10, 15])
def test_the_standard_error_is_right_on_average_for_few_rounds(n):
    noise = np.random.default_rng(0).standard_normal((4000, n))
    assert np.mean([standard_error(values) for values in noise]) == pytest.approx(1.2533 / n**0.5, rel=0.05)
