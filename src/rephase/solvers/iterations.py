"""One cycle of each dual-space algorithm: maps in, maps out, with the projections that all of them share.

``P`` is the projection on the amplitudes (`Modulus`), ``S`` keeps density above a threshold. All take maps
[batch, x, y, z] and return the next iterate; the solution that belongs to an iterate x is ``P x``.
"""

from collections.abc import Callable

import torch

from rephase.solvers.projections import Modulus, above

Iteration = Callable[..., torch.Tensor]


def raar(x: torch.Tensor, modulus: Modulus, threshold: torch.Tensor, beta: float) -> torch.Tensor:
    """Relaxed averaged alternating reflections: ``β/2 (R_S R_P x + x) + (1 - β) P x``.

    References
    ----------
    Luke (2005), doi:10.1088/0266-5611/21/1/004.
    """
    y = modulus(x)
    # in place and halved, because this is the inner loop
    return torch.where(y.sub(x, alpha=0.5) > threshold / 2, y, (beta * x).add_(y, alpha=1 - 2 * beta))


def hybrid_input_output(x: torch.Tensor, modulus: Modulus, threshold: torch.Tensor, beta: float) -> torch.Tensor:
    """Fienup's hybrid input-output: ``P x`` where it is above the threshold, ``x - β P x`` elsewhere.

    References
    ----------
    Fienup (1982), doi:10.1364/AO.21.002758.
    """
    y = modulus(x)
    return torch.where(y > threshold, y, x - beta * y)


def difference_map(x: torch.Tensor, modulus: Modulus, threshold: torch.Tensor, beta: float) -> torch.Tensor:
    """Elser's difference map, ``x + β (S f_P(x) - P f_S(x))``, with γ = ∓1/β.

    References
    ----------
    Elser (2003), doi:10.1364/JOSAA.20.000040.
    """
    y, s = modulus(x), above(x, threshold)
    towards_p, towards_s = y + (y - x) / beta, s - (s - x) / beta
    return x + beta * (above(towards_p, threshold) - modulus(towards_s))


def charge_flipping(x: torch.Tensor, modulus: Modulus, threshold: torch.Tensor, beta: float) -> torch.Tensor:
    """Charge flipping: density below the threshold changes sign and is multiplied by β.

    References
    ----------
    Oszlányi & Sütő (2004), doi:10.1107/S0108767303027569.
    """
    y = modulus(x)
    return torch.where(y > threshold, y, -beta * y)


def low_density_elimination(x: torch.Tensor, modulus: Modulus, threshold: torch.Tensor, beta: float) -> torch.Tensor:
    """Low-density elimination: density below the threshold becomes zero; β is not used.

    References
    ----------
    Shiono & Woolfson (1992), Acta Cryst. A48, 451–456.
    """
    return above(modulus(x), threshold)


ITERATIONS: dict[str, Iteration] = {
    "raar": raar,
    "charge_flipping": charge_flipping,
    "difference_map": difference_map,
    "hio": hybrid_input_output,
    "low_density_elimination": low_density_elimination,
}
