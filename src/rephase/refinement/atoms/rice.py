"""Distribution of an amplitude if F has a normal error: Rice (acentric) and folded normal (centric).

References
----------
Rice (1945), Bell Syst. Tech. J. 24, 46-156; Read (1986), Acta Cryst. A42, 140-149.
"""

import numpy as np
import torch

_SMALLEST = 1e-12  # variance relative to |F|^2, below which the amplitude is exact in double precision


def amplitude_moments(F: np.ndarray, variance: np.ndarray, is_centric: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and standard deviation [n] of ``|F + error|``.

    Parameters
    ----------
    F
        [n], expected structure factor, or its modulus.
    variance
        [n], mean of ``|error|^2``: a complex normal error, or a real one along F if `is_centric`.
    is_centric
        [n], whether each reflection is centric.
    """
    size = np.abs(F)
    square = size**2
    variance = np.maximum(variance, _SMALLEST * square + np.finfo(float).tiny)
    x = torch.as_tensor(square / variance)
    # Laguerre's L_1/2(-x) = exp(-x/2) ((1 + x) I0(x/2) + x I1(x/2))
    acentric = (
        np.sqrt(np.pi * variance) / 2 * ((1 + x) * torch.special.i0e(x / 2) + x * torch.special.i1e(x / 2)).numpy()
    )
    half = torch.sqrt(x / 2)
    centric = np.sqrt(2 * variance / np.pi) * torch.exp(-x / 2).numpy() + size * torch.erf(half).numpy()
    mean = np.where(is_centric, centric, acentric)
    return mean, np.sqrt(np.maximum(variance + square - mean**2, 0))


def figure_of_merit(amplitude: np.ndarray, F: np.ndarray, variance: np.ndarray, is_centric: np.ndarray) -> np.ndarray:
    """Return the mean cosine [n] of the phase error, given |F_o|: I1(X)/I0(X), or tanh(X/2), X = 2 |F_o F| / variance.

    Parameters
    ----------
    amplitude
        [n], measured |F_o|.
    F, variance, is_centric
        As in `amplitude_moments`.

    References
    ----------
    Sim (1959), Acta Cryst. 12, 813-815.
    """
    x = torch.as_tensor(2 * amplitude * np.abs(F) / np.maximum(variance, np.finfo(float).tiny))
    acentric = (torch.special.i1e(x) / torch.special.i0e(x)).clamp(max=1)  # above 1 only by rounding
    return torch.where(torch.as_tensor(is_centric), torch.tanh(x / 2), acentric).numpy()


def log_likelihood(amplitude: np.ndarray, F: np.ndarray, variance: np.ndarray, is_centric: np.ndarray) -> np.ndarray:
    """Return the log probability density [..., n] of amplitudes [n], given F and variance as in `amplitude_moments`."""
    size = np.abs(F)
    x = torch.as_tensor(2 * amplitude * size / variance)
    both = -(amplitude**2 + size**2) / variance
    acentric = np.log(2 * amplitude / variance) + both + (torch.log(torch.special.i0e(x)) + x).numpy()
    half = x / 2
    log_cosh = (half + torch.log1p(torch.exp(-2 * half))).numpy() - np.log(2)
    centric = 0.5 * np.log(2 / (np.pi * variance)) + both / 2 + log_cosh
    return np.where(is_centric, centric, acentric)
