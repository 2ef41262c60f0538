"""Scattering of atoms: ITC form factors, dispersion corrections, attenuation, from the tables of Dans_Diffraction."""

from collections.abc import Sequence
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import gemmi
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


def mass_attenuation(elements: Sequence[str], energy_kev: float) -> np.ndarray:
    """Return mass attenuation coefficients [n_elements] in cm²/g (Hubbell & Seltzer 2004, doi:10.18434/T4D01F).

    They are NaN for elements beyond uranium, and for energies below 1 keV or above 20 MeV.
    """
    table = _attenuation_table()
    energies = table[:, 0] / 1000
    numbers = [gemmi.Element(element).atomic_number for element in elements]
    known = [0 < number < table.shape[1] and energies[0] <= energy_kev <= energies[-1] for number in numbers]
    columns = (table[:, number] if is_known else table[:, 0] * np.nan for number, is_known in zip(numbers, known))
    return np.array([np.interp(energy_kev, energies, column) for column in columns])


@cache
def _attenuation_table() -> np.ndarray:
    """Energy (eV), then the mass attenuation coefficient (cm²/g) of each element by its number, [n_energies, 93]."""
    return np.loadtxt(_table("XRayMassAtten_mup.dat"))[1:]  # the first row, at 0 eV, is no measurement


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
