"""Space groups: equivalents, absences, centric phases, allowed origins, the enantiomorph, the reduced cell.

An operation maps x to R x + t and leaves the density unchanged, so ``F(hR) = F(h) exp(-2 pi i h.t)``.
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
from rephase.crystal.space_group_names import group_of_number, group_of_symbol, has_setting, in_ascii
from rephase.errors import SymmetryError

_DENOMINATOR = 24  # every translation of the tables is a multiple of 1/24
_MOST_OPERATIONS = 1536  # the largest group has 192; a supercell may have eight times as many
_KEY_RANGE = 1 << 20  # larger than any Miller index
_CELL_TOLERANCE = 0.01  # relative, of a metric element: 0.5 % of a length, 0.3° of an angle near 90°


class Origins(NamedTuple):
    """Shifts of the origin that leave the operations unchanged.

    ``shifts [n, 3]`` are fractional, one of each class; any ``u @ polar`` may be added to each, with polar [k, 3]
    integers. After the shift ``other_hand [3]``, an inverted structure belongs to the same group; None: it belongs to
    the enantiomorphic group.
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
        """Rotation matrices of the operations, integers [n, 3, 3]."""
        return np.array([operation.rot for operation in self._operations]) // gemmi.Op.DEN

    @cached_property
    def translations(self) -> np.ndarray:
        """Fractional translations of the operations, [n, 3]."""
        return np.array([operation.tran for operation in self._operations]) / gemmi.Op.DEN

    @cached_property
    def point_group(self) -> np.ndarray:
        """Indices of the operations without centring: one for each rotation."""
        _, first = np.unique(self.rotations.reshape(-1, 9), axis=0, return_index=True)
        return np.sort(first)

    @property
    def is_centrosymmetric(self) -> bool:
        """Whether an inversion centre is among the operations."""
        return bool(self.group_ops.is_centrosymmetric())

    @property
    def table_entry(self) -> gemmi.SpaceGroup | None:
        """The tabulated group and setting with these operations; None if there is none."""
        return gemmi.find_spacegroup_by_ops(self.group_ops)

    def misfit(self, cell: Cell) -> str | None:
        """First operation that changes a length of a cell by over 0.5 % or an angle by over 0.3°; None if none does."""
        lattice = cell.orthogonalisation
        metric = lattice.T @ lattice
        turned = np.swapaxes(self.rotations, 1, 2) @ metric @ self.rotations
        tolerance = _CELL_TOLERANCE * np.outer(cell.parameters[:3], cell.parameters[:3])
        is_off = (np.abs(turned - metric) > tolerance).any((1, 2))
        return self.triplets[is_off.argmax()] if is_off.any() else None

    def is_absent(self, hkl: np.ndarray) -> np.ndarray:
        """True for systematic absences among ``hkl [n_refl, 3]``."""
        return self.group_ops.systematic_absences(np.ascontiguousarray(hkl, np.int32))

    def is_centric(self, hkl: np.ndarray) -> np.ndarray:
        """True where the group allows only two phases, `centric_phase` and that plus π, for ``hkl [n_refl, 3]``."""
        return self.group_ops.centric_flag_array(np.ascontiguousarray(hkl, np.int32))

    def epsilon(self, hkl: np.ndarray) -> np.ndarray:
        """ε of ``hkl [n_refl, 3]``: number of operations, without centring, that map a reflection onto itself."""
        return self.group_ops.epsilon_factor_without_centering_array(np.ascontiguousarray(hkl, np.int32))

    def multiplicity(self, hkl: np.ndarray) -> np.ndarray:
        """Number of equivalents of each of ``hkl [n_refl, 3]`` in the whole sphere, Friedel mates included."""
        order = len(self.point_group)
        friedel = np.where(self.is_centric(hkl), 1, 2)
        return friedel * order // self.epsilon(hkl)

    def centric_phase(self, hkl: np.ndarray) -> np.ndarray:
        """Allowed phase in [0, π) of each centric reflection of ``hkl [n_refl, 3]``; NaN for acentric ones."""
        images, shifts = self.equivalents(hkl)
        opposite = (images == -np.asarray(hkl)).all(-1)
        # F(-h) = F(h) exp(-2 pi i h.t) and F(-h) = F(h)*: twice the phase is 2 pi h.t
        phase = np.mod(-shifts[opposite.argmax(0), np.arange(len(hkl))] / 2, np.pi)
        return np.where(opposite.any(0), np.where(np.pi - phase < 1e-6, 0.0, phase), np.nan)

    def equivalents(self, hkl: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Equivalents hR [n_ops, n_refl, 3] of ``hkl [n_refl, 3]`` and their phase shifts [n_ops, n_refl], radians."""
        hkl = np.asarray(hkl)
        images = hkl @ self.rotations[self.point_group]
        return images, -2 * np.pi * (self.translations[self.point_group] @ hkl.T)

    def has_in_laue_group(self, law: np.ndarray) -> bool:
        """Whether the law [3, 3] with h' = law h, or its product with -1, is a rotation of the group."""
        return any((self.rotations == sign * law.T).all((1, 2)).any() for sign in (1, -1))

    def representative(self, hkl: np.ndarray, *, friedel: bool = True) -> np.ndarray:
        """Representative [n_refl, 3] of each reflection: one index for all its equivalents.

        With `friedel`, mates h and -h have the same representative.
        """
        hkl = np.asarray(hkl, dtype=np.int64)
        best, best_key = hkl.copy(), key_of(hkl)
        for rotation in self.rotations[self.point_group]:
            for sign in (1, -1) if friedel else (1,):
                image = sign * (hkl @ rotation)
                key = key_of(image)
                better = key > best_key
                best[better], best_key[better] = image[better], key[better]
        return best

    def expand(self, hkl: np.ndarray, F: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Expand a list to all equivalent reflections of the sphere, Friedel mates included.

        Parameters
        ----------
        hkl
            Miller indices [n_refl, 3], one of each class.
        F
            Values [n_refl]; the phases of complex values are transformed, real values (amplitudes) are copied.

        Returns
        -------
        hkl, F
            Indices [n_all, 3] and values [n_all], without systematic absences.
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
        equal = (lattice[:, None] + _span(polar)).reshape(-1, 3)  # shifts that are equivalent to none
        kept, seen = [], np.zeros((_DENOMINATOR,) * 3, bool)
        for shift in grid[allowed]:
            if not seen[tuple(shift)]:
                kept.append(shift)
                seen[tuple(((shift + equal) % _DENOMINATOR).T)] = True
        hand = grid[inverts][0] / _DENOMINATOR if inverts.any() else None
        return Origins(np.array(kept) / _DENOMINATOR, polar, hand)

    def in_basis(self, basis: np.ndarray) -> "Symmetry":
        """The same group on new axes: the columns of `basis` [3, 3] in terms of the old axes."""
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
        return gemmi.GroupOps(identity_first)  # otherwise gemmi overlooks the absences of a centred lattice


SpaceGroup = str | float | Sequence[str] | Symmetry  # as stated: symbol, number, operations; or the group itself


def find_symmetry(source: str | float | Sequence[str]) -> Symmetry:
    """Return the space group of a symbol, a number, or a list of operations, in any setting.

    Raises
    ------
    SymmetryError
        The symbol is not in the tables, or the operations form no group.

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


def symmetry_in(cell: Cell | None, space_group: SpaceGroup) -> Symmetry:
    """Return a stated group; a rhombohedral group without a setting gets the setting, R or H, that fits the cell.

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
    """Whether a stated number or symbol may mean several origins or axes."""
    if isinstance(space_group, str):
        return not has_setting(space_group)
    return isinstance(space_group, numbers.Real)


def _number(source: object) -> float | None:
    """Parse the number of a group as any program writes it, also `14.0`; None if it is not a number."""
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
    """Add translations to the lattice of a group: fractional [n, 3], themselves a group that the rotations preserve."""
    rotations, shifts = (array[symmetry.point_group] for array in (symmetry.rotations, symmetry.translations))
    operations = {_triplet(R, t + more) for R, t in zip(rotations, shifts) for more in translations}
    return Symmetry(f"{symmetry.symbol} (more translations)", tuple(sorted(operations)))


class ReducedCell(NamedTuple):
    """The Niggli-reduced primitive cell; the columns of ``basis`` [3, 3] are its vectors in terms of the old axes."""

    cell: Cell
    basis: np.ndarray

    def hkl(self, hkl: np.ndarray) -> np.ndarray:
        """Convert indices [n_refl, 3] of the old cell to the reduced cell."""
        return np.rint(np.asarray(hkl) @ self.basis).astype(int)

    def hkl_back(self, hkl: np.ndarray) -> np.ndarray:
        """Convert indices [n_refl, 3] of the reduced cell to the old cell."""
        return np.rint(np.asarray(hkl) @ np.linalg.inv(self.basis)).astype(int)


def reduced_cell(cell: Cell, symmetry: Symmetry) -> ReducedCell:
    """Return the reduced primitive cell of a lattice; maps on it have the fewest voxels and are nearly isotropic.

    Raises
    ------
    SymmetryError
        The centring is none of P, A, B, C, I, F, R, H.
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
    """One integer for each index of [..., 3], which sorts by h, then k, then l."""
    h, k, l = np.moveaxis(np.asarray(hkl, dtype=np.int64), -1, 0)
    return (h * _KEY_RANGE + k) * _KEY_RANGE + l


def unique_rows(hkl: np.ndarray) -> np.ndarray:
    """Return the distinct indices of ``hkl [n, 3]``, sorted by h, then k, then l."""
    _, first = np.unique(key_of(hkl), return_index=True)
    return hkl[first]


def rows_of(hkl: np.ndarray, listed: np.ndarray) -> np.ndarray:
    """Position [...] of each of ``hkl [..., 3]`` in the list [n, 3]; -1 if it is not in the list."""
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
    """Primitive integer vectors [k, 3] that span the subspace invariant under every rotation."""
    columns = rotations.sum(0).T  # the sum projects onto that subspace
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
