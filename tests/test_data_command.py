"""``rephase data``: data sets that are built before a run, by shards in processes of their own."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from rephase.config import load_config
from rephase.data_sets import build_data_sets
from rephase.errors import ConfigError, DiskError, PipelineError
from rephase.files.writing import only_writer
from rephase.labs.crystals.data import open_perturbed
from rephase.learning.store import Store


def chunks_below(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("c/**/*") if file.is_file()}


def test_a_run_finds_whole_what_the_command_has_built(tmp_path, command, monkeypatch):
    options = ("--config", "test", "--only", "crystals", "--out", tmp_path / "run")
    built = tmp_path / "run" / "data" / "perturbed.zarr"
    assert command("data", *options, "--shard", "2/2")[0] == 0  # as a job of an array would
    assert {path.name for path in built.glob("F/c/*")} == {"1", "3", "5"}
    status, said, _ = command("data", *options)
    assert (status, said) == (0, f"data set: {built}\n")
    data = load_config("test").crystals.data
    open_perturbed(tmp_path / "whole.zarr", data)
    assert chunks_below(built) == chunks_below(tmp_path / "whole.zarr") != {}
    monkeypatch.setattr(Store, "_write", lambda *_: pytest.fail("a chunk was built again"))
    assert len(open_perturbed(built, data)) == 120


def test_a_laboratory_without_data_sets_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="--only solving: its notebooks build no data set"):
        build_data_sets("test", out=tmp_path, only=["solving"])


def test_an_unknown_engine_is_refused_before_the_folder_is_made(tmp_path):
    with pytest.raises(ConfigError, match="engine 'lokal': .* did you mean 'local'"):
        build_data_sets("test", out=tmp_path / "run", only=["crystals"], engine="lokal")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--shard", "1/2", "--jobs", "2"], "--shard 1/2: expected no --engine, --jobs or --cluster"),
        (["--shard", "1/2", "--engine", "dask"], "--shard 1/2: expected no --engine, --jobs or --cluster"),
        (["--shard", "1/2", "--cluster", "c.yaml"], "--shard 1/2: expected no --engine, --jobs or --cluster"),
        (["--workers", "2"], "--workers 2: expected --shard"),
        (["--shard", "1/2", "--workers", "0"], "workers = 0: expected 1 to 1000"),
    ],
)
def test_options_that_would_do_nothing_are_refused(options, said, tmp_path, command):
    status, _, warned = command("data", "--config", "test", "--only", "crystals", "--out", tmp_path / "run", *options)
    assert status == 2
    assert said in warned
    assert not (tmp_path / "run").exists()


def test_a_shard_that_fails_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("rephase.engines.run_task", lambda task: "DiskError: full" if "2/2" in task.arguments else "")
    with pytest.raises(PipelineError, match="shard 2/2 failed: DiskError: full; give the same command again"):
        build_data_sets("test", out=tmp_path, only=["crystals"], jobs=2)


def test_a_run_that_is_going_on_is_left_alone(tmp_path):
    with only_writer(tmp_path), ThreadPoolExecutor(1) as pool, pytest.raises(DiskError, match="another process"):
        pool.submit(build_data_sets, "test", out=tmp_path, only=["crystals"]).result()


@pytest.mark.parametrize(
    ("text", "said"), [("queu: x", "did you mean 'queue'"), ("cores: 0", "cores = 0"), (None, "No such file|no such")]
)
def test_a_file_of_a_cluster_that_makes_no_sense(tmp_path, text, said):
    path = tmp_path / "cluster.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        build_data_sets("test", out=tmp_path / "run", only=["crystals"], engine="slurm", cluster=path)
    assert not (tmp_path / "run").exists()
