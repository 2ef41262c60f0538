"""Training steps of a U-Net, a ResNet and a flow by precision, beside the same layers as plain PyTorch."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from gpu.measuring import CPU, Row, Setup, scan, seconds_of, share_of_peak
from gpu.peaks import PRECISIONS, precision
from rephase.config.completion import MonoclinicConfig
from rephase.config.scattering import SaxsSimulation
from rephase.devices import at_once
from rephase.labs.completion.data import MonoclinicData, monoclinic_group
from rephase.labs.completion.models import AMPLITUDE_MODELS
from rephase.labs.images.data.batch import ImageBatch
from rephase.labs.images.models import IMAGE_MODELS
from rephase.labs.scattering.data.saxs import SaxsSimulator
from rephase.labs.scattering.models import POSTERIOR_MODELS
from rephase.learning.batches import Batches, StreamedData, on_device

_LAYERS = (nn.modules.conv._ConvNd, nn.Linear, nn.GroupNorm, nn.BatchNorm2d, nn.LayerNorm)


class Training(NamedTuple):
    """A model with ``make(is_rehearsal)``, which returns it with a batch of 16 samples; and batch sizes to try."""

    unit: str
    make: Callable[[bool], tuple[nn.Module, Any]]
    sizes: tuple[int, ...]


def crystals_to_complete(is_rehearsal: bool) -> MonoclinicData:
    """Return a dataset without stored samples, which draws random crystals."""
    small = {"shape": (12, 8, 10), "d_min": 2.6, "measured": {"d_min": (3.0, 3.0)}, "n_atoms": (5, 6)}
    config = MonoclinicConfig(**(small if is_rehearsal else {}))
    one, group = torch.zeros(1, *config.shape, dtype=torch.complex64), torch.zeros(1, dtype=torch.long)
    symmetries = [monoclinic_group(symbol) for symbol in config.space_groups]
    return MonoclinicData(one, 10 * torch.eye(3, dtype=torch.float64)[None], group, symmetries, config, {})


def unet(is_rehearsal: bool) -> tuple[nn.Module, Any]:
    """The U-Net that completes amplitudes of monoclinic crystals."""
    source = crystals_to_complete(is_rehearsal)
    batch = source.draw(4 if is_rehearsal else 16, np.random.default_rng(0))
    return AMPLITUDE_MODELS["unet"](source.config.shape, width=4 if is_rehearsal else 64), batch


def resnet(is_rehearsal: bool) -> tuple[nn.Module, Any]:
    """The classifier of diffraction images."""
    size, generator = 32 if is_rehearsal else 224, torch.Generator().manual_seed(0)
    image = torch.poisson(20 * torch.rand(16, size, size, generator=generator), generator=generator)
    labels = (torch.rand(16, 11, generator=generator) > 0.5).float()
    model = IMAGE_MODELS["resnet18"]((size, size), width=4 if is_rehearsal else 64)
    return model, ImageBatch(image, torch.ones_like(image, dtype=torch.bool), labels)


def flow(is_rehearsal: bool) -> tuple[nn.Module, Any]:
    """The spline flow of small-angle scattering."""
    simulator = SaxsSimulator(SaxsSimulation())
    batch = simulator.draw(16, np.random.default_rng(0))
    return POSTERIOR_MODELS["nsf"](simulator.pattern_shape, simulator=simulator), batch


TRAININGS = {
    "U-Net": Training("crystals", unet, (8, 32, 128)),
    "ResNet-18": Training("images", resnet, (16, 64, 256)),
    "flow": Training("curves", flow, (64, 512, 4096)),
}


def enlarged(batch: Any, n: int, device: torch.device) -> Any:
    """Return a batch of `n` samples on a device, the given ones again and again."""
    rows = torch.arange(n) % len(batch[0])
    return on_device(type(batch)(*(field[rows] for field in batch)), device)


def step(model: nn.Module, optimiser: torch.optim.Optimizer, batch: Any) -> None:
    """Take a step of a training."""
    optimiser.zero_grad(set_to_none=True)
    model.loss(batch).backward()
    optimiser.step()


def layers_alone(model: nn.Module, batch: Any) -> Callable[[], None]:
    """Return a pass, forward and backward, through each layer of a model alone, on inputs of the right shapes."""
    met: list[tuple[nn.Module, torch.Tensor]] = []
    hooks = [
        layer.register_forward_hook(lambda layer, given, _: met.append((layer, given[0].detach().requires_grad_())))
        for layer in model.modules()
        if isinstance(layer, _LAYERS)
    ]
    with torch.no_grad():
        model(batch) if not hasattr(model, "log_prob") else model.log_prob(batch)
    for hook in hooks:
        hook.remove()

    def call() -> None:
        for layer, given in met:
            out = layer(given)
            out.backward(torch.ones_like(out))

    return call


def training_rows(name: str, setup: Setup) -> Iterator[Row]:
    """Measure a training step in each precision, at the best of some batch sizes, and its layers alone.

    ``of_layers`` is the time of the layers alone over that of the step: 1 means that nothing else takes time.
    """
    training = TRAININGS[name]
    model, batch = training.make(setup.is_rehearsal)
    sizes = (2,) if setup.is_rehearsal else training.sizes
    cpu_model, device = model.train(), setup.device
    optimiser = torch.optim.AdamW(cpu_model.parameters())
    few = enlarged(batch, 2, CPU)
    cpu = len(few[0]) / seconds_of(partial(step, cpu_model, optimiser, few), CPU, at_most=0)
    apart = loss_difference(model, few, device)
    model = model.to(device)
    optimiser = torch.optim.AdamW(model.parameters())
    with FlopCounterMode(display=False) as counted:
        step(model, optimiser, enlarged(batch, sizes[0], device))
    flop = counted.get_total_flops() / sizes[0]
    for kind in PRECISIONS:
        with precision(kind, device):
            rate, n = best_batch(model, optimiser, batch, sizes, device)
            alone = n / seconds_of(layers_alone(model, enlarged(batch, n, device)), device, at_most=0.4, n_most=5)
        row = {"kernel": f"{name}, {kind}, batch {n}", "unit": training.unit, "cpu_per_s": cpu, "gpu_per_s": rate}
        row |= {"ratio": rate / cpu, "difference": apart, "of_layers": rate / alone}
        yield row | share_of_peak(rate, flop, 0, setup, kind)


def loss_difference(model: nn.Module, batch: Any, device: torch.device) -> float:
    """Return the relative difference of the losses of a batch on both devices, without what is drawn at random."""
    losses = []
    for on in (CPU, device):
        with torch.no_grad(), precision("fp32", on):
            losses.append(float(model.eval().to(on).loss(on_device(batch, on))))
    model.train()
    return abs(losses[1] - losses[0]) / abs(losses[0])


def best_batch(
    model: nn.Module, optimiser: torch.optim.Optimizer, batch: Any, sizes: tuple[int, ...], device: torch.device
) -> tuple[float, int]:
    """Return the highest rate in samples per second, and the batch size that has it."""
    rates = {}
    for n in sizes:
        try:
            call = partial(step, model, optimiser, enlarged(batch, n, device))
            rates[n] = n / seconds_of(call, device, at_most=0.6, n_most=10)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
    best = max(rates, key=lambda n: rates[n])
    return rates[best], best


def streamed_rows(setup: Setup) -> Iterator[Row]:
    """Measure random crystals that worker processes draw and put on the device, as in a streamed training."""
    source, n = crystals_to_complete(setup.is_rehearsal), 2 if setup.is_rehearsal else 64
    n_workers = 1 if setup.is_rehearsal else max(1, len(os.sched_getaffinity(0)) - 1)

    def rate(n_workers: int, **options: Any) -> float:
        stream = StreamedData(source, n * max(1, n_workers), n, seed=0)
        order = Batches(np.arange(len(stream)), 1, 0)
        loader = DataLoader(stream, sampler=order, batch_size=None, num_workers=n_workers, **options)
        return stream.n_samples / seconds_of(partial(_drawn, loader, setup.device), setup.device, at_most=0)

    alone, together = rate(0), rate(n_workers, persistent_workers=True)
    row = {"kernel": f"streamed crystals, {n_workers} workers", "unit": "crystals", "cpu_per_s": alone}
    yield row | {"gpu_per_s": together, "ratio": together / alone}


def _drawn(loader: DataLoader, device: torch.device) -> None:
    for batch in loader:
        on_device(batch, device)


def prediction_scans(setup: Setup) -> Iterator[Row]:
    """Scan the pieces of predicted labels of images, and of posterior samples of patterns."""
    n = 4 if setup.is_rehearsal else 2048
    for work, make in (("scored images", resnet), ("posterior patterns", flow)):
        model, batch = make(setup.is_rehearsal)
        model, all_samples = model.eval().to(setup.device), enlarged(batch, n, setup.device)

        def call(work: str = work, model: Any = model, samples: Any = all_samples) -> None:
            with torch.no_grad():
                for piece in zip(*(field.split(at_once(work, setup.device)) for field in samples)):
                    part = type(samples)(*piece)
                    model.predict(part) if work == "scored images" else model.sample(part, 100)

        yield scan(work, call, n, setup, (4, 1, 1 / 4, 1 / 16))
