"""Conditional adversarial network that completes amplitudes (Goodfellow et al. 2014; Mirza & Osindero 2014)."""

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from rephase.config.sections import TrainingConfig
from rephase.errors import ConfigError, nearest_name
from rephase.labs.completion.data import CompletionBatch
from rephase.labs.completion.models.amplitudes import AmplitudeInput, AmplitudeModel
from rephase.labs.completion.models.baselines import wilson_amplitude
from rephase.labs.completion.models.unets import AmplitudeUNet, FourierUNet
from rephase.learning.convolutions import Conv3d

if TYPE_CHECKING:
    from rephase.labs.completion.models.adversarial import AdversarialModule

GENERATORS: dict[str, type[AmplitudeUNet | FourierUNet]] = {"unet": AmplitudeUNet, "fourier_unet": FourierUNet}


class Critic(nn.Module):
    """3D convolutions that distinguish true from completed amplitudes locally, given the observed ones.

    Spectral normalisation bounds their Lipschitz constant (Miyato et al. 2018, arXiv 1802.05957); group normalisation
    amplifies the small differences that remain.

    Parameters
    ----------
    shape
        Number of grid points along h, k, l.
    width
        Number of channels of the first layer; it doubles at each of the two that follow.
    """

    def __init__(self, shape: tuple[int, int, int], width: int):
        super().__init__()
        self.input = AmplitudeInput(shape)
        self.layers = nn.Sequential(
            spectral_norm(Conv3d(self.input.n_channels + 1, width, 3, padding=1)),
            nn.LeakyReLU(0.2),
            *_halving_block(width, 2 * width),
            *_halving_block(2 * width, 4 * width),
            Conv3d(4 * width, 1, 1),
        )

    def forward(self, amplitude: torch.Tensor, batch: CompletionBatch) -> torch.Tensor:
        """Score |F| in electrons, [batch, h, k, l], at several places, [batch, places]; true amplitudes score high."""
        completed = torch.where(batch.observed, batch.F.abs(), amplitude) * batch.mask
        E = torch.fft.fftshift(completed / wilson_amplitude(batch), dim=-3)  # centred in h like the other channels
        return self.layers(torch.cat([self.input(batch), E[:, None]], dim=1)).flatten(1)


def _halving_block(n_in: int, n_out: int) -> tuple[nn.Module, ...]:
    convolution = spectral_norm(Conv3d(n_in, n_out, 3, stride=2, padding=1))
    return convolution, nn.GroupNorm(max(1, n_out // 8), n_out), nn.LeakyReLU(0.2)


class AmplitudeGAN(AmplitudeModel):
    """A U-Net whose completions should pass as true to a critic that also sees the observed part.

    The completion is deterministic, as in Ledig et al. (2017, arXiv 1609.04802), not sampled. The two networks are
    trained in turn: the critic with the hinge loss, the generator with ``reconstruction x its loss as a model +
    adversarial part``. Only the reconstruction is used in validation and comparison.

    Parameters
    ----------
    shape, loss
        As in `GridModel`.
    generator
        Name in `GENERATORS`.
    width, levels
        Options of the generator, as in `AmplitudeUNet`.
    critic_width
        Width of the `Critic`.
    reconstruction
        Weight of the reconstruction loss.

    Raises
    ------
    ConfigError
        The generator is unknown.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        loss: str | None = None,
        *,
        generator: str = "fourier_unet",
        width: int = 64,
        levels: int = 2,
        critic_width: int = 32,
        reconstruction: float = 100.0,
    ):
        super().__init__(shape, loss)
        if generator not in GENERATORS:
            raise ConfigError(f"unknown generator {generator!r}; {nearest_name(generator, GENERATORS)}")
        self.generator = GENERATORS[generator](shape, loss, width=width, levels=levels)
        self.critic = Critic(shape, critic_width)
        self.reconstruction = reconstruction

    def fields(self, batch: CompletionBatch) -> torch.Tensor:
        """Predict the fields of the generator, [batch, 1, h, k, l]."""
        return self.generator.fields(batch)

    def critic_loss(self, amplitude: torch.Tensor, batch: CompletionBatch) -> torch.Tensor:
        """Hinge loss of the critic (Lim & Ye 2017, arXiv 1705.02894), one number; 2 if the critic scores everything 0.

        `amplitude` [batch, h, k, l] is the prediction of the generator for the batch.
        """
        true, false = self.critic(batch.F.abs(), batch), self.critic(amplitude.detach(), batch)
        return (nn.functional.relu(1 - true) + nn.functional.relu(1 + false)).mean()

    def generator_loss(self, amplitude: torch.Tensor, batch: CompletionBatch) -> torch.Tensor:
        """Reconstruction loss plus adversarial loss, one number; `amplitude` as in `critic_loss`."""
        return self.reconstruction * self.misfit(amplitude, batch) - self.critic(amplitude, batch).mean()

    def training_module(self, options: TrainingConfig, seed: int) -> "AdversarialModule":
        """Make the module that trains the two networks in turn."""
        from rephase.labs.completion.models.adversarial import AdversarialModule  # only training needs Lightning

        return AdversarialModule(self, options, seed)
