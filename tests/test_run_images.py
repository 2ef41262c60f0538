"""The laboratory of images, run headless."""

from laboratory_run import LaboratoryRun

from rephase.labs.images.models.baselines import IMAGE_BASELINES
from rephase.labs.images.scores import CLASSIFICATION_METRICS, LABEL_METRICS


class TestImages(LaboratoryRun):
    name = "images"

    def test_every_model_is_scored(self, run, results):
        assert results["experiment"].str.startswith("images").all()
        assert set(results["model"]) == {*run.config.images.models, *IMAGE_BASELINES}
        assert set(results["metric"]) == {*CLASSIFICATION_METRICS, *LABEL_METRICS}
