"""``rephase complete`` and ``rephase weights``: a file in, files out; mistakes are one line."""

import json

import gemmi
import pytest
import torch
import typer

from rephase.commands import app
from rephase.crystal.reflections.files import write_hklf4
from rephase.crystal.reflections.simulation import simulate_reflections
from rephase.labs.completion.complete import RESULTS
from rephase.labs.completion.routes import ROUTES
from rephase.paths import ROOT
from rephase.random_crystals.crystals import RandomCrystalOptions, random_crystals


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """A list of reflections without its cell, and the options that give it."""
    options = RandomCrystalOptions(space_groups=("P 1 21/c 1",), n_atoms=(5, 6))
    crystal = random_crystals(1, generator=torch.Generator().manual_seed(0), options=options).crystal(0)
    path = tmp_path_factory.mktemp("sample") / "sample.hkl"
    write_hklf4(path, simulate_reflections(crystal, 1.3)[0])
    return path, ["--cell", ",".join(f"{x:.5f}" for x in crystal.cell.parameters), "--space-group", "P 21/c"]


@pytest.mark.parametrize(("model", "kind"), [("atoms", "density"), ("wilson", "patterson"), ("unet", "patterson")])
def test_a_file_in_and_files_out(command, sample, unet_weights, tmp_path, model, kind):
    path, known = sample
    source = unet_weights if model == "unet" else model
    options = ["--model", source, "--d-min", "1.2", "--effort", "0.05", "--out", tmp_path]
    status, printed, complaints = command("complete", path, *known, *options)
    assert status == 0, complaints
    written = {file.name for file in tmp_path.iterdir() if not file.name.startswith(".")}
    maps = {f"{kind}_before.ccp4", f"{kind}_after.ccp4"}
    assert written == {"completed.mtz", "completion.json", "completion.png", "completion.pdf", *maps}
    summary = json.loads((tmp_path / "completion.json").read_text())
    assert (summary["model"], summary["space_group"]) == (model, "P 1 21/c 1")
    assert f"n_completed: {summary['n_completed']}" in printed
    labels = gemmi.read_mtz_file(str(tmp_path / "completed.mtz")).column_labels()
    assert ("PHI" in labels) == (model == "atoms")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "atom"], "ConfigError: model 'atom': no such route, weights or file; did you mean 'atoms'?"),
        (["--model", "x" * 300], "ConfigError: model 'xxx"),
        (["--model", "wilson", "--d-min", "1.4"], "ReflectionError: "),
        (["--d-min", "0.1"], "ConfigError: d_min = 0.1: expected at least 0.4"),
        (["--effort", "-1"], "ConfigError: effort = -1.0"),
        (["--effort", "inf", "--model", "wilson"], "ConfigError: effort = inf"),
    ],
)
def test_a_mistake_is_one_line(command, sample, tmp_path, options, message):
    path, known = sample
    status, _, complaints = command("complete", path, *known, *options, "--out", tmp_path)
    assert status == 2
    assert complaints.strip().splitlines()[-1].startswith(message)
    assert "Traceback" not in complaints


def test_the_completed_file_is_not_completed_into_itself(command, sample, tmp_path):
    path, known = sample
    command("complete", path, *known, "--model", "wilson", "--d-min", "1.2", "--out", tmp_path)
    made = tmp_path / "completed.mtz"
    before = made.read_bytes()
    status, _, complaints = command("complete", made, "--model", "wilson", "--out", tmp_path)
    assert status == 2
    assert "completed.mtz would be replaced" in complaints
    assert made.read_bytes() == before


@pytest.fixture
def out(command, sample, tmp_path):
    """A folder with a completion by Wilson's statistics."""
    path, known = sample
    command("complete", path, *known, "--model", "wilson", "--d-min", "1.2", "--out", tmp_path / "out")
    return tmp_path / "out"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def test_the_maps_of_another_route_are_not_left_beside_new_results(command, sample, out):
    path, known = sample
    assert "patterson_after.ccp4" in contents(out)
    atoms = ["--model", "atoms", "--d-min", "1.2", "--effort", "0.05"]
    assert command("complete", path, *known, *atoms, "--out", out)[0] == 0
    assert contents(out).keys() == {name for name in RESULTS if not name.startswith("patterson")}


@pytest.mark.parametrize("name", ["completed.mtz", "completion.pdf"])
def test_weights_and_data_that_are_links_to_results_are_not_lost(command, sample, out, tmp_path, name):
    path, known = sample
    link = tmp_path / "link.safetensors"
    link.hardlink_to(out / name)
    before = contents(out)
    for given in ([path, *known, "--model", link], [link, *known, "--model", "wilson"]):
        status, _, complaints = command("complete", *given, "--d-min", "1.2", "--out", out)
        assert status == 2
        assert "would be replaced by the result" in complaints or given[0] == link  # no reflections in a picture
        assert contents(out) == before


def test_a_completion_that_was_worked_on_is_not_lost(command, sample, out):
    path, known = sample
    again = ["complete", path, *known, "--model", "wilson", "--d-min", "1.2", "--out", out]
    assert command(*again)[0] == 0
    (out / "completion.json").write_text("mine")
    before = contents(out)
    status, _, complaints = command(*again)
    assert status == 2
    assert "completion.json was changed after rephase wrote it" in complaints
    assert contents(out) == before


def test_a_full_disk_leaves_the_old_completion(command, sample, out, full_disk):
    path, known = sample
    before = contents(out)
    with full_disk(5000):
        status, _, complaints = command("complete", path, *known, "--model", "wilson", "--d-min", "1.2", "--out", out)
    assert status == 2
    assert "cannot be written (File too large)" in complaints
    assert contents(out) == before
    assert not list(out.glob(".partial*"))


def test_weights_of_a_run(command, completion_run, tmp_path):
    status, printed, _ = command("weights", completion_run.folder, "--out", tmp_path, "--suffix", "_small")
    assert status == 0
    assert "unet_small.safetensors: 0." in printed
    assert {file.name for file in tmp_path.iterdir()} == {"unet_small.safetensors", "unet_small.json"}
    assert command("weights", completion_run.folder, "--out", tmp_path, "--suffix", "_small")[0] == 0  # its own
    status, _, complaints = command("weights", tmp_path)
    assert status == 2
    assert "no run folder" in complaints


@pytest.mark.parametrize("suffix", ["/../../x", "/x", "..", "x" * 300, "\n"])
def test_a_suffix_leads_to_no_other_folder(command, completion_run, tmp_path, suffix):
    status, _, complaints = command("weights", completion_run.folder, "--out", tmp_path / "out", "--suffix", suffix)
    assert status == 2
    assert complaints.startswith("ConfigError: suffix ")
    assert not [*tmp_path.rglob("*.json"), *tmp_path.rglob("*.safetensors")]


@pytest.mark.parametrize("name", ["unet.json", "unet.safetensors"])
@pytest.mark.parametrize("content", ["mine", '{"model": "of others"}'])
def test_weights_replace_no_files_of_others(command, completion_run, tmp_path, name, content):
    (tmp_path / name).write_text(content)
    status, _, complaints = command("weights", completion_run.folder, "--out", tmp_path)
    assert status == 2
    assert complaints.startswith(f"ConfigError: --out {tmp_path}: rephase did not write {name}; give another folder")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [(name, content)]


def test_every_route_is_named_in_help_and_docs():
    (option,) = (one for one in typer.main.get_command(app).commands["complete"].params if one.name == "model")
    text = (ROOT / "docs" / "how-to" / "complete-a-data-set.md").read_text(encoding="utf-8")
    for name in ROUTES:
        assert name in option.help
        assert f"`{name}`" in text
