"""Transformer whose tokens are reflections (Vaswani et al. 2017, arXiv 1706.03762)."""

import math
from typing import NamedTuple

import torch
from torch import nn

from rephase.errors import ConfigError
from rephase.labs.completion.data import CompletionBatch
from rephase.labs.completion.grids import MonoclinicGrid
from rephase.labs.completion.models.amplitudes import AmplitudeInput, AmplitudeModel, GridModel

_N_OCTAVES = 5  # periods of 2, 4 … 32 reflections; the first encodes the parity of an index


class Tokens(NamedTuple):
    """The existing reflections of a batch, crystal by crystal, the observed ones of each crystal first.

    ``features`` [n_tokens, n_features] and ``is_observed`` [n_tokens] describe the tokens. ``place`` [batch, n] is the
    index of each token on the flat grid; ``is_token`` [batch, n] and ``is_key`` [batch, n_observed] mark the entries
    that a crystal fills, because all lists are padded to the longest of the batch.
    """

    features: torch.Tensor
    place: torch.Tensor
    is_token: torch.Tensor
    is_key: torch.Tensor
    is_observed: torch.Tensor


class ReflectionInput(nn.Module):
    """Reflections as tokens: channels of `AmplitudeInput`, hkl as waves of several periods, and h in Å^-1.

    The reciprocal-space vector h of a reflection carries the information about the lattice.
    """

    n_features = AmplitudeInput.n_channels + 6 * _N_OCTAVES + 3
    hkl: torch.Tensor

    def __init__(self, shape: tuple[int, int, int]):
        super().__init__()
        self.channels = AmplitudeInput(shape)
        hkl = torch.as_tensor(MonoclinicGrid(shape).hkl.reshape(-1, 3), dtype=torch.float32)
        self.register_buffer("hkl", hkl, persistent=False)

    def forward(self, batch: CompletionBatch) -> Tokens:
        """Make the tokens of a batch."""
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
    """Multi-head attention with torch's fused kernel, which stores no matrix of queries by keys.

    Attention weights have no dropout: on a CPU it would disable the fused kernel.
    """

    def __init__(self, n: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query, self.key_value, self.out = nn.Linear(n, n), nn.Linear(n, 2 * n), nn.Linear(n, n)

    def forward(self, x: torch.Tensor, tokens: Tokens) -> torch.Tensor:
        """Let tokens [n_tokens, n] attend to the observed ones of their crystal."""
        query = self._by_head(self.query(x), tokens.is_token)
        keys_and_values = self.key_value(x[tokens.is_observed]).chunk(2, dim=-1)
        key, value = (self._by_head(part, tokens.is_key) for part in keys_and_values)
        mask = tokens.is_key[:, None, None]  # broadcast over heads and queries
        seen = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.out(seen.transpose(1, 2).flatten(2)[tokens.is_token])

    def _by_head(self, rows: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        """Pad and split rows of all crystals [n_tokens, n] to [batch, head, longest, n / heads]."""
        return _padded(rows, where).unflatten(-1, (self.heads, -1)).transpose(1, 2)


def _padded(x: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Pad the rows of all crystals [n_tokens, n] to one list per crystal, [batch, longest, n]."""
    out = x.new_zeros(*where.shape, x.shape[-1])
    out[where] = x
    return out


class TransformerBlock(nn.Module):
    """Attention, then two layers on each token, both as residuals."""

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
    """Every existing reflection is a token: up to about 4,000 per crystal on the grid of the reference work.

    All tokens pass through every block, but they attend only to the observed ones, which alone carry data: time grows
    with n n_observed instead of n^2. Missing reflections do not exchange information with each other.

    Parameters
    ----------
    shape, loss
        As in `GridModel`.
    embedding
        Number of features of a token.
    depth, heads
        Number of blocks, and of attention heads in each block.
    mlp_ratio
        Number of hidden features of a block's two layers, divided by `embedding`.
    dropout
        Fraction of a block's output that is set to zero in training.

    Raises
    ------
    ConfigError
        `embedding` is not a multiple of `heads`.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        loss: str | None = None,
        *,
        embedding: int = 128,
        depth: int = 5,
        heads: int = 4,
        mlp_ratio: float = 4.0,
        dropout: float = 0.1,
    ):
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
        nn.init.normal_(self.head.weight, std=0.1 / embedding**0.5)  # amplitudes start near their expectation

    def fields(self, batch: CompletionBatch) -> torch.Tensor:
        """Predict the fields, [batch, n_fields, h, k, l]; 0 where no reflection exists."""
        tokens = self.input(batch)
        x = self.embed(tokens.features)
        for block in self.blocks:
            x = block(x, tokens)
        values = _padded(self.head(self.before_head(x)), tokens.is_token).mT
        flat = values.new_zeros(len(values), self.n_fields, batch.mask[0].numel())
        return flat.scatter(2, tokens.place[:, None].expand_as(values), values).unflatten(2, self.grid.shape)


class ReflectionTransformer(AmplitudeModel, GridTransformer):
    """Amplitudes by a transformer."""
