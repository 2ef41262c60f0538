"""``rephase bench instruction_files``: R1 of each file beside that of another program."""

import runpy
import shutil
import sys

import pandas as pd

from rephase.paths import BENCHMARKS, CIFS

PEER = """
import sys
out, *files = sys.argv[1:]
assert all(open(file).read().startswith("TITL") for file in files)
rows = [f"{file},0.5,{'' if 'NaCl' in file else 0.0},{'no atoms' if 'NaCl' in file else ''}" for file in files]
open(out, "w").write("\\n".join(["file,r1_read,r1,error", *rows]))
"""


def test_files_are_read_elsewhere(tmp_path, monkeypatch, capsys):
    cifs, peer, out = tmp_path / "cifs", tmp_path / "peer.py", tmp_path / "table.csv"
    cifs.mkdir()
    for name in ("NaCl", "SrTiO3"):
        shutil.copy(CIFS / f"{name}.cif", cifs)
    peer.write_text(PEER)
    words = ["--folder", str(cifs), "--d-min", "0.6", "--effort", "0.05", "--peer", f"{sys.executable} {peer}"]
    monkeypatch.setattr(sys, "argv", ["instruction_files.py", *words, "--out", str(out)])
    monkeypatch.syspath_prepend(str(BENCHMARKS))  # as for a script of this folder
    runpy.run_path(str(BENCHMARKS / "instruction_files.py"), run_name="__main__")
    table = pd.read_csv(out).set_index("name")
    assert list(table.index) == ["NaCl", "SrTiO3"]
    assert (table["r1"] < 0.02).all()
    *_, error, read, refined = capsys.readouterr().out.splitlines()
    assert error == "NaCl: no atoms"
    assert read == "r1_read: 2 of 2 files, within 0.01 of r1 in 0"
    assert refined == "r1_refined: 1 of 2 files, within 0.01 of r1 in 1"
