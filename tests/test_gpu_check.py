"""``rephase bench gpu_check``: the rehearsal on the CPU, what is missing said at once, and parts that fail."""

import json
import subprocess
import sys

import numpy as np
import pytest

from rephase.devices import WORK
from rephase.paths import BENCHMARKS

sys.path.insert(0, str(BENCHMARKS))  # as for a script of this folder

import gpu_check
from gpu.measuring import CPU, Setup

NOT_SCANNED = {
    "direct sum",
    "several search maps",
    "waves of atoms",
    "phasing maps",
    "posterior images",
    "predicted patterns",
    "scored crystals",
}


def run(*arguments):
    return subprocess.run(
        [sys.executable, BENCHMARKS / "gpu_check.py", *arguments], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpu")
    return run("--rehearse", "--out", folder), folder / "gpu_check.json"


def test_everything_runs_in_the_rehearsal(rehearsal):
    done, path = rehearsal
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(path.read_text())
    assert found["failed"] == []
    assert set(found["peaks"]) == {"copy", "fp32", "tf32", "bf16"}
    assert "a rehearsal" in done.stdout


def test_the_same_device_agrees_with_itself(rehearsal):
    rows = [row for row in json.loads(rehearsal[1].read_text())["rows"] if "difference" in row]
    assert len(rows) > 15
    assert all(row["difference"] < 1e-4 and row["gpu_per_s"] > 0 for row in rows)


def test_pieces_of_every_kind_are_scanned_or_named(rehearsal):
    done, path = rehearsal
    scanned = {row["work"] for row in json.loads(path.read_text())["rows"] if "work" in row}
    assert scanned == set(WORK) - NOT_SCANNED
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("not scanned: "))
    assert set(line.removeprefix("not scanned: ").split(", ")) == NOT_SCANNED


def test_no_gpu_is_one_line_and_status_2(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu_check.py"])  # the tests have no GPU, see conftest
    assert gpu_check.main() == 2
    assert "sees no GPU; --rehearse" in capsys.readouterr().out


def test_missing_packages_are_named(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--rehearse"])
    monkeypatch.setattr(gpu_check, "CARRIED", {"no_such_module": "no-such-package"})
    assert gpu_check.main() == 2
    assert capsys.readouterr().out.startswith("gpu_check: missing modules: no_such_module; `make wheels` elsewhere")
    monkeypatch.setattr(gpu_check, "PRESENT", ("no_scipy",))
    assert gpu_check.main() == 2
    assert "`make wheels WITH='no_scipy'`" in capsys.readouterr().out


def test_the_packages_to_carry_have_versions(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--wheels", "numpy"])
    assert gpu_check.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"numpy=={np.__version__}"
    assert len(lines) == len(gpu_check.CARRIED) + 1


def test_a_part_that_fails_or_hangs_stops_no_other(monkeypatch, tmp_path, capsys):
    def fails(setup):
        yield {"kernel": "before", "gpu_per_s": 1.0}
        raise ValueError("broken")

    def hangs(setup):
        while True:
            sum(range(1000))
        yield {}

    of = {"a": (5, fails), "b": (0.2, hangs), "c": (5, lambda setup: iter([{"work": "grid kernel", "best": 3}]))}
    monkeypatch.setattr(gpu_check, "parts", lambda: of)
    path = tmp_path / "gpu_check.json"
    failed = gpu_check.run_parts(Setup(CPU, False, {}), path, gpu_check.time.perf_counter())
    assert [line.split(":")[0] for line in failed] == ["a", "b"]
    rows = json.loads(path.read_text())["rows"]
    assert [row.get("kernel") or row["work"] for row in rows] == ["before", "grid kernel"]
    assert "grid kernel" in capsys.readouterr().out
