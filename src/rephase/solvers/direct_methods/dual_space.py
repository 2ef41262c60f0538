"""Dual-space direct methods: phases refined by triplets in turn with a fixed number of atoms, in the group."""

import math
from functools import partial

import numpy as np
import torch

from rephase.crystal.cell import Cell
from rephase.crystal.phases import unit_phasor
from rephase.crystal.symmetry import Symmetry
from rephase.devices import at_once
from rephase.solvers.direct_methods.atoms import PointAtoms, asymmetric_unit, find_atoms
from rephase.solvers.direct_methods.relations import Classes, Triplets
from rephase.solvers.grids import HalfGrid
from rephase.solvers.symmetric_grids import symmetric_grid

# Chosen by the right ones among 64 to 256 starts of each of several generated acentric crystals to 1.0 and 1.2 Å
_STRONG, _TRIPLETS = 10, 60  # reflections per atom of the asymmetric unit, and relations per reflection
_ATOMS = 0.7  # of the expected atoms are looked for
# Of the atoms, at random: at 1.2 Å a higher share unsettles right phases, and a lower one keeps wrong ones
_OMITTED = 0.3
_COMPLETE = 5  # last cycles, in which no atom is omitted
_SPACING = 0.5  # Å between the points of a map


class DirectMethods:
    """The tables of a crystal for dual-space direct methods in its group.

    Parameters
    ----------
    hkl
        Hemisphere list [n_refl, 3] of the measured reflections in the axes of `cell`, a reduced one.
    E
        [n_refl] on the device of the computation.
    cell, symmetry
        The reduced cell, and the space group in its axes.
    n_atoms
        Non-hydrogen atoms expected in the cell.

    References
    ----------
    Weeks, DeTitta, Hauptman, Thuman & Miller (1994), Acta Cryst. A50, 210, doi:10.1107/S0108767393008992;
    Sheldrick (2008), Acta Cryst. A64, 112, doi:10.1107/S0108767307043930.
    """

    def __init__(self, hkl: np.ndarray, E: torch.Tensor, cell: Cell, symmetry: Symmetry, n_atoms: int):
        d_min = cell.d_spacing(hkl).min()
        grid = symmetric_grid(cell, symmetry, partial(_points_needed, d_min=d_min))
        hkl, cell, symmetry = hkl @ grid.basis, grid.cell, grid.symmetry
        self._classes = Classes(hkl, symmetry, E.device)
        self.n_atoms = max(1, math.ceil(_ATOMS * n_atoms / len(symmetry.point_group)))
        one, self._E_listed = hkl[self._classes.first], E
        of_classes = E[torch.as_tensor(self._classes.first, device=E.device)]
        weight = of_classes.cpu().numpy() / np.sqrt(symmetry.epsilon(one))
        strong = np.sort(np.argsort(-weight, kind="stable")[: _STRONG * self.n_atoms])
        self._strong = torch.as_tensor(strong, device=E.device)
        self._strong_E = torch.zeros_like(of_classes).index_copy_(0, self._strong, of_classes[self._strong])
        self._triplets = Triplets(hkl, E, self._classes, strong, _TRIPLETS * len(strong))
        self._grid = HalfGrid(torch.as_tensor(hkl, device=E.device), grid.shape)
        self._unit = torch.as_tensor(asymmetric_unit(grid.shape, symmetry, cell), device=E.device)
        self._F_of_strong = PointAtoms(one[strong], symmetry, E.device)
        self._F_of_all = PointAtoms(one, symmetry, E.device)

    @property
    def n_at_once(self) -> int:
        """Number of starts that are refined together."""
        device, n_waves = self._unit.device, self.n_atoms * self._F_of_all.n_images
        most = at_once("search maps", device) // self._unit.numel(), at_once("waves of atoms", device) // n_waves
        return max(1, min(most))

    def refined(self, phasors: torch.Tensor, n_cycles: int, generator: torch.Generator) -> torch.Tensor:
        """Refine phasors [batch, n_refl]; return F of the atoms found [batch, n_refl], which obey the group.

        A cycle applies the tangent formula, finds the highest peaks of the E map, omits some of these at random, and
        takes the phases of the others, each atom weighted by the square root of its height. In the last cycles none
        is omitted.
        """
        one = unit_phasor(self._classes.allowed(phasors[:, self._classes.first]))
        for cycle in range(n_cycles):
            one = self._triplets.tangent(one)
            maps = self._grid.to_map(self._classes.spread(one * self._strong_E))
            xyz_frac, height = find_atoms(maps, self._unit, self.n_atoms)
            weight = height.clamp_min(0).sqrt()
            if cycle < n_cycles - _COMPLETE:
                weight = weight * (torch.rand(weight.shape, generator=generator) > _OMITTED).to(weight.device)
            F = self._F_of_strong(xyz_frac, weight)
            phasors = torch.where(F.abs() > 0, unit_phasor(F), one[:, self._strong])  # without atoms, the old phases
            one = torch.zeros_like(one).index_copy_(1, self._strong, phasors)
        return self._classes.spread(self._F_of_all(xyz_frac, weight))

    def correlation(self, F: torch.Tensor) -> torch.Tensor:
        """Return the correlation [batch] of |F| of atoms [batch, n_refl] with the measured E."""
        moduli, E = F.abs(), self._E_listed - self._E_listed.mean()
        moduli = moduli - moduli.mean(1, keepdim=True)
        return moduli @ E / (moduli.norm(dim=1) * E.norm()).clamp_min(1e-12)


def _points_needed(lengths: np.ndarray, d_min: float) -> np.ndarray:
    """Return the fewest points along axes of such lengths (Å): all indices fit, and peaks can be told apart."""
    return np.ceil(np.maximum(2 * np.floor(lengths / d_min + 1e-6) + 2, lengths / _SPACING)).astype(int)
