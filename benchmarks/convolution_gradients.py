"""Which gradients of convolutions on a CPU are wrong, in torch's layers and in those of the models, and their cost.

Shapes are drawn at random. Memory freed before each pass is filled with large numbers, because an uninitialised
gradient shows the previous content. A gradient counts as wrong if it differs by 10 % from that in double precision.

    python benchmarks/convolution_gradients.py [--seconds 60]
"""

import argparse
import time

import numpy as np
import pandas as pd
import torch
from torch import nn

from rephase.learning.convolutions import CONVOLUTIONS

TORCH = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
PRECISIONS = {"float32": False, "bfloat16": True}


def draw(rng: np.random.Generator) -> tuple[tuple[int, ...], dict]:
    """Draw a grid of one to three axes, and a convolution for it."""
    while True:
        groups, kernel = int(rng.choice([1, 1, 2, 4])), int(rng.choice([1, 2, 3, 5, 7]))
        grid = tuple(rng.integers(1, 8, rng.integers(1, 4)).tolist())
        options = {
            "in_channels": int(rng.choice([4, 8, 16, 32])),
            "out_channels": int(rng.choice([4, 8, 16, 32])),
            "kernel_size": kernel,
            "stride": int(rng.integers(1, 3)),
            "padding": int(rng.integers(0, kernel // 2 + 1)),
            "dilation": int(rng.choice([1, 1, 2])),
            "groups": groups,
        }
        if options["dilation"] * (kernel - 1) < min(grid) + 2 * options["padding"]:
            return grid, options


def is_wrong(layer: nn.Module, x: torch.Tensor, exact: nn.Module, autocast: bool) -> bool:
    """Return whether a gradient of weights or biases is wrong in one of three passes."""
    for _ in range(3):
        layer.zero_grad()
        junk = [torch.full((2**power + half * 2 ** (power - 1),), 1e20) for power in range(5, 19) for half in (0, 1)]
        del junk
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            y = layer(x)
        y.float().square().sum().backward()
        for p, q in zip(layer.parameters(), exact.parameters()):
            if not (p.grad - q.grad).norm() <= 0.1 * q.grad.norm() + 1e-6:
                return True
    return False


def scan(seconds: float) -> pd.DataFrame:
    """Return one row for each shape, layer and precision."""
    rng, rows, end = np.random.default_rng(0), [], time.monotonic() + seconds
    while time.monotonic() < end:
        grid, options = draw(rng)
        exact, x = (
            TORCH[len(grid)](**options).double(),
            torch.randn(int(rng.choice([1, 4, 8])), options["in_channels"], *grid),
        )
        exact(x.double()).square().sum().backward()
        fits = options["dilation"] * (options["kernel_size"] - 1) < min(grid)
        for name, made in (("torch", TORCH), ("rephase", CONVOLUTIONS)):
            layer = made[len(grid)](**options)
            layer.load_state_dict(exact.state_dict())
            for precision, autocast in PRECISIONS.items():
                rows.append(
                    {
                        "layer": name,
                        "axes": len(grid),
                        "kernel": "within the grid" if fits else "larger",
                        "precision": precision,
                        "wrong": is_wrong(layer, x, exact, autocast),
                    }
                )
    return pd.DataFrame(rows)


def milliseconds(layer: nn.Module, x: torch.Tensor, autocast: bool) -> float:
    """Return the median time of 30 passes, forward and backward."""
    times = []
    for _ in range(30):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            y = layer(x)
        y.float().sum().backward()
        times.append(1e3 * (time.perf_counter() - start))
    return float(np.median(times))


def costs() -> pd.DataFrame:
    """Measure the times at the bottom of a U-Net, 64 channels on a 2^3 grid: wrong, padded, and in float32."""
    x, made = torch.randn(16, 64, 2, 2, 2), {"torch": nn.Conv3d, "rephase": CONVOLUTIONS[3]}
    return pd.DataFrame(
        [
            {"layer": name, "precision": precision, "ms": milliseconds(layer(64, 64, 3, padding=1), x, autocast)}
            for name, layer in made.items()
            for precision, autocast in PRECISIONS.items()
        ]
    )


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="time for the search")
    torch.set_num_threads(1)
    table = scan(parser.parse_args().seconds).groupby(["layer", "kernel", "precision", "axes"])["wrong"]
    print(table.agg(["sum", "size"]).rename(columns={"sum": "wrong", "size": "of"}).unstack("axes").to_string())
    print(costs().round(2).to_string(index=False))


if __name__ == "__main__":
    main()
