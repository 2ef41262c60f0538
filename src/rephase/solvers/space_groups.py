"""Space groups that fit the cell, the equivalents and absences, and the map of a solution in P 1."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import gemmi
import numpy as np
import torch

from rephase.crystal.reflections import Merged, Reflections
from rephase.crystal.reflections.statistics import unique_hkl
from rephase.crystal.symmetry import Symmetry, find_symmetry, key_of, unique_rows
from rephase.solvers.grids import shape_for
from rephase.solvers.group import GroupTables
from rephase.solvers.problem import PhaseProblem

_LARGEST_R_INT, _LARGEST_ABSENT = 0.25, 0.06  # limits for a group that the intensities allow
_SMALLEST_AGREEMENT = 0.5  # of the map with the group's worst operation
_ENOUGH = 100_000  # reflections, enough to distinguish groups in a map
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


class GroupFit(NamedTuple):
    """How well a group fits.

    ``r_int`` over its equivalents, NaN if none were measured; ``absent``, the mean intensity of its absences divided by
    that of all reflections; ``agreement`` of the map with the worst operation, 1 if exact.
    """

    symmetry: Symmetry
    r_int: float
    absent: float
    agreement: float


def lattice_symmetry(data: Reflections) -> Symmetry:
    """Find the centring of a list without a space group.

    This is the largest centring whose absences are weak (below 6 % of the mean intensity) or missing from the list.
    """
    possible = unique_hkl(data.cell, find_symmetry("P 1"), data.d_min)
    fits = []
    for group in map(_centring, _CENTRINGS):
        absent, forbidden = group.is_absent(data.hkl), group.is_absent(possible)
        left_out = absent.mean() < _LARGEST_ABSENT * forbidden.mean()
        if left_out or _absent_share(data, group) <= _LARGEST_ABSENT:
            fits.append((len(group.triplets), group))
    return max(fits, key=lambda fit: fit[0])[1]


def allowed_groups(data: Reflections, lattice: Symmetry) -> list[tuple[Symmetry, float, float]]:
    """List the groups of a lattice that cell and intensities allow, with R_int and relative intensity of absences."""
    allowed = []
    r_int_of = _once_for_each_laue_group(data)
    for entry in gemmi.spacegroup_table():
        symmetry = find_symmetry(entry.xhm())
        if entry.centring_type() != lattice.symbol[0] or symmetry.misfit(data.cell):
            continue
        r_int, absent = r_int_of(symmetry), _absent_share(data, symmetry)
        if not r_int > _LARGEST_R_INT and absent <= _LARGEST_ABSENT:
            allowed.append((symmetry, r_int, absent))
    return allowed


def fitting_groups(
    data: Reflections, lattice: Symmetry, problem: PhaseProblem, F: torch.Tensor
) -> tuple[GroupFit, ...]:
    """List the groups that intensities and map allow, the best first: most operations, then the best agreement.

    Parameters
    ----------
    data
        Reflections merged without a group.
    lattice
        Their centring, see `lattice_symmetry`.
    problem
        Phase problem with the lattice translations only.
    F
        [n_refl], a solution of the problem.
    """
    fits, used = [], _those_that_tell(problem)
    for symmetry, r_int, absent in allowed_groups(data, lattice):
        tables = GroupTables(used.hkl, symmetry.in_basis(problem.reduced.basis), problem.device)
        moved, _ = tables.move_to_origin(F[None, used.rows], used.n_known, used.shape)
        agreement = float(tables.agreement(moved, used.n_known).min())
        if agreement >= _SMALLEST_AGREEMENT:
            fits.append(GroupFit(symmetry, r_int, absent, agreement))
    # settings of one group that differ in origin fit equally well: the first in the table is the usual one
    return tuple(sorted(fits, key=lambda fit: (-len(fit.symmetry.triplets), -round(fit.agreement, 2))))


class _Used(NamedTuple):
    """``rows`` [n] of a problem and their indices ``hkl`` [n, 3], known ones first; ``shape`` of a grid for them."""

    rows: torch.Tensor
    hkl: np.ndarray
    n_known: int
    shape: tuple[int, int, int]


def _those_that_tell(problem: PhaseProblem) -> _Used:
    """Return enough low-resolution reflections to distinguish groups: for an ordinary crystal, all of them."""
    d_hkl = problem.reduced.cell.d_spacing(problem.hkl_numpy)
    if len(d_hkl) <= _ENOUGH:
        return _Used(torch.arange(len(d_hkl)), problem.hkl_numpy, problem.n_known, problem.grid.shape)
    d_min = np.partition(d_hkl, -_ENOUGH)[-_ENOUGH] * (1 - 1e-6)  # includes all equivalents
    rows = np.flatnonzero(d_hkl >= d_min)
    n_known = int((rows < problem.n_known).sum())
    return _Used(torch.as_tensor(rows), problem.hkl_numpy[rows], n_known, shape_for(problem.reduced.cell, d_min))


def _centring(symbol: str) -> Symmetry:
    """Return the identity and the centring translations of a group."""
    shifts = gemmi.SpaceGroup(symbol).operations().cen_ops
    triplets = tuple(gemmi.Op().translated(shift).wrap().triplet() for shift in shifts)
    return Symmetry(f"{symbol[0]} 1", triplets)


def _once_for_each_laue_group(data: Reflections) -> Callable[[Symmetry], float]:
    """Return `_r_int` of a list as a function of the group, computed once for each set of equivalents."""
    found: dict[bytes, float] = {}

    def r_int(symmetry: Symmetry) -> float:
        both = np.concatenate([symmetry.rotations, -symmetry.rotations]).reshape(-1, 9)
        laue = np.unique(both, axis=0).tobytes()
        if laue not in found:
            found[laue] = _r_int(data, symmetry)
        return found[laue]

    return r_int


def _r_int(data: Reflections, symmetry: Symmetry) -> float:
    """Compute ``sum |I - <I>| / sum I`` over the group's classes that were measured more than once."""
    _, each = np.unique(key_of(symmetry.representative(data.hkl)), return_inverse=True)
    count = np.bincount(each)
    mean = np.bincount(each, data.intensity) / count
    several = count[each] > 1
    deviation = np.abs(data.intensity - mean[each])[several].sum()
    return float(deviation / data.intensity[several].sum()) if several.any() else np.nan


def _absent_share(data: Reflections, symmetry: Symmetry) -> float:
    absent = symmetry.is_absent(data.hkl)
    return float(data.intensity[absent].mean() / data.intensity.mean()) if absent.any() else 0.0


def without_group(data: Reflections) -> Merged:
    """Merge a list of unknown group under Friedel's law and its lattice only.

    A list that holds one reflection of each class of a Laue group (complete for that group, but far from complete for
    P 1) is first expanded under it, because the other reflections are equal, not missing.
    """
    hkl, intensity, sigma = data.hkl, data.intensity, data.sigma
    laue = _laue_group_of_unique_list(data)
    if laue is not None:
        unique = replace(data, symmetry=laue).merge().reflections
        hkl, rows = laue.expand(unique.hkl, np.arange(len(unique), dtype=float))
        intensity, sigma = (column[np.rint(rows).astype(int)] for column in (unique.intensity, unique.sigma))
    everything = replace(data, hkl=hkl, intensity=intensity, sigma=sigma, phi=None, symmetry=None, is_merged=False)
    return replace(everything, symmetry=lattice_symmetry(everything)).merge()


def _laue_group_of_unique_list(data: Reflections) -> Symmetry | None:
    """Return the smallest Laue group for which a list is complete, if the list is not complete for P 1."""
    groups = [find_symmetry(symbol) for symbol in _LAUE_GROUPS]
    fitting = [group for group in groups if not group.misfit(data.cell)]
    possible = len(unique_hkl(data.cell, lattice_symmetry(data), data.d_min))
    shares = []
    for group in fitting:
        unique = unique_rows(group.representative(data.hkl))
        shares.append(group.multiplicity(unique).sum() / 2 / possible)
    if shares[0] >= _COMPLETE:
        return None
    complete = (group for group, share in zip(fitting, shares) if share >= _COMPLETE)
    return next((group for group in complete if not _r_int(data, group) > _LARGEST_R_INT), None)  # NaN: none twice
