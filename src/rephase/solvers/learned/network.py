"""A recurrent network in both spaces of a crystal that is equivariant by construction.

Each step imposes the amplitudes on the current phases, transforms to maps of E and |F|, passes them with a hidden state
through layers of radial filters and pointwise networks, and transforms back. A radial filter depends only on |s|: it
commutes with rotations, shifts and inversion, so the same weights serve any cell, grid and space group.
"""

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple, cast

import torch
from torch import nn

from rephase.crystal.phases import unit_phasor
from rephase.errors import ConfigError
from rephase.solvers.learned.spheres import Measured, Spheres
from rephase.solvers.problem import LARGEST_E

_S_MAX = 1.0  # end of the radial functions in Å^-1; finer components all have the last value
_N_INPUTS = 6
_AXES = (-3, -2, -1)


class State(NamedTuple):
    """Between two steps: ``phasors`` [n, h, k, l] on half grids, and the ``hidden`` maps [n, channel, x, y, z].

    The length of a phasor, at most 1 for a measured reflection, is the confidence in its phase. Of an unmeasured one it
    is the amplitude relative to the expected one, at most 3.5.
    """

    phasors: torch.Tensor
    hidden: torch.Tensor


class Channels(nn.Linear):
    """The same linear map of the channels at every point of maps [n, channel, x, y, z]."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return maps with the new number of channels."""
        weight = self.weight.expand(len(input), -1, -1)
        return torch.baddbmm(self.bias[:, None], weight, input.flatten(2)).unflatten(2, input.shape[2:])


class RadialFilter(nn.Module):
    """A learned function of |s| for each channel: a sum of raised cosines at equal distances.

    Parameters
    ----------
    n_channels, n_basis
        Number of functions, and of raised cosines in each.
    """

    def __init__(self, n_channels: int, n_basis: int):
        super().__init__()
        self.coefficients = nn.Parameter(torch.randn(n_channels, n_basis) * (1.5 / math.sqrt(n_basis)))

    def forward(self, spheres: Spheres) -> torch.Tensor:
        """Return the functions on half grids, [n, channel, h, k, l]."""
        n_basis = self.coefficients.shape[1]
        places = (spheres.s / _S_MAX).clamp(max=1) * (n_basis - 1)
        distance = places[..., None] - torch.arange(n_basis, device=places.device)
        basis = 0.5 + 0.5 * torch.cos(math.pi * distance.clamp(-1, 1))
        return torch.einsum("cb,nhklb->nchkl", self.coefficients, basis)


class Layer(nn.Module):
    """A radial filter and a pointwise network, added to the input.

    A radial filter sees no direction. With `n_gradients`, the first so many channels also enter through the gradients
    of further filtered maps: their squares and the scalar products of neighbours, which do not depend on the axes.

    Parameters
    ----------
    width
        Number of channels, a multiple of 4.
    n_basis
        As in `RadialFilter`.
    n_gradients
        Number of gradients, even.
    """

    def __init__(self, width: int, n_basis: int, n_gradients: int = 0):
        super().__init__()
        n_products = n_gradients + n_gradients // 2
        self.width, self.n_gradients = width, n_gradients
        self.filter = RadialFilter(width + n_gradients, n_basis)
        self.norm = nn.GroupNorm(4, width)
        self.norm_of_products = nn.GroupNorm(1, n_products) if n_gradients else nn.Identity()
        self.up, self.down = Channels(width + n_products, 2 * width), Channels(2 * width, width)
        with torch.no_grad():
            self.down.weight *= 0.5

    def forward(self, maps: torch.Tensor, filters: torch.Tensor, spheres: Spheres) -> torch.Tensor:
        """Return maps [n, channel, x, y, z] of the same kind; `filters` are those of the layer for these spheres."""
        spectra = torch.fft.rfftn(maps, dim=_AXES)
        filtered = self.norm(torch.fft.irfftn(spectra * filters[:, : self.width], s=spheres.shape, dim=_AXES))
        if self.n_gradients:
            products = _products(spectra[:, : self.n_gradients] * filters[:, self.width :], spheres)
            filtered = torch.cat([filtered, self.norm_of_products(products)], dim=1)
        added: torch.Tensor = self.down(nn.functional.gelu(self.up(filtered)))
        return maps + added


def _products(spectra: torch.Tensor, spheres: Spheres) -> torch.Tensor:
    """Return the squares of the gradients of maps, and the products of neighbouring ones, [n, product, x, y, z]."""
    along = spectra[:, :, None] * (2j * math.pi * spheres.s_vector[:, None])
    gradients = torch.fft.irfftn(along, s=spheres.shape, dim=_AXES)
    squares = gradients.square().sum(2)
    return torch.cat([squares, (gradients[:, 0::2] * gradients[:, 1::2]).sum(2)], dim=1)


class RecurrentNetwork(nn.Module):
    """Phases from amplitudes in repeated steps with the same weights.

    The network commutes exactly with shifts by a point of the grid, inversion, and operations that map the grid onto
    itself. If the start and the amplitudes obey a space group, the answer does too. Other shifts and finer grids change
    the answer by what the pointwise networks alias: on a grid with 1.5 times as many points as the sphere needs, by
    about 0.001 in one step with random weights, and by 0.03 with gradients (root mean square, phasors of length 0.7).

    Parameters
    ----------
    shape, loss
        Not used: one network serves every grid, and it has one loss.
    width
        Number of channels, a multiple of 4.
    n_layers
        Layers in each step.
    n_basis, n_gradients
        As in `Layer`.
    """

    def __init__(
        self,
        shape: tuple[int, ...] = (),
        *,
        loss: str = "phasor_misfit",
        width: int = 24,
        n_layers: int = 2,
        n_basis: int = 16,
        n_gradients: int = 0,
    ):
        super().__init__()
        if width % 4 or n_gradients % 2 or n_gradients > width:
            raise ConfigError(
                f"width = {width}, n_gradients = {n_gradients}: expected a multiple of 4, and an even number up to it"
            )
        self.width, self.n_gradients = width, n_gradients
        self.enter = Channels(_N_INPUTS + width, width)
        self.layers = nn.ModuleList(Layer(width, n_basis, n_gradients) for _ in range(n_layers))
        self.gate = Channels(2 * width, width)
        self.leave = Channels(width, 1)
        self.passed = nn.Parameter(torch.tensor([0.3, 0.3]))  # of the maps of E and |F| straight to the output
        self.gain = nn.Parameter(torch.tensor(1.5))

    def filters(self, spheres: Spheres) -> list[torch.Tensor]:
        """Return the filters of each layer for some spheres: they are the same in all steps."""
        return [layer.filter(spheres) for layer in self._layers]

    def start(self, data: Measured, phasors: torch.Tensor) -> State:
        """Return the state before the first step; its phasors have length 1 inside the spheres."""
        return State(
            unit_phasor(phasors) * data.spheres.inside,
            phasors.real.new_zeros(len(phasors), self.width, *data.spheres.shape),
        )

    def step(self, data: Measured, state: State, filters: list[torch.Tensor]) -> State:
        """Take one step; `filters` are those for the spheres of the data."""
        spheres, (phasors, hidden) = data.spheres, state
        e, f = spheres.to_maps(data.E * phasors), spheres.to_maps(data.amplitude * phasors)
        resolution = (spheres.d_min - 1.7)[:, None, None, None].expand_as(e)
        seen = [e, f, (e.square() - 1) / 2, (f - 1).relu(), (e - 2).relu(), resolution]
        maps: torch.Tensor = self.enter(torch.cat([torch.stack(seen, dim=1), hidden], dim=1))
        for layer, of_layer in zip(self._layers, filters):
            maps = layer(maps, of_layer, spheres)
        kept = torch.sigmoid(self.gate(torch.cat([maps, hidden], dim=1)))
        hidden = kept * hidden + (1 - kept) * maps
        density = self.leave(hidden)[:, 0] + self.passed[0] * e + self.passed[1] * f
        found = spheres.from_maps(density) * (data.E + data.amplitude).clamp(min=0.1) * self.gain
        return State(_limited(found, data.is_measured), hidden)

    def forward(self, data: Measured, phasors: torch.Tensor, n_steps: int) -> torch.Tensor:
        """Return the phasors [n, h, k, l] after some steps from given phases."""
        return next(itertools.islice(self.states(data, phasors), n_steps, None)).phasors

    def states(self, data: Measured, phasors: torch.Tensor) -> Iterator[State]:
        """Yield the state before the first step from given phases, and that after each step, without end."""
        filters, state = self.filters(data.spheres), self.start(data, phasors)
        while True:
            yield state
            state = self.step(data, state, filters)

    @property
    def _layers(self) -> list[Layer]:
        return cast(list[Layer], list(self.layers))


def _limited(found: torch.Tensor, is_measured: torch.Tensor) -> torch.Tensor:
    """Shorten phasors smoothly to at most 1, or to the largest amplitude of an unmeasured reflection."""
    largest = torch.where(is_measured, 1.0, LARGEST_E).to(found.real)
    square = found.real.square() + found.imag.square()
    return found / (1 + square / largest.square()).sqrt()
