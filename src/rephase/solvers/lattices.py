"""Reflections of unknown space group: their lattice, merged under its translations only."""

import warnings
from dataclasses import replace

import gemmi
import numpy as np

from rephase.crystal.reflections import Merged, Reflections
from rephase.crystal.reflections.statistics import unique_hkl
from rephase.crystal.shells import smooth_mean
from rephase.crystal.symmetry import Symmetry, find_symmetry, key_of, unique_rows

LARGEST_R_INT = 0.25  # of a Laue group that a list was merged in
_LISTED = 0.06  # fraction of a centring's absences that may be listed, relative to the others, if they are left out
_NEGLIGIBLE, _LARGEST_LEAK = 0.02, 0.15  # mean intensity of the absences of a centring, relative to the others
_COMPLETE = 0.7  # fraction of the possible reflections in a list that counts as complete
_CENTRINGS = ("P 1", "A 1", "B 1", "C 1", "I 1", "F 1", "R 3:H")
_LAUE_GROUPS = (
    "P -1",
    "P 1 2/m 1",
    "P 1 1 2/m",
    "P 2/m 1 1",
    "P m m m",
    "P 4/m",
    "P 4/m m m",
    "P -3",
    "P -3 m 1",
    "P -3 1 m",
    "P 6/m",
    "P 6/m m m",
    "P m -3",
    "P m -3 m",
)


def lattice_symmetry(data: Reflections) -> Symmetry:
    """Find the centring of a list without a space group.

    This is the largest centring whose absences are missing from the list, or weak (below 2 % of the mean of the
    others), or a background (below 15 % of it): unlike a superstructure, that does not fall off with resolution.
    Equivalents should not be repeated, because each row counts as independent evidence.
    """
    possible = unique_hkl(data.cell, find_symmetry("P 1"), data.d_min)
    fits = []
    for group in map(_centring, _CENTRINGS):
        absent, forbidden = group.is_absent(data.hkl), group.is_absent(possible)
        if absent.mean() < _LISTED * forbidden.mean() or _are_background(data, absent):
            fits.append(group)
    if not {"A 1", "B 1", "C 1"} <= {group.symbol for group in fits}:  # one of them alone makes the mean of F small
        fits = [group for group in fits if group.symbol != "F 1"]
    return max(fits, key=lambda group: len(group.triplets))


def _are_background(data: Reflections, absent: np.ndarray) -> bool:
    """Whether the intensities of a centring's absences are weak, or a background that has the same mean everywhere."""
    if absent.all() or not absent.any():
        return not absent.any()
    share = data.intensity[absent].mean() / data.intensity[~absent].mean()
    if share <= _NEGLIGIBLE or share > _LARGEST_LEAK:
        return bool(share <= _NEGLIGIBLE)
    intensity = data.intensity[absent].clip(min=0)
    falling = smooth_mean(data.d_hkl[~absent], data.intensity[~absent])
    order = np.argsort(data.d_hkl[~absent])
    expected = np.interp(data.d_hkl[absent], data.d_hkl[~absent][order], falling[order])
    superstructure = expected * (intensity / expected).mean()
    # logarithms of exponential densities; the terms -I/mean have the same sum
    return bool(len(intensity) * np.log(intensity.mean()) < np.log(superstructure).sum())


def _centring(symbol: str) -> Symmetry:
    """Return the identity and the centring translations of a group."""
    shifts = gemmi.SpaceGroup(symbol).operations().cen_ops
    triplets = tuple(gemmi.Op().translated(shift).wrap().triplet() for shift in shifts)
    return Symmetry(f"{symbol[0]} 1", triplets)


def r_int_of(data: Reflections, symmetry: Symmetry) -> float:
    """Compute ``sum |I - <I>| / sum I`` over the group's classes that were measured more than once."""
    _, each = np.unique(key_of(symmetry.representative(data.hkl)), return_inverse=True)
    count = np.bincount(each)
    mean = np.bincount(each, data.intensity) / count
    several = count[each] > 1
    deviation = np.abs(data.intensity - mean[each])[several].sum()
    return float(deviation / data.intensity[several].sum()) if several.any() else np.nan


def without_group(data: Reflections) -> Merged:
    """Merge a list of unknown group under Friedel's law and its lattice only.

    A list that holds one reflection of each class of a Laue group (complete for that group, but far from complete for
    P 1) is first expanded under it, because the other reflections are equal, not missing.
    """
    hkl, intensity, sigma = data.hkl, data.intensity, data.sigma
    lattice = lattice_symmetry(data)
    laue = _laue_group_of_unique_list(data, lattice)
    if laue is not None:
        unique = _merged_quietly(replace(data, symmetry=laue))
        hkl, rows = laue.expand(unique.hkl, np.arange(len(unique), dtype=float))
        intensity, sigma = (column[np.rint(rows).astype(int)] for column in (unique.intensity, unique.sigma))
    everything = replace(data, hkl=hkl, intensity=intensity, sigma=sigma, phi=None, symmetry=None, is_merged=False)
    return merged_in_spite_of_absences(replace(everything, symmetry=lattice))


def _merged_quietly(data: Reflections) -> Reflections:
    """Merge in a Laue group without a warning of contradictions: it makes Friedel mates equal, dispersion does not."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*contradict each other")
        return data.merge().reflections


def merged_in_spite_of_absences(data: Reflections) -> Merged:
    """Merge in the group, without a warning of strong absences: the group was chosen in spite of them."""
    absent = data.group.is_absent(data.hkl)
    i_over_sigma = float((data.intensity / data.sigma)[absent].mean()) if absent.any() else np.nan
    merged = replace(data, is_merged=False).take(~absent).merge()
    return merged._replace(n_absent=int(absent.sum()), absent_i_over_sigma=i_over_sigma, n_measured=len(data))


def _laue_group_of_unique_list(data: Reflections, lattice: Symmetry) -> Symmetry | None:
    """Return the smallest Laue group for which a list is complete, if the list is not complete for P 1."""
    groups = [find_symmetry(symbol) for symbol in _LAUE_GROUPS]
    fitting = [group for group in groups if not group.misfit(data.cell)]
    possible = len(unique_hkl(data.cell, lattice, data.d_min))
    hkl = data.hkl[~lattice.is_absent(data.hkl)]
    shares = []
    for group in fitting:
        unique = unique_rows(group.representative(hkl))
        shares.append(group.multiplicity(unique).sum() / 2 / possible)
    if shares[0] >= _COMPLETE:
        return None
    complete = (group for group, share in zip(fitting, shares) if share >= _COMPLETE)
    return next((group for group in complete if not r_int_of(data, group) > LARGEST_R_INT), None)  # NaN: none twice
