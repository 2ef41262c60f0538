"""A U-Net from the Patterson map to the density, both on one grid of fractional coordinates."""

import math

import torch

from rephase.labs.phasing.data import Part
from rephase.labs.phasing.losses import SHARE_OF_E
from rephase.learning.convolutions import Conv3d
from rephase.learning.layers import UNetBody
from routes.reciprocal_grid import shifts
from routes.route import Route
from routes.standard import SHAPE, place_of, quadrant, standard_axes

_N, _WIDTH = 24, 16  # points of the grid along each axis; width of the U-Net


class PattersonUNet(Route):
    """The density at one of the eight origins of P 1 21/c 1, in a single pass: there is one answer.

    The network also sees the axes, and where in the cell a point is, as it has to choose an origin.
    """

    learning_rate = 0.002

    def __init__(self) -> None:
        super().__init__()
        self.body = UNetBody(12, 1, width=_WIDTH, levels=2, block=block)

    def forward(self, part: Part) -> torch.Tensor:
        """Return the F of the density on the grid of indices, [n, *SHAPE]; its scale is between those of E and |F|."""
        data, where = part.data, quadrant(part)
        maps = [to_maps(where.fold(data.E * each * data.is_measured)) for each in (data.E, data.amplitude)]
        own = torch.stack([each / each.std((1, 2, 3), keepdim=True) for each in maps], dim=1).asinh()
        vectors = data.spheres.lattice @ standard_axes(part)
        lengths = vectors.norm(dim=1)
        slant = (vectors[:, :, 0] * vectors[:, :, 2]).sum(1) / lengths[:, 0] / lengths[:, 2]  # cosine of β
        constants = torch.cat([lengths / 10, slant[:, None]], dim=1)[:, :, None, None, None].expand(-1, -1, _N, _N, _N)
        density = self.body(torch.cat([own, constants, turns().expand(len(own), -1, -1, -1, -1)], dim=1))
        return from_maps(density[:, 0])

    def loss(self, part: Part) -> torch.Tensor:
        """Return the squared distance from the true density at the best origin, relative to its square."""
        where, data = quadrant(part), part.data
        size = (SHARE_OF_E * data.E.square() + (1 - SHARE_OF_E) * data.amplitude.square()).sqrt()
        true = where.fold(size * part.true.real * where.sign)
        found = self(part) * where.fold(data.spheres.inside.float())
        square = (found - true * shifts()[:, None]).square().sum((2, 3, 4))
        return (square.amin(0) / true.square().sum((1, 2, 3))).mean()

    def answers(self, part: Part, n_starts: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the phases of the density; its merit is not used."""
        where = quadrant(part)
        phasors = (where.unfold(self(part)) * where.sign)[None].to(torch.complex64)
        return phasors, torch.zeros(phasors.shape[:2])


def block(n_in: int, n_out: int) -> torch.nn.Module:
    """Return two convolutions with periodic boundaries."""
    layers: list[torch.nn.Module] = []
    for n in (n_in, n_out):
        layers += [Conv3d(n, n_out, 3, padding=1, padding_mode="circular"), torch.nn.GroupNorm(2, n_out)]
        layers.append(torch.nn.SiLU())
    return torch.nn.Sequential(*layers)


def turns() -> torch.Tensor:
    """Return the cosine and sine of 2 pi x of each fractional coordinate, [6, x, y, z]."""
    angle = 2 * math.pi * torch.arange(_N) / _N
    grids = torch.meshgrid(angle, angle, angle, indexing="ij")
    return torch.stack([turn(each) for each in grids for turn in (torch.cos, torch.sin)])


def places() -> tuple[torch.Tensor, torch.Tensor]:
    """Return the places on the grid of indices, and the signs there, of the half grid of the maps."""
    index = torch.fft.fftfreq(_N, 1 / _N).long()
    half = torch.arange(_N // 2 + 1)
    return place_of(torch.stack(torch.meshgrid(index, index, half, indexing="ij"), dim=-1))


def to_maps(grid: torch.Tensor) -> torch.Tensor:
    """Transform real coefficients [n, *SHAPE] with the symmetry of a Patterson map."""
    place, _ = places()
    coefficients = torch.nn.functional.pad(grid.flatten(1), (0, 1))[:, place]
    return torch.fft.irfftn(coefficients.to(torch.complex64), s=(_N,) * 3, dim=(1, 2, 3), norm="ortho")


def from_maps(maps: torch.Tensor) -> torch.Tensor:
    """Transform maps [n, x, y, z] to real coefficients [n, *SHAPE], averaged over the operations of the group."""
    place, sign = places()
    coefficients = torch.fft.rfftn(maps, dim=(1, 2, 3), norm="ortho").real * sign
    n_cells, flat = math.prod(SHAPE) + 1, place.flatten()
    sums = maps.new_zeros(len(maps), n_cells).index_add(1, flat, coefficients.flatten(1))
    counts = maps.new_zeros(n_cells).index_add(0, flat, torch.ones(len(flat)))
    return (sums / counts.clamp(min=1))[:, :-1].unflatten(1, SHAPE)
