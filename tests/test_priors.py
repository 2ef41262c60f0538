"""Box priors: bounds, both ways between parameters and z, and what cannot be."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from rephase.errors import ConfigError
from rephase.inference.priors import BoxPrior, Parameter

PRIOR = BoxPrior(Parameter("radius", "nm", 1.0, 100.0, is_log=True), Parameter("angle", "deg", -30.0, 60.0))


def test_middle_of_the_box_is_at_zero():
    u = torch.tensor([[10.0, 15.0]], dtype=torch.float64)
    assert torch.allclose(PRIOR.to_normal(u), torch.zeros(1, 2, dtype=torch.float64), atol=1e-12)


def test_one_standard_deviation_is_84_percent_of_the_way():
    u = PRIOR.from_normal(torch.ones(2, dtype=torch.float64))
    share = stats.norm.cdf(1.0)
    assert u.tolist() == pytest.approx([100**share, -30 + 90 * share])


def test_there_and_back():
    u = PRIOR.draw(1000, np.random.default_rng(0)).double()
    assert torch.allclose(PRIOR.from_normal(PRIOR.to_normal(u)), u, rtol=1e-5)


def test_draws_are_normal_in_z():
    z = PRIOR.to_normal(PRIOR.draw(4000, np.random.default_rng(1)))
    for column in z.numpy().T:
        assert stats.kstest(column, "norm").pvalue > 0.01


def test_no_z_leaves_the_box():
    u = PRIOR.from_normal(torch.tensor([[-1e9, 1e9], [40.0, -40.0]]))
    assert PRIOR.outside(u) == ()
    assert PRIOR.outside(torch.tensor([[0.5, 0.0]])) == ("radius",)
    assert "radius" in PRIOR.outside(torch.tensor([[math.nan, 0.0]]))


def test_density_is_that_of_independent_normals():
    z = torch.tensor([[0.3, -1.2]], dtype=torch.float64)
    assert PRIOR.log_density(z).item() == pytest.approx(stats.norm.logpdf(z).sum())


@pytest.mark.parametrize(
    "parameter", [Parameter("a", "", 2.0, 1.0), Parameter("a", "", 0.0, 1.0, True), Parameter("a", "", 0.0, np.inf)]
)
def test_bounds_that_cannot_be(parameter):
    with pytest.raises(ConfigError, match=r"a = \(.*\): expected two finite numbers"):
        BoxPrior(parameter)
