"""``rephase bench instruction_files``: R1 of each file beside that of another program."""

import json
import runpy
import sys

import pytest

from rephase.errors import ConfigError
from rephase.paths import BENCHMARKS

PEER = """
import sys
out, *files = sys.argv[1:]
rows = [f"{file},0.041,{'' if 'extinct' in file else 0.08}" for file in files]
open(out, "w").write("\\n".join(["file,r1_read,r1", *rows]))
"""


def run(folder, peer, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["instruction_files.py", str(folder), "--peer", f"{sys.executable} {peer}"])
    runpy.run_path(str(BENCHMARKS / "instruction_files.py"), run_name="__main__")


def test_files_are_read_elsewhere(tmp_path, monkeypatch, capsys):
    for name in ("extinct", "plain"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "solution.res").write_text("TITL\n")
        (tmp_path / name / "solution.json").write_text(json.dumps({"r1": 0.04}))
    (tmp_path / "peer.py").write_text(PEER)
    run(tmp_path, tmp_path / "peer.py", monkeypatch)
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split()[:3] == ["plain", "0.04", "0.041"]
    assert lines[-2] == "read: 2 of 2, R1 within 0.01 in 2"
    assert lines[-1] == "refined: 1, R1 within 0.01 in 0"


def test_a_folder_without_results_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"no solution\.res"):
        run(tmp_path, tmp_path / "peer.py", monkeypatch)
