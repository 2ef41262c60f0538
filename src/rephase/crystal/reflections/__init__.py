"""`Reflections`: measured intensities with their cell and space group; merging of equivalents, amplitudes."""

import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from rephase.crystal.cell import Cell
from rephase.crystal.holohedry import symmetry_of_axes
from rephase.crystal.reflections.checks import (
    FEWEST,
    check_cell,
    check_enough,
    check_shapes,
    check_values,
    checked_indices,
)
from rephase.crystal.reflections.french_wilson import Amplitudes, french_wilson
from rephase.crystal.shells import smooth_mean
from rephase.crystal.symmetry import Symmetry, find_symmetry, unique_rows
from rephase.errors import ReflectionError, check_positive

_HIGH_ORDER = 8  # rotations; in groups with more, a few unique reflections represent many
_CONTRADICTION = 5.0, 0.25  # spread in units of σ, and relative to the intensity
_STRONG_ABSENCES = 0.05, 5.0  # mean I of the absences over the mean I of the others, and mean I/σ of the absences
_FEWEST_ABSENCES = 5  # fewer allow no conclusion


@dataclass(frozen=True, eq=False)
class Reflections:
    """A list of measured reflections.

    Parameters
    ----------
    hkl
        Miller indices, integers [n_refl, 3].
    intensity
        |F|^2 on any scale, [n_refl]; negative values stay as measured.
    sigma
        Standard uncertainty of the intensity, [n_refl], above zero.
    cell
        Lengths in Å, angles in degrees.
    symmetry
        Space group; None: unknown, treated as P 1.
    phi
        Phases in radians, [n_refl], NaN where unknown; None: no phases.
    wavelength
        Wavelength in Å; None: unknown.
    name
        Name in messages and titles.
    is_merged
        Whether there is one reflection per class of equivalents, and no systematic absence; Friedel mates may be apart.
    has_sigma
        Whether any σ was measured; if not, `sigma` is an estimate for the search, and a refinement weighs all alike.
    formula
        Formula unit that the file states, e.g. ``C12 H10 N2 O``; "" if it states none.
    radiation
        ``neutron`` or ``electron`` if the file states one of these; "": X-rays.
    temperature
        Temperature of the measurement in K; None: unknown.

    Raises
    ------
    ReflectionError
        The columns have unequal lengths, a value is not finite, indices are not integers or out of range, a σ is not
        positive, no intensity is above zero, there are fewer than 30 reflections (equivalents are counted in a merged
        list, and in a group of more than eight rotations; of an unknown group, those that the axes allow), or the
        operations of the group do not preserve the cell.
    """

    hkl: np.ndarray
    intensity: np.ndarray
    sigma: np.ndarray
    cell: Cell
    symmetry: Symmetry | None = None
    phi: np.ndarray | None = None
    wavelength: float | None = None
    name: str = "reflections"
    is_merged: bool = False
    has_sigma: bool = True
    formula: str = ""
    radiation: str = ""
    temperature: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "hkl", np.asarray(self.hkl))
        for column in ("intensity", "sigma", "phi"):
            if getattr(self, column) is not None:
                object.__setattr__(self, column, np.asarray(getattr(self, column), dtype=np.float64))
        columns = {"intensity": self.intensity, "sigma": self.sigma, "phi": self.phi}
        check_shapes(self.hkl, columns, name=self.name)
        check_cell(self.cell, self.symmetry, name=self.name)
        object.__setattr__(self, "hkl", checked_indices(self.hkl, self.cell, name=self.name))
        check_values(self.intensity, self.sigma, name=self.name)
        check_enough(self._count(), name=self.name)

    def __len__(self) -> int:
        return len(self.hkl)

    def _count(self) -> int:
        """Number of reflections for the check; in a merged list or a group of high order, equivalents are counted."""
        group = self.symmetry or symmetry_of_axes(self.cell)
        if len(self) >= FEWEST or not (self.is_merged or len(group.point_group) > _HIGH_ORDER):
            return len(self)
        unique = unique_rows(group.representative(self.hkl))
        return int(group.multiplicity(unique).sum()) // 2

    @property
    def group(self) -> Symmetry:
        """The symmetry for calculations: P 1 if none is known."""
        return self.symmetry or find_symmetry("P 1")

    @cached_property
    def d_hkl(self) -> np.ndarray:
        """[n_refl], Å."""
        return self.cell.d_spacing(self.hkl)

    @property
    def d_min(self) -> float:
        """Smallest d in Å."""
        return float(self.d_hkl.min())

    def take(self, index: np.ndarray) -> "Reflections":
        """Return the reflections at `index`: positions, or a boolean mask [n_refl]."""
        phi = None if self.phi is None else self.phi[index]
        return replace(self, hkl=self.hkl[index], intensity=self.intensity[index], sigma=self.sigma[index], phi=phi)

    def cut(self, d_min: float) -> "Reflections":
        """Return the reflections with d >= `d_min` (Å).

        Raises
        ------
        ReflectionError
            Too few are left.
        """
        check_positive("d_min", d_min, remedy="give it in Å, e.g. 1.0", error=ReflectionError)
        inside = self.d_hkl >= d_min * (1 - 1e-9)
        if not inside.any():
            raise ReflectionError(
                f"{self.name}: d_min = {d_min} Å leaves no reflection; "
                f"give a value between {self.d_min:.3g} and {self.d_hkl.max():.3g} Å"
            )
        return self.take(inside)

    def merge(self, *, friedel: bool = True) -> "Merged":
        """Return one reflection of each class of equivalents; see `merge`."""
        return merge(self, friedel=friedel)

    def amplitudes(self) -> Amplitudes:
        """Estimate |F| and its standard uncertainty in a merged list after French & Wilson; see `french_wilson`.

        The expected intensity is the smooth mean of I/ε over the list, times ε.
        """
        epsilon = self.group.epsilon(self.hkl)
        expected = smooth_mean(self.d_hkl, self.intensity / epsilon) * epsilon
        return french_wilson(self.intensity, self.sigma, expected, self.group.is_centric(self.hkl))


class Merged(NamedTuple):
    """Result of `merge`; ``n_each`` and ``spread`` [n_refl] belong to the merged reflections.

    ``r_int`` is ``sum |I - <I>| / sum I`` over the classes measured more than once, NaN if there are none;
    ``redundancy`` is the mean number of measurements; ``absent_i_over_sigma`` is the mean I/σ of the ``n_absent``
    systematic absences, NaN if there are none; ``n_contradictory`` counts the classes, with Friedel mates apart, whose
    spread is far above their σ; ``spread`` is ``sum |I - <I>|`` of a class; ``absences_are_strong`` means that the
    group cannot be right in this setting: the mean intensity of its absences is above 5 % of the mean of the others,
    and above 5 σ.
    """

    reflections: Reflections
    r_int: float
    n_measured: int
    n_absent: int
    absent_i_over_sigma: float
    redundancy: float
    n_contradictory: int
    n_each: np.ndarray
    spread: np.ndarray
    absences_are_strong: bool


def merge(reflections: Reflections, *, friedel: bool = True) -> Merged:
    """Merge equivalents and Friedel mates into one reflection by the inverse-variance weighted mean.

    With ``friedel=False`` only the equivalents of the point group are merged: without a centre of symmetry, F(h) and
    F(-h) differ by the dispersion of the atoms.

    σ is the larger of the counting estimate ``(sum 1/σ^2)^-1/2`` and an estimate from the spread of the class.
    Systematic absences are left out and counted. Phases are transformed to the representative before averaging.

    Raises
    ------
    ReflectionError
        All reflections are systematic absences.

    Warns
    -----
    UserWarning
        Equivalents contradict each other (their spread exceeds 5 σ and a quarter of their intensity), or systematic
        absences are strong.
    """
    group = reflections.group
    absent = group.is_absent(reflections.hkl)
    if absent.all():
        raise ReflectionError(
            f"{reflections.name}: all {len(absent)} reflections are systematic absences of {group.symbol}; "
            "give the right space_group= (--space-group)"
        )
    hkl, value, sigma = (column[~absent] for column in (reflections.hkl, reflections.intensity, reflections.sigma))
    classes = _Classes(group.representative(hkl, friedel=friedel))
    mean, sigma_of_mean, deviation = _weighted_mean(value, sigma, classes)
    spread, several = classes.total(deviation), classes.n_each > 1
    intensity_sum = classes.total(value)[several].sum()
    merged = replace(
        reflections,
        hkl=classes.hkl,
        intensity=mean,
        sigma=sigma_of_mean,
        phi=None if reflections.phi is None else _merged_phi(group, hkl, reflections.phi[~absent], classes),
        is_merged=True,
    )
    absent_i_over_sigma, are_strong = _judged_absences(reflections, absent)
    return Merged(
        merged,
        r_int=float(spread[several].sum() / intensity_sum) if several.any() and intensity_sum > 0 else np.nan,
        n_measured=len(reflections),
        n_absent=int(absent.sum()),
        absent_i_over_sigma=absent_i_over_sigma,
        redundancy=float(classes.n_each.mean()),
        n_contradictory=_count_contradictions(hkl, value, sigma, reflections),
        n_each=classes.n_each,
        spread=spread,
        absences_are_strong=are_strong,
    )


def estimate_sigma(intensity: np.ndarray, sigma: np.ndarray | None, *, name: str) -> np.ndarray:
    """Replace σ [n] that are zero, negative or missing (NaN) by 5 % of I, but at least by the usual σ.

    The usual σ is the median of the given ones, or 1 % of the mean |I| if none is given.

    Warns
    -----
    UserWarning
        Some σ were replaced; the message counts them.
    """
    sigma = np.full(len(intensity), np.nan) if sigma is None else sigma
    known = sigma > 0
    if known.all():
        return sigma
    floor = np.median(sigma[known]) if known.any() else 0.01 * np.abs(intensity).mean()
    refined = "" if known.any() else "; without any σ, a refinement gives all reflections the same weight"
    warnings.warn(
        f"{name}: {(~known).sum()} of {len(sigma)} reflections have no σ above zero; it is set to 5 % of the "
        f"intensity, at least {floor:.3g}{refined}",
        stacklevel=3,
    )
    return np.where(known, sigma, np.maximum(0.05 * np.abs(intensity), floor))


class _Classes:
    """Rows [n] of a list grouped by equivalence: ``hkl`` [n_classes, 3], ``n_each`` [n_classes], ``of_row`` [n]."""

    def __init__(self, representative: np.ndarray):
        self.representative = representative
        self._order = np.lexsort(representative.T[::-1])
        self._starts = np.flatnonzero(np.r_[True, np.diff(representative[self._order], axis=0).any(1)])
        self.hkl = representative[self._order][self._starts]
        self.n_each = np.diff(np.r_[self._starts, len(self._order)])
        self.of_row = np.empty(len(self._order), int)
        self.of_row[self._order] = np.repeat(np.arange(len(self._starts)), self.n_each)

    def total(self, column: np.ndarray) -> np.ndarray:
        """Sums [n_classes] over the rows of each class."""
        return np.add.reduceat(column[self._order], self._starts)


def _weighted_mean(
    value: np.ndarray, sigma: np.ndarray, classes: _Classes
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean of each class and its σ, both [n_classes], and the absolute deviation [n] of each row."""
    weight = (sigma / sigma.min()) ** -2.0  # relative, so that no square overflows
    total = classes.total(weight)
    mean = classes.total(weight * value) / total
    deviation = np.abs(value - mean[classes.of_row])
    counting = sigma.min() / np.sqrt(total)
    scatter = np.sqrt(classes.total(weight * deviation**2) / (total * np.maximum(classes.n_each - 1, 1)))
    return mean, np.maximum(counting, scatter), deviation


def _judged_absences(reflections: Reflections, absent: np.ndarray) -> tuple[float, bool]:
    """Return mean I/σ of the absences, and whether their strength excludes the group; warn if it does."""
    if not absent.any():
        return np.nan, False
    i_over_sigma = float((reflections.intensity / reflections.sigma)[absent].mean())
    mean, mean_of_others = (reflections.intensity[chosen].mean() for chosen in (absent, ~absent))
    part, in_sigma = _STRONG_ABSENCES
    are_strong = absent.sum() >= _FEWEST_ABSENCES and i_over_sigma > in_sigma and mean > part * mean_of_others
    if are_strong:
        warnings.warn(
            f"{reflections.name}: the {absent.sum()} systematic absences of {reflections.group.symbol} are strong "
            f"(<I/σ> = {i_over_sigma:.1f}) and left out; the space group or its setting is wrong: try another one "
            "(P 21/c, P 21/n, P 21/a; obverse and reverse of an R lattice), or none",
            stacklevel=4,
        )
    return i_over_sigma, bool(are_strong)


def _count_contradictions(hkl: np.ndarray, value: np.ndarray, sigma: np.ndarray, reflections: Reflections) -> int:
    """Count the classes whose deviations exceed 5 σ and a quarter of the summed |I|; warn if there are any.

    The columns [n] are the rows of `reflections` that are not absences. Friedel mates are apart, because dispersion may
    make them differ by any amount in a group without a centre.
    """
    classes = _Classes(reflections.group.representative(hkl, friedel=False))
    _, _, deviation = _weighted_mean(value, sigma, classes)
    in_sigma, part = _CONTRADICTION
    far = np.sqrt(classes.total(deviation**2)) > in_sigma * np.sqrt(classes.total(sigma**2))
    n = int((far & (classes.total(deviation) > part * classes.total(np.abs(value)))).sum())
    if n:
        warnings.warn(
            f"{reflections.name}: {n} of {len(classes.hkl)} reflections have equivalents that contradict each other "
            f"in {reflections.group.symbol}; their σ is raised to the spread: check the space group and the list",
            stacklevel=4,
        )
    return n


def _merged_phi(group: Symmetry, hkl: np.ndarray, phi: np.ndarray, classes: _Classes) -> np.ndarray:
    """Phases of the representatives: phases of equivalents are transformed and averaged as unit vectors."""
    images, shifts = group.equivalents(hkl)
    same, mate = ((sign * images == classes.representative).all(-1) for sign in (1, -1))
    column = np.arange(len(hkl))
    moved = np.where(same.any(0), phi + shifts[same.argmax(0), column], -phi - shifts[mate.argmax(0), column])
    vector = np.exp(1j * moved)
    summed = classes.total(np.where(np.isfinite(moved), vector, 0))
    return np.where(summed == 0, np.nan, np.angle(summed))
