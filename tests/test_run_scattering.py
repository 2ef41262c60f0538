"""The laboratory of scattering, run headless."""

from laboratory_run import LaboratoryRun

from rephase.labs.scattering.data.simulators import SIMULATORS
from rephase.labs.scattering.flow import section_of


class TestScattering(LaboratoryRun):
    name = "scattering"

    def test_every_flow_is_scored(self, run, results):
        for kind in SIMULATORS:
            part = results[results["experiment"] == f"posteriors, {kind}"]
            assert set(part["model"]) == {*section_of(run.config, kind).models}
            assert {"nll", "sbc_p", "tarp_p", "coverage_90"} <= set(part["metric"])
