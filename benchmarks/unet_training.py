"""Speed and quality of the training of the 3D U-Net, against a plain loop of PyTorch over the same network.

    rephase bench unet_training -- --threads 1 --h-max 6 --epochs 4

``plain`` is a loop in float32 with torch's default layout of memory, the same order of samples, optimiser and cycle of
the learning rate, and validation after each epoch. The others are `rephase.learning.training.fit` with each precision:
through Lightning, with checkpoints and logs. The ways take turns, and the fastest round of each counts, in process time
on a CPU. ``loss`` is the validation loss of the best epoch, mean and standard deviation over the rounds, each of which
has its own seed. The rows are also written to ``runs/bench/unet_training.csv``.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from measuring.tables import write_table
from measuring.timing import Comparison, Task, timed

from rephase.config.crystals import CrystalsConfig, DataConfig, PhaseTraining
from rephase.config.sections import ModelConfig
from rephase.devices import pick_device
from rephase.labs.crystals.data import PerturbedData, open_perturbed
from rephase.labs.crystals.models import MODELS
from rephase.learning.batches import on_device
from rephase.learning.models import build_model
from rephase.learning.training import fit, loss_curve

NAME, PLAIN = "unet3d", "plain"
PRECISIONS = ("32-true", "bf16-mixed")
Train = Callable[[PerturbedData, CrystalsConfig, int, torch.device], float]
"""Trains on data with a configuration and a seed; returns the best validation loss."""
CRYSTALS = ("Ni", "NaCl", "CaF2", "SrTiO3")


def plain_loop(data: PerturbedData, config: CrystalsConfig, seed: int, device: torch.device) -> float:
    """Train with a plain loop; return the best validation loss."""
    options = config.training_of(NAME)
    model = build_model(MODELS, NAME, data.shape, config.models[NAME], loss=options.loss, seed=seed)
    model.to(device, memory_format=torch.contiguous_format)  # torch's default layout, of weights and of input
    model.input.register_forward_hook(lambda module, given, channels: channels.contiguous())
    loader = data.loader("train", options.batch_size, seed=seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, options.learning_rate, total_steps=options.epochs * len(loader), pct_start=0.2
    )
    losses = []
    for epoch in range(options.epochs):
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            optimiser.zero_grad()
            model.loss(on_device(batch, device)).backward()
            optimiser.step()
            cycle.step()
        with torch.no_grad():
            batches = data.loader("validation", options.batch_size)
            parts = [(len(batch.F), float(model.loss(on_device(batch, device)))) for batch in batches]
        losses.append(np.average([loss for _, loss in parts], weights=[n for n, _ in parts]))
    return min(losses)


def lightning(data: PerturbedData, config: CrystalsConfig, seed: int, device: torch.device) -> float:
    """Train with `fit`; return the best validation loss."""
    with tempfile.TemporaryDirectory() as folder:
        fit(MODELS, NAME, data, config, Path(folder), seed=seed, device=device.type, progress=False)
        return float(loss_curve(Path(folder))["validation_loss"].min())


def configuration(options: argparse.Namespace, precision: str) -> CrystalsConfig:
    """Return the configuration of a way to train."""
    data = DataConfig(
        crystals=CRYSTALS,
        unseen=(),
        n_per_crystal=options.samples // len(CRYSTALS),
        h_max=(options.h_max,) * 3,
        d_min=0,
    )
    training = PhaseTraining(
        epochs=options.epochs, batch_size=options.batch, learning_rate=0.003, patience=1000, precision=precision
    )
    return CrystalsConfig(data=data, models={NAME: ModelConfig(options={"width": options.width})}, training=training)


def measure(options: argparse.Namespace, device: torch.device) -> pd.DataFrame:
    """Measure samples per second of the fastest round, the ratio to the plain loop, and the validation losses."""
    ways = {PLAIN: (plain_loop, configuration(options, "32-true"))}
    ways |= {f"fit, {precision}": (lightning, configuration(options, precision)) for precision in PRECISIONS}
    with tempfile.TemporaryDirectory() as folder:
        data = open_perturbed(Path(folder), ways[PLAIN][1].data)
    one_epoch = argparse.Namespace(**{**vars(options), "epochs": 1})
    for train, config in ways.values():  # warms up, and imports Lightning
        train(data, configuration(one_epoch, config.training.precision), 0, device)
    rows = []
    for seed in range(options.rounds):
        for name, (train, config) in ways.items():
            start = time.process_time()
            loss = train(data, config, seed, device)
            rows.append({"way": name, "seconds": time.process_time() - start, "loss": loss})
    grouped = pd.DataFrame(rows).groupby("way", sort=False)
    rate = options.epochs * len(data.splits["train"]) / grouped["seconds"].min()
    table = pd.DataFrame({"samples/s": rate, "ratio to plain": rate / rate[PLAIN]})
    return table.assign(loss=grouped["loss"].mean(), **{"loss, s.d.": grouped["loss"].std()})


def training(train: Train, precision: str, n: int) -> Task:
    """Train for an epoch on small grids of `n` points along each axis."""
    options = argparse.Namespace(h_max=(n - 1) // 2, width=16, batch=32, samples=160, epochs=1)
    config = configuration(options, precision)
    with tempfile.TemporaryDirectory() as folder:
        data = open_perturbed(Path(folder), config.data)
    return timed(partial(train, data, config, 0, torch.device("cpu")), len(data.splits["train"]))


COMPARISONS = tuple(
    Comparison(
        f"3D U-Net, training, {precision}",
        ours=partial(training, lightning, precision),
        peers={"plain loop of torch": partial(training, plain_loop, "32-true")},
        sizes=(13,),
        axis="grid points along an axis",
        per="sample",
    )
    for precision in PRECISIONS
)


def main() -> None:
    """Measure, print the table and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="number of threads")
    parser.add_argument("--h-max", type=int, default=6, help="largest index along each axis; the grid has 2 h_max + 1")
    parser.add_argument("--width", type=int, default=16, help="width of the U-Net, in channels")
    parser.add_argument("--batch", type=int, default=32, help="samples in a step")
    parser.add_argument("--samples", type=int, default=400, help="samples of all splits")
    parser.add_argument("--epochs", type=int, default=4, help="epochs of each training")
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds, each with another seed")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = pick_device("auto")
    table = measure(options, device)
    print(f"grid {2 * options.h_max + 1}^3, width {options.width}, batch {options.batch}, {device}\n")
    print(table.map("{:.4g}".format).to_string())
    write_table("unet_training", table.reset_index())


if __name__ == "__main__":
    main()
