"""Phases of monoclinic crystals, predicted by the networks that also complete amplitudes, and chance."""

import torch

from rephase.crystal.phases import unit_phasor
from rephase.labs.completion.data import CompletionBatch
from rephase.labs.completion.grid_phases import align_monoclinic, symmetrise
from rephase.labs.completion.grids import MonoclinicGrid
from rephase.labs.completion.models.amplitudes import GridModel
from rephase.labs.completion.models.baselines import WilsonAmplitude
from rephase.labs.completion.models.linear import GridLinear
from rephase.labs.completion.models.transformer import GridTransformer
from rephase.labs.completion.models.unets import GridFourierUNet, GridUNet


def phasor_error(phasor: torch.Tensor, F_true: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Weighted mean of |z - exp(i phi)|^2: 0 for correct phases, 1 for z = 0, 2 for random phases with |z| = 1."""
    difference = phasor - unit_phasor(F_true)
    squares = difference.real.square() + difference.imag.square()
    return ((squares * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3))).mean()


PHASE_LOSSES = {"amplitude_weighted": phasor_error}


class MonoclinicPhases(GridModel):
    """A model that predicts the phase of every reflection, observed or not, from the observed amplitudes.

    It learns the mean of exp(i phi), whose modulus is the figure of merit of a phase (Blow & Crick 1959,
    doi:10.1107/S0365110X59002274). The sign of a centric reflection could not be learned from exp(i phi) itself, which
    is piecewise constant in the fields. By construction, equivalent reflections agree, and centric reflections have one
    of their two allowed phases. The loss is minimised over the allowed origins and both enantiomorphs.
    """

    n_fields = 2
    losses = PHASE_LOSSES

    def forward(self, batch: CompletionBatch) -> torch.Tensor:
        """Predict the mean of exp(i phi), complex [batch, h, k, l]; 0 where no reflection exists."""
        real, imaginary = self.fields(batch).to(batch.F.real.dtype).unbind(1)
        E = symmetrise(torch.complex(real, imaginary), batch.operations, self.grid)
        return E / (1 + E.real.square() + E.imag.square()).sqrt() * batch.mask

    def loss(self, batch: CompletionBatch) -> torch.Tensor:
        """Loss of a batch over every reflection, one number."""
        phasor, weight = self(batch), batch.mask * batch.F.abs()
        with torch.no_grad(), torch.autocast(batch.F.device.type, enabled=False):  # h.t needs full precision
            nearest = align_monoclinic(batch.F, phasor, batch.operations, self.grid, weight * phasor.abs())
        return self.losses[self.loss_name](phasor, nearest, weight)

    @torch.no_grad()
    def predict(self, batch: CompletionBatch) -> torch.Tensor:
        """Predict F in electrons, complex [batch, h, k, l]; unobserved amplitudes are the expected ones."""
        return WilsonAmplitude().predict(batch) * unit_phasor(self(batch))


class LinearPhases(MonoclinicPhases, GridLinear):
    """Phases by linear regression."""


class UNetPhases(MonoclinicPhases, GridUNet):
    """Phases by a U-Net."""


class FourierUNetPhases(MonoclinicPhases, GridFourierUNet):
    """Phases by a U-Net with Fourier layers."""


class TransformerPhases(MonoclinicPhases, GridTransformer):
    """Phases by a transformer."""


class ChancePhases:
    """Random phases that the group allows; the same batch always has the same ones."""

    def predict(self, batch: CompletionBatch) -> torch.Tensor:
        """Predict F in electrons, complex [batch, h, k, l]; unobserved amplitudes are the expected ones."""
        generator = torch.Generator().manual_seed(int(batch.mask.sum()))
        drawn = torch.randn(batch.F.shape, dtype=batch.F.dtype, generator=generator).to(batch.F.device)
        phasor = unit_phasor(symmetrise(drawn, batch.operations, MonoclinicGrid.of(batch.F)))
        return WilsonAmplitude().predict(batch) * phasor
