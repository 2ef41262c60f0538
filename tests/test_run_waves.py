"""The laboratory of waves, run headless."""

from laboratory_run import LaboratoryRun

from rephase.labs.waves.steps import WAVE_METRICS


class TestWaves(LaboratoryRun):
    name = "waves"

    def test_every_route_is_scored(self, results):
        assert set(results["experiment"]) == {"holography", "ptychography"}
        assert set(results["model"]) == {"estimate", "estimate_engine", "engine", "flow", "flow_engine"}
        assert set(results["metric"]) == {*WAVE_METRICS, "coverage_90 phase", "coverage_90 amplitude", "unexplained"}
