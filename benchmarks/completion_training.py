"""Training speed of the models that complete amplitudes: crystals per second, forward and backward.

    rephase bench completion_training -- --threads 2 --width 32 --batch 8

The models take turns on the same crystals, so that other load on the machine affects all of them; the fastest round of
each counts. ``unet_equal`` is a plain U-Net with as many parameters as the one with Fourier layers. The rows are also
written to ``runs/bench/completion_training.csv``.
"""

import argparse
import tempfile
from functools import cache, partial
from pathlib import Path

import pandas as pd
import torch
from measuring.tables import write_table
from measuring.timing import Comparison, Task, seconds_of, timed

from rephase.config.completion import MonoclinicConfig
from rephase.config.sections import ModelConfig
from rephase.devices import pick_device
from rephase.labs.completion.data import CompletionBatch, open_monoclinic
from rephase.labs.completion.models import AMPLITUDE_MODELS
from rephase.labs.completion.models.amplitudes import AmplitudeModel
from rephase.labs.completion.models.gan import AmplitudeGAN
from rephase.labs.completion.models.unets import AmplitudeUNet, FourierUNet
from rephase.learning.batches import on_device
from rephase.learning.models import build_model

CONFIG = MonoclinicConfig(n_samples=40)
WIDE = ("unet", "fourier_unet", "gan")


def count(model: torch.nn.Module) -> int:
    """Count the parameters of a model."""
    return sum(parameter.numel() for parameter in model.parameters())


def has_equal_groups(width: int) -> bool:
    """Return whether the channels of every level can be normalised in groups of about eight."""
    return all(n % max(1, n // 8) == 0 for n in (width, 2 * width, 4 * width))


def equal_width(width: int) -> int:
    """Return the width of the plain U-Net closest in parameters to the Fourier U-Net of the given width."""
    with torch.device("meta"):
        wanted = count(FourierUNet(CONFIG.shape, width=width))
        widths = filter(has_equal_groups, range(width, 2 * width))
        return min(widths, key=lambda w: abs(count(AmplitudeUNet(CONFIG.shape, width=w)) - wanted))


def models(width: int) -> dict[str, AmplitudeModel]:
    """Build every model of the table, U-Nets of one width, and a plain U-Net as large as the Fourier U-Net."""
    options = {name: {"width": width} for name in WIDE}
    every = {
        name: build_model(AMPLITUDE_MODELS, name, CONFIG.shape, ModelConfig(options=options.get(name, {})))
        for name in AMPLITUDE_MODELS
    }
    return every | {"unet_equal": AmplitudeUNet(CONFIG.shape, width=equal_width(width))}


def step(model: AmplitudeModel, batch: CompletionBatch) -> None:
    """Train on a batch, forward and backward."""
    model.zero_grad()
    if isinstance(model, AmplitudeGAN):
        amplitude = model(batch)
        model.critic_loss(amplitude, batch).backward()
        model.generator_loss(amplitude, batch).backward()
    else:
        model.loss(batch).backward()


@cache
def some_crystals(n: int) -> CompletionBatch:
    """Generate a batch of crystals."""
    with tempfile.TemporaryDirectory() as folder:
        return open_monoclinic(Path(folder), CONFIG)[list(range(n))]


def measure(width: int, batch_size: int, n_rounds: int, device: torch.device) -> pd.DataFrame:
    """Measure parameters and crystals per second of each model, and the ratio to the rate of ``unet_equal``."""
    batch = on_device(some_crystals(batch_size), device)
    every = {name: model.to(device).train() for name, model in models(width).items()}
    rounds = [
        {name: seconds_of(partial(step, model, batch), device) for name, model in every.items()}
        for _ in range(n_rounds + 1)
    ]
    rate = batch_size / pd.DataFrame(rounds[1:]).min()  # the first round warms up
    table = pd.DataFrame({"parameters": {name: count(model) for name, model in every.items()}, "crystals/s": rate})
    return table.assign(**{"ratio to unet_equal": rate / rate["unet_equal"]})


def step_of(name: str, n: int) -> Task:
    """Train a model of width 16 on a batch of `n` crystals, forward and backward."""
    return timed(partial(step, models(16)[name].train(), some_crystals(n)), n)


COMPARISONS = tuple(
    Comparison(f"amplitudes, step of {name}", partial(step_of, name), sizes=(4,), axis="crystals", per="crystal")
    for name in AMPLITUDE_MODELS
)


def main() -> None:
    """Measure, print the table and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="number of threads")
    parser.add_argument("--width", type=int, default=32, help="width of the U-Nets, in channels")
    parser.add_argument("--batch", type=int, default=8, help="crystals in a step, at most 40")
    parser.add_argument("--rounds", type=int, default=3, help="number of timed rounds")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = pick_device("auto")
    table = measure(options.width, options.batch, options.rounds, device)
    print(f"grid {CONFIG.shape}, width {options.width}, batch {options.batch}, {device}, {options.threads} threads\n")
    print(table.map("{:.4g}".format).to_string())
    write_table("completion_training", table.rename_axis("model").reset_index())


if __name__ == "__main__":
    main()
