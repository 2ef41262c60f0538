"""Space groups that fit the cell, the equivalents and absences, and the map of a solution without symmetry."""

import math
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import NamedTuple

import gemmi
import numpy as np
import torch

from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.statistics import normalise
from rephase.crystal.symmetry import Symmetry, find_symmetry
from rephase.solvers.absences import evidence_of_absences, listed_reflections
from rephase.solvers.grids import shape_for
from rephase.solvers.group import GroupTables
from rephase.solvers.lattices import r_int_of
from rephase.solvers.problem import PhaseProblem

_LARGEST_R_INT, _LEAST_EVIDENCE = 0.4, -20.0  # limits for a group that the intensities allow
_SMALLEST_AGREEMENT = 0.4  # of the map with the group's worst operation
_USUAL_AGREEMENT, _WEIGHT = 0.7, 20.0  # agreement that says neither yes nor no to an operation; evidence of 1 more
_TOLERATED_R_INT, _WEIGHT_OF_R_INT = 0.2, 40.0  # above that of σ, by absorption and twins; evidence per operation
_ENOUGH = 4_000  # reflections, enough to distinguish groups in a map
_E2_MINUS_1 = 0.968, 0.736  # mean |E^2 - 1|, centric and acentric
_WEIGHT_OF_E, _LARGEST_OF_E = 15.0, 1.5


class GroupFit(NamedTuple):
    """How well a group fits.

    ``r_int`` over its equivalents, NaN if none were measured; ``absent``, the mean intensity of its absences divided by
    that of all reflections; ``agreement`` of the map with the worst operation, 1 if exact; ``evidence``, the logarithm
    of its likelihood relative to the lattice without further symmetry, from absences, equivalents and map; ``r1`` of
    the model refined in it, NaN if none was.
    """

    symmetry: Symmetry
    r_int: float
    absent: float
    agreement: float
    evidence: float
    r1: float = math.nan

    @property
    def enantiomorph(self) -> str | None:
        """Symbol of the enantiomorphic group, for which |F| is the same; None if the group holds both hands."""
        if self.symmetry.origins.other_hand is not None:
            return None
        hand = gemmi.Op("-x,-y,-z")
        other = gemmi.GroupOps([(hand * gemmi.Op(triplet) * hand).wrap() for triplet in self.symmetry.triplets])
        entry = gemmi.find_spacegroup_by_ops(other)
        return entry.xhm() if entry else None

    @property
    def name(self) -> str:
        """The symbol, with that of the enantiomorph."""
        return f"{self.symmetry.symbol} or {self.enantiomorph}" if self.enantiomorph else self.symmetry.symbol


def fitting_groups(
    data: Reflections, problem: PhaseProblem, F: torch.Tensor, candidates: Iterable[Symmetry] | None = None
) -> tuple[GroupFit, ...]:
    """List the groups of the table, in the axes of the data, that intensities and map allow, the likeliest first.

    Parameters
    ----------
    data
        Reflections merged without a group; their symmetry is the lattice, see `lattice_symmetry`.
    problem
        Phase problem with this lattice.
    F
        [n_refl], a solution of the problem.
    candidates
        Groups to compare; None: all `groups_of_lattice`.
    """
    listed, used, r_int_of_laue = listed_reflections(data), _for_the_maps(problem), _once_for_each_laue_group(data)
    centric = _evidence_of_centre(data)
    tolerated = _TOLERATED_R_INT + 0.8 * float(data.sigma.sum() / data.intensity.sum())  # <|x|> of a Gaussian is 0.8 σ
    fits = []
    for symmetry in groups_of_lattice(data, data.group.symbol[0]) if candidates is None else candidates:
        r_int, absences = r_int_of_laue(symmetry), evidence_of_absences(listed, symmetry)
        if r_int > _LARGEST_R_INT or absences < _LEAST_EVIDENCE:
            continue
        agreement = map_agreement(problem, used, F, symmetry)
        if agreement.min() < _SMALLEST_AGREEMENT:
            continue
        evidence = absences + _WEIGHT * (agreement - _USUAL_AGREEMENT).sum()
        evidence -= (
            _WEIGHT_OF_R_INT * len(agreement) * max(0.0, r_int - tolerated)
        )  # R_int is NaN if nothing was measured twice
        evidence += centric if symmetry.is_centrosymmetric else -centric
        fits.append(GroupFit(symmetry, r_int, _absent_share(data, symmetry), float(agreement.min()), float(evidence)))
    return tuple(sorted(_each_once(fits, listed.possible), key=lambda fit: -fit.evidence))


def groups_of_lattice(data: Reflections, centring: str) -> Iterator[Symmetry]:
    """Return the groups of the table that have a centring and preserve the cell of the data."""
    return (symmetry for symmetry in _groups_with(centring) if not symmetry.misfit(data.cell))


@cache
def _groups_with(centring: str) -> tuple[Symmetry, ...]:
    entries = gemmi.spacegroup_table()
    return tuple(find_symmetry(entry.xhm()) for entry in entries if entry.centring_type() == centring)


def map_agreement(problem: PhaseProblem, used: "Used", F: torch.Tensor, symmetry: Symmetry) -> np.ndarray:
    """Return how well the map obeys each operation at the best origin, 1 if exactly: [n_operations], identity left out.

    The lists F [n_refl] belong to the problem; translations of the lattice are left out too.
    """
    tables = GroupTables(used.hkl, symmetry.in_basis(problem.reduced.basis), problem.device)
    moved, _ = tables.move_to_origin(F[None, used.rows], used.n_known, used.shape)
    moved = tables.refine_origin(moved, used.n_known)
    return tables.agreement(moved, used.n_known)[0].cpu().numpy()


class Used(NamedTuple):
    """``rows`` [n] of a problem and their indices ``hkl`` [n, 3], known ones first; ``shape`` of a grid for them."""

    rows: torch.Tensor
    hkl: np.ndarray
    n_known: int
    shape: tuple[int, int, int]


def _for_the_maps(problem: PhaseProblem) -> Used:
    """Return enough low-resolution reflections to distinguish groups."""
    d_hkl = problem.reduced.cell.d_spacing(problem.hkl_numpy)
    if len(d_hkl) <= _ENOUGH:
        return Used(torch.arange(len(d_hkl)), problem.hkl_numpy, problem.n_known, problem.grid.shape)
    d_min = np.partition(d_hkl, -_ENOUGH)[-_ENOUGH] * (1 - 1e-6)  # includes all equivalents
    rows = np.flatnonzero(d_hkl >= d_min)
    n_known = int((rows < problem.n_known).sum())
    return Used(torch.as_tensor(rows), problem.hkl_numpy[rows], n_known, shape_for(problem.reduced.cell, d_min))


def _once_for_each_laue_group(data: Reflections) -> Callable[[Symmetry], float]:
    """Return `r_int_of` a list as a function of the group, computed once for each set of equivalents."""
    found: dict[bytes, float] = {}

    def r_int(symmetry: Symmetry) -> float:
        both = np.concatenate([symmetry.rotations, -symmetry.rotations]).reshape(-1, 9)
        laue = np.unique(both, axis=0).tobytes()
        if laue not in found:
            found[laue] = r_int_of(data, symmetry)
        return found[laue]

    return r_int


def _absent_share(data: Reflections, symmetry: Symmetry) -> float:
    absent = symmetry.is_absent(data.hkl)
    return float(data.intensity[absent].mean() / data.intensity.mean()) if absent.any() else 0.0


def _evidence_of_centre(data: Reflections) -> float:
    """Return half the logarithm of the likelihood ratio, centric against acentric, that the mean |E^2 - 1| gives."""
    found = np.abs(normalise(data) ** 2 - 1).mean()
    return float(np.clip(_WEIGHT_OF_E * (found - np.mean(_E2_MINUS_1)), -_LARGEST_OF_E, _LARGEST_OF_E))


def _each_once(fits: Iterable[GroupFit], hkl: np.ndarray) -> list[GroupFit]:
    """Keep one of settings that differ only in the origin, such as C 2/c and C 2/n, or two origin choices.

    These have the same number, rotations and absences among the indices ``hkl [n, 3]``. The inversion centre is at the
    origin if possible, because programs refine in such a setting; otherwise the first of the table is kept.
    """
    kept: dict[tuple[object, ...], GroupFit] = {}
    for fit in sorted(fits, key=lambda fit: "-x,-y,-z" not in fit.symmetry.triplets):
        entry, rotations = fit.symmetry.table_entry, np.unique(fit.symmetry.rotations.reshape(-1, 9), axis=0)
        number = entry.number if entry else fit.symmetry.symbol
        kept.setdefault((number, rotations.tobytes(), fit.symmetry.is_absent(hkl).tobytes()), fit)
    return list(kept.values())
