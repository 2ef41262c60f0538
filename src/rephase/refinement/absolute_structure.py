"""The Flack parameter from the quotients of Friedel pairs."""

import numpy as np

from rephase.crystal.reflections import Reflections
from rephase.crystal.symmetry import Symmetry, key_of, rows_of
from rephase.refinement.factors import SiteFactors
from rephase.refinement.model import Flack, Model

_SIGNIFICANT = 3.0  # I/σ of both mates; quotients of weaker ones are far from normally distributed
_FEWEST = 10  # pairs


def flack_from_quotients(intensity: np.ndarray, sigma: np.ndarray, intensity_calc: np.ndarray) -> Flack | None:
    """Fit ``Q_obs = (1 - 2 x) Q_calc`` with ``Q = (I+ - I-) / (I+ + I-)``, which needs no scale.

    Parameters
    ----------
    intensity, sigma
        [n, 2], I(h) and I(-h) with their σ.
    intensity_calc
        [n, 2], calculated with dispersion, on any scale.

    Returns
    -------
    Flack
        None if there are fewer than ten significant pairs, or no difference is expected.

    References
    ----------
    Parsons, Flack & Wagner (2013), doi:10.1107/S2052519213010014.
    """
    used = (intensity > _SIGNIFICANT * sigma).all(1) & (intensity_calc.sum(1) > 0)
    plus, minus = intensity[used].T
    if len(plus) < _FEWEST:
        return None
    total = plus + minus
    observed = (plus - minus) / total
    weight = total**4 / (4 * ((minus * sigma[used, 0]) ** 2 + (plus * sigma[used, 1]) ** 2))
    expected = -np.diff(intensity_calc[used])[:, 0] / intensity_calc[used].sum(1)
    leverage = (weight * expected**2).sum()
    if not leverage > 0:
        return None
    slope = (weight * observed * expected).sum() / leverage
    misfit = (weight * (observed - slope * expected) ** 2).sum() / (len(plus) - 1)
    return Flack(float((1 - slope) / 2), float(np.sqrt(max(misfit, 1.0) / leverage) / 2), len(plus))


def friedel_pairs(hkl: np.ndarray, symmetry: Symmetry) -> np.ndarray:
    """Return rows [n_pairs, 2] of h and -h in a list [n, 3] of reflections, equivalents by rotation included.

    Centric reflections, whose mates are equal, form no pairs.
    """
    one, mate = _by_rotation(hkl, symmetry), _by_rotation(-hkl, symmetry)
    rows, place = rows_of(mate, one), np.arange(len(hkl))
    first = (rows >= 0) & (key_of(one) > key_of(mate))
    return np.column_stack([place[first], rows[first]])


def absolute_structure(model: Model, measured: Reflections) -> Flack | None:
    """Determine x of a model from a list as measured, in the axes of the model.

    None if the group has a centre, the wavelength is unknown, or no significant pairs were measured.
    """
    symmetry = model.symmetry
    if symmetry.is_centrosymmetric or model.wavelength is None or measured.cell != model.cell:
        return None
    present = measured.take(~symmetry.is_absent(measured.hkl))
    hkl, of = np.unique(_by_rotation(present.hkl, symmetry), axis=0, return_inverse=True)
    weight = np.bincount(of.ravel(), present.sigma**-2.0)
    intensity = np.bincount(of.ravel(), present.intensity * present.sigma**-2.0) / weight
    pairs = friedel_pairs(hkl, symmetry)
    if not len(pairs):
        return None
    factors = SiteFactors(hkl[pairs.ravel()], model.cell, symmetry, model.sites.elements, wavelength=model.wavelength)
    intensity_calc = np.abs(factors.F(model.sites)).reshape(-1, 2) ** 2
    return flack_from_quotients(intensity[pairs], weight[pairs] ** -0.5, intensity_calc)


def _by_rotation(hkl: np.ndarray, symmetry: Symmetry) -> np.ndarray:
    """Representative [n, 3] of the equivalents by rotation only, without Friedel mates."""
    images = hkl @ symmetry.rotations[symmetry.point_group]
    return images[key_of(images).argmax(0), np.arange(len(hkl))]
