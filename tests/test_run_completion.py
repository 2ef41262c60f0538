"""The laboratory of completion, run headless."""

from laboratory_run import LaboratoryRun

from rephase.labs.completion.models.baselines import AMPLITUDE_BASELINES
from rephase.labs.completion.scores import COMPLETION_METRICS, MAP_SCORE, PHASE_METRICS


class TestCompletion(LaboratoryRun):
    name = "completion"

    def test_every_model_is_scored(self, run, results):
        of = results.groupby("experiment")
        assert set(of.get_group("completion")["model"]) == {*run.config.completion.models, *AMPLITUDE_BASELINES}
        assert set(of.get_group("completion")["metric"]) == {*COMPLETION_METRICS, MAP_SCORE}
        assert {"atoms", "wilson"} <= set(of.get_group("inference")["model"])
        phases = of.get_group("monoclinic_phases")
        assert set(phases["model"]) == {*run.config.completion.phases.models, "chance"}
        assert set(phases["metric"]) == set(PHASE_METRICS)
