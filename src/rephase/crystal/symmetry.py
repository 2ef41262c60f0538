"""Space groups at work: equivalents, absences, centric phases, allowed origins, the other hand, the reduced cell.

An operation takes x to R x + t and leaves the density as it is, so ``F(hR) = F(h) exp(-2 pi i h.t)``.
"""

import math
import numbers
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import gemmi
import numpy as np

from rephase.crystal.cell import Cell
from rephase.crystal.space_group_names import group_of_hall, group_of_number, group_of_symbol, has_setting, in_ascii
from rephase.errors import SymmetryError

_DENOMINATOR = 24  # every translation of the tables is a multiple of 1/24
_MOST_OPERATIONS = 1536  # the largest group has 192; eight times that for a supercell
_KEY_RANGE = 1 << 20  # larger than any Miller index
_CELL_TOLERANCE = 0.01  # of a metric element: 0.5 % of a length, 0.3° of an angle near 90°


class Origins(NamedTuple):
    """Shifts of the origin that leave the operations as they are.

    ``shifts [n, 3]`` fractional, one of each kind; to each may be added any ``u @ polar``, polar [k, 3] integers. An
    inverted structure belongs to the same group after the shift ``other_hand [3]``; None: it belongs to the
    enantiomorphic group.
    """

    shifts: np.ndarray
    polar: np.ndarray
    other_hand: np.ndarray | None


@dataclass(frozen=True)
class Symmetry:
    """The operations of a space group in one setting.

    Parameters
    ----------
    symbol
        Extended Hermann-Mauguin symbol, e.g. ``P 1 21/c 1``.
    triplets
        Every operation, centring included, e.g. ``x,y,z``.

    Examples
    --------
    >>> group = find_symmetry("P 21/n")
    >>> group.is_absent(np.array([[1, 0, 0], [1, 0, 1]])).tolist()
    [True, False]
    """

    symbol: str
    triplets: tuple[str, ...]

    @cached_property
    def rotations(self) -> np.ndarray:
        """[n, 3, 3] integers."""
        return np.array([operation.rot for operation in self._operations]) // gemmi.Op.DEN

    @cached_property
    def translations(self) -> np.ndarray:
        """[n, 3] fractional."""
        return np.array([operation.tran for operation in self._operations]) / gemmi.Op.DEN

    @cached_property
    def point_group(self) -> np.ndarray:
        """Indices of the operations without centring: one of each rotation."""
        _, first = np.unique(self.rotations.reshape(-1, 9), axis=0, return_index=True)
        return np.sort(first)

    @property
    def is_centrosymmetric(self) -> bool:
        """Whether an inversion centre is among the operations."""
        return bool(self.group_ops.is_centrosymmetric())

    @property
    def table_entry(self) -> gemmi.SpaceGroup | None:
        """The group and setting of the tables that has these operations; None where none has."""
        return gemmi.find_spacegroup_by_ops(self.group_ops)

    def misfit(self, cell: Cell) -> str | None:
        """The first operation that does not keep lengths and angles of a cell, to 0.5 % and 0.3°; None: it fits."""
        metric = cell.orthogonalisation.T @ cell.orthogonalisation
        turned = np.swapaxes(self.rotations, 1, 2) @ metric @ self.rotations
        tolerance = _CELL_TOLERANCE * np.sqrt(np.outer(np.diag(metric), np.diag(metric)))
        is_off = (np.abs(turned - metric) > tolerance).any((1, 2))
        return self.triplets[is_off.argmax()] if is_off.any() else None

    def is_absent(self, hkl: np.ndarray) -> np.ndarray:
        """True for systematic absences among ``hkl [n_refl, 3]``."""
        return self.group_ops.systematic_absences(np.ascontiguousarray(hkl, np.int32))

    def is_centric(self, hkl: np.ndarray) -> np.ndarray:
        """True where the group leaves two phases, `centric_phase` and π more, for ``hkl [n_refl, 3]``."""
        return self.group_ops.centric_flag_array(np.ascontiguousarray(hkl, np.int32))

    def epsilon(self, hkl: np.ndarray) -> np.ndarray:
        """ε of ``hkl [n_refl, 3]``: how many operations, centring not counted, leave it where it is."""
        return self.group_ops.epsilon_factor_without_centering_array(np.ascontiguousarray(hkl, np.int32))

    def multiplicity(self, hkl: np.ndarray) -> np.ndarray:
        """How many reflections of the whole sphere are equivalent to each of ``hkl [n_refl, 3]``, Friedel mates too."""
        order = len(self.point_group)
        friedel = np.where(self.is_centric(hkl), 1, 2)
        return friedel * order // self.epsilon(hkl)

    def centric_phase(self, hkl: np.ndarray) -> np.ndarray:
        """The allowed phase in [0, π) of centric reflections; NaN of the others, ``hkl [n_refl, 3]``."""
        images, shifts = self.equivalents(hkl)
        opposite = (images == -np.asarray(hkl)).all(-1)
        # F(-h) = F(h) exp(-2 pi i h.t) and F(-h) = F(h)*: twice the phase is 2 pi h.t
        phase = np.mod(-shifts[opposite.argmax(0), np.arange(len(hkl))] / 2, np.pi)
        return np.where(opposite.any(0), np.where(np.pi - phase < 1e-6, 0.0, phase), np.nan)

    def equivalents(self, hkl: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Equivalents hR [n_ops, n_refl, 3] of ``hkl [n_refl, 3]`` and what each adds to the phase [n_ops, n_refl]."""
        hkl = np.asarray(hkl)
        images = hkl @ self.rotations[self.point_group]
        return images, -2 * np.pi * (self.translations[self.point_group] @ hkl.T)

    def representative(self, hkl: np.ndarray) -> np.ndarray:
        """The equivalent, Friedel mates included, that stands for its class: the same for all of them, [n_refl, 3]."""
        hkl = np.asarray(hkl, dtype=np.int64)
        best, best_key = hkl.copy(), key_of(hkl)
        for rotation in self.rotations[self.point_group]:
            for sign in (1, -1):
                image = sign * (hkl @ rotation)
                key = key_of(image)
                better = key > best_key
                best[better], best_key[better] = image[better], key[better]
        return best

    def expand(self, hkl: np.ndarray, F: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Every reflection of the sphere that is equivalent to one of a list, Friedel mates included.

        Parameters
        ----------
        hkl
            [n_refl, 3], one of each class.
        F
            [n_refl]; complex values get their phases, real ones (amplitudes) are copied.

        Returns
        -------
        hkl, F
            [n_all, 3] and [n_all]; systematic absences are left out.
        """
        present = ~self.is_absent(hkl)
        hkl, F = np.asarray(hkl)[present], np.asarray(F)[present]
        images, shifts = self.equivalents(hkl)
        values = F * np.exp(1j * shifts) if np.iscomplexobj(F) else np.broadcast_to(F, shifts.shape)
        both = np.concatenate([images, -images]).reshape(-1, 3)
        _, first = np.unique(key_of(both), return_index=True)
        return both[first], np.concatenate([values, values.conj()]).reshape(-1)[first]

    @cached_property
    def origins(self) -> Origins:
        """Allowed shifts of the origin (International Tables A, 3.5), found from the operations of this setting."""
        rotations, translations = self.rotations, self.translations
        lattice = _steps(translations[(rotations == np.eye(3)).all((1, 2))])
        polar = _invariant_directions(rotations[self.point_group])
        if len(polar) == 3:
            return Origins(np.zeros((1, 3)), polar, np.zeros(3))
        grid = np.indices((_DENOMINATOR,) * 3).reshape(3, -1).T
        moved = np.eye(3, dtype=int) - rotations[self.point_group]
        allowed = _is_in_lattice(np.einsum("oij,gj->ogi", moved, grid), lattice).all(0)
        twice = 2 * _steps(translations[self.point_group])[:, None]
        inverts = _is_in_lattice(np.einsum("oij,gj->ogi", moved, grid) - twice, lattice).all(0)
        equal = (lattice[:, None] + _span(polar)).reshape(-1, 3)  # shifts that amount to none
        kept, seen = [], np.zeros((_DENOMINATOR,) * 3, bool)
        for shift in grid[allowed]:
            if not seen[tuple(shift)]:
                kept.append(shift)
                seen[tuple(((shift + equal) % _DENOMINATOR).T)] = True
        hand = grid[inverts][0] / _DENOMINATOR if inverts.any() else None
        return Origins(np.array(kept) / _DENOMINATOR, polar, hand)

    def in_basis(self, basis: np.ndarray) -> "Symmetry":
        """The same group for axes that are the columns of `basis` [3, 3] in terms of the old ones."""
        inverse = np.linalg.inv(basis)
        rotations = np.rint(inverse @ self.rotations @ basis).astype(int)
        translations = (self.translations @ inverse.T) % 1.0
        operations = {_triplet(R, t) for R, t in zip(rotations, translations)}
        return Symmetry(f"{self.symbol} (other axes)", tuple(sorted(operations)))

    @cached_property
    def _operations(self) -> list[gemmi.Op]:
        return [gemmi.Op(triplet) for triplet in self.triplets]

    @cached_property
    def group_ops(self) -> gemmi.GroupOps:
        """The operations as gemmi's group."""
        identity_first = sorted(self._operations, key=lambda operation: operation != gemmi.Op())
        return gemmi.GroupOps(identity_first)  # else gemmi overlooks the absences of a centred lattice


SpaceGroup = str | float | Sequence[str] | Symmetry  # as stated: symbol, number, operations; or what they stand for


def find_symmetry(source: str | float | Sequence[str]) -> Symmetry:
    """Return the space group of a symbol, a number, or a list of operations; any setting.

    Raises
    ------
    SymmetryError
        A symbol that is not in the tables, or operations that form no group.

    Examples
    --------
    >>> find_symmetry("P 21/n").symbol, find_symmetry(19).symbol, len(find_symmetry("A -1").triplets)
    ('P 1 21/n 1', 'P 21 21 21', 4)
    """
    if (number := _number(source)) is not None:
        return _symmetry_of_entry(group_of_number(number), f"{number:g}")
    if isinstance(source, str):
        return _symmetry_of_entry(group_of_symbol(source), repr(source))
    return _symmetry_of_operations(source)  # type: ignore[arg-type]  # no number is left


def symmetry_of_hall(symbol: str) -> Symmetry:
    """Return the space group of a Hall symbol.

    Raises
    ------
    SymmetryError
        A symbol of no group of the tables.
    """
    return _symmetry_of_entry(group_of_hall(symbol), repr(symbol))


def symmetry_in(cell: Cell | None, space_group: SpaceGroup) -> Symmetry:
    """Return the group that is stated; a rhombohedral one without a setting in the setting, R or H, of the cell.

    Raises
    ------
    SymmetryError
        As `find_symmetry`.
    """
    if isinstance(space_group, Symmetry):
        return space_group
    symmetry = find_symmetry(space_group)
    if cell is None or not is_without_setting(space_group) or not symmetry.symbol.startswith("R"):
        return symmetry
    setting = gemmi.find_spacegroup_by_name(symmetry.symbol.split(":")[0], cell.alpha, cell.gamma)
    return find_symmetry(setting.xhm()) if setting else symmetry


def is_without_setting(space_group: SpaceGroup) -> bool:
    """Whether what is stated, a number or a symbol, may mean several origins or axes."""
    if isinstance(space_group, str):
        return not has_setting(space_group)
    return isinstance(space_group, numbers.Real)


def _number(source: object) -> float | None:
    """A number of the tables as any program writes it, `14.0` too; None where something else is meant."""
    is_text = isinstance(source, str) and re.fullmatch(r"\s*[+-]?\d{1,99}(\.0*)?\s*", source, re.ASCII)
    if not is_text and not isinstance(source, numbers.Real):
        return None
    try:
        return float(source)  # type: ignore[arg-type]
    except OverflowError:
        return math.inf


def _symmetry_of_entry(group: gemmi.SpaceGroup | None, written: str) -> Symmetry:
    if group is None:
        raise SymmetryError(
            f"space group {written} is not in the tables; give a Hermann-Mauguin symbol such as 'P 21/c', "
            "or its number from 1 to 230"
        )
    return Symmetry(group.xhm(), tuple(operation.triplet() for operation in group.operations()))


def _symmetry_of_operations(triplets: Sequence[str]) -> Symmetry:
    try:
        triplets = list(dict.fromkeys(in_ascii(str(triplet)) for triplet in triplets))
        operations = gemmi.GroupOps([gemmi.Op(triplet) for triplet in triplets[: _MOST_OPERATIONS + 1]])
    except (RuntimeError, ValueError, TypeError) as error:
        raise SymmetryError(f"symmetry operations {triplets!r:.200}: {error}; expected e.g. 'x,y,z'") from error
    if len(triplets) > _MOST_OPERATIONS:
        raise SymmetryError(f"{len(triplets):,} symmetry operations: expected at most {_MOST_OPERATIONS}, each once")
    every = {operation.wrap() for operation in operations}
    is_closed = all((one * other).wrap() in every for one in operations.sym_ops for other in operations)
    if "x,y,z" not in {operation.triplet() for operation in every}:
        raise SymmetryError(f"symmetry operations {list(triplets)[:3]} ...: expected x,y,z among them; add it")
    if not is_closed or any(abs(one.det_rot()) != gemmi.Op.DEN**3 for one in every):
        raise SymmetryError(
            f"symmetry operations {list(triplets)[:3]} ...: {len(every)} that form no group; expected every operation, "
            "for instance all of _space_group_symop_operation_xyz"
        )
    group = gemmi.find_spacegroup_by_ops(operations)
    symbol = group.xhm() if group else f"{len(operations)} operations"
    return Symmetry(symbol, tuple(operation.triplet() for operation in operations))


def is_translation(symmetry: Symmetry, translation: np.ndarray) -> bool:
    """Whether a fractional vector [3] is a translation of the lattice, centring included."""
    pure = (symmetry.rotations == np.eye(3)).all((1, 2))
    return bool(_is_in_lattice(_steps(translation), _steps(symmetry.translations[pure])))


def with_translations(symmetry: Symmetry, translations: np.ndarray) -> Symmetry:
    """The group whose lattice has more translations, fractional [n, 3]: a group of them that the rotations keep."""
    rotations, shifts = (array[symmetry.point_group] for array in (symmetry.rotations, symmetry.translations))
    operations = {_triplet(R, t + more) for R, t in zip(rotations, shifts) for more in translations}
    return Symmetry(f"{symmetry.symbol} (more translations)", tuple(sorted(operations)))


class ReducedCell(NamedTuple):
    """The Niggli-reduced primitive cell; ``basis`` [3, 3] has its vectors as columns in terms of the old axes."""

    cell: Cell
    basis: np.ndarray

    def hkl(self, hkl: np.ndarray) -> np.ndarray:
        """Indices [n_refl, 3] in the reduced cell of indices in the old one."""
        return np.rint(np.asarray(hkl) @ self.basis).astype(int)

    def hkl_back(self, hkl: np.ndarray) -> np.ndarray:
        """Indices [n_refl, 3] in the old cell of indices in the reduced one."""
        return np.rint(np.asarray(hkl) @ np.linalg.inv(self.basis)).astype(int)


def reduced_cell(cell: Cell, symmetry: Symmetry) -> ReducedCell:
    """Return the reduced primitive cell of a lattice: fewest voxels, nearly isotropic.

    Raises
    ------
    SymmetryError
        A centring that is none of P, A, B, C, I, F, R, H.
    """
    centring = symmetry.group_ops.find_centering()
    if centring == "0":
        raise SymmetryError(f"{symmetry.symbol}: the centring translations form none of the lattices P A B C I F R H")
    vector = gemmi.GruberVector(gemmi.UnitCell(*cell.parameters), centring, True)
    vector.niggli_reduce()
    basis = np.array(vector.change_of_basis.rot) / gemmi.Op.DEN
    lattice = cell.orthogonalisation @ basis
    if np.linalg.det(lattice) < 0:
        basis = -basis
        lattice = -lattice
    return ReducedCell(cell_of(lattice), basis)


def cell_of(lattice: np.ndarray) -> Cell:
    """The cell of a lattice [3, 3] in Å, cell vectors as columns."""
    lengths = np.linalg.norm(lattice, axis=0)
    a, b, c = (lattice / lengths).T
    angles = np.degrees(np.arccos([b @ c, a @ c, a @ b]))
    return Cell(*map(float, lengths), *map(float, angles))


def key_of(hkl: np.ndarray) -> np.ndarray:
    """One integer for each of [..., 3]; larger where h is, then k, then l."""
    h, k, l = np.moveaxis(np.asarray(hkl, dtype=np.int64), -1, 0)
    return (h * _KEY_RANGE + k) * _KEY_RANGE + l


def unique_rows(hkl: np.ndarray) -> np.ndarray:
    """Each of the indices ``hkl [n, 3]`` once, in their order by h, then k, then l."""
    _, first = np.unique(key_of(hkl), return_index=True)
    return hkl[first]


def rows_of(hkl: np.ndarray, listed: np.ndarray) -> np.ndarray:
    """Positions [...] in the list [n, 3] of each of ``hkl [..., 3]``; -1 where it is not there."""
    keys, wanted = key_of(listed), key_of(hkl)
    order = np.argsort(keys)
    place = order[np.searchsorted(keys[order], wanted).clip(max=len(keys) - 1)]
    return np.where(keys[place] == wanted, place, -1)


def _triplet(rotation: np.ndarray, translation: np.ndarray) -> str:
    operation = gemmi.Op()
    operation.rot = (rotation * gemmi.Op.DEN).tolist()
    operation.tran = _steps(translation).tolist()
    return operation.wrap().triplet()


def _steps(translations: np.ndarray) -> np.ndarray:
    return np.rint(translations * _DENOMINATOR).astype(int) % _DENOMINATOR


def _is_in_lattice(vectors: np.ndarray, lattice: np.ndarray) -> np.ndarray:
    """Whether vectors [..., 3] in 24ths are lattice translations; `lattice` [n, 3] has one of each centring."""
    table = np.zeros((_DENOMINATOR,) * 3, bool)
    table[tuple(lattice.T)] = True
    return table[tuple(np.moveaxis(vectors % _DENOMINATOR, -1, 0))]


def _invariant_directions(rotations: np.ndarray) -> np.ndarray:
    """Primitive integer vectors [k, 3] that span what every rotation leaves in place."""
    columns = rotations.sum(0).T  # the sum projects on that space
    found: list[np.ndarray] = []
    for column in columns[np.argsort(np.abs(columns).sum(1))]:
        if np.linalg.matrix_rank(np.array([*found, column])) > len(found):
            found.append(column // np.gcd.reduce(column))
    return np.array(found, dtype=int).reshape(-1, 3)


def _span(polar: np.ndarray) -> np.ndarray:
    """All sums of multiples of the polar directions in 24ths, [24^k, 3]."""
    sums = np.zeros((1, 3), dtype=int)
    for direction in polar:
        sums = (sums[:, None] + np.arange(_DENOMINATOR)[:, None] * direction).reshape(-1, 3)
    return sums
