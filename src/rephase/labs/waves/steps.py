"""Steps of the notebooks on posteriors of images: patterns, flow, calibration, comparison of methods, measured scan."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import pandas as pd
import torch

from rephase.config import Config
from rephase.config.waves import HolographyConfig, PtychographyConfig
from rephase.devices import at_once, pick_device, seeded
from rephase.errors import ImageError, blamed_on, check_file
from rephase.inference.calibration import LEVELS, UNEXPLAINED, coverage, predictive_check, sbc_ranks
from rephase.inference.cards import load_flow
from rephase.inference.patterns import (
    PatternBatch,
    PatternData,
    check_simulator,
    expected_of,
    fill_patterns,
    store_patterns,
)
from rephase.labs.laboratory import DataSet
from rephase.labs.waves.cards import IMAGE_POSTERIORS
from rephase.labs.waves.data.files import PtychoFile, open_ptychography
from rephase.labs.waves.data.patterns import WaveSimulator
from rephase.labs.waves.data.simulators import WAVE_SIMULATORS
from rephase.labs.waves.engines.ptychography import descend
from rephase.labs.waves.models import IMAGE_POSTERIOR_MODELS
from rephase.labs.waves.models.flows import ImageFlow
from rephase.labs.waves.scores import align_wave, amplitude_ssim, phase_ssim, ring_correlation, wave_error
from rephase.learning.batches import on_device
from rephase.learning.models import check_model
from rephase.learning.scoring import summarise
from rephase.learning.store import Shard
from rephase.learning.training import Training, train
from rephase.optics.noise import poisson_deviance
from rephase.optics.propagation import (
    FarField,
    Fresnel,
    Propagator,
    effective_geometry,
    far_field_pixel,
    fresnel_number,
)
from rephase.optics.ptychography import Scan, smallest_object
from rephase.runs import COLUMNS, Run
from rephase.runs.tables import left_out

WAVE_METRICS = {"wave_error": "1", "amplitude_ssim": "1", "phase_ssim": "1", "deviance": "1/pixel", "seconds": "s"}
_SEEN = 0.1  # of the brightest illumination; scores cover brighter pixels
_N_PREDICTED, _N_TIMED = 50, 3  # draws of a predictive check, and timings of a route

Route = Callable[[PatternBatch], torch.Tensor]
"""A method that maps patterns to waves [sample, row, column]."""


class ImagePosteriors(NamedTuple):
    """Posterior samples [n_draws, n_patterns, channel, row, column] of the first patterns of the test split."""

    batch: PatternBatch
    u: torch.Tensor


def check_waves(config: Config) -> None:
    """Raise if an experiment cannot be simulated, a flow cannot be built, weights do not fit, or a scan is missing."""
    for kind, make in WAVE_SIMULATORS.items():
        section = getattr(config.waves, kind)
        with blamed_on(f"waves.{kind}.data"):
            simulator = make(section.data)
            check_simulator(simulator)
        if section.inference.weights is not None:
            load_flow(section, IMAGE_POSTERIORS, kind)
        with blamed_on(f"waves.{kind}"):
            for name, model in section.models.items():
                check_model(IMAGE_POSTERIOR_MODELS, name, model, simulator.pattern_shape, simulator=simulator)
    scan = config.waves.ptychography.measured.path
    check_file("waves.ptychography.measured.path", scan, otherwise=" for none")


def config_of(run: Run, kind: str) -> HolographyConfig | PtychographyConfig:
    """Return the section ``holography`` or ``ptychography`` of the configuration."""
    return cast(HolographyConfig | PtychographyConfig, getattr(run.config.waves, kind))


def build_patterns(run: Run, kind: str) -> PatternData[WaveSimulator]:
    """Simulate or open the patterns of the run for ``holography`` or ``ptychography``."""
    simulator = WAVE_SIMULATORS[kind](config_of(run, kind).data)
    return store_patterns(_patterns_folder(run, kind), simulator, workers=run.workers)


def data_sets(run: Run) -> Iterator[DataSet]:
    """Yield the patterns of `build_patterns` for each kind."""
    for kind in WAVE_SIMULATORS:
        yield DataSet(kind, partial(_build_shard, run, kind))


def _build_shard(run: Run, kind: str, shard: Shard) -> None:
    simulator = WAVE_SIMULATORS[kind](config_of(run, kind).data)
    fill_patterns(_patterns_folder(run, kind), simulator, workers=run.workers, shard=shard)


def _patterns_folder(run: Run, kind: str) -> Path:
    return run.folder / "data" / f"{kind}.zarr"


def training_folder(run: Run, kind: str) -> Path:
    """Return the folder of the checkpoints and logs of the flow."""
    return run.checkpoints(kind) / "image_flow"


def open_flow(run: Run, kind: str, data: PatternData[WaveSimulator]) -> ImageFlow:
    """Open the flow of the weights that the run names, or its own flow, trained if necessary.

    Saves its loss curve, which is empty if weights are given.

    Raises
    ------
    WeightsError
        The weights are for another kind of experiment.
    ConfigError
        The weights were trained with other data settings than those of the run.
    """
    config = config_of(run, kind)
    if config.inference.weights is not None:
        run.save_table(f"wave_curve_{kind}", pd.DataFrame(columns=["epoch", "train_loss", "validation_loss"]))
        return load_flow(config, IMAGE_POSTERIORS, kind, device=pick_device(run.device))
    return train(run, _training(run, kind, lambda: data))


def trainings(run: Run) -> Iterator[Training[ImageFlow, PatternBatch]]:
    """Yield the trainings of the flows for which the configuration names no weights."""
    kinds = (kind for kind in WAVE_SIMULATORS if config_of(run, kind).inference.weights is None)
    return (_training(run, kind, partial(build_patterns, run, kind)) for kind in kinds)


def _training(run: Run, kind: str, data: Callable[[], PatternData[WaveSimulator]]) -> Training[ImageFlow, PatternBatch]:
    config, folder = config_of(run, kind), training_folder(run, kind)
    curve = f"wave_curve_{kind}"
    return Training(IMAGE_POSTERIOR_MODELS, "image_flow", config, folder, data, run.config.seed, curve=curve)


def draw_posteriors(run: Run, kind: str, data: PatternData[WaveSimulator], flow: ImageFlow) -> ImagePosteriors:
    """Draw ``n_draws`` posterior samples of each test pattern, and save a few of them for the figure."""
    config = config_of(run, kind)
    batch = data[data.splits["test"][: config.n_judged]]
    u = draw(flow, batch, config.n_draws, seed=run.config.seed)
    chosen, simulator = slice(config.n_shown), data.simulator
    pattern = torch.where(batch.mask, batch.counts, torch.nan)[chosen]
    run.save_arrays(
        f"wave_examples_{kind}",
        pattern=pattern.numpy(),
        photons=batch.photons[chosen].flatten().numpy(),
        truth=batch.u[chosen].numpy(),
        mean=u.mean(0)[chosen].numpy(),
        spread=u.std(0)[chosen].numpy(),
        samples=u[:2, chosen].numpy(),
        names=np.array(simulator.names),
        units=np.array(simulator.units),
        bounds=np.array(simulator.objects.bounds),
    )
    return ImagePosteriors(batch, u)


def draw(flow: ImageFlow, batch: PatternBatch, n: int, *, seed: int) -> torch.Tensor:
    """Draw posterior samples [n, n_patterns, channel, row, column] in pieces on the flow's device; move to the CPU."""
    with seeded(seed):
        return _asked(flow, batch, n, lambda piece: flow.sample(piece, n))


def _asked(
    flow: ImageFlow, batch: PatternBatch, n_each: int, ask: Callable[[PatternBatch], torch.Tensor]
) -> torch.Tensor:
    """Apply `ask` to pieces of a batch on the device of the flow; join to [..., n_patterns, channel, row, column].

    A piece has as many patterns as `n_each` samples of each allow.
    """
    device = next(flow.parameters()).device
    n_patterns = max(1, at_once("posterior images", device) // n_each)
    pieces = zip(*(field.split(n_patterns) for field in batch))
    return torch.cat([ask(on_device(PatternBatch(*piece), device)).cpu() for piece in pieces], dim=-4)


def measure_calibration(
    run: Run, kind: str, data: PatternData[WaveSimulator], posteriors: ImagePosteriors
) -> pd.DataFrame:
    """Measure the coverage of the intervals of pixels, and test whether samples explain their pattern.

    Saves ``wave_coverage_KIND`` and ``wave_predictive_KIND``, and as results ``wave_results_KIND_calibration`` the
    coverage of 90 % intervals and the fraction of patterns with a predictive p-value below 0.05.

    Returns
    -------
    pandas.DataFrame
        Coverage of each channel at three levels; last column: that fraction, the same for all channels.
    """
    simulator, (batch, u) = data.simulator, posteriors
    ranks = sbc_ranks(u, batch.u, generator=torch.Generator().manual_seed(run.config.seed))
    by_pattern = coverage(ranks.flatten(2).movedim(2, 0))  # errors of the pixels of one pattern are correlated
    shares, errors = by_pattern.mean(1), by_pattern.std(1) / len(ranks) ** 0.5
    rows = [
        (name, level, float(share), float(error))
        for level, *of_level in zip(LEVELS, shares, errors)
        for name, share, error in zip(simulator.names, *of_level)
    ]
    table = pd.DataFrame(rows, columns=["channel", "level", "coverage", "error"])
    run.save_table(f"wave_coverage_{kind}", table)
    predictive = _predictive(simulator, posteriors, run.config.seed)
    run.save_table(f"wave_predictive_{kind}", predictive)
    odd = float((predictive["p_value"] < UNEXPLAINED).mean())
    values = {f"coverage_90 {row.channel}": row.coverage for row in table[table["level"] == 0.9].itertuples()}
    found = pd.DataFrame({"metric": [*values, "unexplained"], "value": [*values.values(), odd]})
    found = found.assign(experiment=kind, model="flow", split="test", unit="", n=len(batch.u), seed=run.config.seed)
    run.save_table(f"wave_results_{kind}_calibration", found[COLUMNS])
    return coverage_summary(run, kind)


def coverage_summary(run: Run, kind: str) -> pd.DataFrame:
    """Coverage of each channel and the unexplained fraction, from the saved tables; see `measure_calibration`."""
    odd = float((run.table(f"wave_predictive_{kind}")["p_value"] < UNEXPLAINED).mean())
    shown = run.table(f"wave_coverage_{kind}").pivot_table(
        index="channel", columns="level", values="coverage", sort=False
    )[[0.5, 0.8, 0.9]]
    return shown.assign(**{f"p < {UNEXPLAINED}": odd}).round(3)


def _predictive(simulator: WaveSimulator, posteriors: ImagePosteriors, seed: int) -> pd.DataFrame:
    """Tabulate for each pattern the deviance per measured pixel of posterior samples and truth, and the p-value."""
    batch, u = posteriors.batch, posteriors.u[:_N_PREDICTED]
    generator = torch.Generator().manual_seed(seed)
    n_at_once = max(1, at_once("predicted patterns", u.device) // (len(u) * batch.mask[0].numel()))
    pieces = zip(u.split(n_at_once, 1), *(field.split(n_at_once) for field in batch))
    return pd.concat([_predicted(simulator, drawn, PatternBatch(*piece), generator) for drawn, *piece in pieces])


@torch.no_grad()
def _predicted(
    simulator: WaveSimulator, u: torch.Tensor, batch: PatternBatch, generator: torch.Generator
) -> pd.DataFrame:
    expected, true = (expected_of(simulator, each, batch) for each in (u, batch.u[None]))
    n_pixels = batch.mask.flatten(1).sum(1)
    found, best = (predictive_check(e, batch.counts, batch.mask, generator=generator) for e in (expected, true))
    return pd.DataFrame(
        {
            "photons": batch.photons.flatten(),
            "deviance": found.measured.mean(0) / n_pixels,
            "deviance of the truth": best.measured[0] / n_pixels,
            "p_value": found.p_value,
        }
    )


def routes(
    simulator: WaveSimulator, flow: ImageFlow, config: HolographyConfig | PtychographyConfig
) -> dict[str, Route]:
    """List the compared methods: cheap estimate, iterative engine, centre of the posterior; two also refined."""

    def learned(batch: PatternBatch) -> torch.Tensor:
        return simulator.wave(_asked(flow, batch, 1, flow.centre))

    def refined(first: Route) -> Route:
        return lambda batch: simulator.refine(batch, first(batch), n_iterations=config.n_refined)

    estimate, engine = simulator.estimate, partial(simulator.reconstruct, n_iterations=config.n_iterations)
    return {
        "estimate": estimate,
        "estimate_engine": refined(estimate),
        "engine": engine,
        "flow": learned,
        "flow_engine": refined(learned),
    }


def score_routes(run: Run, kind: str, data: PatternData[WaveSimulator], flow: ImageFlow) -> pd.DataFrame:
    """Score the flow and the classical methods on the same test patterns, and time each on one of them.

    Waves are first aligned in global phase, ramp and twin; scores cover the illuminated area. ``test:dim`` and
    ``test:bright`` are the patterns with fewer and more photons than the middle of their range. Saves
    ``wave_results_KIND_routes`` and ``wave_rings_KIND``, the mean Fourier ring correlation.
    """
    config, simulator = config_of(run, kind), data.simulator
    batch = data[data.splits["test"][: config.n_judged]]
    results, rings = [], []
    for name, route in routes(simulator, flow, config).items():
        aligned, scores = _scores(simulator, batch, route(batch))
        scores["seconds"] = torch.full((len(aligned),), _seconds(route, PatternBatch(*(field[:1] for field in batch))))
        results += _rows(kind, name, scores, batch.photons.flatten() > float(np.prod(config.data.photons)) ** 0.5)
        correlation = ring_correlation(*_seen(simulator, aligned, simulator.wave(batch.u))).mean(0)
        rings.append(pd.DataFrame({"model": name, "ring": range(len(correlation)), "correlation": correlation}))
    table = pd.DataFrame(results).assign(seed=run.config.seed)
    run.save_table(f"wave_results_{kind}_routes", table)
    run.save_table(f"wave_rings_{kind}", pd.concat(rings))
    return route_scores(run, kind)


def route_scores(run: Run, kind: str) -> pd.DataFrame:
    """Scores of every method on dim and bright patterns, from the saved table; see `score_routes`."""
    return summarise(run.table(f"wave_results_{kind}_routes"), [*WAVE_METRICS], parts=True).round(4)


def all_route_scores(run: Run) -> pd.DataFrame:
    """Scores of every method on all patterns, for the experiments so far."""
    results = run.results("wave_results")
    chosen = results[(results["split"] == "test") & results["metric"].isin([*WAVE_METRICS])]
    return chosen.pivot_table(index=["experiment", "model"], columns="metric", values="value", sort=False).round(4)


@torch.no_grad()
def _scores(
    simulator: WaveSimulator, batch: PatternBatch, wave: torch.Tensor
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Align a wave with the truth, and return it with its scores [sample]."""
    true, weight = simulator.wave(batch.u), (simulator.illumination > _SEEN).float()
    aligned = align_wave(wave, true, weight)
    inside, truth = _seen(simulator, aligned, true)
    deviance = poisson_deviance(batch.photons * simulator.pattern(wave), batch.counts, batch.mask)
    scores = {
        "wave_error": wave_error(aligned, true, weight),
        "phase_ssim": phase_ssim(inside, truth),
        "deviance": deviance / batch.mask.flatten(1).sum(1),
    }
    if "amplitude" in simulator.names:
        scores["amplitude_ssim"] = amplitude_ssim(inside, truth)
    return aligned, scores


def _seen(simulator: WaveSimulator, *waves: torch.Tensor) -> list[torch.Tensor]:
    """Cut waves to the smallest rectangle that contains the illuminated area."""
    rows, columns = (slice(int(i.min()), int(i.max()) + 1) for i in (simulator.illumination > _SEEN).nonzero().T)
    return [wave[..., rows, columns] for wave in waves]


def _seconds(route: Route, one: PatternBatch) -> float:
    """Median time for a single pattern, after one run to warm up."""
    times = []
    for _ in range(_N_TIMED + 1):
        start = time.perf_counter()
        route(one)
        times.append(time.perf_counter() - start)
    return float(np.median(times[1:]))


def _rows(kind: str, name: str, scores: dict[str, torch.Tensor], is_bright: torch.Tensor) -> list[dict[str, object]]:
    parts = {"test": torch.ones_like(is_bright), "test:dim": ~is_bright, "test:bright": is_bright}
    return [
        {
            "experiment": kind,
            "model": name,
            "split": split,
            "metric": metric,
            "unit": WAVE_METRICS[metric],
            "value": float(values[chosen].mean()),
            "n": int(chosen.sum()),
        }
        for metric, values in scores.items()
        for split, chosen in parts.items()
        if chosen.any()
    ]


def reconstruct_measured(run: Run) -> pd.DataFrame:
    """Reconstruct the measured scan of the configuration, with its probe and positions, for the figure.

    Returns
    -------
    pandas.DataFrame
        Mean squared misfit of the square roots of counts per pixel in the first and the last epoch; photon noise alone
        gives 1/4.
    """
    config = run.config.waves.ptychography.measured
    if config.path is None:
        run.save_arrays("ptychography_measured")
        missing = left_out("no waves.ptychography.measured.path in this configuration")
        run.save_table("measured_scan", missing)
        return missing
    data = open_ptychography(Path(config.path))
    frames, (scan, pixel) = data.frames(), scan_of(data, config.focus_mm)
    probe = scan.propagator.back(frames.mean(0).sqrt().to(torch.complex64))
    start = time.perf_counter()
    found = descend(
        frames,
        scan,
        probe,
        n_epochs=config.n_epochs,
        mask=data.mask,
        refine_probe=True,
        position_rate=config.position_rate,
        generator=torch.Generator().manual_seed(run.config.seed),
    )
    seconds = time.perf_counter() - start
    per_pixel = (found.misfit**2 * frames.sum() / (len(data) * data.mask.sum())).numpy()
    run.save_arrays(
        "ptychography_measured",
        frame=frames[0].numpy(),
        mask=data.mask.numpy(),
        object=found.object.numpy(),
        probe=found.probe.numpy(),
        positions=scan.positions.numpy(),
        misfit=per_pixel,
        pixel_nm=np.array(pixel),
    )
    table = pd.DataFrame(
        {
            "frames": [len(data)],
            "pixel (nm)": [round(pixel, 1)],
            "first epoch": [per_pixel[0].round(2)],
            "last epoch": [per_pixel[-1].round(2)],
            "seconds": [round(seconds)],
        }
    )
    run.save_table("measured_scan", table)
    return table


def scan_of(data: PtychoFile, focus_mm: float | None) -> tuple[Scan, float]:
    """Return the scan of a file and the pixel of its object in nm: behind a focus, or without one in the far field.

    Raises
    ------
    ImageError
        Far-field frames are not square, so that pixels of the object would not be square either.
    """
    shape = data.shape[1:]
    propagator: Propagator = FarField()
    if focus_mm is None:
        if shape[0] != shape[1]:
            raise ImageError(
                f"{data.path}: frames of {shape[0]} x {shape[1]} pixels: expected square frames for a far field; cut "
                "them, or set measured.focus_mm for a near field"
            )
        pixel = far_field_pixel(
            wavelength=data.wavelength, detector_pixel=data.pixel, distance=data.distance, n_pixels=shape[0]
        )
    else:
        cone = effective_geometry(pixel=data.pixel, source_distance=1e6 * focus_mm, detector_distance=data.distance)
        number = fresnel_number(wavelength=data.wavelength, pixel=cone.pixel, distance=cone.distance)
        pixel, propagator = cone.pixel, Fresnel(number)
    positions = (data.positions / pixel).float()
    large = smallest_object(positions, shape)
    return Scan(positions, object_shape=large, probe_shape=shape, propagator=propagator), pixel
