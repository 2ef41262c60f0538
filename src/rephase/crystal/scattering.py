"""Atomic scattering factors: ITC form factors and dispersion corrections, from the tables of Dans_Diffraction."""

from collections.abc import Sequence
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np

from rephase.crystal.cell import wavelength
from rephase.errors import CifError, GridError, nearest_name


@cache
def _itc_table() -> dict[str, tuple[float, ...]]:
    """a1, b1, ..., a4, b4, c of each neutral atom (International Tables C, 6.1.1.4)."""
    columns = ["Element", "a1", "b1", "a2", "b2", "a3", "b3", "a4", "b4", "c"]
    rows = np.genfromtxt(_table("Dans Element Properties.txt"), skip_header=6, names=True, dtype=None, encoding="ascii")
    return {str(row[0]): tuple(float(value) for value in list(row)[1:]) for row in rows[columns]}


@cache
def _dispersion_table() -> dict[str, dict[str, Any]]:
    """Energies (eV), f1 and f2 of each element (Henke, Gullikson & Davis 1993, doi:10.1006/adnd.1993.1013)."""
    return np.load(_table("atomic_scattering_factors.npy"), allow_pickle=True).item()


def _table(name: str) -> Path:
    """Return the path of a table of Dans_Diffraction without importing the package, which takes a second."""
    return Path(str(distribution("Dans_Diffraction").locate_file(f"Dans_Diffraction/data/{name}")))


def form_factor_coefficients(elements: Sequence[str]) -> np.ndarray:
    """Return [n_elements, 9] coefficients a1, b1, ..., a4, b4, c of ``f0(s) = sum a exp(-b s^2) + c``.

    Raises
    ------
    CifError
        An element is not in International Tables C, table 6.1.1.4.
    """
    table = _itc_table()
    for element in elements:
        if element not in table:
            raise CifError(f"element {element!r} has no form factor; {nearest_name(element, table)}")
    return np.array([table[element] for element in elements])


def dispersion(elements: Sequence[str], energy_kev: float | None) -> np.ndarray:
    """Return the complex corrections f' + i f'' [n_elements] in electrons, f'' > 0; zeros without an energy.

    Raises
    ------
    GridError
        The energy is not positive, or outside the table of an element.
    """
    if energy_kev is None:
        return np.zeros(len(elements), complex)
    wavelength(energy_kev)  # checks the energy itself
    corrections = []
    for element in elements:
        entry = _dispersion_table().get(element)
        if entry is None:
            raise CifError(f"element {element!r} has no dispersion corrections: the tables end at uranium")
        energies = np.asarray(entry["energy"]) / 1000
        known = np.asarray(entry["f1"]) > -1000  # the table's mark for "not measured"
        low, high = energies[known][[0, -1]]
        if not low <= energy_kev <= high:
            raise GridError(f"energy_kev = {energy_kev}: the table of {element} covers {low:g} to {high:g} keV")
        f1 = np.interp(energy_kev, energies[known], np.asarray(entry["f1"])[known])
        f2 = np.interp(energy_kev, energies, np.asarray(entry["f2"]))
        corrections.append(complex(f1 - entry["Z"], f2))
    return np.array(corrections)
