"""The laboratory of crystals, run headless."""

import json

import pytest
from laboratory_run import LaboratoryRun

from rephase.errors import ConfigError
from rephase.labs.crystals.models import MODELS
from rephase.labs.crystals.models.baselines import BASELINES
from rephase.labs.crystals.scores import METRICS
from rephase.runs import open_run, read_run


class TestCrystals(LaboratoryRun):
    name = "crystals"
    n_plotly = 1  # the densities to turn

    def test_every_model_is_scored(self, results):
        assert set(results["model"]) == {*MODELS, *BASELINES}
        assert set(results["metric"]) == {*METRICS, "undefined_phases"}
        assert {"test", "unseen"} <= set(results["split"])
        assert results["value"].notna().all()

    def test_run_states_what_it_was_made_from(self, run):
        environment = json.loads((run.folder / "environment.json").read_text())
        assert {"commit", "python", "packages"} <= environment.keys()
        assert read_run(run.folder).config == run.config

    def test_folder_of_another_configuration_is_refused(self, run):
        with pytest.raises(ConfigError, match=r"crystals.training.epochs = 2, not 5; choose another folder"):
            open_run(run.folder, "test", ["crystals.training.epochs=5"])
