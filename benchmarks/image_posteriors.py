"""Image flows: time of posterior samples and of a training step, for holograms and scans of two sizes.

    rephase bench image_posteriors -- --width 32 --blocks 3

Times are in ms. ``one`` is for a single sample of a single pattern, including the classical estimate that the flow
takes as input; ``of 64`` is for each of 64 samples of one pattern; ``step`` is for each pattern of a batch of 16 in a
training step. Weights are random, but the times are those of trained flows. The rows are also written to
``runs/bench/image_posteriors.csv``.
"""

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import torch
from measuring.tables import write_table
from measuring.timing import Comparison, Task, repeated, timed

from rephase.config.sections import ModelConfig
from rephase.config.waves import HologramSimulation, PtychogramSimulation
from rephase.inference.patterns import PatternBatch
from rephase.labs.waves.data.holograms import HologramSimulator
from rephase.labs.waves.data.ptychograms import PtychogramSimulator
from rephase.labs.waves.models import IMAGE_POSTERIOR_MODELS
from rephase.labs.waves.models.flows import ImageFlow
from rephase.learning.models import build_model

SIMULATORS = {
    ("holography", 32): lambda: HologramSimulator(HologramSimulation()),
    ("holography", 64): lambda: HologramSimulator(HologramSimulation(size=64)),
    ("ptychography", 32): lambda: PtychogramSimulator(PtychogramSimulation()),
    ("ptychography", 64): lambda: PtychogramSimulator(
        PtychogramSimulation(size=64, frame=24, probe_width=8.0, n_side=11, step=3.9)
    ),
}
_N_TIMED = 5
_OPTIONS = {"width": 32, "n_blocks": 3}


def milliseconds(step: Callable[[], object]) -> float:
    """Return the median time of a step in ms, after one that warms up."""
    return 1e3 * float(np.median(repeated(step, _N_TIMED)))


def model_and_batch(kind: str, size: int, options: dict[str, int]) -> tuple[ImageFlow, PatternBatch]:
    """Build a flow, and draw 16 patterns for it."""
    simulator = SIMULATORS[kind, size]()
    model = build_model(
        IMAGE_POSTERIOR_MODELS, "image_flow", simulator.pattern_shape, ModelConfig(options=options), simulator=simulator
    )
    return model, simulator.draw(16, np.random.default_rng(0))


def measure(kind: str, size: int, options: dict[str, int]) -> dict[str, object]:
    """Measure a row: times in ms, and the number of weights."""
    model, batch = model_and_batch(kind, size, options)
    one = PatternBatch(*(field[:1] for field in batch))
    return {
        "kind": kind,
        "size": size,
        "one": milliseconds(lambda: model.sample(one, 1)),
        "of 64": milliseconds(lambda: model.sample(one, 64)) / 64,
        "step": milliseconds(lambda: model.loss(batch).backward()) / 16,
        "weights": sum(weight.numel() for weight in model.parameters()),
    }


def simulations(kind: str, n: int) -> Task:
    """Draw `n` objects of 32 x 32 pixels and their noisy patterns."""
    simulator = SIMULATORS[kind, 32]()
    return timed(lambda: simulator.draw(n, np.random.default_rng(0)), n)


def samples(kind: str, n: int) -> Task:
    """Draw `n` posterior samples of one pattern, including the classical estimate."""
    model, batch = model_and_batch(kind, 32, _OPTIONS)
    one = PatternBatch(*(field[:1] for field in batch))
    return timed(lambda: model.sample(one, n), n)


def step(kind: str, n: int) -> Task:
    """Train on a batch of `n` patterns, forward and backward."""
    model, batch = model_and_batch(kind, 32, _OPTIONS)
    chosen = PatternBatch(*(field[:n] for field in batch))
    return timed(lambda: model.loss(chosen).backward(), n)


_KINDS = {"holography": "hologram", "ptychography": "ptychogram"}
_SIZES = (1, 4, 16, 64)
COMPARISONS = (
    *(
        Comparison(f"{name}s, 32²", partial(simulations, kind), sizes=_SIZES, axis="patterns", per="pattern")
        for kind, name in _KINDS.items()
    ),
    *(
        Comparison(f"posterior, {name}", partial(samples, kind), sizes=_SIZES, axis="samples", per="sample")
        for kind, name in _KINDS.items()
    ),
    Comparison("posterior, step of a flow", partial(step, "holography"), sizes=(16,), axis="patterns", per="pattern"),
)


def main() -> None:
    """Measure, print the table and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=32, help="width of the flow, in channels")
    parser.add_argument("--blocks", type=int, default=3, help="number of blocks of the flow")
    parser.add_argument("--threads", type=int, default=1, help="number of threads")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = [measure(kind, size, {"width": options.width, "n_blocks": options.blocks}) for kind, size in SIMULATORS]
    table = pd.DataFrame(rows).assign(threads=options.threads)
    print(table.round(1).to_string(index=False))
    write_table("image_posteriors", table)


if __name__ == "__main__":
    main()
