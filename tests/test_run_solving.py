"""The laboratory that solves crystals, run headless."""

from laboratory_run import LaboratoryRun


class TestSolving(LaboratoryRun):
    name = "solving"
    n_plotly = 1  # the density of the solved crystal to turn

    def test_every_solver_is_scored(self, results):
        assert {"map_cc", "mean_phase_error_weighted", "seconds"} <= set(results["metric"])
        assert {"auto", "classical", "charge_flipping", "learned", "chance"} == set(results["model"])
