"""``rephase bench solve -- --cod``: entries from a server on this machine, and the table of those that can be had."""

import itertools
import re
import runpy
import shlex
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import gemmi
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from rephase.crystal.map_files import write_cif
from rephase.crystal.peaks import Peaks
from rephase.crystal.structures import read_crystal
from rephase.crystal.symmetry import find_symmetry
from rephase.formats import cod
from rephase.paths import BENCHMARKS
from rephase.random_crystals.crystals import RandomCrystalOptions, random_crystals
from rephase.solvers.claims import CALIBRATIONS, LARGEST_LEAD, Calibration

sys.path.insert(0, str(BENCHMARKS))  # as for a script of this folder

from cases.crystals import describe
from cases.reliability import draw_reliability, fitted, reliability, stated_by

EVERY = 25  # of the table: three entries


@pytest.fixture(scope="module")
def chosen(cod_table):
    return cod_table.index[::EVERY].tolist()


class Quiet(SimpleHTTPRequestHandler):
    """Serves the files of a folder and counts what it is asked for."""

    def do_GET(self):
        self.server.requests.append(self.path)
        super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """An empty COD; its `folder` holds the entries."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(cod.time, "sleep", lambda _: None)
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as made:
        made.folder, made.requests = folder, []
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def bench(server, tmp_path, monkeypatch, capsys):
    """Run the benchmark on every 25th entry; how it ended, and what it printed on either stream."""
    monkeypatch.setenv("REPHASE_CRYSTALS", str(tmp_path / "cache"))
    out = tmp_path / "rows.csv"
    words = ["--cod", "--url", f"http://127.0.0.1:{server.server_port}", "--every", str(EVERY), "--out", str(out)]

    def run(*options):
        monkeypatch.setattr(sys, "argv", ["solve.py", *words, "--d-min", "1.2", "--solver", "chance", *options])
        try:
            runpy.run_path(str(BENCHMARKS / "solve.py"), run_name="__main__")
        except SystemExit as stopped:
            return stopped.code, *capsys.readouterr()
        return 0, *capsys.readouterr()

    return run


def serve_crystal(server, number):
    options = RandomCrystalOptions(space_groups=("P 1 21/c 1",), n_atoms=(6, 7))
    crystal = random_crystals(1, generator=torch.Generator().manual_seed(0), options=options).crystal(0)
    sites = crystal.asymmetric_unit
    peaks = Peaks(sites.xyz_frac, torch.ones(len(sites)).numpy(), sites.elements)
    write_cif(server.folder / f"{number}.cif", crystal.cell, find_symmetry(crystal.space_group), peaks)


def test_the_table_is_printed_from_the_entries_that_can_be_had(server, bench, chosen, tmp_path):
    served, unreadable, missing = chosen
    serve_crystal(server, served)
    (server.folder / f"{unreadable}.cif").write_text("data_nothing\n_cell_length_a 5\n")
    code, printed, complaints = bench()
    assert code == 0
    assert re.search(r"^chance +exact +1\.0 +1\.2 +1 ", printed, re.MULTILINE)
    assert f"{missing}: not downloaded: HTTP 404" in complaints
    assert f"{unreadable}: not read: " in complaints
    assert f"{served}: differs from cod_crystals.csv: " in complaints
    assert pd.read_csv(tmp_path / "rows.csv", dtype={"name": str})["name"].tolist() == [served]


def test_an_entry_is_fetched_once(server, bench, chosen):
    for number in chosen:
        serve_crystal(server, number)
    assert bench()[0] == 0
    assert server.requests == [f"/{number}.cif" for number in chosen]
    assert bench("--d-min", "1.5")[0] == 0
    assert len(server.requests) == len(chosen)


def test_without_any_entry_there_is_no_table(bench):
    code, printed, _ = bench()
    assert code == "no crystal could be read, and there are no earlier rows: nothing to print"
    assert not printed


def test_a_cache_that_cannot_be_written_is_one_line(bench, monkeypatch):
    monkeypatch.setenv("REPHASE_CRYSTALS", __file__)
    assert bench()[0].startswith(f"ConfigError: REPHASE_CRYSTALS {__file__}: cannot be made")


@pytest.mark.filterwarnings("ignore:.*the formula 'C56 H76 P2 Pt' has P, Pt")  # one entry of the database lacks them
@pytest.mark.filterwarnings("ignore:.*the atoms give a cell of")  # disorder without occupancies, images listed twice
@pytest.mark.filterwarnings("ignore:.*which it also states, is used instead")  # one list of operations is no group
def test_the_table_says_what_the_entries_hold(cod_table, cod_file):
    """Against gemmi and the volume that each file states, and as the benchmark compares it."""

    for number, row in cod_table.iterrows():
        path = cod_file(f"{number}.cif")
        structure = gemmi.read_small_structure(str(path))
        volume = gemmi.cif.as_number(gemmi.cif.read(str(path))[0].find_value("_cell_volume"))
        assert row["n_non_hydrogen"] == sum(not site.element.is_hydrogen for site in structure.sites), number
        assert row["volume_A3"] == pytest.approx(volume, rel=1e-3), number
        assert gemmi.SpaceGroup(row["space_group"]).number == structure.spacegroup.number, number
        assert describe(read_crystal(path)) == row.to_dict()


def test_random_crystals_of_each_group(tmp_path, monkeypatch, capsys):
    out = tmp_path / "rows.csv"
    words = ["--random", "2", "--groups", "P 1", "P 41", "--n-atoms", "5", "6", "--elements", "C", "O"]
    words += ["--d-min", "1.2", "--solver", "chance", "--out", str(out), "--by-size"]
    monkeypatch.setattr(sys, "argv", ["solve.py", *words])
    runpy.run_path(str(BENCHMARKS / "solve.py"), run_name="__main__")
    rows = pd.read_csv(out)
    assert rows["space_group"].tolist() == ["P 1", "P 1", "P 41", "P 41"]
    assert set(rows["data"]) == {"random crystals of 5 to 6 atoms C O P 1 P 41"}
    assert rows["heaviest"].between(6, 8).all()
    by_volume, by_heaviest, shares = (part.splitlines() for part in capsys.readouterr().out.strip().split("\n\n"))
    assert [line.split()[-3] for line in (by_volume[-1], by_heaviest[-1])] == ["4", "4"]
    assert "(0.0, 1000.0]" in by_volume[-1]
    assert "(0.0, 9.0]" in by_heaviest[-1]
    assert len(shares) == 2


def test_the_reliability_compares_the_stated_probability_with_the_truth():
    rng = np.random.default_rng(0)
    lead, n_agree, misfit = rng.uniform(0, LARGEST_LEAD, 4000), rng.integers(1, 25, 4000), rng.uniform(0.3, 0.5, 4000)
    true = Calibration(12.0, 2.0, 0.8, -20.0)
    stated = np.array([true.probability(*each) for each in zip(lead, n_agree, misfit)])
    right = rng.random(len(lead)) < stated
    figures = {"lead": lead, "n_agree": n_agree, "r_factor": misfit, "probability": stated}
    rows = pd.DataFrame({"kind": "led", "map_cc": right * 1.0} | figures)
    without_lead = pd.DataFrame({"kind": ["classical"], "lead": [np.nan], "probability": [np.nan], "map_cc": [1.0]})
    table = reliability(pd.concat([rows, without_lead]), ("kind",))
    assert set(table["kind"]) == {"led"}
    assert table["n"].sum() == len(lead)
    assert (table["stated"] - table["right"]).abs().max() < 0.06
    found = fitted(rows)
    for each in itertools.product((0.0, 0.03, 0.1), (1, 5, 24), (0.3, 0.4, 0.5)):
        assert found.probability(*each) == pytest.approx(true.probability(*each), abs=0.04)
    assert fitted(without_lead) is None
    assert stated_by(true, rows) is rows
    unstated = stated_by(true, pd.concat([rows.assign(probability=np.nan), without_lead]))
    assert unstated["probability"].tolist() == pytest.approx(stated.tolist())


def test_the_figure_of_the_reliability_has_a_line_for_each_kind_of_row():
    rows = [
        ("auto", "exact", 2.0, 0.3, 1, 0.0),
        ("auto", "exact", 2.0, 0.9, 4, 0.5),
        ("auto", "exact", 1.5, 0.9, 2, 1.0),
    ]
    rows += [("learned", "exact", 2.0, 0.6, 10, 0.5)]
    table = pd.DataFrame(rows, columns=["solver", "data", "d_min", "stated", "n", "right"])
    ax = draw_reliability(table, ("solver", "data", "d_min")).axes[0]
    _, names = ax.get_legend_handles_labels()
    assert names == ["stated = right", "auto, 2.0 Å, n = 5", "auto, 1.5 Å, n = 2", "learned, 2.0 Å, n = 10"]
    lines = [bars.lines[0].get_xydata().tolist() for bars in ax.containers]
    assert lines == [[[0.3, 0.0], [0.9, 0.5]], [[0.9, 1.0]], [[0.6, 0.5]]]
    intervals = [bars.lines[2][0].get_segments()[0][:, 1].tolist() for bars in ax.containers]
    z2 = 1.96**2  # none of one, all of two, five of ten, as Wilson's formula has them
    half = 1.96 / (1 + z2 / 10) * (0.25 / 10 + z2 / 400) ** 0.5
    expected = [[0, z2 / (1 + z2)], [2 / (2 + z2), 1], [0.5 - half, 0.5 + half]]
    assert intervals == [pytest.approx(each, abs=1e-4) for each in expected]
    plt.close("all")


@pytest.fixture
def solve_bench(tmp_path, monkeypatch):
    """Run the benchmark with words; return its rows."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["solve.py", *map(str, words), "--out", str(tmp_path / "rows.csv")])
        runpy.run_path(str(BENCHMARKS / "solve.py"), run_name="__main__")
        return pd.read_csv(tmp_path / "rows.csv", dtype={"name": str})

    return run


def test_wrong_calls_end_with_one_line(solve_bench, capsys):
    crystal = ["--random", 1, "--n-atoms", 5, 6, "--d-min", 1.5]
    for error, words in {
        "WeightsError: no weights 'nowhere'": ["--solver", "learned", "--weights", "nowhere"],
        "SymmetryError: .*'P7'": ["--solver", "chance", "--groups", "P7"],
    }.items():
        with pytest.raises(SystemExit, match=f"^{error}"):
            solve_bench(*crystal, *words)
    for wrong in (["--solver", "lerned"], ["--random", 0], ["--every", 0]):
        with pytest.raises(SystemExit, match="2"):
            solve_bench(*crystal, *wrong)
    assert "did you mean 'learned'?" in capsys.readouterr().err


def test_a_peer_gets_the_crystals_that_can_be_read(solve_bench, tmp_path):
    options = RandomCrystalOptions(space_groups=("P 1 21/c 1",), n_atoms=(6, 7))
    crystal = random_crystals(1, generator=torch.Generator().manual_seed(0), options=options).crystal(0)
    sites, symmetry = crystal.asymmetric_unit, find_symmetry(crystal.space_group)
    (folder := tmp_path / "cifs").mkdir()
    write_cif(folder / "1.cif", crystal.cell, symmetry, Peaks(sites.xyz_frac, np.ones(len(sites)), sites.elements))
    (folder / "2.cif").write_text("data_nothing\n_cell_length_a 5\n")
    (tmp_path / "peer.py").write_text(
        "import pathlib, sys\n"
        "rows = [f'{path.stem},1.2,0.9,1.0' for path in pathlib.Path(sys.argv[1]).glob('*.cif')]\n"
        "pathlib.Path(sys.argv[2]).write_text('\\n'.join(['name,d_min,map_cc,seconds', *rows]))\n"
    )
    command = f"{shlex.quote(sys.executable)} {shlex.quote(str(tmp_path / 'peer.py'))}"
    rows = solve_bench("--folder", folder, "--d-min", 1.2, "--peer", command)
    assert rows[["name", "solver", "space_group"]].to_numpy().tolist() == [["1", "peer", "P 1 21/c 1"]]


def test_networks_have_a_fit_each(tmp_path, capsys):
    rng = np.random.default_rng(0)
    lead = rng.uniform(0, LARGEST_LEAD, 60)
    rows = pd.DataFrame({"lead": lead, "n_agree": 9, "r_factor": 0.4, "map_cc": (lead > 0.05) * 1.0, "d_min": 0.0})
    rows = rows.assign(solver="learned", data="measured", effort=1.0, probability=0.9)
    networks = [rows.assign(network=name) for name in ("recurrent", "recurrent_fine")]
    print_reliability = runpy.run_path(str(BENCHMARKS / "solve.py"))["print_reliability"]
    print_reliability(pd.concat([*networks, rows.iloc[:5].assign(network=np.nan, lead=np.nan)]), tmp_path / "rows.csv")
    said = capsys.readouterr().out
    assert said.count("of_lead") == 2
    assert "learned, recurrent, 0 Å: " in said
    assert "learned, recurrent_fine, 0 Å: " in said
    print_reliability(rows, tmp_path / "rows.csv")  # of a table that does not say which
    assert "learned, network not recorded, 0 Å: " in capsys.readouterr().out


@pytest.mark.parametrize("option", [[], ["--uncalibrated"]])
def test_a_network_claims_nothing_where_a_fit_is_wanted(tmp_path, monkeypatch, option):
    rows = tmp_path / "rows.csv"
    words = ["--random", "1", "--groups", "P -1", "--n-atoms", "6", "6", "--seed", "2", "--d-min", "2.0"]
    words += ["--solver", "learned", "--effort", "0.05", "--reliability", "--out", str(rows)]
    fitted = {sha256: each._replace(n_trials=4) for sha256, each in CALIBRATIONS.items()}
    monkeypatch.setattr("rephase.solvers.claims.CALIBRATIONS", fitted)
    monkeypatch.setattr("rephase.solvers.choice.CALIBRATIONS", fitted)
    monkeypatch.setattr(sys, "argv", ["solve.py", *words, *option])
    runpy.run_path(str(BENCHMARKS / "solve.py"), run_name="__main__")
    found = pd.read_csv(rows).iloc[0]
    assert np.isnan(found["probability"]) == bool(option)
    assert found["solver"] == ("learned uncalibrated" if option else "learned")
    assert found["network"] == "recurrent"
    assert rows.with_name("rows_reliability.png").is_file() != bool(option)  # nothing is drawn if nothing is stated


def test_rows_that_a_line_separates_have_a_finite_calibration():
    lead = np.linspace(0, LARGEST_LEAD, 40)
    found = fitted(pd.DataFrame({"lead": lead, "n_agree": 9, "r_factor": 0.4, "map_cc": (lead > 0.05) * 1.0}))
    assert found.probability(0.0, 9, 0.4) < 0.1
    assert 0.9 < found.probability(LARGEST_LEAD, 9, 0.4) < 1
    assert abs(found.of_agreement) < 1e-3
