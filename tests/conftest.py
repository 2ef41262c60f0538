"""Shared fixtures: where the real structures lie, a small data set, a trained model."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # of the tests and what they start, before anything asks: cores run tests instead

import resource
import shutil
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import torch

from rephase.cli import main
from rephase.config import load_config
from rephase.formats.cod import cache_folder
from rephase.labs.completion.steps import build_data, train_and_score
from rephase.labs.crystals.data import open_perturbed
from rephase.labs.images import steps as classifying
from rephase.paths import BENCHMARKS, ROOT
from rephase.processes import available_cores
from rephase.runs import open_run
from rephase.shipping import ship_weights

pytest.register_assert_rewrite("laboratory_run", "drawn_texts")
_MOST_WORKERS = 8  # with more, most wait for the files that take longest


def pytest_xdist_auto_num_workers():
    """Workers of ``-n auto``; by itself it counts the cores of the machine, not those that the tests may use."""
    return min(available_cores(), _MOST_WORKERS)


@pytest.fixture(scope="session", autouse=True)
def auto_is_the_cpu():
    """``auto`` takes the CPU: a GPU would change numbers and take seconds to start; the tests of GPUs name them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        yield


@pytest.fixture(scope="session")
def cod_table() -> pd.DataFrame:
    """The real crystals of the benchmarks by COD number: space group, sites that are not hydrogen, volume."""
    return pd.read_csv(BENCHMARKS / "cod_crystals.csv", dtype={"cod": str}, index_col="cod")


@pytest.fixture(scope="session")
def cod_file() -> Callable[[str], Path]:
    """Find a file of an entry of the COD: the folder of ``rephase bench solve -- --cod`` has the CIFs."""

    def find(name):
        for folder in (cache_folder(), ROOT.parent / "shared" / "crystals"):
            if (folder / name).is_file():
                return folder / name
        pytest.skip(f"{name} of the COD is not here; set REPHASE_CRYSTALS to a folder with it")

    return find


@pytest.fixture(scope="session")
def near_field_scan() -> Path:
    path = ROOT.parent / "shared" / "measured" / "PETRAIII_P25_Near_Field_Ptycho.cxi"
    if not path.is_file():
        pytest.skip("the measured near-field scan is not here")
    return path


@pytest.fixture(scope="session")
def reports() -> Path:
    folder = ROOT.parent / "shared" / "reports"
    if not folder.is_dir():
        pytest.skip("the inputs of users that went wrong are not here")
    return folder


@pytest.fixture
def command(monkeypatch, capsys):
    """Run ``rephase`` in this process; its status, and what it printed on either stream."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["rephase", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def full_disk():
    """A context in which no file gets more than so many bytes; short, since what pytest prints may be a file too."""

    @contextmanager
    def limited(largest):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited


@pytest.fixture
def bound():
    """What stands before a command whose user permissions of files bind, as they do not bind root."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root may write everywhere")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


@pytest.fixture(scope="session")
def config():
    return load_config("test")


@pytest.fixture(scope="session")
def data(config, tmp_path_factory):
    return open_perturbed(tmp_path_factory.mktemp("data") / "perturbed.zarr", config.crystals.data)


@pytest.fixture(scope="session")
def completion_run(tmp_path_factory):
    """A run that has trained and scored the smallest U-Net that completes amplitudes."""
    overrides = ["completion.models={unet: {options: {width: 4}}}"]
    run = open_run(tmp_path_factory.mktemp("completion"), "test", overrides, device="cpu")
    train_and_score(run, build_data(run), "unet")
    return run


@pytest.fixture(scope="session")
def unet_weights(completion_run, tmp_path_factory):
    """Path of the weights of that U-Net."""
    (path,) = ship_weights(completion_run, tmp_path_factory.mktemp("weights"))
    return path


@pytest.fixture(scope="session")
def image_run(tmp_path_factory):
    """A run that has trained and scored the smallest ResNet on the smallest images."""
    sizes = ["images.data.size=32", "images.models={resnet18: {options: {width: 4}}}", "images.classify.n_shown=2"]
    run = open_run(tmp_path_factory.mktemp("images"), "test", [*sizes, "images.experiments={}"], device="cpu")
    classifying.train_and_score(run, classifying.build_images(run), "resnet18")
    return run


@pytest.fixture(scope="session")
def image_weights(image_run, tmp_path_factory):
    """Path of the weights of that ResNet."""
    (path,) = ship_weights(image_run, tmp_path_factory.mktemp("weights"))
    return path
