"""How well the bonds of an atom suit each element: number of neighbours and mean length of the bonds."""

from collections.abc import Sequence

import gemmi
import numpy as np
import scipy

from rephase.refinement.atoms.restraints import Pairs

# Mean bond length less the covalent radius of the neighbours in Å, for each kind of atom with 0 to 4 neighbours that
# are not hydrogen, and the share of the kind among the atoms of the element: after Allen et al. (1987), J. Chem. Soc.
# Perkin Trans. 2, S1-S19, doi:10.1039/p298700000s1. The spread is that of conjugation and of thermal shortening.
_KINDS: dict[str, list[tuple[int, float, float]]] = {
    "C": [(1, 0.75, 0.12), (1, 0.56, 0.01), (2, 0.63, 0.35), (2, 0.76, 0.13), (2, 0.54, 0.02), (3, 0.64, 0.25),
          (3, 0.70, 0.06), (3, 0.77, 0.04), (4, 0.78, 0.03), (0, 0.7, 1e-4)],
    "N": [(1, 0.38, 0.15), (1, 0.58, 0.08), (1, 0.72, 0.04), (2, 0.58, 0.30), (2, 0.70, 0.04), (3, 0.64, 0.30),
          (3, 0.70, 0.08), (3, 0.56, 0.06), (4, 0.75, 0.03), (0, 0.7, 0.01)],
    "O": [(1, 0.46, 0.44), (1, 0.51, 0.10), (1, 0.62, 0.12), (2, 0.63, 0.25), (0, 0.7, 0.06),
          (3, 0.75, 0.01)],
    "F": [(1, 0.58, 0.80), (1, 0.52, 0.19), (0, 0.6, 0.01)],
    "Cl": [(1, 0.98, 0.70), (1, 1.03, 0.05), (0, 1.0, 0.20), (4, 0.76, 0.05)],
    "Br": [(1, 1.14, 0.80), (0, 1.1, 0.20)],
    "I": [(1, 1.34, 0.80), (0, 1.3, 0.20)],
    "S": [(1, 0.92, 0.10), (1, 0.97, 0.10), (2, 0.97, 0.40), (2, 1.05, 0.20), (3, 0.95, 0.05),
          (4, 0.78, 0.10), (4, 0.90, 0.15)],
    "P": [(4, 0.90, 0.50), (3, 1.08, 0.30), (4, 1.05, 0.20)],
    "Si": [(4, 1.10, 0.60), (4, 0.98, 0.40)],
    "B": [(3, 0.75, 0.40), (4, 0.80, 0.40)],
}  # fmt: skip
_SPREAD = 0.05  # Å
_RANGE = 1.0  # Å, over which the lengths of an element without a table are spread evenly
_UNUSUAL = 1e-3  # share of atoms that are like none of the table
_CARBON = 0.76  # Å, the radius of sp3 carbon; gemmi has that of sp2
_LARGE, _SHORTENING = 0.95, 0.08  # Å; multiple bonds to Si, P, S and Cl are shorter by this
_TOLERANCE = 0.3  # Å above the sum of covalent radii
REACH = 3.4  # Å; bonds are shorter, apart from those between heavy metals


def geometry_scores(contacts: Pairs, candidates: Sequence[str], chosen: np.ndarray) -> np.ndarray:
    """Return the log likelihood [n, n_candidates] of the bonds of each atom for each element.

    Parameters
    ----------
    contacts
        Contacts of the atoms within `REACH`, as `find_contacts` lists them.
    candidates
        Elements.
    chosen
        [n], the present element of each atom as an index of `candidates`; those of the neighbours matter.
    """
    entries = [gemmi.Element(element) for element in candidates]
    radii = np.array([_CARBON if entry.name == "C" else entry.covalent_r for entry in entries])[chosen]
    is_metal = np.array([entry.is_metal for entry in entries])[chosen]
    is_bond = contacts.distance < radii[contacts.first] + radii[contacts.second] + _TOLERANCE
    contacts = contacts.take(is_bond & ~is_metal[contacts.second])
    n = len(chosen)
    count = np.bincount(contacts.first, minlength=n)
    shortened = radii - np.where(radii > _LARGE, _SHORTENING, 0.0)
    rest = np.bincount(contacts.first, contacts.distance - shortened[contacts.second], minlength=n)
    mean = rest / np.maximum(count, 1)
    return np.stack([_score(element, count, mean) for element in candidates], axis=1)


def _score(element: str, count: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return the log density [n] of the bonds if all atoms were of one element."""
    even = np.full(len(count), -np.log(_RANGE))
    if element not in _KINDS:
        return even - np.log(5)  # any number of neighbours
    n_bonds, length, share = (np.array(column)[:, None] for column in zip(*_KINDS[element]))
    spread = np.where(count == 0, 0, -0.5 * ((mean - length) / _SPREAD) ** 2 - np.log(_SPREAD * np.sqrt(2 * np.pi)))
    terms = np.where(n_bonds == count, np.log(share) + spread, -np.inf)
    return scipy.special.logsumexp(np.concatenate([terms, np.log(_UNUSUAL) + even[None]]), axis=0)


def mean_geometry(contacts: Pairs, elements: Sequence[str]) -> float:
    """Return the mean log likelihood of the bonds of the atoms whose element is in the table; NaN if there are none."""
    candidates = sorted(set(elements))
    chosen = np.array([candidates.index(element) for element in elements], int)
    scores = geometry_scores(contacts, candidates, chosen)[np.arange(len(chosen)), chosen]
    known = np.isin(elements, list(_KINDS))
    return float(scores[known].mean()) if known.any() else float("nan")
