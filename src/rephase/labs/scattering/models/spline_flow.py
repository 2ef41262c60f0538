"""The spline flow of zuko that parameters are drawn from; importing it needs the extra ``posteriors``."""

import torch
from zuko.distributions import DiagNormal
from zuko.flows import ElementWiseTransform, Flow, GeneralCouplingTransform, UnconditionalDistribution
from zuko.transforms import MonotonicAffineTransform, MonotonicRQSTransform, Transform


def spline_flow(n: int, n_features: int, n_layers: int, n_bins: int, width: int) -> Flow:
    """Make a flow of `n` parameters; the first transform is the one next to the parameters."""
    centre = ElementWiseTransform(n, n_features, univariate=_centred, hidden_features=(width,))
    splines = [
        GeneralCouplingTransform(
            n,
            n_features,
            mask=(torch.arange(n) + number) % 2 == 1,
            univariate=MonotonicRQSTransform,
            shapes=[(n_bins,), (n_bins,), (n_bins - 1,)],
            hidden_features=(width, width),
        )
        for number in range(n_layers)
    ]
    normal = UnconditionalDistribution(DiagNormal, torch.zeros(n), torch.ones(n), buffer=True)
    return Flow([centre, *splines], normal)


def _centred(middle: torch.Tensor, log_width: torch.Tensor) -> Transform:
    """``(z - middle) / width``, with the width between 10^-4 and 10^4."""
    return MonotonicAffineTransform(middle, log_width, slope=1e-4).inv
