"""`Model`: a refined structure with its uncertainties and the statistics that SHELXL reports."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from rephase.crystal.cell import Cell
from rephase.crystal.formulas import density, written
from rephase.crystal.peaks import common_images, parse_formula
from rephase.crystal.reflections import Reflections
from rephase.crystal.symmetry import Symmetry
from rephase.refinement.moieties import Moiety, count_units, find_moieties, in_hill_order
from rephase.refinement.sites import Sites, multiplicity
from rephase.refinement.weights import weighing_sigma, weights

OBSERVED = 2.0  # I/σ above which a reflection counts in R1


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
    ``restrained_goof`` also counts the restraints;
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
    restrained_goof: float


class Flack(NamedTuple):
    """Share ``x`` of the inverted structure (0: the model is right, 1: invert it), its uncertainty, pairs used."""

    x: float
    su: float
    n_pairs: int


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
    stated_formula
        Formula unit that was given with the data; "" if none was. It determines Z.
    flack
        Share of the inverted structure; None if the data do not determine it.
    occupancies
        [n_atoms], the variables that were refined, see `free_parameters`; None: unknown.
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
    stated_formula: str = ""
    flack: Flack | None = None
    occupancies: np.ndarray | None = None

    @property
    def cell(self) -> Cell:
        """The unit cell."""
        return self.data.cell

    @property
    def symmetry(self) -> Symmetry:
        """The space group."""
        return self.data.group

    @property
    def is_restrained(self) -> bool:
        """Whether displacements were restrained; the origin along polar axes always is."""
        return self.statistics.n_restraints > len(self.symmetry.origins.polar)

    @property
    def r1(self) -> float:
        """R1 over the reflections with I > 2σ."""
        return self.statistics.r1

    @cached_property
    def weights(self) -> np.ndarray:
        """Weights w [n_refl] of the refinement, on the scale of |F_calc|^2, because b depends on it."""
        observed, sigma, calculated = (
            column / self.scale**2 for column in (self.data.intensity, weighing_sigma(self.data), self.intensity_calc)
        )
        return weights(observed, sigma, calculated, self.weighting)

    @property
    def weighted_residuals(self) -> np.ndarray:
        """√w (Fo² - Fc²) [n_refl]."""
        return np.sqrt(self.weights) * (self.data.intensity - self.intensity_calc) / self.scale**2

    @property
    def wr2_observed(self) -> float:
        """wR2 over the reflections with I > 2σ; NaN if there are none."""
        strong = self.data.intensity > OBSERVED * self.data.sigma
        total = (self.weights * self.data.intensity**2)[strong].sum() / self.scale**4
        return float(np.sqrt((self.weighted_residuals[strong] ** 2).sum() / total)) if strong.any() else float("nan")

    def contents(self) -> dict[str, float]:
        """Atoms of each element in the cell, weighted by occupancy, in Hill's order (C, H, then the others)."""
        n_images = self.sites.occupancy * multiplicity(self.sites.xyz_frac, self.cell, self.symmetry)
        return in_hill_order(self.sites.elements, n_images)

    def stated_contents(self) -> dict[str, float]:
        """Atoms of each element in the cell by the stated formula; empty without one."""
        stated = parse_formula(self.stated_formula) if self.stated_formula else {}
        return {element: self.n_units * n for element, n in stated.items()}

    @cached_property
    def moieties(self) -> tuple[Moiety, ...]:
        """Molecules, ions and networks, the most complex first."""
        return find_moieties(self.sites, self.cell, self.symmetry)

    @cached_property
    def n_units(self) -> int:
        """Number Z of formula units in the cell, see `count_units`."""
        stated = parse_formula(self.stated_formula) if self.stated_formula else None
        whole = self.sites.take((self.sites.occupancy == 1) & ~self.sites.is_hydrogen)
        unit = common_images(multiplicity(whole.xyz_frac, self.cell, self.symmetry))
        return count_units(self.moieties, self.contents(), self.cell, self.symmetry, stated, unit=unit)

    @property
    def formula(self) -> str:
        """Formula unit that the atoms of the model make up, e.g. ``C12 H10 N2 O``."""
        return written({element: n / self.n_units for element, n in self.contents().items()})

    @property
    def density(self) -> float:
        """Density in g/cm^3 of the atoms in the cell."""
        return density(self.contents(), self.cell)
