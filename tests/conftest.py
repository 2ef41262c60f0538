"""Shared fixtures: where the real structures lie, and a small data set."""

from pathlib import Path

import pytest
import torch

from rephase.config import load_config
from rephase.datasets.perturbed import open_perturbed
from rephase.paths import ROOT

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_crystals() -> Path:
    folder = ROOT.parent / "shared" / "crystals"
    if not folder.is_dir():
        pytest.skip("the folder of real structures is not here")
    return folder


@pytest.fixture(scope="session")
def config():
    return load_config("test")


@pytest.fixture(scope="session")
def data(config, tmp_path_factory):
    return open_perturbed(tmp_path_factory.mktemp("data") / "perturbed.zarr", config.data)
