"""Classical trials of crystals that share a grid, with the recipes of ``rephase solve --solver raar``."""

import torch

from rephase.crystal.symmetry import cell_of, find_symmetry
from rephase.labs.phasing.data import Part
from rephase.solvers import RECIPES
from rephase.solvers.problem import PhaseProblem, working_reach
from rephase.solvers.strategy import Recipe
from rephase.solvers.trials import joined
from routes.route import GROUP, Route
from routes.standard import standard_axes

N_PROPOSALS = 8  # classical trials for each answer, as in the product


class Classical(Route):
    """No network: the classical trials of smallest misfit, to compare with."""

    def answers(self, part: Part, n_starts: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the best trials of each crystal by misfit, and minus the misfit."""
        phasors, misfit = trials(part, RECIPES["raar"], n_starts * N_PROPOSALS, generator)
        return best(phasors, -misfit, n_starts)


def best(phasors: torch.Tensor, merit: torch.Tensor, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the `n` lists of largest merit of each crystal, of phasors [m, n_crystals, h, k, l]."""
    merit, rows = merit.topk(n, dim=0)
    return torch.take_along_dim(phasors, rows[:, :, None, None, None], dim=0), merit


def trials(
    part: Part, recipes: tuple[Recipe, ...], n: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run `n` trials for each crystal, in equal shares with each recipe, to the end in the group.

    Returns
    -------
    phasors, misfit
        Half grids [n, n_crystals, h, k, l], zero where no amplitude is measured, and the misfits [n, n_crystals].
    """
    hkl, found = part.data.spheres.hkl, []
    for i, problem in enumerate(problems(part)):
        each = joined([recipe.trials(problem, n // len(recipes), generator) for recipe in recipes])
        is_measured = part.data.is_measured[i]
        phi = torch.as_tensor(problem.phases_for(each.F, hkl[is_measured].numpy())).float()
        phasors = torch.zeros(len(phi), *is_measured.shape, dtype=torch.complex64)
        phasors[:, is_measured] = torch.polar(torch.ones_like(phi), -phi)  # half grids hold F*
        found.append((phasors, each.misfit))
    phasors, misfit = (torch.stack(each, dim=1) for each in zip(*found))
    return phasors, misfit


def problems(part: Part) -> list[PhaseProblem]:
    """Return the phase problem of each crystal."""
    data, made = part.data, []
    for i, axes in enumerate(standard_axes(part).numpy()):
        symmetry = find_symmetry(GROUP).in_basis(torch.linalg.inv(torch.as_tensor(axes)).numpy())
        is_measured = data.is_measured[i]
        hkl, amplitude = data.spheres.hkl[is_measured].numpy(), data.amplitude[i][is_measured].numpy()
        cell, reach = cell_of(data.spheres.lattice[i].double().numpy()), working_reach(float(data.spheres.d_min[i]))
        made.append(PhaseProblem(hkl, amplitude, cell, symmetry, reach=reach))
    return made
