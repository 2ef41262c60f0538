"""The run folder: whose it is, that what it holds is whole, and what is said of what is damaged."""

import os

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from rephase.errors import ConfigError, DiskError, StoreError
from rephase.files import checksums
from rephase.paths import ROOT
from rephase.plots import save_figure
from rephase.runs import Run, environment, open_run, read_run

TABLE = pd.DataFrame({"model": ["mlp", "unet"], "value": [0.125, 3.5]})


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def run(tmp_path, config):
    return Run(tmp_path, config)


@pytest.mark.parametrize(
    "name",
    [
        "notebooks/01_structure_factors.ipynb",  # a checkout
        ".bashrc",  # somebody's home
        "runs-of-last-week/config.yaml",  # a folder of runs
        "status.csv",  # a sweep
        "solution.res",  # another command's results
        "environment.json",  # written after the configuration, so not by a run that was killed
    ],
)
def test_a_folder_that_is_no_run_is_refused_as_it_is(tmp_path, monkeypatch, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    before = contents(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=rf"--out {tmp_path}: holds '{name.split('/')[0]}' and is not a run"):
        open_run(".", "test")
    assert contents(tmp_path) == before


def test_a_file_that_a_run_would_write_is_not_a_run(tmp_path):
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    with pytest.raises(ConfigError, match="choose another folder with --out"):
        open_run(tmp_path, "test")
    assert (tmp_path / "config.yaml").read_text() == "seed: 0\n"


def test_a_run_is_opened_again_with_notes_in_it(tmp_path):
    first = open_run(tmp_path, "test")
    (tmp_path / "notes.txt").write_text("mine")
    assert open_run(tmp_path, "test").config == first.config
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_run_that_was_killed_while_it_was_opened_is_opened_again(tmp_path):
    open_run(tmp_path / "whole", "test")
    written = sorted((tmp_path / "whole").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert written[-1].name == "environment.json"
    for n_written in range(len(written)):
        killed = tmp_path / str(n_written)
        killed.mkdir()
        for path in written[:n_written]:
            (killed / path.name).write_bytes(path.read_bytes())
        for name in (".lock", ".0123456789abcdef.partial"):
            (killed / name).write_text("")
        assert open_run(killed, "test").config == read_run(killed).config


@pytest.mark.parametrize("name", ["file/below", "x" * 300, "file"])
def test_a_folder_that_cannot_be_a_run_is_named(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot be made \(.*\); give a folder|is a file"):
        open_run(tmp_path / name, "test")


@pytest.mark.parametrize("name", [os.fsdecode(b"\xfc"), "a\nb"])
def test_a_folder_that_notebooks_cannot_name_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="notebooks cannot store this name"):
        open_run(tmp_path / name, "test")
    assert not (tmp_path / name).exists()


def test_a_damaged_configuration_is_not_another_configuration(tmp_path):
    path = open_run(tmp_path, "test").folder / "config.yaml"
    path.write_text(path.read_text().replace("seed: 0", "seed: 1"))
    for opened in (lambda: read_run(tmp_path), lambda: open_run(tmp_path, "test", ["seed=1"])):
        with pytest.raises(ConfigError, match=r"config\.yaml: damaged, or changed after it was written"):
            opened()


def test_any_bit_that_flips_in_a_table_or_in_arrays_is_found(run):
    run.save_table("scores", TABLE)
    run.save_arrays("maps", density=np.arange(8.0))
    for path, read in (
        (run.folder / "tables" / "scores.csv", lambda: run.table("scores")),
        (run.folder / "arrays" / "maps.npz", lambda: run.arrays("maps")),
    ):
        content = path.read_bytes()
        for place in range(len(content)):
            flipped = content[place] ^ 1 << place % 8
            path.write_bytes(content[:place] + bytes([flipped]) + content[place + 1 :])
            with pytest.raises(StoreError, match=rf"{path.name}: damaged.* delete status.json of the run"):
                read()
        path.write_bytes(content)
        read()


@pytest.mark.parametrize("content", [b"", b'"', b"\xff\xfe\x00", b"a,b\n1,2,3\n4\n5,6,7,8\n"])
def test_what_earlier_versions_wrote_is_read_or_named(run, content):
    run.save_table("scores", TABLE)
    run.save_arrays("maps", density=np.arange(8.0))
    for path in (run.folder / "tables" / ".scores.csv.sha256", run.folder / "arrays" / ".maps.npz.sha256"):
        path.unlink()
    pd.testing.assert_frame_equal(run.table("scores"), TABLE)
    assert run.arrays("maps")["density"].tolist() == list(range(8))
    (run.folder / "tables" / "scores.csv").write_bytes(content)
    (run.folder / "arrays" / "maps.npz").write_bytes(content)
    for read in (lambda: run.table("scores"), lambda: run.arrays("maps")):
        with pytest.raises(StoreError, match=r"(scores\.csv|maps\.npz): damaged"):
            read()


def test_a_table_that_is_replaced_is_right_at_any_moment(run, monkeypatch):
    run.save_table("scores", TABLE)
    write_whole, left = checksums.write_whole, [1]
    monkeypatch.setattr(checksums, "write_whole", lambda *given: left.pop() and write_whole(*given))
    with pytest.raises(IndexError):  # killed after the first of two files
        run.save_table("scores", TABLE.assign(value=0.0))
    pd.testing.assert_frame_equal(run.table("scores"), TABLE)
    monkeypatch.undo()
    run.save_table("scores", TABLE.assign(value=0.0))
    assert run.table("scores")["value"].tolist() == [0.0, 0.0]


def test_a_damaged_table_stops_what_reads_it_in_one_line(command, config, tmp_path):
    run = open_run(tmp_path, "test")
    run.save_table("perturbations", TABLE)
    (tmp_path / "tables" / "perturbations.csv").write_text("model,value\nmlp,0.126\n")
    status, _, complaints = command("figures", tmp_path)
    assert status == 2
    assert complaints.count("\n") == 1
    assert complaints.startswith("StoreError: ")


def test_names_that_are_not_utf_8_are_kept_in_a_table(run):
    run.save_table("left_out", pd.DataFrame({"file": [os.fsdecode(b"\xfc.npy")]}))
    assert run.table("left_out")["file"].tolist() == ["\\udcfc.npy"]


def test_a_full_disk_leaves_what_was_there(run, full_disk):
    figure = plt.figure()
    for folder in ("tables", "arrays", "figures"):
        (run.folder / folder).mkdir()
    before = [run.folder / "tables" / "scores.csv", run.folder / "arrays" / "maps.npz"]
    before += [run.folder / "figures" / "drawn.pdf", run.folder / "figures" / "drawn.png"]
    for path in before:
        path.write_text("old")
    for save in (
        lambda: run.save_table("scores", TABLE),
        lambda: run.save_arrays("maps", density=np.arange(8.0)),
        lambda: save_figure(figure, run.folder / "figures", "drawn"),
    ):
        with full_disk(10), pytest.raises(DiskError, match=r"cannot be written \(File too large\)"):
            save()
    assert {path.read_text() for path in before} == {"old"}
    assert sum(path.is_file() for path in run.folder.rglob("*")) == len(before)


def test_a_repository_around_an_installed_package_is_not_its_own(monkeypatch):
    monkeypatch.setattr("rephase.runs.ROOT", ROOT / "src")  # in the repository of the checkout, but not at its top
    assert environment()["commit"] == "not a git checkout"
    assert environment()["packages"]["rephase"]
