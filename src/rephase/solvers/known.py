"""What is known before the search: phases of some reflections, or those of a partial model."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from rephase.crystal.cell import Cell
from rephase.crystal.peaks import site_order
from rephase.crystal.reflections import Reflections
from rephase.crystal.shells import smooth_mean
from rephase.crystal.statistics import normalise
from rephase.crystal.structure import Crystal
from rephase.crystal.structure_factors import structure_factors
from rephase.crystal.symmetry import Symmetry
from rephase.errors import CifError, ReflectionError

_LARGEST_DIFFERENCE = 0.02  # of two cells that are the same, as a part of the axis or in radians
_SIGMA_A = 0.1, 0.97  # where the correlation of two lists is bounded: neither nothing nor everything is known


class KnownPhases(NamedTuple):
    """Phases ``phi [n]`` in radians of reflections ``hkl [n, 3]``, each with a ``weight [n]``, 0–1: how sure."""

    hkl: np.ndarray
    phi: np.ndarray
    weight: np.ndarray


def known_phases(data: Reflections, listed: Reflections | None, fragment: Crystal | None) -> KnownPhases | None:
    """What a list of phases and a fragment tell of merged data; where both speak of a reflection, the list is right."""
    sources = [] if listed is None else [phases_of(listed, data)]
    sources += [] if fragment is None else [phases_of_fragment(fragment, data)]
    return KnownPhases(*map(np.concatenate, zip(*sources))) if sources else None


def phases_of(listed: Reflections, data: Reflections) -> KnownPhases:
    """The phases that a list holds, all of them sure.

    Raises
    ------
    ReflectionError
        A list without phases, or of another cell than the data.
    """
    _check_cell(listed.cell, data.cell, name=listed.name, error=ReflectionError)
    is_known = np.zeros(len(listed), bool) if listed.phi is None else np.isfinite(listed.phi)
    if not is_known.any():
        raise ReflectionError(
            f"{listed.name}: no phases in this list; give an MTZ with a column of type P, or a CIF with "
            "_refln_phase_calc or _refln_phase_meas"
        )
    phi = np.asarray(listed.phi)[is_known]
    return KnownPhases(listed.hkl[is_known], phi, np.ones(len(phi)))


def phases_of_fragment(fragment: Crystal, data: Reflections) -> KnownPhases:
    """The phases of a partial model, each as sure as its amplitudes let it be.

    The weight is the mean of cos(phi - phi_fragment), ``I1(X)/I0(X)``, of centric reflections ``tanh(X/2)``, with
    ``X = 2 σA E E_fragment / (1 - σA²)``; σA² is the correlation of the squares of the normalised amplitudes.

    Parameters
    ----------
    fragment
        Its asymmetric unit, in the cell and at the origin of the data, gets the symmetry images of the data's group.
    data
        Merged.

    Raises
    ------
    CifError
        A fragment in another cell than the data.

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
    return KnownPhases(data.hkl, np.angle(F), weight)


def _in_group(fragment: Crystal, group: Symmetry) -> Crystal:
    """The asymmetric unit with its images under a group; on special positions they share one occupancy."""
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
        raise error(f"{name}: cell {shown}, but that of the data is {wanted}; move it into the cell of the data")
