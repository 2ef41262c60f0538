"""Work in pieces: what was paused and continued is equal to what was done in one piece."""

import itertools
import time
from dataclasses import replace

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch

from rephase import deadlines, pipeline
from rephase.config import load_config
from rephase.deadlines import check_time, pause_after
from rephase.errors import ConfigError, OutOfTime
from rephase.labs.completion.data import open_monoclinic
from rephase.labs.completion.models import AMPLITUDE_MODELS
from rephase.labs.crystals.models import MODELS
from rephase.learning import callbacks, store
from rephase.learning.checkpoints import read_checkpoint
from rephase.learning.store import Store
from rephase.learning.training import fit, loss_curve
from rephase.paths import NOTEBOOKS
from rephase.pipeline import run_notebooks
from rephase.runs.status import read_status


def time_is_over_at(monkeypatch, where, numbers):
    """Let the time be over whenever it is asked for the n-th time, for the numbers given."""
    left, asked = set(numbers), itertools.count(1)
    monkeypatch.setattr(where, "is_time_over", lambda: next(asked) in left)


def in_pieces(work):
    """Call until it is done; the result, and where it paused."""
    places = []
    while True:
        try:
            return work(), places
        except OutOfTime as error:
            places.append(str(error))


def weights(model):
    return torch.cat([p.flatten() for p in model.state_dict().values()])


def of_crystals(data, folder, name="mlp", **training):
    overrides = ["crystals.training.batch_size=24", "crystals.training.epochs=5"]
    overrides += [f"crystals.training.{key}={value}" for key, value in training.items()]
    config = load_config("test", overrides)
    return fit(MODELS, name, data, config.crystals, folder, seed=config.seed, device="cpu", progress=False)


def check_pieces(train, tmp_path, monkeypatch, n_pieces):
    whole = train(tmp_path / "whole")
    time_is_over_at(monkeypatch, callbacks, range(2, 1000, 3))
    pieces, places = in_pieces(lambda: train(tmp_path / "pieces"))
    assert len(places) >= n_pieces
    assert torch.equal(weights(pieces), weights(whole))
    pd.testing.assert_frame_equal(loss_curve(tmp_path / "pieces"), loss_curve(tmp_path / "whole"), check_exact=True)
    kept, undisturbed = (read_checkpoint(tmp_path / name / "last.ckpt") for name in ("pieces", "whole"))
    assert kept["epoch"] == undisturbed["epoch"]
    assert kept["global_step"] == undisturbed["global_step"]
    assert "part_of_epoch" not in kept
    return places


@pytest.mark.parametrize("name", ["mlp", "unet3d"])
def test_a_training_in_pieces_ends_with_the_same_weights_and_losses(name, data, tmp_path, monkeypatch):
    places = check_pieces(lambda folder: of_crystals(data, folder, name), tmp_path, monkeypatch, 3)
    assert any(f"at step 2 of epoch 0 of {name}; run the same command again" in place for place in places)


def test_a_training_on_drawn_samples_is_paused_too(data, tmp_path, monkeypatch):
    check_pieces(lambda folder: of_crystals(data, folder, n_streamed=100), tmp_path, monkeypatch, 3)


def test_a_training_in_pieces_stops_early_at_the_same_epoch(data, tmp_path, monkeypatch):
    options = {"epochs": 100, "patience": 2, "learning_rate": 0.1}
    check_pieces(lambda folder: of_crystals(data, folder, **options), tmp_path, monkeypatch, 3)
    assert len(loss_curve(tmp_path / "whole")) < 100


def test_a_gan_in_pieces_ends_with_the_same_weights(config, tmp_path, monkeypatch):
    data = open_monoclinic(tmp_path / "data.zarr", config.completion.data)
    completion = load_config(
        "test", ["completion.training.epochs=3", "completion.models.gan.options.generator=unet"]
    ).completion

    def train(folder):
        return fit(AMPLITUDE_MODELS, "gan", data, completion, folder, device="cpu", progress=False)

    check_pieces(train, tmp_path, monkeypatch, 2)


def test_a_pause_between_epochs_repeats_nothing(data, tmp_path, monkeypatch):
    whole, n_steps = of_crystals(data, tmp_path / "whole"), len(data.splits["train"]) // 24 + 1
    time_is_over_at(monkeypatch, callbacks, [n_steps])  # it is not asked at the last step of an epoch
    pieces, places = in_pieces(lambda: of_crystals(data, tmp_path / "pieces"))
    assert len(places) == 1
    assert "the start of epoch 1 of mlp" in places[0]
    assert torch.equal(weights(pieces), weights(whole))


def test_however_short_the_time_a_training_comes_to_its_end(data, tmp_path, monkeypatch):
    time_is_over_at(monkeypatch, callbacks, range(10_000))
    _, places = in_pieces(lambda: of_crystals(data, tmp_path, "linear", epochs=2))
    assert len(places) > 3


def test_the_speed_of_all_pieces_is_kept(data, tmp_path, monkeypatch):
    time_is_over_at(monkeypatch, callbacks, range(2, 1000, 3))
    in_pieces(lambda: of_crystals(data, tmp_path))
    speed = pd.read_json(tmp_path / "speed.json", typ="series")
    assert speed["samples"] == 5 * len(data.splits["train"])
    assert speed["samples_per_second"] == pytest.approx(speed["samples"] / speed["seconds"])
    assert speed["waiting_share"] == pytest.approx(speed["waiting_seconds"] / speed["seconds"])
    assert 0 < speed["waiting_share"] < 1


def test_a_line_says_how_fast_a_training_was(data, tmp_path, capsys):
    config = load_config("test", ["crystals.training.epochs=1"])
    fit(MODELS, "linear", data, config.crystals, tmp_path, device="cpu", progress=True)
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "samples/s" in line)
    assert line.startswith("linear: ")
    assert line.endswith("% of the time waiting for data")


def test_a_store_is_paused_between_chunks(tmp_path, monkeypatch):
    built = []

    def fill():
        opened = Store(tmp_path / "numbers.zarr", {"n": ((), "int64")}, 20, 4, {"made": "here"})

        def build(rows):
            built.append(rows.start)
            return {"n": np.arange(rows.start, rows.stop)}

        opened.fill(build)
        return opened

    def over(where):
        if len(built) < 4:
            raise OutOfTime(where)

    monkeypatch.setattr(store, "check_time", over)
    filled, places = in_pieces(fill)
    assert len(places) >= 1
    assert "of 5 of numbers.zarr" in places[0]
    counts = [int(place.split()[1]) for place in places]  # of all chunks, and not only of those of this call
    assert counts == sorted(set(counts))
    assert sorted(built) == sorted(set(built)) == [0, 4, 8, 12, 16]
    assert filled.load("n").tolist() == list(range(20))


def test_a_run_is_paused_between_notebooks(tmp_path, monkeypatch):
    numbers, write = [], nbformat.write

    def execute(run, notebook):
        numbers.append(notebook.stem[:2])
        (run.folder / "notebooks").mkdir(exist_ok=True)
        write(nbformat.v4.new_notebook(), run.folder / "notebooks" / notebook.name)
        return {"seconds": 1.0}

    monkeypatch.setattr(pipeline, "_execute", execute)
    with pause_after(1e-6):
        time.sleep(1e-3)
        for n_done in (1, 2):
            with pytest.raises(OutOfTime, match="paused after 1e-06 minutes at notebook 0"):
                run_notebooks("test", out=tmp_path, only=["01", "02", "03"], device="cpu")
            status = read_status(tmp_path)
            assert len(status) == n_done
            assert not any(outcome.error for outcome in status.values())
    run_notebooks("test", out=tmp_path, only=["01", "02", "03"], device="cpu")
    assert numbers == ["01", "02", "03"]


def test_a_pause_within_a_notebook_is_not_recorded_as_its_failure(tmp_path, monkeypatch):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    notebook = nbformat.read(NOTEBOOKS / "01_structure_factors.ipynb", as_version=4)
    code = "from rephase.deadlines import check_time\ncheck_time('a step')"
    notebook.cells.insert(3, nbformat.v4.new_code_cell(code))
    nbformat.write(notebook, folder / "01_structure_factors.ipynb")
    crystals = pipeline.LABORATORIES["crystals"]
    monkeypatch.setitem(pipeline.LABORATORIES, "crystals", replace(crystals, folder=folder))
    with pause_after(1e-6), pytest.raises(OutOfTime, match="^paused after 1e-06 minutes at a step; run the same"):
        run_notebooks("test", out=tmp_path / "run", only=["01"], device="cpu")
    assert read_status(tmp_path / "run") == {}
    run = run_notebooks("test", out=tmp_path / "run", only=["01"], device="cpu")
    assert read_status(run.folder)["01_structure_factors"].finished


def test_a_command_that_pauses_says_so_and_has_a_status_of_its_own(command, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "_execute", lambda run, notebook: {"seconds": 1.0})
    given = ["run", "--config", "test", "--out", tmp_path, "--only", "01,02", "--device", "cpu", "--minutes", "0.0001"]
    status, _, said = command(*given)
    assert status == 75
    assert said.splitlines()[-1] == (
        "paused after 0.0001 minutes at notebook 02_build_data_set; run the same command again to continue"
    )


def test_a_limit_ends_with_its_command_and_the_earlier_one_counts():
    with pause_after(1e-6):
        time.sleep(1e-3)
        with pause_after(10), pytest.raises(OutOfTime, match="after 1e-06 minutes at here"):
            check_time("here")
        check_time_is_over = deadlines.is_time_over()
    assert check_time_is_over
    check_time("here")
    with pause_after(None):
        check_time("here")


@pytest.mark.parametrize("minutes", [0, -1, float("nan")])
def test_a_time_that_is_none_is_refused(minutes):
    with pytest.raises(ConfigError, match=f"minutes = {minutes}: expected a number above 0"), pause_after(minutes):
        pass


def test_a_sweep_pauses_its_runs(command, tmp_path, monkeypatch):
    """The first run takes up all the time; the second has not begun, and no table counts it as failed."""
    (tmp_path / "seeds.yaml").write_text("base: test\nonly: ['01']\nseeds: [0, 1]\n")
    given = ["sweep", tmp_path / "seeds.yaml", "--out", tmp_path / "sweep", "--device", "cpu"]
    begun = []

    def run_child(arguments, **_):
        begun.append(arguments[arguments.index("--set") + 1])
        time.sleep(0.3)
        return 0, ""

    monkeypatch.setattr("rephase.engines.tasks.run_child", run_child)
    status, _, said = command(*given, "--minutes", "0.004")
    assert status == 75
    assert "paused after 0.004 minutes at the runs of sweep" in said.splitlines()[-1]
    assert begun == ["seed=0"]
    assert list(pd.read_csv(tmp_path / "sweep" / "status.csv")["state"]) == ["done", "waiting"]
    status, _, _ = command(*given)
    assert status == 0
    assert begun == ["seed=0", "seed=0", "seed=1"]
    status, _, said = command(*given, "--minutes", "1", "--engine", "tcp://127.0.0.1:1")
    assert status == 2
    assert "minutes = 1.0: expected none with a scheduler" in said
