"""Training speed of the classifiers of diffraction images: images per second, and the time spent waiting for data.

    rephase bench image_training -- --size 224 --width 64 --models resnet18 vgg16

Every batch is read from the store as in a training, with its noise, as images and as correlation maps; ``waiting`` is
the fraction of the time spent on that. The rows are also written to ``runs/bench/image_training.csv``.
"""

import argparse
import tempfile
import time
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from measuring.tables import write_table
from measuring.timing import Comparison, Task, timed

from rephase.config.images import ImageDataConfig, ImageNoise
from rephase.config.sections import ModelConfig
from rephase.devices import pick_device
from rephase.labs.images.data.sources import open_images
from rephase.labs.images.data.stored import ImageData
from rephase.labs.images.models import IMAGE_MODELS
from rephase.labs.images.models.networks import ImageClassifier
from rephase.learning.batches import on_device
from rephase.learning.models import build_model


def measure(model: ImageClassifier, data: ImageData, batch_size: int, n_batches: int, device: torch.device) -> tuple:
    """Measure the seconds spent on reading batches, and on training with them, forward and backward."""
    waiting, learning, batches = 0.0, 0.0, iter(data.loader("train", batch_size, seed=0))
    for number in range(n_batches + 1):
        start = time.perf_counter()
        batch = on_device(next(batches), device)
        come = time.perf_counter()
        model.loss(batch).backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if number:  # the first batch warms up
            waiting, learning = waiting + come - start, learning + time.perf_counter() - come
    return waiting, learning


@cache
def some_images() -> tuple[ImageData, tempfile.TemporaryDirectory]:
    """Simulate images of 96 x 96 pixels; the folder is removed when this process ends."""
    folder = tempfile.TemporaryDirectory()
    return open_images(Path(folder.name), ImageDataConfig(n_samples=64, chunk=64, size=96)), folder


def step(name: str, n: int) -> Task:
    """Train on a batch of `n` images, forward and backward."""
    data, _ = some_images()
    model = build_model(IMAGE_MODELS, name, data.shape, ModelConfig(options={"width": 16}), n_labels=11).train()
    batch = next(iter(data.loader("train", n, seed=0)))
    return timed(lambda: model.loss(batch).backward(), n)


def reading(n: int) -> Task:
    """Read the images for training, in batches of 16, with their noise."""
    data, _ = some_images()
    return timed(lambda: sum(1 for _ in data.loader("train", 16, seed=0)), n)


COMPARISONS = (
    Comparison("images, step of resnet18", partial(step, "resnet18"), sizes=(16,), axis="images", per="image"),
    Comparison("images, step of vgg16", partial(step, "vgg16"), sizes=(16,), axis="images", per="image"),
    Comparison("images, reading batches", reading, sizes=(51,), axis="images", per="image"),
)


def main() -> None:
    """Measure, print the table and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=224, help="pixels along each side of an image")
    parser.add_argument("--width", type=int, default=64, help="width of the networks, in channels")
    parser.add_argument("--batch", type=int, default=8, help="images in a batch")
    parser.add_argument("--batches", type=int, default=3, help="number of timed batches")
    parser.add_argument("--threads", type=int, default=1, help="number of threads")
    parser.add_argument("--gaussian", type=float, default=2.0, help="standard deviation of the noise / mean count")
    parser.add_argument(
        "--models", nargs="+", default=["resnet18", "vgg16"], choices=sorted(IMAGE_MODELS), help="models to time"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device, rows = pick_device("auto"), []
    n = 2 * int(np.ceil(options.batch * (options.batches + 1) / 0.8 / 2) + 10)
    for kind in ("image", "correlation"):
        config = ImageDataConfig(
            n_samples=n, chunk=n, size=options.size, input=kind, noise=ImageNoise(gaussian=options.gaussian)
        )
        with tempfile.TemporaryDirectory() as folder:
            data = open_images(Path(folder), config)
            for name in options.models:
                model = build_model(
                    IMAGE_MODELS, name, data.shape, ModelConfig(options={"width": options.width}), n_labels=11
                )
                waiting, learning = measure(model.to(device).train(), data, options.batch, options.batches, device)
                rate = options.batch * options.batches / (waiting + learning)
                rows.append({"model": name, "input": kind, "images/s": rate, "waiting": waiting / (waiting + learning)})
    table = pd.DataFrame(rows)
    print(f"{options.size} x {options.size}, width {options.width}, batch {options.batch}, {device}\n")
    print(table.round(3).to_string(index=False))
    write_table("image_training", table)


if __name__ == "__main__":
    main()
