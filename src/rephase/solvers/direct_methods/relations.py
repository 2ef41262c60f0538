"""Classes of equivalent reflections, and the triplet relations between the phases of the strongest E."""

from functools import partial

import numpy as np
import torch

from rephase.crystal.phases import unit_phasor
from rephase.crystal.symmetry import Symmetry, key_of, rows_of

_PAIRS_AT_ONCE = 1 << 21  # pairs of reflections that are looked up together


class Classes:
    """The classes of equivalents of a hemisphere list [n_refl, 3], Friedel mates included.

    ``first`` [n_classes] are the rows of one reflection of each class, which stands for it; ``member`` [n_refl] is the
    class of each reflection.
    """

    def __init__(self, hkl: np.ndarray, symmetry: Symmetry, device: torch.device):
        _, first, member = np.unique(key_of(symmetry.representative(hkl)), return_index=True, return_inverse=True)
        one = hkl[first]
        everything, turn = symmetry.expand(one, np.ones(len(one), complex))
        quarter = symmetry.expand(one, np.full(len(one), 1j))[1] / turn  # -i for those that come from the mate
        row = rows_of(hkl, everything)
        as_tensor = partial(torch.as_tensor, device=device)
        self.first, self.member = first, as_tensor(member)
        self._turn = as_tensor(turn[row].astype(np.complex64))
        self._is_mate = as_tensor(quarter[row].imag < 0)
        phase = symmetry.centric_phase(one)
        self._is_centric = as_tensor(np.isfinite(phase))
        self._centric = as_tensor(np.exp(1j * np.nan_to_num(phase)).astype(np.complex64))

    def spread(self, values: torch.Tensor) -> torch.Tensor:
        """Return the lists [..., n_refl] of all equivalents from values [..., n_classes]."""
        listed = values[..., self.member]
        return torch.where(self._is_mate, listed.conj(), listed) * self._turn

    def allowed(self, values: torch.Tensor) -> torch.Tensor:
        """Project values [..., n_classes] on the two phases that the group allows, where it allows only two."""
        return torch.where(self._is_centric, (values * self._centric.conj()).real * self._centric, values)


class Triplets:
    """The strongest relations ``phi(h) = phi(k) + phi(h - k)`` between the classes of strong E.

    Parameters
    ----------
    hkl
        Hemisphere list [n_refl, 3].
    E
        [n_refl] on `device`.
    classes
        Its classes.
    strong
        Those that take part [n_strong].
    n
        Largest number of relations kept, by the product of their three E.

    References
    ----------
    Karle & Hauptman (1956), Acta Cryst. 9, 635; Karle & Karle (1966), Acta Cryst. 21, 849.
    """

    def __init__(self, hkl: np.ndarray, E: torch.Tensor, classes: Classes, strong: np.ndarray, n: int):
        one, values = hkl[classes.first[strong]], E.cpu().numpy()
        member = classes.member.cpu().numpy()
        used = np.flatnonzero(np.isin(member, strong))
        sphere, rows = np.concatenate([hkl[used], -hkl[used]]), np.concatenate([used, used + len(hkl)])
        both = np.concatenate([values, values])
        found = []
        for part in np.array_split(np.arange(len(one)), max(1, len(one) * len(sphere) // _PAIRS_AT_ONCE)):
            other = rows_of(one[part, None] - sphere, sphere)
            target, k = np.nonzero(other > np.arange(len(sphere)))  # each pair once
            found.append((part[target], rows[k], rows[other[target, k]]))
        target, k, rest = (np.concatenate(parts) for parts in zip(*found))
        product = values[classes.first[strong]][target] * both[k] * both[rest]
        kept = np.sort(np.argsort(-product, kind="stable")[:n])
        as_tensor = partial(torch.as_tensor, device=E.device)
        self._target, self._k, self._rest = (as_tensor(part[kept]) for part in (target, k, rest))
        self._weight = as_tensor(product[kept].astype(np.float32))
        self._strong, self._classes = as_tensor(strong), classes

    def __len__(self) -> int:
        return len(self._weight)

    def tangent(self, phasors: torch.Tensor) -> torch.Tensor:
        """Return the phasors [batch, n_classes] that the tangent formula gives for the strong classes; 0 elsewhere."""
        listed = self._classes.spread(phasors)
        sphere = torch.cat([listed, listed.conj()], dim=-1)
        terms = sphere[:, self._k] * sphere[:, self._rest] * self._weight
        sums = torch.zeros((len(phasors), len(self._strong)), dtype=terms.dtype, device=terms.device)
        sums.index_add_(1, self._target, terms)
        result = torch.zeros_like(phasors).index_copy_(1, self._strong, sums)
        return unit_phasor(self._classes.allowed(result))
