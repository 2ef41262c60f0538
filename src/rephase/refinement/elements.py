"""Elements of the atoms of a model, from their refined electrons, their bonds and the formula."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import gemmi
import numpy as np
import scipy

from rephase.crystal.cell import Cell
from rephase.crystal.peaks import UNASSIGNED, common_images, units_in_cell
from rephase.crystal.reflections import Reflections
from rephase.crystal.symmetry import Symmetry
from rephase.refinement.atoms.building import Builder
from rephase.refinement.atoms.factors import AtomList
from rephase.refinement.atoms.refinement import refine
from rephase.refinement.atoms.restraints import USUAL, Pairs, usual_restraints
from rephase.refinement.contacts import find_contacts
from rephase.refinement.geometry import REACH, geometry_scores
from rephase.refinement.sites import multiplicity

# log prior probability relative to carbon, without a formula; other elements have _RARE
_COMMON = {
    "C": 0.0, "N": -1.2, "O": -1.0, "F": -2.5, "S": -2.5, "Cl": -2.5, "P": -3.0, "Br": -3.5, "Si": -4.0, "B": -4.0,
    "I": -4.0, "Na": -4.0, "K": -4.0, "Fe": -4.0, "Co": -4.0, "Ni": -4.0, "Cu": -4.0, "Zn": -4.0, "Pd": -4.0,
    "Pt": -4.5, "Ru": -4.0, "Mo": -4.5, "Mn": -4.0, "Cr": -4.5, "Ti": -4.5, "Al": -4.5, "Ag": -4.5, "Au": -4.5,
    "Li": -5.0, "Mg": -5.0, "Ca": -5.0, "Se": -4.5,
}  # fmt: skip
_RARE = -6.0
_NEVER = ("H", "He", "Ne", "Ar", "Kr", "Xe", "Rn", "Tc", "Pm", "Po", "At", "Fr", "Ra", "Ac", "Pa")
_HEAVIEST = 92
_NOT_IN_FORMULA = -12.0  # log prior of an element that is not in the formula
_SYSTEMATIC = 0.25, 0.02  # errors of electrons that the covariance does not contain: absolute, relative
_FREEDOM = 4.0  # of Student's t distribution, whose tails hold disordered atoms
_SCALES = np.exp(np.arange(-0.6, 0.6001, 0.01))  # of all electrons, relative to the expected scale
_N_SCALES = 6
_SCALE_SD = 0.15  # of its logarithm
_WEAKEST = 3.0  # electrons; fewer are no atom unless the formula has such an element
_CERTAIN = 3.0  # difference of log likelihood to the second element, below which an atom is doubtful
_WIDE = 20.0  # electrons, the prior standard deviation when they are counted
_HELD = 1e-3  # electrons, the same for hydrogen
_N_STEPS = 6
_N_ROUNDS = 3  # neighbours' elements matter for an atom's own
_BEYOND = -8.0  # log prior of an atom beyond the counts of the formula


class Assignment(NamedTuple):
    """Elements of atoms.

    ``elements`` [n], "Q" for what is no atom; ``log_likelihood`` [n, n_candidates] of the ``candidates``, with the
    prior; ``n_units`` is Z, the number of formula units in the cell, None without a formula; ``doubtful`` [n], whether
    another element is nearly as likely; ``scale`` is the factor by which the electrons were too many.
    """

    elements: tuple[str, ...]
    log_likelihood: np.ndarray
    candidates: tuple[str, ...]
    n_units: int | None
    doubtful: np.ndarray
    scale: float

    @property
    def is_atom(self) -> np.ndarray:
        """[n], whether each atom has an element."""
        return np.array([element != UNASSIGNED for element in self.elements], bool)


def assign_elements(
    atoms: AtomList,
    electrons_sd: np.ndarray,
    cell: Cell,
    symmetry: Symmetry,
    *,
    formula: Mapping[str, float] | None = None,
    scale: float = 1.0,
) -> Assignment:
    """Choose the likeliest element of each atom; hydrogen is never chosen.

    Parameters
    ----------
    atoms
        Refined atoms; the scale of their electrons need not be right.
    electrons_sd
        [n], standard uncertainties of their electrons.
    formula
        Atoms of each element in a formula unit; hydrogen counts only for Z. Counts are a strong expectation, not a
        condition: atoms beyond them, such as solvent, get the element of the formula that fits.
    scale
        Expected factor by which the electrons are too many: 1 if the Wilson plot of light atoms set them. A formula
        gives another one.
    """
    candidates = _candidates(formula)
    prior, n_images = _prior(candidates, formula), multiplicity(atoms.xyz_frac, cell, symmetry)
    budget, n_units = _budget(formula, candidates, cell, symmetry, n_images)
    problem = _Problem(
        atoms.electrons,
        electrons_sd,
        n_images,
        find_contacts(atoms.xyz_frac, cell, symmetry, REACH),
        candidates,
        prior,
        budget,
        _expected_scales(scale, atoms.electrons, n_images, candidates, budget),
    )
    scale, scores, chosen = max((problem.assigned(scale) for scale in problem.scales()), key=problem.total)
    is_atom = atoms.electrons / scale > _WEAKEST
    elements = tuple(candidates[i] if there else UNASSIGNED for i, there in zip(chosen, is_atom))
    return Assignment(elements, scores, candidates, n_units, _lead(scores, chosen) < _CERTAIN, scale)


class _Problem(NamedTuple):
    """What is known of the atoms, and the elements to choose from, with prior and counts in the cell."""

    electrons: np.ndarray
    electrons_sd: np.ndarray
    n_images: np.ndarray
    contacts: Pairs
    candidates: tuple[str, ...]
    prior: np.ndarray
    budget: np.ndarray | None
    expected_scales: np.ndarray

    def scales(self) -> np.ndarray:
        """Return the likely factors by which all electrons are too many, local maxima of the likelihood."""
        return np.concatenate([self._scales_about(expected) for expected in self.expected_scales])

    def _scales_about(self, expected: float) -> np.ndarray:
        scales = expected * _SCALES
        electrons, sd = self.electrons / scales[:, None], self.electrons_sd / scales[:, None]
        scores = _electron_scores(electrons, sd, self.candidates) + self.prior
        fits = scipy.special.logsumexp(scores, axis=-1).sum(-1) + self.scale_prior(scales)
        best = np.argsort(-np.where(fits == scipy.ndimage.maximum_filter1d(fits, 5), fits, -np.inf), kind="stable")
        return scales[best[:_N_SCALES]]

    def scale_prior(self, scale: np.ndarray | float) -> np.ndarray:
        """Return the log prior of the overall factor of the electrons: it is near one of the expected scales."""
        off = np.log(np.divide.outer(scale, self.expected_scales)) / _SCALE_SD
        return scipy.special.logsumexp(-0.5 * off**2, axis=-1)

    def assigned(self, scale: float) -> tuple[float, np.ndarray, np.ndarray]:
        """Return the scale, the scores [n, n_candidates], and the chosen elements [n] as indices."""
        of_electrons = _electron_scores(self.electrons / scale, self.electrons_sd / scale, self.candidates) + self.prior
        scores, chosen = of_electrons, _chosen(of_electrons, self.n_images, self.budget)
        for _ in range(_N_ROUNDS):
            scores = of_electrons + geometry_scores(self.contacts, self.candidates, chosen)
            chosen = _chosen(scores, self.n_images, self.budget)
        return float(scale), scores, chosen

    def total(self, assigned: tuple[float, np.ndarray, np.ndarray]) -> float:
        """Return the log likelihood of an assignment."""
        scale, scores, chosen = assigned
        return float(scores[np.arange(len(chosen)), chosen].sum() + self.scale_prior(scale))


def count_electrons(
    data: Reflections, amplitude: np.ndarray, atoms: AtomList, elements: Sequence[str]
) -> tuple[AtomList, np.ndarray]:
    """Refine the atoms with electrons nearly free, from those of their elements, which also sets the overall scale.

    Parameters
    ----------
    data
        Merged reflections.
    amplitude
        [n_refl], |F| in electrons.
    atoms
        Atoms as `fit_atoms` returns them; hydrogen atoms may be among them.
    elements
        [n], their present elements; the electrons of hydrogen atoms stay at 1.

    Returns
    -------
    atoms, electrons_sd
        Refined atoms, and the standard uncertainties [n] of their electrons.
    """
    builder = Builder(data, amplitude, np.random.default_rng(0))
    numbers = np.array([gemmi.Element(element).atomic_number or USUAL for element in elements], float)
    start = replace(atoms, electrons=numbers)
    usual = usual_restraints(start, data.cell, data.group, electrons_sd=_WIDE)
    restraints = replace(usual, electrons=numbers, electrons_sd=np.where(numbers == 1, _HELD, _WIDE * numbers / USUAL))
    fit = refine(builder.factors, builder.observed, start, restraints, n_steps=_N_STEPS)
    n = len(atoms)
    return fit.atoms, np.sqrt(np.diag(fit.covariance)[3 * n : 4 * n])


def _candidates(formula: Mapping[str, float] | None) -> tuple[str, ...]:
    """Return the elements to choose from: all, or those of the formula and C, N, O."""
    if formula is None:
        every = (gemmi.Element(number).name for number in range(3, _HEAVIEST + 1))
        return tuple(element for element in every if element not in _NEVER)
    return tuple(dict.fromkeys(element for element in (*formula, "C", "N", "O") if element not in ("H", "D")))


def _prior(candidates: Sequence[str], formula: Mapping[str, float] | None) -> np.ndarray:
    """Return the log prior [n_candidates] of an atom's element; with a formula, in proportion to its counts."""
    if formula is None:
        return np.array([_COMMON.get(element, _RARE) for element in candidates])
    counts = np.array([formula.get(element, 0.0) for element in candidates])
    return np.where(counts > 0, np.log(np.maximum(counts, 0.05) / max(counts.sum(), 1e-9)), _NOT_IN_FORMULA)


def _electron_scores(electrons: np.ndarray, sd: np.ndarray, candidates: Sequence[str]) -> np.ndarray:
    """Return the log density [..., n, n_candidates] of refined electrons [..., n], by Student's t distribution."""
    numbers = np.array([gemmi.Element(element).atomic_number for element in candidates], float)
    width = np.sqrt((sd**2 + _SYSTEMATIC[0] ** 2)[..., None] + (_SYSTEMATIC[1] * numbers) ** 2)
    off = (electrons[..., None] - numbers) / width
    return -(_FREEDOM + 1) / 2 * np.log1p(off**2 / _FREEDOM) - np.log(width)


def _expected_scales(
    scale: float, electrons: np.ndarray, n_images: np.ndarray, candidates: Sequence[str], budget: np.ndarray | None
) -> np.ndarray:
    """Return the expected scales of the electrons: the one stated, and that of the formula.

    The sum of the squared electrons in the cell is that of its contents, to which heavy atoms contribute most.
    """
    if budget is None or not len(electrons):
        return np.array([scale])
    numbers = np.array([gemmi.Element(element).atomic_number for element in candidates], float)
    return np.array([scale, np.sqrt((n_images @ electrons**2) / (budget @ numbers**2))])


def _budget(
    formula: Mapping[str, float] | None,
    candidates: Sequence[str],
    cell: Cell,
    symmetry: Symmetry,
    n_images: np.ndarray,
) -> tuple[np.ndarray | None, int | None]:
    """Return the atoms [n_candidates] of the formula in the cell, and Z; None without a formula."""
    if formula is None:
        return None, None
    n_units = units_in_cell(dict(formula), symmetry, cell, unit=common_images(n_images))
    return np.array([formula.get(element, 0.0) * n_units for element in candidates]), n_units


def _chosen(scores: np.ndarray, n_images: np.ndarray, budget: np.ndarray | None) -> np.ndarray:
    """Choose an element [n] for each atom: the likeliest, or with a formula the likeliest within its counts.

    An atom takes as many places as it has images in the cell, in units of their greatest common divisor. Places beyond
    the counts of the formula exist, at a price.
    """
    if budget is None or len(n_images) == 0:
        return scores.argmax(1)
    unit = np.gcd.reduce(n_images)
    n_copies = n_images // unit
    rows = np.repeat(np.arange(len(scores)), n_copies)
    n_places = np.minimum(np.rint(budget / unit).astype(int), len(rows))
    kinds = np.concatenate([np.repeat(np.arange(len(budget)), n_places), np.repeat(np.arange(len(budget)), len(rows))])
    price = np.where(np.arange(len(kinds)) < n_places.sum(), 0.0, _BEYOND)
    gain = (scores[:, kinds] + price)[rows] / n_copies[rows, None]
    taken = np.zeros(scores.shape)
    row, place = scipy.optimize.linear_sum_assignment(gain, maximize=True)
    np.add.at(taken, (rows[row], kinds[place]), 1)
    return taken.argmax(1)


def _lead(scores: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return by how much [n] the chosen element is likelier than the next; negative if another one is likelier."""
    own = np.arange(len(scores)), chosen
    others = scores.copy()
    others[own] = -np.inf
    return scores[own] - others.max(1, initial=-np.inf)
