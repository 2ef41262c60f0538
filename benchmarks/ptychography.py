"""Ptychographic engines: time and error on simulated frames, and their fit to a measured near-field scan.

    rephase bench ptychography -- --epochs 60 --measured SCAN.cxi --focus-mm 3.65

Simulated: 169 frames of 32 x 32 in the far field, with a known probe and Poisson counts; errors and similarities are
those of the illuminated area. Measured: the probe is refined; ``per_pixel`` is the mean squared misfit of square roots
of counts, which is 1/4 for Poisson noise alone. The rows are also written to ``runs/bench/ptychography.csv``.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from measuring.tables import write_table
from measuring.timing import Comparison, Task, now, timed

from rephase.labs.waves.data.files import open_ptychography
from rephase.labs.waves.engines.ptychography import (
    Reconstruction,
    conjugate_gradients,
    descend,
    epie,
    reflect_exit_waves,
)
from rephase.labs.waves.scores import align_wave, amplitude_ssim, phase_ssim, wave_error
from rephase.optics.noise import count
from rephase.optics.propagation import FarField, Fresnel, effective_geometry, fresnel_number
from rephase.optics.ptychography import Scan, gaussian_probe, raster, smallest_object


def seeded(seed: int = 0) -> torch.Generator:
    """Return a generator of random numbers."""
    return torch.Generator().manual_seed(seed)


def simulated(n_photons: float) -> tuple[Scan, torch.Tensor, torch.Tensor]:
    """Return a scan, its probe and an object of smooth blobs."""
    positions = raster(13, step=4.0, jitter=0.2, generator=seeded(1))
    shape = smallest_object(positions, (32, 32))
    coarse = torch.rand(2, 1, 1, 16, 16, generator=seeded(2))
    amplitude, phase = (torch.nn.functional.interpolate(c, shape, mode="bicubic")[0, 0] for c in coarse)
    scan = Scan(positions, object_shape=shape, probe_shape=(32, 32), propagator=FarField())
    probe = gaussian_probe(32, width=9, n_photons=n_photons, curvature=2.0)
    return scan, probe, torch.polar(0.6 + 0.4 * amplitude.clamp(0, 1), -1.5 * phase)


def engines() -> dict[str, Callable[..., Reconstruction]]:
    """Return the engines for a known probe, each with its own random numbers."""
    return {
        "epie": partial(epie, generator=seeded()),
        "epie, 8 at once": partial(epie, generator=seeded(), at_once=8),
        "descend": partial(descend, generator=seeded()),
        "conjugate gradients": conjugate_gradients,
        "reflect": reflect_exit_waves,
    }


def epochs(name: str, n: int) -> Task:
    """Run `n` epochs of an engine on the simulated frames."""
    scan, probe, true = simulated(1e6)
    frames = count(scan.frames(true, probe), generator=seeded(3))
    return timed(lambda: engines()[name](frames, scan, probe, n_epochs=n), n)


COMPARISONS = tuple(
    Comparison(f"ptychography, {name}", partial(epochs, name), sizes=(5,), axis="epochs", per="epoch")
    for name in engines()
)


def score_simulated(n_epochs: int) -> list[dict]:
    """Return a row for each engine, with high and low noise."""
    rows = []
    for n_photons in (1e4, 1e6):
        scan, probe, true = simulated(n_photons)
        seen = scan.put(scan.probes(probe).abs() ** 2)
        seen = seen > 0.1 * seen.max()
        bounds = tuple(slice(int(i.min()), int(i.max()) + 1) for i in seen.nonzero().T)
        frames = count(scan.frames(true, probe), generator=seeded(3))
        for name, engine in engines().items():
            start = now()
            found = engine(frames, scan, probe, n_epochs=n_epochs)
            seconds = now() - start
            aligned = align_wave(found.object[None], true[None], seen)
            inside, truth = (wave[0][bounds][None] for wave in (aligned, true[None]))
            scores = {
                "error": wave_error(aligned, true[None], seen),
                "amplitude_ssim": amplitude_ssim(inside, truth),
                "phase_ssim": phase_ssim(inside, truth),
            }
            scores = {key: float(value) for key, value in scores.items()}
            rows.append({"engine": name, "photons per frame": n_photons, "seconds": seconds, **scores})
    return rows


def score_measured(path: Path, focus_mm: float, n_epochs: int) -> list[dict]:
    """Score the fit of each engine to a near-field scan behind a focus."""
    data = open_ptychography(path)
    geometry = effective_geometry(pixel=data.pixel, source_distance=1e6 * focus_mm, detector_distance=data.distance)
    number = fresnel_number(wavelength=data.wavelength, pixel=geometry.pixel, distance=geometry.distance)
    positions, frames = (data.positions / geometry.pixel).float(), data.frames()
    shape = smallest_object(positions, data.shape[1:])
    scan = Scan(positions, object_shape=shape, probe_shape=data.shape[1:], propagator=Fresnel(number))
    probe = scan.propagator.back(frames.mean(0).sqrt().to(torch.complex64))
    engines = {
        "epie, 8 at once": partial(epie, at_once=8, probe_step=1.0),
        "descend": partial(descend, refine_probe=True),
        "descend, positions": partial(descend, refine_probe=True, position_rate=0.04),
    }
    rows = []
    for name, engine in engines.items():
        start = now()
        misfit = engine(frames, scan, probe, n_epochs=n_epochs, mask=data.mask, generator=seeded()).misfit
        seconds = now() - start
        per_pixel = misfit**2 * frames.sum() / (len(data) * data.mask.sum())
        ends = {"per_pixel, first": float(per_pixel[0]), "per_pixel, last": float(per_pixel[-1])}
        rows.append({"engine": name, "file": path.name, "seconds": seconds, **ends})
    return rows


def main() -> None:
    """Measure, print the tables and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=60, help="number of epochs of each engine")
    parser.add_argument("--measured", type=Path, help="file of a measured near-field scan")
    parser.add_argument("--focus-mm", type=float, default=3.65, help="distance (mm) from the focus to the sample")
    parser.add_argument("--threads", type=int, default=1, help="number of threads")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tables = [pd.DataFrame(score_simulated(options.epochs))]
    if options.measured:
        tables.append(pd.DataFrame(score_measured(options.measured, options.focus_mm, options.epochs)))
    for table in tables:
        print(table.round(4).to_string(index=False), "\n")
    write_table("ptychography", pd.concat(tables))


if __name__ == "__main__":
    main()
