"""F of sites for a list of reflections, and the derivatives of |F|^2 by positions, displacements and occupancies.

``F(h) = sum_j o_j f_j(s) sum_operations exp(2 pi i h.(R x_j + t)) exp(-2 pi^2 hR N U_j N (hR)^T)`` with
N = diag(a*, b*, c*).
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import gemmi
import numpy as np

from rephase.crystal.cell import HC_KEV_ANGSTROM, Cell
from rephase.crystal.symmetry import Symmetry
from rephase.errors import CifError
from rephase.refinement.atoms.factors import n_keeping
from rephase.refinement.sites import Sites

N_SLOTS = 10  # of an atom: x, y, z, U11, U22, U33, U23, U13, U12, occupancy
_ROWS, _COLUMNS, _TIMES = [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1], np.array([1.0, 1, 1, 2, 2, 2])
_AT_ONCE = 1 << 16  # exponentials of a chunk of reflections: half a MB an array, which stays in a CPU's cache


class Chunk(NamedTuple):
    """A slice of the reflections: F [n] in electrons, and derivatives [n_atoms, 10, n] of |F|^2 by each slot."""

    rows: slice
    F: np.ndarray
    slopes: np.ndarray


class _Waves(NamedTuple):
    """Cosine and sine waves [n_operations, n_atoms, n], damped; indices [n_operations, 3, n], products [.., 6, n]."""

    cosine: np.ndarray
    sine: np.ndarray
    indices: np.ndarray
    products: np.ndarray


class SiteFactors:
    """Structure factors of sites for one list of reflections.

    Form factors are those of neutral atoms (International Tables C, 6.1.1.4), of hydrogen the bonded atom of Stewart,
    Davidson & Simpson (1965, doi:10.1063/1.1696397); dispersion corrections those of Cromer & Liberman (1981,
    doi:10.1107/S0567739481000600).

    Parameters
    ----------
    hkl
        [n_refl, 3] integers.
    cell, symmetry
        Cell and space group of the reflections.
    elements
        [n_atoms], elements of the sites.
    wavelength
        Wavelength in Å of the dispersion corrections; None: no corrections.
    """

    def __init__(
        self, hkl: np.ndarray, cell: Cell, symmetry: Symmetry, elements: Sequence[str], wavelength: float | None
    ):
        self.cell, self.symmetry, self.hkl = cell, symmetry, np.asarray(hkl)
        self._s_squared = 1 / (4 * cell.d_spacing(hkl) ** 2)
        kinds = list(dict.fromkeys(elements))
        self._kind = np.array([kinds.index(element) for element in elements], int)
        self._table = _form_factor_table(kinds)
        self._dispersion = dispersion_corrections(kinds, wavelength)
        self._lengths = np.sqrt(np.diag(cell.reciprocal_metric))
        self._rotations, self._translations, self._phase = _summed_operations(symmetry, self.hkl)
        centring = len(symmetry.triplets) // len(symmetry.point_group)
        self._times = (centring if self._phase is None else 2 * centring) * ~symmetry.is_absent(hkl)

    def F(self, sites: Sites) -> np.ndarray:
        """Return F, complex [n_refl], in electrons per cell."""
        share = self._share(sites)
        parts = [self._sum(self._waves(sites, rows), sites.occupancy * share, rows) for rows in self._chunks(sites)]
        F = np.concatenate([F for F, _ in parts])
        return F if self._phase is None else F * np.exp(1j * self._phase)

    def chunks(self, sites: Sites) -> Iterator[Chunk]:
        """Yield |F|^2 and its derivatives by all slots of all atoms, some reflections at a time."""
        share = self._share(sites)
        for rows in self._chunks(sites):
            waves = self._waves(sites, rows)
            F, size = self._sum(waves, sites.occupancy * share, rows)
            yield Chunk(rows, F, self._slopes(waves, 2 * F.conj() * size, share, sites.occupancy))

    def _slopes(self, waves: _Waves, pull: np.ndarray, share: np.ndarray, occupancy: np.ndarray) -> np.ndarray:
        """Return derivatives [n_atoms, 10, n] of |F|^2; ``pull`` is 2 F* f [n_atoms, n]."""
        weighted = pull * (occupancy * share)[:, None]
        real, turned = waves.cosine * weighted.real, waves.sine * -weighted.real
        if self._phase is None:
            real -= waves.sine * weighted.imag
            turned -= waves.cosine * weighted.imag
        out = np.empty((len(occupancy), N_SLOTS, pull.shape[1]))
        np.einsum("onr,okr->nkr", turned, 2 * np.pi * waves.indices, out=out[:, :3])
        np.einsum("onr,okr->nkr", real, -2 * np.pi**2 * waves.products, out=out[:, 3:9])
        out[:, 9] = real.sum(0) / occupancy[:, None]
        return out

    def _sum(self, waves: _Waves, share: np.ndarray, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        """Return F [n], without the phase of the inversion centre, and f [n_atoms, n] of each atom."""
        size = self._form_factors(rows)[self._kind]
        total = waves.cosine.sum(0) + (0 if self._phase is not None else 1j * waves.sine.sum(0))
        return np.einsum("n,nr,nr->r", share, size, total), size

    def _waves(self, sites: Sites, rows: slice) -> _Waves:
        hkl = self.hkl[rows]
        indices = np.swapaxes(hkl @ self._rotations, 1, 2).astype(float)  # [n_operations, 3, n]
        scaled = indices * self._lengths[:, None]
        products = scaled[:, _ROWS] * scaled[:, _COLUMNS] * _TIMES[:, None]
        shifts = hkl @ self._translations.T  # [n, n_operations]
        if self._phase is not None:
            shifts = shifts - self._phase[rows, None] / (2 * np.pi)
        turns = sites.xyz_frac @ indices + shifts.T[:, None]
        damping = np.exp(-2 * np.pi**2 * (sites.U @ products))
        angle = 2 * np.pi * turns
        return _Waves(np.cos(angle) * damping, np.sin(angle) * damping, indices, products)

    def _form_factors(self, rows: slice) -> np.ndarray:
        """Return f(s) + f' + i f'' [n_kinds, n], times the number of equal terms of the sum over operations."""
        gaussians = np.exp(-self._table[:, 1:8:2, None] * self._s_squared[rows])
        f0 = (self._table[:, 0:8:2, None] * gaussians).sum(1) + self._table[:, 8:]
        return (f0 + self._dispersion[:, None]) * self._times[rows]

    def _share(self, sites: Sites) -> np.ndarray:
        """Return 1 over the order of the site symmetry, [n_atoms]: the images of an atom on top of each other."""
        return 1 / n_keeping(sites.xyz_frac, self.cell, self.symmetry)

    def _chunks(self, sites: Sites) -> Iterator[slice]:
        step = max(64, _AT_ONCE // max(1, len(sites) * len(self._rotations)))
        for start in range(0, len(self.hkl), step):
            yield slice(start, start + step)


def dispersion_corrections(elements: Sequence[str], wavelength: float | None) -> np.ndarray:
    """Return f' + i f'' [n_elements] in electrons at a wavelength in Å; zeros without a wavelength."""
    if wavelength is None:
        return np.zeros(len(elements), complex)
    energy = 1000 * HC_KEV_ANGSTROM / wavelength
    numbers = [gemmi.Element(element).atomic_number for element in elements]
    return np.array([complex(*gemmi.cromer_liberman(number, energy)) for number in numbers])


def _form_factor_table(elements: Sequence[str]) -> np.ndarray:
    """Return a1, b1, ..., a4, b4, c [n_elements, 9]."""
    rows = []
    for element in elements:
        if (found := gemmi.Element(element).it92) is None:
            raise CifError(f"element {element!r} has no form factor; expected a symbol such as C or Ni")
        rows.append([*np.column_stack([found.a, found.b]).ravel(), found.c])
    return np.array(rows)


def _summed_operations(symmetry: Symmetry, hkl: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return rotations and translations to sum over and, with an inversion centre, the phase [n_refl] of F.

    For the inversion -x + t, ``F exp(-pi i h.t)`` is twice the real part of a sum over the proper operations.
    """
    rotations = symmetry.rotations[symmetry.point_group]
    translations = symmetry.translations[symmetry.point_group]
    if not symmetry.is_centrosymmetric:
        return rotations, translations, None
    proper = np.linalg.det(rotations) > 0
    inversion = (symmetry.rotations == -np.eye(3)).all((1, 2)).argmax()
    return rotations[proper], translations[proper], np.pi * (hkl @ symmetry.translations[inversion])
