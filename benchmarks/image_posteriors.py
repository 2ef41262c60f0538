"""Image flows: time of posterior samples and of a training step, for holograms and scans of two sizes.

    rephase bench image_posteriors -- --width 32 --blocks 3

Times are in ms. ``one`` is for a single sample of a single pattern, including the classical estimate that the flow
takes as input; ``of 64`` is for each of 64 samples of one pattern; ``step`` is for each pattern of a batch of 16 in a
training step. Weights are random, but the times are those of trained flows. The rows are also written to
``runs/bench/image_posteriors.csv``.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

from rephase.config.sections import ModelConfig
from rephase.config.waves import HologramSimulation, PtychogramSimulation
from rephase.inference.patterns import PatternBatch
from rephase.labs.waves.data.holograms import HologramSimulator
from rephase.labs.waves.data.ptychograms import PtychogramSimulator
from rephase.labs.waves.models import IMAGE_POSTERIOR_MODELS
from rephase.learning.models import build_model
from rephase.paths import RUNS

SIMULATORS = {
    ("holography", 32): lambda: HologramSimulator(HologramSimulation()),
    ("holography", 64): lambda: HologramSimulator(HologramSimulation(size=64)),
    ("ptychography", 32): lambda: PtychogramSimulator(PtychogramSimulation()),
    ("ptychography", 64): lambda: PtychogramSimulator(
        PtychogramSimulation(size=64, frame=24, probe_width=8.0, n_side=11, step=3.9)
    ),
}
_N_TIMED = 5


def milliseconds(step: Callable[[], object]) -> float:
    """Return the median time of a step in ms, after one that warms up."""
    times = []
    for _ in range(_N_TIMED + 1):
        start = time.perf_counter()
        step()
        times.append(1e3 * (time.perf_counter() - start))
    return float(np.median(times[1:]))


def measure(kind: str, size: int, options: dict[str, int]) -> dict[str, object]:
    """Measure a row: times in ms, and the number of weights."""
    simulator = SIMULATORS[kind, size]()
    model = build_model(
        IMAGE_POSTERIOR_MODELS, "image_flow", simulator.pattern_shape, ModelConfig(options=options), simulator=simulator
    )
    batch = simulator.draw(16, np.random.default_rng(0))
    one = PatternBatch(*(field[:1] for field in batch))
    return {
        "kind": kind,
        "size": size,
        "one": milliseconds(lambda: model.sample(one, 1)),
        "of 64": milliseconds(lambda: model.sample(one, 64)) / 64,
        "step": milliseconds(lambda: model.loss(batch).backward()) / 16,
        "weights": sum(weight.numel() for weight in model.parameters()),
    }


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
    folder = RUNS / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / "image_posteriors.csv", index=False)


if __name__ == "__main__":
    main()
