"""Sweeps: their tables while they run, what they would start, clusters that make no sense."""

import re
import shlex
import time

import pandas as pd
import pytest

from rephase.config import load_sweep
from rephase.config.clusters import ClusterConfig
from rephase.errors import ConfigError, DeviceError
from rephase.paths import ROOT
from rephase.sweeps import plan_sweep, run_sweep, sweep_points


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("base: test\nonly: ['02']\nseeds: [1, 2, 3]\n")
    return path


def seed_of(task):
    return next(int(text.removeprefix("seed=")) for text in task.arguments if text.startswith("seed="))


@pytest.fixture
def finishing(monkeypatch):
    """Let each run write one result, its seed, at once; returns what is called first."""
    before = []

    def run_task(task):
        if before and (error := before[0](task)):
            return error
        task.folder.mkdir(exist_ok=True)
        (task.folder / "results.csv").write_text(f"value\n{seed_of(task)}\n")
        return ""

    monkeypatch.setattr("rephase.engines.run_task", run_task)
    return before


def tables_in(folder):
    states = pd.read_csv(folder / "status.csv").set_index("seed")["state"].to_dict()
    return states, pd.read_csv(folder / "results.csv")["value"].tolist()


def n_ended(folder):
    """Number of the runs that the table calls done or failed; 0 while there is none."""
    path = folder / "status.csv"
    return (pd.read_csv(path)["state"] != "waiting").sum() if path.is_file() else 0


def test_tables_are_written_after_each_run(source, tmp_path, finishing, monkeypatch):
    monkeypatch.setattr("rephase.engines.POLL", 0.01)
    out, seen = tmp_path / "out", []

    def see(task):
        end = time.monotonic() + 20
        while seen and n_ended(out) < len(seen) and time.monotonic() < end:
            time.sleep(0.01)
        seen.append(tables_in(out) if seen else None)
        return "ConfigError: wrong" if seed_of(task) == 2 else ""

    finishing.append(see)
    run_sweep(plan_sweep(source, out=out))
    assert seen == [
        None,
        ({1: "done", 2: "waiting", 3: "waiting"}, [1]),
        ({1: "done", 2: "failed", 3: "waiting"}, [1]),
    ]
    assert tables_in(out) == ({1: "done", 2: "failed", 3: "done"}, [1, 3])


def test_what_was_finished_before_stays_in_the_tables(source, tmp_path, finishing):
    folder = run_sweep(plan_sweep(source, out=tmp_path / "out"))
    source.write_text(source.read_text().replace("[1, 2, 3]", "[0, 1, 2, 3]"))
    states = []
    finishing.append(lambda task: states.append(tables_in(folder)) or ("" if seed_of(task) else "failed"))
    run_sweep(plan_sweep(source, out=folder))
    assert all(values[:1] == [1] and set(values) == {1, 2, 3} for _, values in states)
    assert tables_in(folder) == ({0: "failed", 1: "done", 2: "done", 3: "done"}, [1, 2, 3])


def test_a_table_that_is_changed_meanwhile_stops_no_run(source, tmp_path, finishing):
    ran = []

    def change(task):
        ran.append(seed_of(task))
        if (tmp_path / "out" / "status.csv").is_file():
            (tmp_path / "out" / "status.csv").write_text("mine")

    run_sweep(plan_sweep(source, out=tmp_path / "out"))
    finishing.append(change)
    with pytest.raises(ConfigError, match=r"status.csv was changed after rephase wrote it"):
        run_sweep(plan_sweep(source, out=tmp_path / "out"))
    assert ran == [1, 2, 3]
    assert (tmp_path / "out" / "status.csv").read_text() == "mine"


def test_where_a_sweep_runs_does_not_change_its_folder(source):
    sweep, _ = load_sweep(source)
    source.write_text(source.read_text() + "cluster: {queue: gpu, cores: 4}\n")
    other, _ = load_sweep(source)
    assert other.cluster.cores == 4
    assert other.fingerprint() == sweep.fingerprint()


@pytest.mark.parametrize("engine", ["local", "slurm", "pbs"])
def test_a_dry_run_prints_the_job_and_the_runs_and_starts_nothing(engine, source, tmp_path, command):
    source.write_text(source.read_text() + "cluster: {queue: short, cores: 3}\n")
    status, said, _ = command("sweep", source, "--engine", engine, "--out", tmp_path / "out", "--dry-run")
    assert status == 0
    assert ("#SBATCH -p short" in said, "#PBS -q short" in said) == (engine == "slurm", engine == "pbs")
    *_, count, first, second, third = said.splitlines()
    assert count == f"3 runs in {tmp_path / 'out'}:"
    words = shlex.split(second)
    assert words[:2] == ["rephase", "run"]
    assert words[words.index("--set") + 1] == "seed=2"
    if engine != "local":
        assert words[words.index("--workers") + 1] == "3"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "error", "said"),
    [
        ({"engine": "slrum"}, ConfigError, "engine 'slrum': expected local, .* did you mean 'slurm'"),
        ({"engine": "tcp://host"}, ConfigError, "engine 'tcp://host': .*missing port number"),
        ({"device": "gpu"}, DeviceError, "device = 'gpu': expected auto, cpu or cuda"),
    ],
)
def test_what_no_run_could_use_is_refused_before_the_first(option, error, said, source, tmp_path):
    with pytest.raises(error, match=said):
        plan_sweep(source, out=tmp_path / "out", **option)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "grid: {crystals.training.epochs: [1, none]}",
            "the run with crystals.training.epochs=none, seed=1: .*crystals.training.epochs = 'none': ",
        ),
        (
            "cases: [{seed: 4}, {crystals.trainin.epochs: 1}]",
            "the run with crystals.trainin.epochs=1, seed=1: test: unknown key 'crystals.trainin'; .* 'training'",
        ),
        ("overrides: [crystals.training.epochs=-1]", "the run with seed=1: test: crystals.training.epochs = -1: "),
        ("only: [crystal]", "s.yaml: no notebook or laboratory 'crystal'; did you mean 'crystals'"),
        ("base: tset", "s.yaml: config 'tset': no such file, .*did you mean 'test'"),
    ],
)
def test_a_run_whose_configuration_is_wrong_is_named_before_anything_starts(line, said, source, tmp_path, command):
    key = line.partition(":")[0]
    kept = [text for text in source.read_text().splitlines() if not text.startswith(f"{key}:")]
    source.write_text("\n".join([*kept, line]))
    for options in ([], ["--dry-run"]):
        status, printed, warned = command("sweep", source, "--out", tmp_path / "out", *options)
        assert (status, printed) == (2, "")
        assert re.search(said, warned)
    assert not (tmp_path / "out").exists()


def test_a_plan_asks_no_scheduler(source):
    assert "3 runs in" in str(plan_sweep(source, engine="tcp://host:8786", device="cuda"))


def test_a_plan_names_the_default_folder(source):
    assert f"/sweeps/s-{load_sweep(source)[0].fingerprint()}:" in str(plan_sweep(source))


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("{queu: gpu}", "unknown key 'cluster.queu'; did you mean 'queue'"),
        ("{cores: 0}", "cluster.cores = 0"),
        ("{memory: 4 GB}", "cluster.memory = '4 GB'"),
        ("{walltime: -1}", "cluster.walltime = -1"),
        ("{minimum: 4, maximum: 2}", "maximum = 2: expected at least minimum = 4"),
        ("{directives: ['#SBATCH --gres=gpu:1']}", "leave out #SBATCH or #PBS"),
        ("{before: ['']}", "expected one line of text for each entry"),
        ('{before: ["a\\nb"]}', "expected one line of text for each entry"),
        ("[1]", "cluster"),
    ],
)
def test_a_cluster_that_makes_no_sense(source, section, said):
    source.write_text(source.read_text() + f"cluster: {section}\n")
    with pytest.raises(ConfigError, match=said):
        load_sweep(source)


def test_the_page_on_clusters_is_right(tmp_path):
    page = (ROOT / "docs" / "how-to" / "on-a-cluster.md").read_text()
    (example,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "my_sweep.yaml").write_text(example)
    sweep, _ = load_sweep(tmp_path / "my_sweep.yaml")
    assert len(sweep_points(sweep)) == 8
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == list(ClusterConfig.model_fields)
    assert set(sweep.cluster.model_dump(exclude_defaults=True)) == set(ClusterConfig.model_fields) - {"minimum"}
