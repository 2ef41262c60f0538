"""A flow adapted to the pattern that it is asked for, by the forward model alone."""

import copy
from typing import NamedTuple

import numpy as np
import torch

from rephase.inference.patterns import PatternBatch, check_patterns
from rephase.labs.scattering.models.flows import ParameterFlow

_STRIDE = 20  # steps over which losses are averaged before a state counts as better


class Adapted(NamedTuple):
    """A flow that knows one batch better, and how that went.

    Attributes
    ----------
    model
        A copy; the flow that was given is as it was.
    losses
        Physics loss in nats of each step, up to the one that was not finite.
    stopped
        Why it ended early and what was kept; empty where it did not.
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
    """Train a copy of a flow on measured patterns with its physics loss; nobody needs to know the truth.

    The loss is the Kullback-Leibler divergence of the posterior from the flow, up to a constant: whatever the flow was
    trained on, its minimum is the posterior. It looks only where the flow draws, so that a peak which the flow never
    draws stays unknown. A loss or a gradient that is not finite ends it; kept is the state with the least mean loss of
    20 steps, and the first state where none was better.

    Parameters
    ----------
    model
        A trained flow.
    batch
        Patterns, best one; ``batch.u`` is not looked at.
    seed
        Of the samples.
    n_steps, n_samples, learning_rate
        Steps, samples of each pattern in one, and the step length of Adam.

    Raises
    ------
    PosteriorError
        A pattern that is hidden, or whose counts or photons cannot be.
    """
    check_patterns(batch)
    adapted = copy.deepcopy(model)
    kept, least, losses, stopped = copy.deepcopy(adapted.state_dict()), np.inf, [], ""
    optimiser = torch.optim.Adam(adapted.parameters(), learning_rate)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
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
