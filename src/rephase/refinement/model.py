"""`Model`: a refined structure with its uncertainties and the statistics that SHELXL reports."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import gemmi
import numpy as np

from rephase.crystal.cell import Cell
from rephase.crystal.reflections import Reflections
from rephase.crystal.symmetry import Symmetry
from rephase.refinement.sites import Sites, multiplicity

_WHOLE = 0.02  # of an atom


class Uncertainties(NamedTuple):
    """Standard uncertainties of `Sites`, 0 for what was not refined.

    ``xyz_frac`` [n, 3], ``U`` [n, 6] and ``u_equivalent`` [n] in Å^2, ``occupancy`` [n].
    """

    xyz_frac: np.ndarray
    U: np.ndarray
    u_equivalent: np.ndarray
    occupancy: np.ndarray


class Statistics(NamedTuple):
    """Figures of a refinement against intensities, by the definitions of SHELXL.

    ``r1`` = sum ||Fo| - |Fc|| / sum |Fo| over the ``n_observed`` reflections with I > 2σ, ``r1_all`` over all
    ``n_reflections``; ``wr2`` = (sum w (Fo² - Fc²)² / sum w Fo⁴)^½; ``goof`` = (sum w (Fo² - Fc²)² / (n - p))^½;
    ``peak`` and ``hole`` of the difference map with its ``rms`` in e/Å^3; ``shift`` is the largest change of a
    parameter in the last cycle, in units of its uncertainty.
    """

    r1: float
    r1_all: float
    wr2: float
    goof: float
    n_observed: int
    n_reflections: int
    n_parameters: int
    n_restraints: int
    peak: float
    hole: float
    rms: float
    shift: float


@dataclass(frozen=True, eq=False)
class Model:
    """A structure refined against intensities.

    Parameters
    ----------
    sites
        Atoms of the asymmetric unit.
    uncertainties
        Their standard uncertainties.
    data
        The merged reflections that were refined against; in a group without a centre of symmetry, Friedel mates are
        separate if they were measured.
    F
        [n_refl], complex F_calc of `data` in electrons per cell, without scale and extinction.
    intensity_calc
        [n_refl], scaled |F_calc|^2 with extinction, on the scale of ``data.intensity``.
    scale
        k in ``I_calc = k^2 |F_calc|^2``.
    extinction, extinction_su
        x in ``|Fc|² / (1 + 0.001 x |Fc|² λ³ / sin 2θ)^½`` (SHELXL's EXTI), 0 if not refined, and its uncertainty.
    weighting
        a, b in ``w = 1 / (σ² + (a P)² + b P)``, ``P = (max(Fo², 0) + 2 Fc²) / 3``.
    statistics
        See `Statistics`.
    wavelength
        Wavelength in Å of the dispersion corrections; None: none were applied.
    """

    sites: Sites
    uncertainties: Uncertainties
    data: Reflections
    F: np.ndarray
    intensity_calc: np.ndarray
    scale: float
    extinction: float
    extinction_su: float
    weighting: tuple[float, float]
    statistics: Statistics
    wavelength: float | None = None

    @property
    def cell(self) -> Cell:
        """The unit cell."""
        return self.data.cell

    @property
    def symmetry(self) -> Symmetry:
        """The space group."""
        return self.data.group

    @property
    def r1(self) -> float:
        """R1 over the reflections with I > 2σ."""
        return self.statistics.r1

    def contents(self) -> dict[str, float]:
        """Atoms of each element in the cell, weighted by occupancy, in Hill's order (C, H, then the others)."""
        counts: dict[str, float] = {}
        n_images = self.sites.occupancy * multiplicity(self.sites.xyz_frac, self.cell, self.symmetry)
        for element, n in zip(self.sites.elements, n_images):
            counts[element] = counts.get(element, 0.0) + float(n)
        first = [element for element in ("C", "H") if element in counts and "C" in counts]
        return {element: counts[element] for element in [*first, *sorted(set(counts) - set(first))]}

    @property
    def n_units(self) -> int:
        """Number of formula units in the cell: the largest divisor of the group's order that divides the contents.

        Elements of disordered or shared sites, which have no whole number of atoms in the cell, do not count.
        """
        whole = [round(n) for n in self.contents().values() if abs(n - round(n)) < _WHOLE]
        return math.gcd(len(self.symmetry.triplets), *whole)

    @property
    def density(self) -> float:
        """Density in g/cm^3 of the atoms in the cell."""
        mass = sum(n * gemmi.Element(element).weight for element, n in self.contents().items())
        return mass / self.cell.volume / 0.602214076
