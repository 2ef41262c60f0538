"""`build_model`: from a map to a refined structure with named atoms and hydrogen atoms."""

from dataclasses import replace

import gemmi
import numpy as np

from rephase.crystal.peaks import parse_formula
from rephase.crystal.reflections import Reflections
from rephase.processes import one_blas_thread
from rephase.refinement.amendments import amended, settled
from rephase.refinement.atoms.building import Builder
from rephase.refinement.atoms.factors import N_PARAMETERS, AtomList
from rephase.refinement.atoms.refinement import Fit
from rephase.refinement.bonds import connect, order_atoms
from rephase.refinement.difference_map import difference_map
from rephase.refinement.elements import Assignment, assign_elements, count_electrons
from rephase.refinement.hydrogens import place_hydrogens
from rephase.refinement.model import Model
from rephase.refinement.parameters import free_parameters
from rephase.refinement.refine import RefinementOptions, finished, refine, warn_of_displacements
from rephase.refinement.sites import Sites

_PATIENCE = 1  # building cycles without gain
_ROOM = 1.6  # atoms for each 18 Å^3: there are as many in oxides and alloys
_EXPLAINED = 0.2  # R of atoms without elements, without hydrogen; a larger one means that atoms are wrong
_LEAST_U = 0.002  # Å^2, when electrons are counted
_DRAFT = RefinementOptions(n_cycles=3, weighting=(0.1, 0.0), refines_extinction=False, warns=False)
_FINAL = RefinementOptions(n_cycles=8, warns=False)
_HEAVY = 10  # electrons
_OTHER_SCALES = 0.63, 0.4, 0.25, 0.16  # factors by which the electrons are too many, if most atoms are heavy
_BETTER_SCALE = 0.7  # ratio of R1 that justifies another scale
WRONG = 0.35  # R1 of an isotropic model without hydrogen in which many atoms are wrong
_N_AMENDMENTS = 2
_BETTER = 0.985  # ratio of R1 that justifies another site or a partial atom
PER_PARAMETER = 4.0  # reflections above 2 σ that each parameter of an anisotropic model wants


@one_blas_thread()
def build_model(
    data: Reflections,
    amplitude: np.ndarray,
    density: np.ndarray,
    *,
    formula: str | None = None,
    measured: Reflections | None = None,
    effort: float = 0.3,
    seed: int = 0,
) -> Model:
    """Build the structure that a map shows and refine it against intensities.

    Atoms of unknown element are placed and refined first. Their electrons, their bonds and the formula give the
    elements. The molecules are joined, refined isotropically, then anisotropically if the data allow, and hydrogen
    atoms are added where geometry and difference density show them.

    Parameters
    ----------
    data
        Merged reflections.
    amplitude
        [n_refl], |F| in electrons per cell.
    density
        Map [x, y, z] of the cell in e/Å^3.
    formula
        Formula unit, such as ``C20 H22 N2 O3``.
    measured
        The reflections before merging: without a centre of symmetry the model is refined against Friedel mates.
    effort
        Upper limit of the search for atoms that the map does not show; see `fit_atoms`.
    seed
        Seed of that search.

    Returns
    -------
    Model
        A map of wrong phases gives a model whose R1 is large; it is not an error.

    Warns
    -----
    UserWarning
        A displacement is not positive; it is kept at a small value.
    """
    counts = parse_formula(formula) if formula else None
    builder = Builder(data, amplitude, np.random.default_rng(seed), room=_ROOM)
    fit = builder.likeliest(density, effort=effort, patience=_PATIENCE, explained=_EXPLAINED)
    target = _refined_against(data, measured)
    draft = _draft(data, amplitude, fit, target, counts)
    model = _refined(draft, np.zeros(len(draft.sites), int), formula)
    if (renamed := _renamed(model, data, amplitude, counts)) is not None:
        again = _refined(renamed, np.zeros(int((~renamed.sites.is_hydrogen).sum()), int), formula)
        model = again if again.r1 < model.r1 else model
    for _ in range(_N_AMENDMENTS):
        if (better := _amended(model, formula)) is None:
            break
        model = better
    model = finished(model)
    warn_of_displacements(model.sites, model.data)
    return model


def _draft(
    data: Reflections, amplitude: np.ndarray, fit: Fit, target: Reflections, counts: dict[str, float] | None
) -> Model:
    """Name, join and refine the atoms of a fit.

    Only the ratios of electrons are known if neither a formula nor carbon gives their scale. The form factors then
    choose among several scales.
    """

    def at_scale(scale: float) -> Model:
        sites = _named(data, amplitude, fit.atoms, fit.covariance, counts, scale)
        sites = order_atoms(connect(sites, data.cell, data.group), data.cell, data.group)
        return refine(sites.relabelled(sites.elements), target, options=_DRAFT)

    draft = at_scale(1.0)
    if counts is not None or "C" in draft.sites.elements:
        return draft
    others = min((at_scale(scale) for scale in _OTHER_SCALES), key=lambda model: model.r1)
    return others if others.r1 < _BETTER_SCALE * draft.r1 else draft


def _refined(draft: Model, occupancies: np.ndarray, formula: str | None) -> Model:
    """Refine a draft without hydrogen anisotropically if the data allow, add hydrogen atoms, and refine all."""
    if (shaped := _anisotropic(draft)).is_anisotropic.any():
        draft = refine(shaped, draft.data, options=_DRAFT._replace(occupancies=occupancies))
    cell, symmetry = draft.cell, draft.symmetry
    sites = place_hydrogens(draft.sites, cell, symmetry, difference_density=_difference(draft), formula=formula)
    of_all = np.zeros(len(sites), int)
    of_all[~sites.is_hydrogen] = occupancies
    return refine(sites, draft.data, options=_FINAL._replace(occupancies=of_all))


def _amended(model: Model, formula: str | None) -> Model | None:
    """Return a model with second sites, partial and missed atoms if it is better; None if not."""
    if model.r1 > WRONG or (change := amended(model)) is None:
        return None
    draft = refine(change.sites, model.data, options=_DRAFT._replace(occupancies=change.occupancies))
    sites, occupancies = settled(draft, change.occupancies)
    if not len(sites):
        return None
    again = _refined(replace(draft, sites=sites), occupancies, formula)
    return again if again.r1 < _BETTER * model.r1 else None


def _named(
    data: Reflections,
    amplitude: np.ndarray,
    atoms: AtomList,
    covariance: np.ndarray,
    counts: dict[str, float] | None,
    scale: float,
) -> Sites:
    """Name the atoms twice: their electrons are counted again from the elements of the first time."""
    n = len(atoms)
    sd = np.sqrt(np.diag(covariance).reshape(N_PARAMETERS, n)[3])
    first = assign_elements(atoms, sd, data.cell, data.group, formula=counts, scale=scale)
    atoms, elements = _atoms_only(atoms, first)
    atoms, sd = count_electrons(data, amplitude, atoms, elements)
    atoms, elements = _atoms_only(atoms, assign_elements(atoms, sd, data.cell, data.group, formula=counts))
    return Sites.isotropic(elements, elements, atoms.xyz_frac, atoms.u_iso, data.cell).relabelled(elements)


def _renamed(model: Model, data: Reflections, amplitude: np.ndarray, counts: dict[str, float] | None) -> Model | None:
    """Return the model without hydrogen, named by electrons counted beside hydrogen; None if no element changes."""
    sites = model.sites
    if model.r1 > WRONG:
        return None
    numbers = np.array([gemmi.Element(element).atomic_number for element in sites.elements], float)
    atoms = AtomList(sites.xyz_frac, numbers, np.maximum(sites.u_equivalent(data.cell), _LEAST_U))
    atoms, sd = count_electrons(data, amplitude, atoms, sites.elements)
    heavy = ~sites.is_hydrogen
    assigned = assign_elements(atoms.take(heavy), sd[heavy], data.cell, data.group, formula=counts)
    own = sites.take(heavy)
    elements = [new if is_atom else old for new, old, is_atom in zip(assigned.elements, own.elements, assigned.is_atom)]
    return None if tuple(elements) == own.elements else replace(model, sites=own.relabelled(elements))


def _atoms_only(atoms: AtomList, assigned: Assignment) -> tuple[AtomList, list[str]]:
    kept = assigned.is_atom
    return atoms.take(kept), [element for element, is_kept in zip(assigned.elements, kept) if is_kept]


def _refined_against(data: Reflections, measured: Reflections | None) -> Reflections:
    """Return the list with separate Friedel mates where they differ and were measured, and without absences."""
    if measured is None or data.group.is_centrosymmetric:
        return data
    present = measured.take(~data.group.is_absent(measured.hkl))
    return replace(present, symmetry=data.symmetry).merge(friedel=False).reflections


def _anisotropic(model: Model) -> Sites:
    """Return the sites with anisotropic displacements as far as there are data: of all atoms, or of the heavy ones.

    A model that fits so badly that atoms must be wrong stays isotropic.
    """
    sites = model.sites
    numbers = np.array([gemmi.Element(element).atomic_number for element in sites.elements])
    for chosen in (numbers > 1, numbers > _HEAVY):
        if model.r1 < WRONG and reflections_per_parameter(model, chosen) > PER_PARAMETER:
            return replace(sites, is_anisotropic=chosen)
    return replace(sites, is_anisotropic=np.zeros(len(sites), bool))


def reflections_per_parameter(model: Model, is_anisotropic: np.ndarray) -> float:
    """Return the reflections above 2σ for each parameter, if the chosen sites [n] were anisotropic, hydrogen riding."""
    heavy = ~model.sites.is_hydrogen
    sites = replace(model.sites, is_anisotropic=is_anisotropic).take(heavy)
    n_parameters = len(free_parameters(sites, model.cell, model.symmetry, np.zeros(len(sites), int)))
    return float(model.statistics.n_observed / max(n_parameters, 1))


def _difference(model: Model) -> np.ndarray:
    return difference_map(model.data, model.sites, model.F, model.intensity_calc)
