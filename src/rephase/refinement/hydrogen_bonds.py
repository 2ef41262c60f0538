"""Hydrogen bonds of a model, as CIF lists them: donor, hydrogen atom, acceptor, distances and angle."""

from typing import NamedTuple

import gemmi
import numpy as np

from rephase.crystal.cell import Cell
from rephase.crystal.symmetry import Symmetry
from rephase.refinement.contacts import find_contacts
from rephase.refinement.hydrogen_evidence import are_acceptors
from rephase.refinement.sites import Sites

_FURTHER = {"Cl": 0.4, "Br": 0.5, "S": 0.5, "I": 0.7}  # Å beyond the radius of O, N and F
_LONGEST, _LEAST_ANGLE = 2.55, 110.0  # H...A in Å for O, N and F; D-H...A in degrees
_DONORS = frozenset(("N", "O"))


class HydrogenBonds(NamedTuple):
    """Hydrogen bonds D-H...A of m rows.

    ``donor``, ``hydrogen``, ``acceptor`` [m] are indices of atoms; the acceptor lies at ``rotation @ xyz + shift``
    ([m, 3, 3], [m, 3]); ``donor_hydrogen``, ``hydrogen_acceptor``, ``donor_acceptor`` [m] in Å, ``angle`` [m] at the
    hydrogen atom in degrees; ``code`` [m], the operation of the acceptor as CIF writes it (``3_655``; "." for none).
    """

    donor: np.ndarray
    hydrogen: np.ndarray
    acceptor: np.ndarray
    rotation: np.ndarray
    shift: np.ndarray
    donor_hydrogen: np.ndarray
    hydrogen_acceptor: np.ndarray
    donor_acceptor: np.ndarray
    angle: np.ndarray
    code: tuple[str, ...]


def find_hydrogen_bonds(sites: Sites, cell: Cell, symmetry: Symmetry) -> HydrogenBonds:
    """Find the hydrogen bonds of hydrogen atoms that ride on N or O.

    H...A is shorter than 2.55 Å for O, N and F (up to 0.7 Å more for heavier acceptors), and the angle is over 110°.
    Atoms of different disorder parts form none; for acceptors see `are_acceptors`.
    """
    contacts = find_contacts(sites.xyz_frac, cell, symmetry, _LONGEST + max(_FURTHER.values()))
    elements = np.array(sites.elements, dtype=object)
    longest = _LONGEST + np.array([_FURTHER.get(element, 0.0) for element in sites.elements])
    accepts = are_acceptors(sites, cell, symmetry)
    donates = np.append(np.isin(elements, list(_DONORS)), False)
    part, other = sites.part[contacts.first], sites.part[contacts.second]
    fits = sites.is_hydrogen[contacts.first] & accepts[contacts.second] & donates[sites.parent[contacts.first]]
    fits &= (contacts.distance < longest[contacts.second]) & ((part == other) | (part == 0) | (other == 0))
    contacts = contacts.take(fits)
    donor = sites.parent[contacts.first]
    place = np.einsum("mij,mj->mi", contacts.rotation, sites.xyz_frac[contacts.second]) + contacts.shift
    to_donor = (sites.xyz_frac[donor] - sites.xyz_frac[contacts.first]) @ cell.orthogonalisation.T
    to_acceptor = (place - sites.xyz_frac[contacts.first]) @ cell.orthogonalisation.T
    short = np.linalg.norm(to_donor, axis=1)
    cosine = (to_donor * to_acceptor).sum(1) / np.maximum(short * contacts.distance, 1e-12)
    angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    keep = angle > _LEAST_ANGLE
    found = contacts.take(keep)
    return HydrogenBonds(
        donor=donor[keep],
        hydrogen=found.first,
        acceptor=found.second,
        rotation=found.rotation,
        shift=found.shift,
        donor_hydrogen=short[keep],
        hydrogen_acceptor=found.distance,
        donor_acceptor=np.linalg.norm(to_acceptor - to_donor, axis=1)[keep],
        angle=angle[keep],
        code=symmetry_codes(found.rotation, found.shift, symmetry),
    )


def symmetry_codes(rotation: np.ndarray, shift: np.ndarray, symmetry: Symmetry) -> tuple[str, ...]:
    """Return the codes of operations [m, 3, 3] and [m, 3] as CIF writes them; "." for the identity.

    ``3_655`` is the third operation of the group followed by the translation (1, 0, 0).
    """
    same = (rotation[:, None] == symmetry.rotations).all((2, 3))
    left = shift[:, None] - symmetry.translations
    number = (same & (np.abs(left - np.rint(left)) < 1e-3).all(-1)).argmax(1)
    whole = np.rint(left[np.arange(len(shift)), number]).astype(int) + 5
    codes = [f"{n + 1}_{a}{b}{c}" for n, (a, b, c) in zip(number.tolist(), whole.tolist())]
    identity = symmetry.triplets.index("x,y,z") + 1
    return tuple("." if code == f"{identity}_555" else code for code in codes)


def operation_text(rotation: np.ndarray, shift: np.ndarray) -> str:
    """Write an operation [3, 3] and [3] as text, whole cells included.

    >>> operation_text(np.diag([-1, 1, -1]), np.array([1.0, 0.5, -0.5]))
    '-x+1,y+1/2,-z-1/2'
    """
    operation = gemmi.Op()
    operation.rot = (np.rint(rotation).astype(int) * gemmi.Op.DEN).tolist()
    operation.tran = np.rint(shift * gemmi.Op.DEN).astype(int).tolist()
    return operation.triplet()
