"""Posteriors of images: an invertible network that adds detail scale by scale, conditioned on the pattern."""

import math

import torch
from torch import nn

from rephase.errors import ConfigError, check_positive, extra
from rephase.inference.patterns import PatternBatch, check_patterns, check_shape, expected_of
from rephase.labs.waves.data.patterns import WaveSimulator
from rephase.learning.convolutions import Conv2d
from rephase.optics.noise import poisson_deviance

_COARSEST = 4  # pixels along each side of the coarsest mean, to which all details are added
_WIDER = 4  # factor of the width of the networks of the coarsest means, which see all pixels at once
_FARTHEST = 2.0  # clip of |z| of a guess: larger values are mostly noise


class ImageFlow(nn.Module):
    """p(u | pattern) of images: Haar details of z, each scale conditioned on coarser scales and on the pattern.

    z is split into means of 2 x 2 pixels and three details of each, and the means are split again, down to 4 x 4. The
    details of each scale and the last means are mapped to normal numbers: first by an affine map, conditioned on
    features of the pattern and of a cheap classical estimate (the guess), then by GLOW coupling blocks (FrEIA) with
    clamped scales. Sampling goes in the reverse direction, from coarse to fine.

    Parameters
    ----------
    shape
        Shape of a pattern; only the simulator uses it.
    loss
        ``nll``: the negative logarithm of the density per unknown. In training, the misfit of counts predicted by a
        posterior sample may be added, see `physics_weight`.
    simulator
        Simulator that provides the condition, the map to z and the forward model.
    width
        Channels of features and of the networks inside the coupling blocks.
    n_blocks
        Coupling blocks at each scale.
    clamp
        The scale factors of a block are within exp(-clamp) to exp(clamp).
    physics_weight
        Weight of the Poisson deviance per measured pixel between the pattern and the prediction of one posterior
        sample. It narrows posteriors; use 0 for calibrated ones.

    Raises
    ------
    ConfigError
        The loss is unknown, the size cannot be halved down to 4 pixels, or an option is not above 0.
    ExtraError
        FrEIA is not installed.

    References
    ----------
    Ardizzone et al. (2019), arXiv:1907.02392; Yu, Derpanis & Brubaker (2020), arXiv:2010.13821, on details of wavelets.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        loss: str = "nll",
        *,
        simulator: WaveSimulator,
        width: int = 32,
        n_blocks: int = 4,
        clamp: float = 1.5,
        physics_weight: float = 0.0,
    ):
        super().__init__()
        if loss != "nll":
            raise ConfigError(f"loss = {loss!r}: expected nll, the only loss of flows")
        for name, value in (("width", width), ("n_blocks", n_blocks), ("clamp", clamp)):
            check_positive(name, value, remedy="see the options of ImageFlow", error=ConfigError)
        with extra("posteriors"):
            from rephase.labs.waves.models.couplings import chain_blocks
        n_channels, *sides = simulator.u_shape
        n_scales = _halvings(sides)
        self.simulator, self.loss_name, self.physics_weight = simulator, loss, physics_weight
        self.n_unknowns = math.prod(simulator.u_shape)
        self.features = Features(simulator.n_seen + n_channels, width, n_scales)
        n_seen = width + 4 * n_channels
        self.details = nn.ModuleList(
            chain_blocks(
                (3 * n_channels, *(side >> scale for side in sides)), n_seen + n_channels, width, n_blocks, clamp
            )
            for scale in range(1, n_scales + 1)
        )
        rows, columns = (side >> n_scales for side in sides)
        n_pixels = rows * columns
        self.means = chain_blocks((n_channels, rows, columns), n_seen, width, 0, clamp)
        self.coarsest = chain_blocks((n_channels * n_pixels, 1, 1), n_seen * n_pixels, _WIDER * width, n_blocks, clamp)

    def loss(self, batch: PatternBatch) -> torch.Tensor:
        """Loss of a batch, one number."""
        seen = self.look(batch)
        nll = -self._log_density(batch, seen).mean() / self.n_unknowns
        if not (self.training and self.physics_weight):
            return nll
        return nll + self.physics_weight * self.misfit(batch, seen)

    def misfit(self, batch: PatternBatch, seen: list[torch.Tensor]) -> torch.Tensor:
        """Deviance of the counts from what one posterior sample of each pattern predicts, per measured pixel."""
        expected = expected_of(self.simulator, self._draw(seen), batch)
        return poisson_deviance(expected, batch.counts, batch.mask).sum() / batch.mask.sum()

    @torch.no_grad()
    def log_prob(self, batch: PatternBatch) -> torch.Tensor:
        """Logarithm of the posterior density of z at the batch's own unknowns, [sample]."""
        return self._log_density(batch, self.look(batch))

    @torch.no_grad()
    def sample(self, batch: PatternBatch, n: int) -> torch.Tensor:
        """Draw posterior samples u [n, sample, channel, row, column]; errors as `centre`."""
        check_patterns(batch)
        seen = [scale.repeat(n, 1, 1, 1) for scale in self.look(batch)]
        return self._draw(seen).unflatten(0, (n, len(batch.counts)))

    @torch.no_grad()
    def centre(self, batch: PatternBatch) -> torch.Tensor:
        """Centre of the posterior, u [sample, channel, row, column]: the image mapped from zero noise, near the mean.

        Raises
        ------
        PosteriorError
            A pattern is hidden entirely, or its counts, photons or mask are invalid.
        ConfigError
            The flow was made for patterns of another shape.
        """
        check_patterns(batch)
        seen = self.look(batch)
        return self.simulator.from_normal(self.to_image(seen[0].new_zeros(len(seen[0]), self.n_unknowns), seen))

    def look(self, batch: PatternBatch) -> list[torch.Tensor]:
        """Features of patterns and the guess, [sample, channel, row, column] at half the size, a quarter and so on.

        ``batch.u`` is ignored.

        Raises
        ------
        ConfigError
            The flow was made for patterns of another shape.
        """
        check_shape(batch, self.simulator.pattern_shape)
        dtype = next(self.parameters()).dtype
        with torch.no_grad():
            guess = self.simulator.to_normal(self.simulator.guess(batch)).clamp(-_FARTHEST, _FARTHEST).to(dtype)
            condition = self.simulator.condition(batch).to(dtype)
        seen = []
        for features in self.features(torch.cat([guess, condition], dim=1)):
            guess, details = _halved(guess)
            seen.append(torch.cat([features, guess, details], dim=1))
        return seen

    def to_noise(self, z: torch.Tensor, seen: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Map z to normal numbers [sample, unknown]; also return the logarithm of the Jacobian determinant."""
        noise, log_volume = [], z.new_zeros(len(z))
        for chain, features in zip(self.details, seen):
            z, detail = _halved(z)
            part, change = chain(detail, c=[torch.cat([features, z], dim=1)])
            noise.append(part.flatten(1))
            log_volume = log_volume + change
        z, shrunk = self.means(z, c=[seen[-1]])
        part, change = self.coarsest(_as_pixel(z), c=[_as_pixel(seen[-1])])
        return torch.cat([*noise, part.flatten(1)], dim=1), log_volume + shrunk + change

    def to_image(self, noise: torch.Tensor, seen: list[torch.Tensor]) -> torch.Tensor:
        """Map normal numbers to images z, the inverse of `to_noise`."""
        shapes = [chain.shapes[0] for chain in [*self.details, self.coarsest]]
        parts = [part.unflatten(1, shape) for part, shape in zip(noise.split([*map(math.prod, shapes)], 1), shapes)]
        z, _ = self.coarsest(parts.pop(), c=[_as_pixel(seen[-1])], rev=True)
        z, _ = self.means(z.reshape(len(z), -1, *seen[-1].shape[-2:]), c=[seen[-1]], rev=True)
        for chain, features, part in reversed(list(zip(self.details, seen, parts))):
            detail, _ = chain(part, c=[torch.cat([features, z], dim=1)], rev=True)
            z = _doubled(z, detail)
        return z

    def _draw(self, seen: list[torch.Tensor]) -> torch.Tensor:
        noise = torch.randn(len(seen[0]), self.n_unknowns, dtype=seen[0].dtype, device=seen[0].device)
        return self.simulator.from_normal(self.to_image(noise, seen))

    def _log_density(self, batch: PatternBatch, seen: list[torch.Tensor]) -> torch.Tensor:
        noise, log_volume = self.to_noise(self.simulator.to_normal(batch.u).to(seen[0]), seen)
        return log_volume - (noise.square() + math.log(2 * math.pi)).sum(1) / 2


class Features(nn.Module):
    """A U-Net: features [sample, width, row, column] at half the size, a quarter and so on, each using coarser ones.

    Parameters
    ----------
    n_in
        Input channels.
    width
        Output channels at every scale.
    n_scales
        Number of scales.
    """

    def __init__(self, n_in: int, width: int, n_scales: int):
        super().__init__()
        self.first = nn.Sequential(nn.PixelUnshuffle(2), Conv2d(4 * n_in, width, 3, padding=1))
        self.down = nn.ModuleList(Residual(width) for _ in range(n_scales))
        self.halve = nn.ModuleList(Conv2d(width, width, 2, stride=2) for _ in range(n_scales - 1))
        self.join = nn.ModuleList(Conv2d(2 * width, width, 1) for _ in range(n_scales - 1))
        self.up = nn.ModuleList(Residual(width) for _ in range(n_scales - 1))

    def forward(self, condition: torch.Tensor) -> list[torch.Tensor]:
        """Features from fine to coarse."""
        x = self.first(condition)
        seen = [x := self.down[0](x)]
        for halve, block in zip(self.halve, self.down[1:]):
            seen.append(x := block(halve(x)))
        out = [x]
        for skipped, join, block in reversed(list(zip(seen, self.join, self.up))):
            wider = nn.functional.interpolate(out[0], scale_factor=2.0)
            out.insert(0, block(join(torch.cat([skipped, wider], dim=1))))
        return out


class Residual(nn.Module):
    """Two blocks of ``x + convolutions(x)``, each with a receptive field of 5 x 5 pixels."""

    def __init__(self, width: int):
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.SiLU(), Conv2d(width, width, 3, padding=1), nn.SiLU(), Conv2d(width, width, 3, padding=1))
            for _ in range(2)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features of the shape of x."""
        for block in self.blocks:
            x = x + block(x)
        return x


def _halvings(sides: list[int]) -> int:
    n = round(math.log2(max(2, min(sides) / _COARSEST)))
    if any(side % 2**n for side in sides) or min(sides) < 2 * _COARSEST:
        raise ConfigError(
            f"images of {' x '.join(map(str, sides))} pixels: expected {_COARSEST} times a power of 2, at least "
            f"{2 * _COARSEST}; set data.size to {_COARSEST << n}"
        )
    return n


def _as_pixel(image: torch.Tensor) -> torch.Tensor:
    """Flatten images to the channels of one pixel."""
    return image.flatten(1)[..., None, None]


def _halved(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Split into orthonormal Haar wavelets: twice the means of 2 x 2 pixels, and three details of each channel."""
    a, b, c, d = (z[..., i::2, j::2] for i in (0, 1) for j in (0, 1))
    return (a + b + c + d) / 2, torch.cat([a - b + c - d, a + b - c - d, a - b - c + d], dim=1) / 2


def _doubled(mean: torch.Tensor, details: torch.Tensor) -> torch.Tensor:
    """Join means and details, the inverse of `_halved`."""
    h, v, x = details.chunk(3, dim=1)
    rows = [torch.stack([mean + h + s * (v + x), mean - h + s * (v - x)], dim=-1).flatten(-2) for s in (1, -1)]
    return torch.stack(rows, dim=-2).flatten(-3, -2) / 2
