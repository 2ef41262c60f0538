"""Similarity of maps: Pearson's correlation and SSIM."""

import torch
import torch.nn.functional as nn_functional

_SSIM_WINDOW = 7  # voxels, the usual uniform window


_SSIM_C1, _SSIM_C2 = 0.01**2, 0.03**2  # Wang et al. 2004, doi:10.1109/TIP.2003.819861


def map_similarity(pred: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Compute the structural similarity [batch] of periodic maps [batch, x, y, z], relative to the true map's range."""
    low = true.amin((1, 2, 3), keepdim=True)
    extent = true.amax((1, 2, 3), keepdim=True) - low
    return structural_similarity((pred - low) / extent, (true - low) / extent)


def structural_similarity(x: torch.Tensor, y: torch.Tensor, *, periodic: bool = True) -> torch.Tensor:
    """Compute the mean structural similarity [batch] of arrays [batch, ...] with two or three axes, uniform window 7.

    The range of the values must be 1. For periodic arrays, windows wrap around; otherwise only windows inside count.
    """
    means = (_window_mean(m, periodic=periodic) for m in (x, y, x * x, y * y, x * y))
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = means
    in_window = _SSIM_WINDOW ** (x.ndim - 1)
    unbiased = in_window / (in_window - 1)
    var_x, var_y = unbiased * (mean_xx - mean_x**2), unbiased * (mean_yy - mean_y**2)
    covariance = unbiased * (mean_xy - mean_x * mean_y)
    luminance = (2 * mean_x * mean_y + _SSIM_C1) / (mean_x**2 + mean_y**2 + _SSIM_C1)
    structure = (2 * covariance + _SSIM_C2) / (var_x + var_y + _SSIM_C2)
    return (luminance * structure).flatten(1).mean(1)


def _window_mean(values: torch.Tensor, *, periodic: bool) -> torch.Tensor:
    half, n_axes = _SSIM_WINDOW // 2, values.ndim - 1
    pool = {2: nn_functional.avg_pool2d, 3: nn_functional.avg_pool3d}[n_axes]
    padded = nn_functional.pad(values[:, None], (half,) * 2 * n_axes, mode="circular") if periodic else values[:, None]
    for axis in range(n_axes):  # a uniform window is separable
        window = [1] * n_axes
        window[axis] = _SSIM_WINDOW
        padded = pool(padded, window, stride=1)
    return padded[:, 0]
