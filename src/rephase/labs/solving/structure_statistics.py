"""Statistics that show whether a structure is realistic: volume per atom, contacts, intensity statistics."""

from collections.abc import Sequence
from typing import NamedTuple

import gemmi
import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from rephase.crystal.scattering import form_factor_coefficients
from rephase.crystal.structure_factors import structure_factors
from rephase.crystal.structures import Crystal
from rephase.crystal.symmetry import find_symmetry
from rephase.random_crystals.fragments import VDW_RADII

_BOND_SLACK = 0.3  # Å beyond the sum of the covalent radii


_FARTHEST = 4.0  # Å: longer contacts are not searched


class Contacts(NamedTuple):
    """Shortest distances in Å between atoms of different molecules; NaN if there is none below 4 Å.

    ``heavy`` is between non-hydrogen atoms, ``hydrogen`` involves at least one hydrogen atom, ``gap`` is the distance
    minus the sum of the van der Waals radii.
    """

    heavy: float
    hydrogen: float
    gap: float


def volume_per_atom(crystal: Crystal) -> float:
    """Compute the cell volume in Å^3 per non-hydrogen atom."""
    is_heavy = np.array(crystal.atoms.elements) != "H"
    return crystal.cell.volume / float(crystal.atoms.occupancy[is_heavy].sum())


def nearest_contacts(crystal: Crystal) -> Contacts:
    """Find the shortest contacts between molecules, identified by their bonds in a block of 3x3x3 cells."""
    elements = [gemmi.Element(element) for element in crystal.atoms.elements]
    steps = np.indices((3, 3, 3)).reshape(3, -1).T - 1
    xyz = (crystal.atoms.xyz_frac + steps[:, None]).reshape(-1, 3) @ crystal.cell.orthogonalisation.T
    covalent = np.tile([element.covalent_r for element in elements], 27)
    radii = np.tile([VDW_RADII.get(element.atomic_number, element.vdw_r) for element in elements], 27)
    is_heavy = np.tile(np.array(crystal.atoms.elements) != "H", 27)
    i, j = cKDTree(xyz).query_pairs(_FARTHEST, output_type="ndarray").T
    distance = np.linalg.norm(xyz[i] - xyz[j], axis=1)
    bonded = (distance < covalent[i] + covalent[j] + _BOND_SLACK) & (is_heavy[i] | is_heavy[j])
    links = coo_matrix((np.ones(bonded.sum()), (i[bonded], j[bonded])), shape=(len(xyz), len(xyz)))
    molecule = connected_components(links, directed=False)[1]
    middle = slice(13 * len(elements), 14 * len(elements))  # the steps are in order: (0, 0, 0) is the 14th
    is_middle = np.zeros(len(xyz), bool)
    is_middle[middle] = True
    apart = (molecule[i] != molecule[j]) & (is_middle[i] | is_middle[j])
    both = is_heavy[i] & is_heavy[j]
    return Contacts(
        _shortest(distance[apart & both]),
        _shortest(distance[apart & ~both]),
        _shortest((distance - radii[i] - radii[j])[apart]),
    )


def _shortest(distance: np.ndarray) -> float:
    return float(distance.min()) if len(distance) else np.nan


class Intensities(NamedTuple):
    """Unique reflections, [n]: 1/d^2 (Å^-2), |E|, whether centric, and ln(<|F|^2/ε> / sum f^2) of the shell."""

    inverse_d_squared: np.ndarray
    E: np.ndarray
    is_centric: np.ndarray
    wilson: np.ndarray


def intensities(crystal: Crystal, d_min: float, *, n_shells: int = 8) -> Intensities:
    """Normalise the amplitudes to d_min in shells of equal population: <|E|^2> = 1 in each (Wilson 1949).

    The sum of f^2 is over atoms at rest, so the logarithm is linear in 1/d^2 with slope -B/2.
    """
    symmetry, cell = find_symmetry(crystal.space_group), crystal.cell
    reach = (np.linalg.norm(cell.orthogonalisation, axis=0) / d_min).astype(int)
    box = np.stack(np.meshgrid(*(np.arange(-m, m + 1) for m in reach), indexing="ij"), -1).reshape(-1, 3)
    box = box[(cell.d_spacing(box) >= d_min) & box.any(1)]
    hkl = np.unique(symmetry.representative(box), axis=0)
    hkl = hkl[~symmetry.is_absent(hkl)]
    hkl = hkl[np.argsort(-cell.d_spacing(hkl), kind="stable")]
    inverse_d_squared = cell.d_spacing(hkl) ** -2.0
    intensity = np.abs(structure_factors(crystal, hkl)) ** 2 / symmetry.epsilon(hkl)
    shell = np.arange(len(hkl)) * n_shells // len(hkl)
    mean = np.bincount(shell, intensity) / np.bincount(shell)
    f_squared = _sum_of_squares(crystal, inverse_d_squared / 4)
    at_rest = np.bincount(shell, f_squared) / np.bincount(shell)
    wilson = np.log(mean / at_rest)[shell]
    return Intensities(inverse_d_squared, np.sqrt(intensity / mean[shell]), symmetry.is_centric(hkl), wilson)


def _sum_of_squares(crystal: Crystal, s_squared: np.ndarray) -> np.ndarray:
    elements = sorted(set(crystal.atoms.elements))
    table = form_factor_coefficients(elements)
    f = np.einsum("ek,ekr->er", table[:, 0:8:2], np.exp(-table[:, 1:8:2, None] * s_squared)) + table[:, 8:]
    counts = np.array([sum(crystal.atoms.occupancy[np.array(crystal.atoms.elements) == e]) for e in elements])
    return counts @ f**2


def compare_structures(sources: dict[str, Sequence[Crystal]], *, d_min: float = 1.5) -> dict[str, pd.DataFrame]:
    """Describe sets of crystals, such as random and real ones, for a figure that compares them.

    Returns
    -------
    dict
        ``crystals``: a row per crystal with volume per non-hydrogen atom (Å³), shortest contacts (Å) and ⟨||E|² − 1|⟩;
        ``amplitudes``: |E| of every reflection; ``shells``: 1/d² (Å⁻²) and ln(⟨|F|²⟩/Σf²) of every shell.
    """
    crystals, amplitudes, shells = [], [], []
    for source, members in sources.items():
        for number, crystal in enumerate(members):
            measured = intensities(crystal, d_min)
            key = {"source": source, "crystal": number, "name": crystal.name}
            is_centrosymmetric = find_symmetry(crystal.space_group).is_centrosymmetric
            crystals.append(
                {
                    **key,
                    "space_group": crystal.space_group,
                    "is_centrosymmetric": is_centrosymmetric,
                    "volume_per_atom": volume_per_atom(crystal),
                    **nearest_contacts(crystal)._asdict(),
                    "mean_abs_E2_minus_1": np.abs(measured.E**2 - 1).mean(),
                }
            )
            amplitudes.append(pd.DataFrame({**key, "is_centric": measured.is_centric, "E": measured.E}))
            by_shell = pd.DataFrame({"inverse_d_squared": measured.inverse_d_squared, "wilson": measured.wilson})
            shells.append(by_shell.groupby("wilson", sort=False, as_index=False).mean().assign(**key))
    return {
        "crystals": pd.DataFrame(crystals),
        "amplitudes": pd.concat(amplitudes, ignore_index=True),
        "shells": pd.concat(shells, ignore_index=True),
    }
