"""The difference map F_o - F_c of a refined structure, from which its peak, hole and rms are taken."""

import numpy as np

from rephase.crystal.density import density_of
from rephase.crystal.reflections import Reflections
from rephase.crystal.symmetry import rows_of, unique_rows
from rephase.refinement.factors import SiteFactors
from rephase.refinement.sites import Sites


def difference_map(data: Reflections, sites: Sites, F: np.ndarray, intensity_calc: np.ndarray) -> np.ndarray:
    """Compute the map [x, y, z] of ``(|Fo| - |Fc|) exp(i phi_c)`` in e/Å^3.

    |Fo| is put on the scale of F [n_refl] and corrected for extinction as ``intensity_calc`` says. Friedel mates are
    averaged, and the phases are those without dispersion.
    """
    return density_of(*difference_coefficients(data, sites, F, intensity_calc), data.cell, data.group)


def difference_coefficients(
    data: Reflections, sites: Sites, F: np.ndarray, intensity_calc: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return indices [n, 3], one of each class of equivalents, and the coefficients [n] of `difference_map`."""
    amplitude = np.abs(F)
    ratio = np.sqrt(np.maximum(data.intensity, 0) / np.maximum(intensity_calc, 1e-30))
    classes = data.group.representative(data.hkl)
    hkl = unique_rows(classes)
    of_row = rows_of(classes, hkl)
    change = np.bincount(of_row, amplitude * (ratio - 1)) / np.bincount(of_row)
    phase = np.angle(SiteFactors(hkl, data.cell, data.group, sites.elements, None).F(sites))
    return hkl, change * np.exp(1j * phase)
