"""Statistics of merged intensities: Wilson scale and B, normalised E, and the reflections that are possible."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from rephase.crystal.cell import Cell
from rephase.crystal.peaks import VOLUME_PER_ATOM
from rephase.crystal.reflections import Reflections
from rephase.crystal.scattering import form_factor_coefficients
from rephase.crystal.shells import smooth_mean
from rephase.crystal.symmetry import Symmetry, unique_rows
from rephase.errors import ReflectionError, check_positive

_ORGANIC = {"C": 0.76, "N": 0.10, "O": 0.14, "H": 1.1}  # atoms per non-hydrogen atom
WILSON_D_MAX = 3.5  # Å; at lower resolution, the atoms of a molecule are not independent
USUAL_B = 3.5, 1.5  # Å^2, mean and spread for molecular crystals
LOG_VARIANCE = 1.5  # n times the variance of ln<|F|^2> in a shell of n reflections: 1 acentric, 2 centric


class Wilson(NamedTuple):
    """``<I> = scale * sum f^2 * exp(-2 B s^2)``, s = 1/(2d).

    ``b_iso`` in Å^2; ``table`` has columns [n_shells]: ``s_squared`` (Å^-2), ``log_ratio`` = ln(<I/ε>/sum f^2), ``n``
    and the fitted ``line``.
    """

    scale: float
    b_iso: float
    table: dict[str, np.ndarray]


def wilson(reflections: Reflections, composition: Mapping[str, float] | None = None) -> Wilson:
    """Estimate absolute scale and mean B of a merged list by linear regression of ln(<I/ε>/sum f^2) on s^2.

    Shells with d < 3.5 Å are used, or all shells if these have too few reflections. Intensities divided by ``scale``
    are on an absolute scale.

    Parameters
    ----------
    reflections
        Merged reflections.
    composition
        Atoms of each element in the whole cell; None: an organic composition with 18 Å^3 per non-hydrogen atom.

    References
    ----------
    Wilson (1942), doi:10.1038/150152a0.
    """
    d_hkl, group = reflections.d_hkl, reflections.group
    s_squared = 1 / (4 * d_hkl**2)
    centring = len(group.triplets) / len(group.point_group)  # centring raises the intensities that are not absent
    ratio = reflections.intensity / (group.epsilon(reflections.hkl) * centring)
    ratio = ratio / squared_form_factors(composition or _organic(reflections.cell), s_squared)
    used = d_hkl < WILSON_D_MAX if (d_hkl < WILSON_D_MAX).sum() >= 60 else np.ones(len(d_hkl), bool)
    order = np.flatnonzero(used)[np.argsort(-d_hkl[used], kind="stable")]
    shells = np.array_split(order, int(np.clip(len(order) // 50, 3, 20)))
    rows = [(s_squared[shell].mean(), ratio[shell].mean(), len(shell)) for shell in shells]
    rows = [(x, np.log(mean), n) for x, mean, n in rows if mean > 0]
    if len(rows) < 2:
        raise ReflectionError(
            f"{reflections.name}: the mean intensity of {len(shells)} shells is not above 0; no scale"
        )
    x, log_ratio, n = map(np.array, zip(*rows))
    slope, intercept = np.polyfit(x, log_ratio, 1, w=np.sqrt(n))
    table = {"s_squared": x, "log_ratio": log_ratio, "n": n, "line": intercept + slope * x}
    return Wilson(float(np.exp(intercept)), float(-slope / 2), table)


def absolute_amplitude(reflections: Reflections) -> np.ndarray:
    """Return |F| [n_refl] of a merged list in electrons per cell, on Wilson's scale."""
    return reflections.amplitudes().amplitude / np.sqrt(wilson(reflections).scale)


def wilson_falloff(reflections: Reflections) -> np.ndarray:
    """Expected fall-off of I/ε for each reflection [n_refl] of a merged list: ``sum f^2 exp(-2 B s^2)``.

    Unlike `smooth_mean`, one line fits all resolutions, so a class of reflections that is weak throughout stays weak.
    """
    s_squared = 1 / (4 * reflections.d_hkl**2)
    form_factors = squared_form_factors(_organic(reflections.cell), s_squared)
    return form_factors * np.exp(-2 * wilson(reflections).b_iso * s_squared)


def expected_intensity(reflections: Reflections, hkl: np.ndarray) -> np.ndarray:
    """Mean of |F|^2 by Wilson's line, extrapolated to any ``hkl [n, 3]``; see `extrapolated_intensity`."""
    return extrapolated_intensity(reflections, hkl).intensity


class Extrapolated(NamedTuple):
    """Expected ``intensity`` [n] on the scale of a list, and the ``variance`` [n] of its logarithm."""

    intensity: np.ndarray
    variance: np.ndarray


def extrapolated_intensity(reflections: Reflections, hkl: np.ndarray) -> Extrapolated:
    """Mean of |F|^2 by Wilson's line, extrapolated to any ``hkl [n, 3]``, on the scale of a merged list.

    The intensity is ``ε scale sum f^2 exp(-2 B s^2)`` for an organic composition. Data of low resolution hardly
    determine B, so a prior of 3.5 ± 1.5 Å^2 is included; a line that rises with s^2 is replaced by a horizontal one.
    """
    group, table = reflections.group, wilson(reflections).table
    s_squared, weight = 1 / (4 * reflections.cell.d_spacing(hkl) ** 2), table["n"] / LOG_VARIANCE
    middle, level = (float(np.average(table[column], weights=weight)) for column in ("s_squared", "line"))
    measured = np.polyfit(table["s_squared"], table["line"], 1)[0]
    precision, before = float((weight * (table["s_squared"] - middle) ** 2).sum()), (2 * USUAL_B[1]) ** -2
    slope = (precision * measured - 2 * before * USUAL_B[0]) / (precision + before)
    falling = np.exp(level + min(slope, 0.0) * (s_squared - middle))
    centring = len(group.triplets) / len(group.point_group)
    form_factors = squared_form_factors(_organic(reflections.cell), s_squared)
    variance = 1 / weight.sum() + (s_squared - middle) ** 2 / (precision + before)
    return Extrapolated(group.epsilon(hkl) * centring * falling * form_factors, variance)


def squared_form_factors(composition: Mapping[str, float], s_squared: np.ndarray) -> np.ndarray:
    """Sum of f0^2 over the atoms of the cell, in electrons squared, for s^2 [n] in Å^-2."""
    coefficients = form_factor_coefficients(list(composition))
    gaussians = np.exp(-coefficients[:, 1:8:2, None] * s_squared)
    form_factors = (coefficients[:, 0:8:2, None] * gaussians).sum(1) + coefficients[:, 8:]
    return np.array(list(composition.values())) @ form_factors**2


def normalise(reflections: Reflections) -> np.ndarray:
    """|E| [n_refl] of a merged list: amplitudes of French & Wilson over their root mean square, <|E|^2> = 1.

    The mean of |F|^2/ε varies smoothly with d; each reflection is also divided by its ε.
    """
    amplitude, sigma = reflections.amplitudes()
    squared = (amplitude**2 + sigma**2) / reflections.group.epsilon(reflections.hkl)  # <|F|^2>, not <|F|>^2
    return np.sqrt(squared / smooth_mean(reflections.d_hkl, squared))


def unique_hkl(cell: Cell, symmetry: Symmetry, d_min: float) -> np.ndarray:
    """One index of each class of equivalents with d >= `d_min` (Å), without systematic absences, [n, 3].

    Raises
    ------
    ReflectionError
        There is none, or `d_min` is not above 0.
    """
    check_positive("d_min", d_min, remedy="give it in Å, e.g. 1.0", error=ReflectionError)
    h_max, k_max, l_max = (int(length / d_min) for length in cell.parameters[:3])
    plane = np.indices((2 * k_max + 1, 2 * l_max + 1)).reshape(2, -1).T - (k_max, l_max)
    slices = []
    for h in range(h_max + 1):  # the other half is Friedel mates
        hkl = np.column_stack([np.full(len(plane), h), plane])
        slices.append(hkl[cell.d_spacing(hkl) >= d_min * (1 - 1e-9)])
    hkl = np.concatenate(slices)
    hkl = hkl[(hkl != 0).any(1)]
    hkl = hkl[~symmetry.is_absent(hkl)]
    if not len(hkl):
        raise ReflectionError(
            f"d_min = {d_min} Å leaves no reflection of {symmetry.symbol} with the axes "
            f"{', '.join(f'{length:g}' for length in cell.parameters[:3])} Å; give a smaller one"
        )
    return unique_rows(symmetry.representative(hkl))


def _organic(cell: Cell) -> dict[str, float]:
    return {element: part * cell.volume / VOLUME_PER_ATOM for element, part in _ORGANIC.items()}
