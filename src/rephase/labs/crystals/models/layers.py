"""Shared by the phase models: their interface, Friedel symmetry, and the reciprocal grid as input of convolutions."""

import torch
from torch import nn

from rephase.crystal.phases import friedel_mate, grid_indices, unit_phasor
from rephase.labs.crystals.data import Batch
from rephase.labs.crystals.losses import LOSSES
from rephase.learning.layers import at_least_single

N_FIELDS = 4


"""Number of real outputs per reflection: real and imaginary part of the two Hermitian fields of `friedel_pair`."""


class PhaseModel(nn.Module):
    """A model that maps amplitudes on a grid to structure factors.

    A subclass defines ``forward(batch)``, which returns normalised structure factors E, complex [batch, h, k, l].

    Parameters
    ----------
    shape
        Number of grid points along h, k, l.
    loss
        Name in `LOSSES`. With ``complex_F`` the prediction has the model's own amplitudes, otherwise the observed ones.
    """

    def __init__(self, shape: tuple[int, ...], loss: str = "aligned"):
        super().__init__()
        self.shape, self.loss_name = tuple(shape), loss

    @property
    def dtype(self) -> torch.dtype:
        """Real dtype of the weights."""
        return next(self.parameters()).dtype

    def loss(self, batch: Batch) -> torch.Tensor:
        """Loss of a batch, one number."""
        E = self(batch)
        with torch.autocast(E.device.type, enabled=False):  # in bfloat16, sums over reflections lose the gradient
            return LOSSES[self.loss_name](E, batch.E, batch.scored)

    @torch.no_grad()
    def predict(self, batch: Batch) -> torch.Tensor:
        """Predict structure factors F in electrons, complex [batch, h, k, l]; zero outside the measured sphere."""
        F = self(batch) * batch.scale
        if self.loss_name != "complex_F":
            F = batch.F.abs() * unit_phasor(F)
        return F * batch.mask


def friedel_pair(fields: torch.Tensor) -> torch.Tensor:
    """Combine four real fields [batch, 4, h, k, l] into a complex grid [batch, h, k, l].

    ``E = G + iK`` with G and K Hermitian: both reflections of a Friedel pair come from the same four numbers. G obeys
    Friedel's law; K is the contribution of the differences in f'' between the elements, and its true value is zero for
    a crystal of one element.
    """
    fields = at_least_single(fields)
    first = torch.complex(fields[:, 0], fields[:, 1])
    second = torch.complex(fields[:, 2], fields[:, 3])
    return _hermitian(first) + 1j * _hermitian(second)


def _hermitian(z: torch.Tensor) -> torch.Tensor:
    """The part of a grid that obeys Friedel's law."""
    return (z + friedel_mate(z).conj()) / 2


class HalfSpace(nn.Module):
    """One reflection of every Friedel pair: the input and output of a dense model.

    Parameters
    ----------
    shape
        Number of grid points along h, k, l (odd).
    """

    index: torch.Tensor
    mate: torch.Tensor

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        numbers = torch.arange(shape[0] * shape[1] * shape[2]).reshape(shape)
        mates = friedel_mate(numbers).flatten()
        kept = numbers.flatten() <= mates
        self.register_buffer("index", numbers.flatten()[kept], persistent=False)
        self.register_buffer("mate", mates[kept], persistent=False)
        self.shape = tuple(shape)

    def __len__(self) -> int:
        return len(self.index)

    def gather(self, amplitude: torch.Tensor) -> torch.Tensor:
        """Compute mean and difference of the amplitudes of each pair, [batch, 2 n_half]."""
        flat = amplitude.flatten(1)
        plus, minus = flat[:, self.index], flat[:, self.mate]
        return torch.cat([(plus + minus) / 2, (plus - minus) / 2], dim=1)

    def scatter(self, fields: torch.Tensor) -> torch.Tensor:
        """Combine two Hermitian fields, given as [batch, 4 n_half], into a complex grid [batch, h, k, l]."""
        fields = at_least_single(fields)
        first_real, first_imag, second_real, second_imag = fields.unflatten(1, (N_FIELDS, -1)).unbind(1)
        out = torch.zeros(
            (len(fields), self.shape[0] * self.shape[1] * self.shape[2]),
            dtype=fields.dtype.to_complex(),
            device=fields.device,
        )
        out[:, self.index] = torch.complex(first_real - second_imag, first_imag + second_real)
        out[:, self.mate] = torch.complex(first_real + second_imag, second_real - first_imag)
        return out.reshape(len(fields), *self.shape)


class ReciprocalInput(nn.Module):
    """The grid as input channels of a convolution: |E|, mask, h/h_max, k/k_max and l/l_max, with the origin centred.

    Reciprocal space is not periodic (h_max and -h_max are not neighbours), so convolutions pad with zeros; reflections
    outside the grid are unmeasured, and the mask marks them as such.
    """

    n_channels = 5
    coordinates: torch.Tensor

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        limits = torch.tensor([max(1, (n - 1) // 2) for n in shape])
        index = grid_indices(shape, torch.zeros(())) / limits
        self.register_buffer("coordinates", index.T.reshape(1, 3, *shape), persistent=False)

    def forward(self, batch: Batch) -> torch.Tensor:
        """Stack the channels, [batch, 5, h, k, l], with (0, 0, 0) at the centre."""
        observed = torch.stack([batch.E.abs() * batch.mask, batch.mask.to(self.coordinates.dtype)], dim=1)
        every = torch.cat(
            [observed.to(self.coordinates.dtype), self.coordinates.expand(len(observed), -1, -1, -1, -1)], dim=1
        )
        centred = torch.fft.fftshift(every, dim=(-3, -2, -1))
        return centred.contiguous(memory_format=torch.channels_last_3d)  # a third faster on a CPU
