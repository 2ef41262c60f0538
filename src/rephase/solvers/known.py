"""Prior knowledge of a search, phases of some reflections or a partial model, as one phasor for each reflection."""

from dataclasses import replace

import numpy as np
import torch

from rephase.crystal.atoms import Crystal, at_origin_of
from rephase.crystal.cell import Cell
from rephase.crystal.peaks import site_order
from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.phase_lists import PhaseList
from rephase.crystal.reflections.statistics import normalise
from rephase.crystal.shells import smooth_mean
from rephase.crystal.structure_factors import structure_factors
from rephase.crystal.symmetry import Symmetry, find_symmetry, rows_of
from rephase.errors import CifError, ReflectionError

_LARGEST_DIFFERENCE = 0.02  # between two cells that count as the same, relative to the axis or in radians
_SIGMA_A = 0.1, 0.97  # bounds of σA: a fragment is neither useless nor perfect


def known_phasors(data: Reflections, phases: PhaseList | None, fragment: Crystal | None) -> np.ndarray | None:
    """Return ``weight exp(i phi)`` [n_refl] for merged data, 0 where no phase is known; None if nothing is given.

    If both a list and a fragment give a phase for a reflection, the list takes precedence.
    """
    listed = None if phases is None else phasors_of_list(phases, data)
    modelled = None if fragment is None else phasors_of_fragment(fragment, data)
    if listed is None or modelled is None:
        return modelled if listed is None else listed
    return np.where(listed == 0, modelled, listed)


def phasors_of_list(phases: PhaseList, data: Reflections) -> np.ndarray:
    """Average the phasors that a list gives for each merged reflection [n_refl], over equivalents and Friedel mates.

    Raises
    ------
    ReflectionError
        The list has another cell or space group than the data, or none of their reflections.
    """
    if phases.cell is not None:
        _check_cell(phases.cell, data.cell, name=phases.name, error=ReflectionError)
    group = _common_group(phases, data)
    present = ~group.is_absent(phases.hkl)
    images, shifts = group.equivalents(phases.hkl[present])
    phasors = (phases.weight * np.exp(1j * phases.phi))[present] * np.exp(1j * shifts)
    total, count = np.zeros(len(data), complex), np.zeros(len(data))
    for hkl, values in ((images, phasors), (-images, phasors.conj())):
        rows = rows_of(hkl, data.hkl)
        np.add.at(total, rows[rows >= 0], values[rows >= 0])
        np.add.at(count, rows[rows >= 0], 1)
    if not count.any():
        raise ReflectionError(
            f"{phases.name}: none of its {len(phases.phi)} reflections is among those of {data.name}; check its "
            "setting and d_min"
        )
    return total / np.maximum(count, 1)


def phasors_of_fragment(fragment: Crystal, data: Reflections) -> np.ndarray:
    """Compute the phasors [n_refl] of a partial model, each weighted by the reliability of its phase.

    The weight is the expected cos(phi - phi_fragment): ``I1(X)/I0(X)``, or ``tanh(X/2)`` for centric reflections, with
    ``X = 2 σA E E_fragment / (1 - σA²)``; σA² is the correlation of the squares of the normalised amplitudes.

    Parameters
    ----------
    fragment
        Atoms in the cell and at the origin of the data, or at the other origin of the same group. Its asymmetric unit
        is expanded by the data's group, or by its own group if that is larger, e.g. if the data's group is unknown.
    data
        Merged reflections.

    Raises
    ------
    CifError
        The fragment has another cell than the data.

    References
    ----------
    Sim (1959), Acta Cryst. 12, 813–815; Srinivasan (1966), Acta Cryst. 20, 143–144.
    """
    _check_cell(fragment.cell, data.cell, name=fragment.name, error=CifError)
    F = structure_factors(_in_group(fragment, data.group), data.hkl, energy_kev=None)
    E_fragment = np.abs(F) / np.sqrt(data.group.epsilon(data.hkl))
    E_fragment = E_fragment / np.sqrt(smooth_mean(data.d_hkl, E_fragment**2))
    E = normalise(data)
    correlation = np.corrcoef(E**2, E_fragment**2)[0, 1]
    sigma_a = np.clip(np.sqrt(max(0.0, correlation)), *_SIGMA_A)
    X = torch.as_tensor(2 * sigma_a * E * E_fragment / (1 - sigma_a**2))
    acentric = (torch.special.i1e(X) / torch.special.i0e(X)).numpy()
    weight = np.where(data.group.is_centric(data.hkl), np.tanh(X.numpy() / 2), acentric)
    return weight * np.exp(1j * np.angle(F))


def _common_group(phases: PhaseList, data: Reflections) -> Symmetry:
    """Return the group of the data, or that of the list if only the lattice of the data is known."""
    own = phases.symmetry
    if own is None or set(own.triplets) == set(data.group.triplets):
        return data.group
    if len(data.group.point_group) == 1 and set(data.group.triplets) <= set(own.triplets):
        return own
    raise ReflectionError(
        f"{phases.name}: phases in {own.symbol}, but the data are in {data.group.symbol}, whose origin may differ; "
        "give phases in the group of the data, or --space-group"
    )


def _in_group(fragment: Crystal, group: Symmetry) -> Crystal:
    """Expand the asymmetric unit by a group; images that coincide on special positions share one occupancy."""
    if len(find_symmetry(fragment.space_group).triplets) > len(group.triplets):
        return fragment
    fragment = at_origin_of(fragment, group)
    sites = fragment.asymmetric_unit
    images = np.einsum("oij,nj->oni", group.rotations, sites.xyz_frac) + group.translations[:, None]
    occupancy = sites.occupancy / site_order(sites.xyz_frac, fragment.cell, group)
    every = sites.take(np.tile(np.arange(len(sites)), len(images)))
    atoms = replace(every, xyz_frac=images.reshape(-1, 3) % 1.0, occupancy=np.tile(occupancy, len(images)))
    return replace(fragment, atoms=atoms)


def _check_cell(cell: Cell, expected: Cell, *, name: str, error: type[ReflectionError] | type[CifError]) -> None:
    difference = np.subtract(cell.parameters, expected.parameters)
    relative = np.concatenate([difference[:3] / expected.parameters[:3], np.radians(difference[3:])])
    if np.abs(relative).max() > _LARGEST_DIFFERENCE:
        shown = ", ".join(f"{x:.5g}" for x in cell.parameters)
        wanted = ", ".join(f"{x:.5g}" for x in expected.parameters)
        raise error(f"{name}: cell {shown}, but the data have cell {wanted}; transform it to the cell of the data")
