"""The complex refractive index of liquid helium, from the oscillator strengths of the helium atom."""

from functools import cache

import numpy as np

from rephase.errors import OpticsError

ENERGY_RANGE = (1.0, 1500.0)
"""Range of photon energies in eV of `refractive_index`."""
_BOHR = 0.0529177  # nm
_HARTREE = 27.2114  # eV
_MEGABARN = 109.761  # eV Mb, the cross section of an oscillator strength of one per eV
_ATOMS_PER_NM3 = 21.836  # 145.14 kg/m^3 at vapour pressure near 0 K: Donnelly & Barenghi (1998), doi:10.1063/1.556028
# Energy (eV), oscillator strength and full width (eV) of 1s-2p, 3p and 4p. Strengths, and the energies of 3p and 4p,
# are those of the free atom: Wiese & Fuhr (2009), doi:10.1063/1.3077727. The energy of 2p is that of the absorption
# peak of large droplets, 21.6 eV: Joppien et al. (1993), doi:10.1103/PhysRevLett.71.2654. The widths are rough.
_BANDS = np.array([[21.66, 0.2763, 0.5], [23.09, 0.0735, 0.5], [23.74, 0.0299, 0.5]])
_SERIES = 23.92  # eV: halfway from 1s-4p to 5p; above, the levels are so close that they extend the continuum
_BANDWIDTH = 5e-4  # relative, of the light; wide enough for the sum over energies to be smooth


def refractive_index(energy_ev: float) -> complex:
    """Refractive index n = 1 - delta + i beta of liquid helium at low pressure and temperature.

    ``(n^2 - 1)/(n^2 + 2) = (4 pi/3) N alpha(E)`` with ``alpha(E) = integral of f(E') / (E'^2 - E^2) dE'``, where f is
    the density of oscillator strength: the bands 1s-2p to 4p, then the photoionisation of Verner et al. (1996),
    doi:10.1086/177435, continued below its threshold by the higher members of the series.

    This is a model, not a table of measurements. Static polarisability and visible index are correct within 2 %, and
    the absorption above 26 eV is within 5 % of Henke et al. (1993). Between about 20.5 and 25 eV the bands of the
    liquid are shifted and broadened by poorly known amounts: there delta, which changes sign twice, and beta may be
    wrong by half their value or more; the reflectance of the liquid was analysed by Lucas et al. (1983),
    doi:10.1103/PhysRevB.28.2485. Below 20.5 eV the liquid is assumed to be transparent.

    Parameters
    ----------
    energy_ev
        Photon energy in eV, 1 to 1500.

    Raises
    ------
    OpticsError
        The energy is outside that range.

    Examples
    --------
    >>> round(refractive_index(2.27).real, 2)  # green light
    1.03
    """
    low, high = ENERGY_RANGE
    if not low <= energy_ev <= high:
        raise OpticsError(f"energy_ev = {energy_ev}: expected {low:g} to {high:g} eV; give the index itself")
    energies, strength = _oscillators()
    alpha = _HARTREE**2 * (strength / (energies**2 - (energy_ev * (1 + 1j * _BANDWIDTH)) ** 2)).sum()
    x = 4 * np.pi / 3 * _ATOMS_PER_NM3 * _BOHR**3 * alpha
    return complex(np.sqrt((1 + 2 * x) / (1 - x)))


@cache
def _oscillators() -> tuple[np.ndarray, np.ndarray]:
    """Return energies in eV, and the oscillator strength of each."""
    energies = np.geomspace(15, 2e5, 32_000)
    width = 0.5 / 2.3548
    rise = 1 / (1 + np.exp(-1.7 * (energies - _SERIES) / width))  # the first member is as broad as the bands
    density = np.where(energies > _SERIES - 8 * width, rise * photoionisation(energies) / _MEGABARN, 0.0)
    for energy, strength, full_width in _BANDS:
        sigma = full_width / 2.3548
        density += strength * np.exp(-(((energies - energy) / sigma) ** 2) / 2) / (sigma * np.sqrt(2 * np.pi))
    return energies, density * np.gradient(energies)


def photoionisation(energy_ev: np.ndarray) -> np.ndarray:
    """Return the cross section of the helium atom in Mb from the fit of Verner et al. (1996), doi:10.1086/177435.

    It is valid above the threshold of 24.587 eV (table 1); just below, the fit represents the unresolved series.
    """
    x = energy_ev / 13.61 - 0.4434
    y = np.sqrt(x**2 + 2.136**2)
    return 949.2 * ((x - 1) ** 2 + 2.039**2) * y ** (0.5 * 3.188 - 5.5) * (1 + np.sqrt(y / 1.469)) ** -3.188
