"""Adaptation of a flow to a measured pattern, with the forward model alone."""

import copy
from typing import NamedTuple

import numpy as np
import torch

from rephase.devices import seeded
from rephase.inference.patterns import PatternBatch, check_patterns
from rephase.labs.scattering.models.flows import ParameterFlow

_STRIDE = 20  # steps over which losses are averaged to compare states


class Adapted(NamedTuple):
    """A flow adapted to one batch, and the course of the adaptation.

    Attributes
    ----------
    model
        Adapted copy; the given flow is unchanged.
    losses
        Physics loss of each step, nats, up to the first loss that was not finite.
    stopped
        Reason for an early stop and what was kept; empty otherwise.
    """

    model: ParameterFlow
    losses: np.ndarray
    stopped: str


def adapt(
    model: ParameterFlow,
    batch: PatternBatch,
    *,
    seed: int,
    n_steps: int = 300,
    n_samples: int = 32,
    learning_rate: float = 1e-3,
) -> Adapted:
    """Train a copy of a flow on measured patterns with its physics loss, which does not need the truth.

    The loss is the Kullback-Leibler divergence of the posterior from the flow, up to a constant: whatever the flow was
    trained on, its minimum is the posterior. The loss is evaluated only where the flow draws, so that a peak without
    draws is not found. A loss or a gradient that is not finite stops the training. The state with the smallest mean
    loss over 20 steps is kept, or the first state if none was better.

    Parameters
    ----------
    model
        A trained flow.
    batch
        Patterns, ideally one; ``batch.u`` is ignored.
    seed
        Seed of the samples.
    n_steps, n_samples, learning_rate
        Number of steps, samples per pattern and step, and learning rate of Adam.

    Raises
    ------
    PosteriorError
        A pattern is hidden entirely, or its counts or photons are invalid.
    """
    check_patterns(batch)
    adapted = copy.deepcopy(model)
    kept, least, losses, stopped = copy.deepcopy(adapted.state_dict()), np.inf, [], ""
    optimiser = torch.optim.Adam(adapted.parameters(), learning_rate)
    with seeded(seed):
        for step in range(n_steps):
            optimiser.zero_grad()
            loss = adapted.physics_loss(batch, n_samples)
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(adapted.parameters(), 10.0)
            if not (torch.isfinite(loss) and torch.isfinite(norm)):
                stopped = f"loss {loss.item()}, gradient {norm.item()} at step {step}: the last good state is kept"
                break
            losses.append(loss.item())
            if len(losses) % _STRIDE == 0 and (mean := float(np.mean(losses[-_STRIDE:]))) < least:
                kept, least = copy.deepcopy(adapted.state_dict()), mean
            optimiser.step()
    adapted.load_state_dict(kept)
    return Adapted(adapted.eval(), np.array(losses), stopped)
