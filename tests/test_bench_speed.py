"""``rephase bench speed_of_solve``: the row of a crystal, and the summaries of the program and of a peer."""

import re
import runpy
import shutil
import sys

import pytest

from rephase.paths import BENCHMARKS, CIFS

PEER = """
import sys
folder, out = sys.argv[1:3]
open(out, "w").write("name,d_min,map_cc,seconds\\nSrTiO3,0.7,0.9,2.0\\n")
"""


def test_a_crystal_is_timed_beside_a_peer(tmp_path, monkeypatch, capsys):
    cifs, peer = tmp_path / "cifs", tmp_path / "peer.py"
    cifs.mkdir()
    shutil.copy(CIFS / "SrTiO3.cif", cifs)
    peer.write_text(PEER)
    words = ["--folder", str(cifs), "--d-min", "0.7", "--no-page", "--peer", f"{sys.executable} {peer}"]
    monkeypatch.setattr(sys, "argv", ["speed_of_solve.py", *words])
    monkeypatch.syspath_prepend(str(BENCHMARKS))  # as for a script of this folder
    runpy.run_path(str(BENCHMARKS / "speed_of_solve.py"), run_name="__main__")
    row, phases, peer_line, ratio = capsys.readouterr().out.splitlines()
    assert float(re.match(r"SrTiO3: map_cc (\S+), phases \S+ s$", row)[1]) > 0.9
    assert phases.startswith("phases: 1 of 1 solved, ")
    assert peer_line == "peer: 1 of 1 solved, 2.00 s per solved, median 2.00 s"
    seconds = float(phases.split(", ")[1].split()[0])
    assert float(re.match(r"phases / peer: (\S+) in seconds per solved crystal$", ratio)[1]) == pytest.approx(
        seconds / 2.0, abs=0.01
    )
