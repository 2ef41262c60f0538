"""Phases on a monoclinic grid: symmetry equivalents, phases of centric reflections, allowed origins."""

import math

import numpy as np
import torch
import torch.nn.functional as nn_functional

from rephase.crystal.phases import align_list, friedel_mate
from rephase.crystal.symmetry import Origins, Symmetry
from rephase.labs.completion.grids import MonoclinicGrid

_N_OPERATIONS = 4
_HALVES = np.indices((2, 2, 2)).reshape(3, -1).T / 2
_NO_AXES, _Y = np.zeros((0, 3), int), np.array([[0, 1, 0]])
_X_AND_Z = np.array([[1, 0, 0], [0, 0, 1]])
_ORIGINS = {  # keys: whether the point group has a twofold axis, a mirror; International Tables A, 3.5
    (True, True): Origins(_HALVES, _NO_AXES, np.zeros(3)),
    (True, False): Origins(_HALVES[_HALVES[:, 1] == 0], _Y, np.zeros(3)),
    (False, True): Origins(_HALVES[(_HALVES[:, [0, 2]] == 0).all(1)], _X_AND_Z, np.zeros(3)),
}


def monoclinic_operations(symmetry: Symmetry) -> np.ndarray:
    """Operations without centring of a monoclinic group with b unique, [4, 2, 3]: signs of x, y, z, and a translation.

    The two operations of the point groups 2 and m are repeated.
    """
    kept = np.resize(symmetry.point_group, _N_OPERATIONS)
    signs = np.diagonal(symmetry.rotations[kept], axis1=1, axis2=2)
    return np.stack([signs, symmetry.translations[kept]], axis=1)


def symmetrise(F: torch.Tensor, operations: torch.Tensor, grid: MonoclinicGrid) -> torch.Tensor:
    """Average F over the equivalents on the grid, each with the phase shift of its operation.

    An F that obeys the group is unchanged; centric reflections keep their component along the allowed phases.

    Parameters
    ----------
    F
        Structure factors, complex [batch, h, k, l].
    operations
        Operations from `monoclinic_operations`, [batch, 4, 2, 3].
    grid
        Grid of F.
    """
    n_h, n_k, n_l = grid.shape
    hkl = torch.as_tensor(grid.hkl.reshape(-1, 3), device=F.device)
    flat = F.flatten(1)
    total, count = torch.zeros_like(flat), torch.zeros_like(flat.real)
    for signs, translation in (operation.unbind(1) for operation in operations.unbind(1)):
        angle = 2 * math.pi * (hkl * translation[:, None]).sum(-1).to(F.real.dtype)  # F(h) = F(hR) exp(2 pi i h.t)
        for mate in (1, -1):
            image = mate * hkl * signs.long()[:, None]
            is_there = (image[..., 1:] >= 0).all(-1)
            place = (((image[..., 0] % n_h) * n_k + image[..., 1]) * n_l + image[..., 2]) * is_there
            value = flat.gather(1, place)
            value = value.conj() if mate == -1 else value
            total = total + value * torch.polar(is_there.to(F.real.dtype), angle)
            count = count + is_there.to(F.real.dtype)
    return (total / count).reshape(F.shape)


def whole_sphere(F: torch.Tensor, operations: torch.Tensor, grid: MonoclinicGrid) -> torch.Tensor:
    """Expand F [batch, h, k, l] that obeys the group to the sphere, complex [batch, 2h+1, 2k+1, 2l+1] in FFT order.

    `operations` and `grid` are as in `symmetrise`. F(h, -k, l) follows from the mirror, or from the twofold axis and
    Friedel's law; l < 0 from Friedel's law.
    """
    is_twofold, is_mirror = _point_group(operations)
    chosen = torch.where(is_twofold.any(1, keepdim=True), is_twofold, is_mirror).to(torch.uint8).argmax(1)
    translation = operations[torch.arange(len(F)), chosen, 1]
    hkl = torch.as_tensor(grid.hkl.reshape(-1, 3), device=F.device).to(translation)
    angle = (2 * math.pi * translation @ hkl.T).reshape(F.shape).to(F.real.dtype)
    turned = F * torch.polar(torch.ones_like(angle), -angle)  # F(hR) = F(h) exp(-2 pi i h.t)
    turned = torch.where(is_twofold.any(1)[:, None, None, None], turned.conj(), turned)
    top = grid.largest[0]
    rows = torch.cat([F, turned[..., 1:, :].flip(-2)], dim=-2)
    rows = torch.cat([rows[:, : top + 1], rows[:, -top:]], dim=1)
    rows = torch.cat([rows[..., :1] / 2, rows[..., 1:]], dim=-1)  # l = 0 has its Friedel mates already
    half = nn_functional.pad(rows, (0, grid.largest[2]))
    return half + friedel_mate(half).conj()


def align_monoclinic(
    F: torch.Tensor, F_reference: torch.Tensor, operations: torch.Tensor, grid: MonoclinicGrid, weight: torch.Tensor
) -> torch.Tensor:
    """Move F to the allowed origin and enantiomorph in which its phases agree best with a reference.

    Parameters
    ----------
    F, F_reference
        Structure factors that obey the group, complex [batch, h, k, l].
    operations, grid
        As in `symmetrise`.
    weight
        Weights as in `rephase.crystal.phases.align_list`, real [batch, h, k, l].
    """
    hkl = torch.as_tensor(grid.hkl.reshape(-1, 3), device=F.device)
    (twofold, mirror), out = (is_kind.any(1) for is_kind in _point_group(operations)), torch.empty_like(F)
    for (has_twofold, has_mirror), origins in _ORIGINS.items():
        of = (twofold == has_twofold) & (mirror == has_mirror)
        if of.any():
            moved, fixed, counted = (field[of].flatten(1) for field in (F, F_reference, weight))
            both_hands = not (has_twofold and has_mirror)  # with an inversion centre both hands are the same
            aligned = align_list(moved, fixed, hkl, origins, counted, both_hands=both_hands)
            out[of] = aligned.F.reshape(-1, *grid.shape)
    return out


def _point_group(operations: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Find which operations [batch, 4, 2, 3] are twofold axes and which are mirrors, [batch, 4] each."""
    signs = operations[:, :, 0]
    twofold, mirror = ((signs == signs.new_tensor(each)).all(-1) for each in ((-1, 1, -1), (1, -1, 1)))
    return twofold, mirror
