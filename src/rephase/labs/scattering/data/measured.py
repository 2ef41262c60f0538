"""Measured scattering curves in the form that a flow takes: counts at its q, masked where nothing is known."""

from typing import NamedTuple

import numpy as np
import torch

from rephase.errors import CurveError
from rephase.formats.curves import SaxsCurve
from rephase.inference.patterns import PatternBatch
from rephase.labs.scattering.data.saxs import SaxsSimulator

_FEWEST = 5  # usable points
_MOST_SMEARED = 0.02  # dq/q
_COUNTED = 25  # effective counts above which an exposure is known to a fifth
_UNEVEN, _TOO_UNEVEN = 2.0, 3.0  # exposures over level x q^growth: evenly spaced q reach 2, flows err from about 3


class Measured(NamedTuple):
    """A measured pattern with NaN as its unknowns, and notes on the preparation of the curve."""

    pattern: PatternBatch
    notes: tuple[str, ...]


def measured_pattern(curve: SaxsCurve, simulator: SaxsSimulator) -> Measured:
    """Convert a curve to effective counts ``I^2 / sigma^2`` at the q of a simulator.

    Points are averaged, weighted by 1/sigma^2, around the nearest q of the simulator in log q, and the mean is moved to
    that q along the slope of its neighbours. Masked are q without a point, means not above 0, and means less precise
    than any curve of the simulator; more precise means get the largest exposure of the simulator. The resolution of the
    instrument is neglected.

    Parameters
    ----------
    curve
        Curve from `read_saxs` in 1/cm. Its notes come first.
    simulator
        Simulator of the flow that draws the posterior.

    Raises
    ------
    CurveError
        The curve covers too little of the simulator's range of q, its intensity is out of bounds, or dq exceeds 0.02 q.
    """
    intensity, sigma = _averaged(curve, np.log(simulator.q.double().numpy()))
    fewest, most = (photons.double().numpy() for photons in simulator.exposures())
    is_known, is_positive = np.isfinite(intensity), np.nan_to_num(intensity) > 0
    exposure = np.divide(intensity, sigma**2, out=np.zeros_like(most), where=is_positive)
    mask = is_positive & (exposure >= fewest)
    _check_intensity(float(intensity[is_positive].max(initial=0.0)), simulator)
    _check_range(mask, simulator)
    photons = np.clip(exposure, fewest, most)
    counts = np.where(mask, np.nan_to_num(intensity) * photons, 0.0)
    is_inside = (curve.q >= simulator.config.q[0]) & (curve.q <= simulator.config.q[1])
    numbers = {
        "points of the curve outside the range of q of the flow: left out": ~is_inside,
        "q of the flow without a point: masked": ~is_known,
        "means not above 0: masked": is_known & ~is_positive,
        "means less precise than any in the training of the flow: masked": is_positive & (exposure < fewest),
        "means more precise than any in the training of the flow: counted as the most precise": exposure > most,
    }
    notes = [*curve.notes, f"{len(curve.q)} points of the curve averaged around {int(mask.sum())} q of the flow"]
    notes += [f"{int(found.sum())} {what}" for what, found in numbers.items() if found.any()]
    notes += [*_on_resolution(curve, is_inside), *_on_exposure(photons, mask & (counts >= _COUNTED), simulator)]
    fields = (np.full((1, *simulator.u_shape), np.nan), counts[None], photons[None])
    u, n, exposed = (torch.as_tensor(field, dtype=torch.float32) for field in fields)
    return Measured(PatternBatch(u, n, exposed, torch.as_tensor(mask)[None]), tuple(notes))


def _averaged(curve: SaxsCurve, log_q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weighted means and their sigma at each of evenly spaced `log_q`, [n_q]; NaN where no point is near."""
    step = log_q[1] - log_q[0]
    place = np.rint((np.log(curve.q) - log_q[0]) / step).astype(int)
    is_inside = (place >= 0) & (place < len(log_q))
    weight = curve.sigma[is_inside] ** -2.0
    sums = [
        np.bincount(place[is_inside], weight * values, len(log_q))
        for values in (1.0, curve.intensity[is_inside], np.log(curve.q[is_inside]))
    ]
    total = np.where(sums[0] > 0, sums[0], np.nan)
    intensity, at = sums[1] / total, sums[2] / total
    moved = _along_slope(at, intensity, log_q)
    return moved, total**-0.5 * np.abs(moved / np.where(intensity == 0, 1, intensity))


def _along_slope(at: np.ndarray, intensity: np.ndarray, log_q: np.ndarray) -> np.ndarray:
    """Move means from the position of their points to `log_q` along the power law of their neighbours."""
    is_usable = np.nan_to_num(intensity) > 0
    if is_usable.sum() < _FEWEST:
        return intensity
    slope = np.gradient(np.log(intensity[is_usable]), at[is_usable])
    moved = intensity.copy()
    moved[is_usable] *= np.exp(slope * (log_q - at)[is_usable])
    return moved


def _on_resolution(curve: SaxsCurve, is_inside: np.ndarray) -> list[str]:
    """Note the column dq; raise `CurveError` if it smears more than a flow without resolution tolerates."""
    if curve.dq is None or not (curve.dq[is_inside] > 0).any():
        return []
    share = np.where(is_inside, curve.dq / curve.q, 0.0)
    worst = int(share.argmax())
    told = f"dq/q = {share[worst]:.3g} at q = {curve.q[worst]:.3g} /nm"
    if share[worst] > _MOST_SMEARED:
        raise CurveError(
            f"{told}: expected {_MOST_SMEARED} or less, as the flow neglects the resolution and its errors would "
            "exceed its uncertainties; desmear the curve, or remove the column dq if it is not the resolution"
        )
    return [
        f"resolution neglected, as the flow has none: at most {told}; sizes from the brightest curves are wrong by up "
        "to 1 of their standard deviations at 0.01, and 3 at 0.02"
    ]


def _on_exposure(photons: np.ndarray, mask: np.ndarray, simulator: SaxsSimulator) -> list[str]:
    """Note exposures that differ from those of the simulator: how far they are from level x q^growth.

    `mask` leaves out faint points, whose exposures I/sigma^2 have the noise of I.
    """
    if mask.sum() < _FEWEST:
        return []
    log_q, log_photons = np.log(simulator.q.double().numpy()[mask]), np.log(photons[mask])
    growth = np.clip(np.polyfit(log_q, log_photons, 1)[0], *simulator.config.growth)
    apart = log_photons - growth * log_q
    factor = float(np.exp(np.abs(apart - apart.mean()).max()))
    if factor < _UNEVEN:
        return []
    note = f"exposure I/sigma^2 differs by up to a factor of {factor:.2g} from q^{growth:.2g}, the law of photon counts"
    advice = "; is sigma from counts? the flow was not trained on such curves: if it differs from MCMC, trust MCMC"
    return [note + advice * (factor > _TOO_UNEVEN)]


def _check_range(mask: np.ndarray, simulator: SaxsSimulator) -> None:
    """Raise if more is hidden at an end than in any curve of the simulator."""
    q, n_hidden = simulator.q.tolist(), int(simulator.config.hidden * (len(mask) - 1))
    if mask.sum() < _FEWEST:
        raise CurveError(
            f"{int(mask.sum())} usable points within q = {q[0]:.3g}–{q[-1]:.3g} /nm: expected {_FEWEST} or more; "
            "is the unit of q right? if so, train a flow with scattering.saxs.data.q of the curve"
        )
    first, last = np.flatnonzero(mask)[[0, -1]]
    if first > n_hidden + 1 or last < len(mask) - 2 - n_hidden:
        raise CurveError(
            f"the curve is usable for q = {q[first]:.3g}–{q[last]:.3g} /nm: this flow expects it from "
            f"{q[n_hidden]:.3g} or less to {q[-1 - n_hidden]:.3g} or more; is the unit of q right? if so, train a "
            "flow with scattering.saxs.data.q of the curve"
        )


def _check_intensity(most: float, simulator: SaxsSimulator) -> None:
    """Raise if no curve of the simulator can have the largest intensity."""
    low, high = simulator.config.forward
    if most > 0 and not 0.1 * low <= most <= high + simulator.config.background[1]:
        raise CurveError(
            f"the largest intensity is {most:.3g}: this flow expects curves of {low:g}–{high:g} /cm at q = 0; is the "
            "curve in 1/cm? scale it, or train a flow with scattering.saxs.data.forward of the curve"
        )
