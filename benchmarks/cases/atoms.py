"""Atoms of a refined model compared with those of the true structure, at the allowed origin and hand that fit best."""

from typing import NamedTuple

import numpy as np
import torch

from rephase.crystal.phases import align_list
from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.simulation import Truth
from rephase.crystal.structures import Crystal
from rephase.crystal.symmetry import rows_of
from rephase.refinement.atoms.factors import lengths
from rephase.refinement.factors import SiteFactors
from rephase.refinement.model import Model

_AT_ATOM, _AT_HYDROGEN = 0.1, 0.3  # Å; hydrogen rides at distances that depend on the source
_MINOR = 0.5  # a site with a smaller occupancy is the minor part of a disorder, or the minor element of a shared site


class AtomScores(NamedTuple):
    """Counts of true sites that are at least half occupied.

    ``n_atoms`` other than hydrogen, of which ``n_found`` have an atom of the model within 0.1 Å, of the right element
    for ``n_named``; ``n_hydrogen``, of which ``n_hydrogen_found`` have a hydrogen atom of the model within 0.3 Å; and
    the sizes of the model. Where several elements share a site, each of them is right.
    """

    n_atoms: int
    n_found: int
    n_named: int
    n_hydrogen: int
    n_hydrogen_found: int
    n_model: int
    n_model_hydrogen: int


def score_atoms(model: Model, crystal: Crystal, truth: Truth, data: Reflections) -> AtomScores:
    """Compare a model with the true crystal in the same axes; `data` are merged in the group of the model."""
    is_hydrogen, is_atom = counted_sites(crystal)
    true = crystal.asymmetric_unit
    images = aligned_images(model, truth, data)
    far = lengths(true.xyz_frac[:, None, None] - images, model.cell).min(1)  # [true, model]
    of_hydrogen = model.sites.is_hydrogen
    far_atoms, far_hydrogen = far[is_atom][:, ~of_hydrogen], far[is_hydrogen][:, of_hydrogen]
    found = far_atoms.min(1, initial=np.inf) < _AT_ATOM
    found_hydrogen = far_hydrogen.min(1, initial=np.inf) < _AT_HYDROGEN
    return AtomScores(
        n_atoms=len(found),
        n_found=int(found.sum()),
        n_named=int(_is_named(model, crystal, far_atoms, found).sum()),
        n_hydrogen=len(found_hydrogen),
        n_hydrogen_found=int(found_hydrogen.sum()),
        n_model=far_atoms.shape[1],
        n_model_hydrogen=far_hydrogen.shape[1],
    )


def counted_sites(crystal: Crystal) -> tuple[np.ndarray, np.ndarray]:
    """Find the true sites that count, as booleans [n_sites]: hydrogen, and other elements."""
    sites = crystal.asymmetric_unit
    is_hydrogen, counts = np.array([e == "H" for e in sites.elements], bool), sites.occupancy >= _MINOR
    return is_hydrogen & counts, ~is_hydrogen & counts


def aligned_images(model: Model, truth: Truth, data: Reflections) -> np.ndarray:
    """Return all images [n_operations, n_sites, 3] of a model's atoms, at the origin and in the hand of the truth."""
    sites, group = model.sites, data.group
    F = torch.as_tensor(SiteFactors(data.hkl, data.cell, group, sites.elements, None).F(sites))[None]
    true = torch.as_tensor(truth.F[rows_of(data.hkl, truth.hkl)])
    weight = torch.as_tensor(group.multiplicity(data.hkl)) * F.abs() * true.abs()
    _, shift, is_other_hand = align_list(F, true, torch.as_tensor(data.hkl), group.origins, weight)
    images = np.einsum("oij,nj->oni", group.rotations, sites.xyz_frac) + group.translations[:, None]
    return (-images if is_other_hand[0] else images) + shift[0].numpy()


def _is_named(model: Model, crystal: Crystal, far: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Find the true atoms [n] whose nearest atom of the model has their element, or one that shares their site."""
    true, sites = crystal.asymmetric_unit, model.sites
    if not far.size:
        return np.zeros(len(far), bool)
    named = np.array(sites.elements)[~sites.is_hydrogen][far.argmin(1)]
    shares_site = lengths(true.xyz_frac[counted_sites(crystal)[1], None] - true.xyz_frac, model.cell) < _AT_ATOM
    return found & (shares_site & (np.array(true.elements) == named[:, None])).any(1)
