"""Transformer whose tokens are reflections (Vaswani et al. 2017, arXiv 1706.03762)."""

import math
from typing import NamedTuple

import torch
from torch import nn

from rephase.errors import ConfigError
from rephase.labs.completion.data import CompletionBatch
from rephase.labs.completion.grids import MonoclinicGrid
from rephase.labs.completion.models.amplitudes import AmplitudeInput, AmplitudeModel, GridModel

_N_OCTAVES = 5  # periods of 2, 4 … 32 reflections; the first is the parity of an index


class Tokens(NamedTuple):
    """The reflections that exist in a batch, one crystal after the other, in each those observed first.

    ``features`` [n_tokens, n_features]. ``place`` [batch, n] of each token on the flat grid, ``is_token`` [batch, n]
    and ``is_key`` [batch, n_observed]: which places of the longest list of the batch a crystal fills.
    ``is_observed`` [n_tokens].
    """

    features: torch.Tensor
    place: torch.Tensor
    is_token: torch.Tensor
    is_key: torch.Tensor
    is_observed: torch.Tensor


class ReflectionInput(nn.Module):
    """Reflections as tokens: channels of `AmplitudeInput`, hkl as waves of several periods, h in Å^-1.

    The reciprocal-space vector of a reflection holds what the lattice says of it.
    """

    n_features = AmplitudeInput.n_channels + 6 * _N_OCTAVES + 3
    hkl: torch.Tensor

    def __init__(self, shape: tuple[int, int, int]):
        super().__init__()
        self.channels = AmplitudeInput(shape)
        hkl = torch.as_tensor(MonoclinicGrid(shape).hkl.reshape(-1, 3), dtype=torch.float32)
        self.register_buffer("hkl", hkl, persistent=False)

    def forward(self, batch: CompletionBatch) -> Tokens:
        """Tokens of a batch."""
        observed, mask = batch.observed.flatten(1), batch.mask.flatten(1)
        rank = observed.to(torch.uint8) + mask.to(torch.uint8)
        place = rank.argsort(dim=1, descending=True, stable=True)[:, : int(mask.sum(1).max())]
        is_token, is_observed = mask.gather(1, place), observed.gather(1, place)
        crystal, flat = is_token.nonzero()[:, 0], place[is_token]
        channels = self.channels.uncentred(self.channels(batch)).flatten(2)[crystal, :, flat]
        hkl = self.hkl[flat]
        turns = 2 * math.pi * hkl[:, :, None] * 2.0 ** -torch.arange(1, _N_OCTAVES + 1, device=hkl.device)
        vector = torch.einsum("ni, nij -> nj", hkl, torch.linalg.inv(batch.lattice).to(hkl.dtype)[crystal])
        features = torch.cat([channels, turns.cos().flatten(1), turns.sin().flatten(1), vector], dim=1)
        is_key = is_observed[:, : int(observed.sum(1).max())]
        return Tokens(features, place, is_token, is_key, is_observed[is_token])


class Attention(nn.Module):
    """Attention of several heads through torch's fused kernel, which keeps no table of queries by keys.

    There is no dropout of attention weights: on a CPU it would leave the fused kernel.
    """

    def __init__(self, n: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query, self.key_value, self.out = nn.Linear(n, n), nn.Linear(n, 2 * n), nn.Linear(n, n)

    def forward(self, x: torch.Tensor, tokens: Tokens) -> torch.Tensor:
        """Tokens [n_tokens, n] ask the observed ones of their crystal."""
        heads = lambda part, where: _padded(part, where).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # noqa: E731
        query = heads(self.query(x), tokens.is_token)
        key, value = (heads(part, tokens.is_key) for part in self.key_value(x[tokens.is_observed]).chunk(2, dim=-1))
        mask = tokens.is_key[:, None, None]  # broadcast over heads and queries
        seen = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.out(seen.transpose(1, 2).flatten(2)[tokens.is_token])


def _padded(x: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Rows of all crystals [n_tokens, n] as one list for each, [batch, longest, n]."""
    out = x.new_zeros(*where.shape, x.shape[-1])
    out[where] = x
    return out


class TransformerBlock(nn.Module):
    """Attention, then two layers on each token; both add to it."""

    def __init__(self, n: int, *, heads: int, mlp_ratio: float, dropout: float):
        super().__init__()
        hidden = int(mlp_ratio * n)
        self.before_attention, self.before_mlp = nn.LayerNorm(n), nn.LayerNorm(n)
        self.attention = Attention(n, heads)
        self.mlp = nn.Sequential(nn.Linear(n, hidden), nn.GELU(), nn.Linear(hidden, n))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor, tokens: Tokens) -> torch.Tensor:
        """Tokens [n_tokens, n]."""
        x = x + self.dropout(self.attention(self.before_attention(x), tokens))
        return x + self.dropout(self.mlp(self.before_mlp(x)))


class GridTransformer(GridModel):
    """Every reflection that exists is a token, up to about 4,000 of a crystal on the grid of the reference work.

    All go through every block and ask the observed ones, which alone hold data: time grows with n n_observed instead
    of n^2. What one missing reflection was found to be does not reach another.

    Parameters
    ----------
    shape, loss
        As in `GridModel`.
    embedding
        Numbers of each token.
    depth, heads
        Blocks, and heads of the attention in each.
    mlp_ratio
        Hidden numbers of a block's two layers, over `embedding`.
    dropout
        Share of what a block adds, set to zero in training.

    Raises
    ------
    ConfigError
        `embedding` cannot be divided among the heads.
    """

    def __init__(
        self, shape: tuple[int, int, int], loss: str | None = None, *, embedding: int = 128, depth: int = 5,
        heads: int = 4, mlp_ratio: float = 4.0, dropout: float = 0.1,
    ):  # fmt: skip
        super().__init__(shape, loss)
        if embedding % heads:
            raise ConfigError(f"embedding = {embedding}: expected a multiple of heads = {heads}, one part for each")
        self.input = ReflectionInput(shape)
        self.embed = nn.Sequential(
            nn.Linear(self.input.n_features, embedding), nn.GELU(), nn.Linear(embedding, embedding)
        )
        self.blocks = nn.ModuleList(
            TransformerBlock(embedding, heads=heads, mlp_ratio=mlp_ratio, dropout=dropout) for _ in range(depth)
        )
        self.before_head, self.head = nn.LayerNorm(embedding), nn.Linear(embedding, self.n_fields)
        nn.init.normal_(self.head.weight, std=0.1 / embedding**0.5)  # amplitudes begin near what is expected

    def fields(self, batch: CompletionBatch) -> torch.Tensor:
        """[batch, n_fields, h, k, l]; 0 where no reflection is."""
        tokens = self.input(batch)
        x = self.embed(tokens.features)
        for block in self.blocks:
            x = block(x, tokens)
        values = _padded(self.head(self.before_head(x)), tokens.is_token).mT
        flat = values.new_zeros(len(values), self.n_fields, batch.mask[0].numel())
        return flat.scatter(2, tokens.place[:, None].expand_as(values), values).unflatten(2, self.grid.shape)


class ReflectionTransformer(AmplitudeModel, GridTransformer):
    """Amplitudes by a transformer."""
