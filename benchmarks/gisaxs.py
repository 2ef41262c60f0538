"""Grazing-incidence patterns per second on one thread, and their agreement with BornAgain.

    rephase bench gisaxs
    rephase bench gisaxs -- --peer "PYTHON benchmarks/peers/gisaxs_bornagain.py"

Patterns have 172 x 512 pixels in float32. Rows are also written to ``runs/bench/gisaxs.csv``. With ``--peer``, both
programs calculate each island, a layer under an island, and the reflectivity of that layer in float64. ``apart`` is the
sum of |I - I_peer| divided by that of I_peer; ``bright`` and ``dim`` are the largest |I - I_peer| / I_peer of pixels
above 1e-2 and 1e-4 of the brightest. The peer includes the mean index of a dense layer of particles, so the density of
particles is low here.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read when numpy and torch are imported

import argparse
import shlex
from functools import partial

import numpy as np
import pandas as pd
import torch
from measuring.peers import ask, script_task
from measuring.tables import write_table
from measuring.timing import Comparison, Task, repeated, timed

from rephase.devices import pick_device
from rephase.optics.detector import wavelength_nm
from rephase.optics.gisaxs import ExitAngles, grazing_pattern
from rephase.optics.reflectivity import Stack, reflectivity

SIZES = {
    "sphere": [5.0],
    "cylinder": [5.0, 5.0],
    "truncated_sphere": [5.0, 7.0],
    "dome": [6.0, 4.0],
    "frustum": [6.0, 5.0, 3.0],
}  # nm
PARTICLE, SUBSTRATE, LAYER = (6e-4, 2e-8), (6e-6, 2e-8), (2e-5, 1e-7)  # delta, beta
ENERGY_EV, INCIDENCE_DEG, DENSITY, THICKNESS = 12_398.0, 0.2, 1e-12, 12.0


def stack(
    layers: list[tuple[float, float]], dtype: torch.dtype, device: torch.device | str = "cpu", n: int = 1
) -> Stack:
    """Return `n` equal smooth stacks; the layer above the substrate has the thickness `THICKNESS`."""
    delta, beta = torch.tensor(layers, dtype=dtype, device=device).T[:, None].repeat(1, n, 1)
    return Stack(delta, beta, torch.full_like(delta[:, 1:], THICKNESS), torch.zeros_like(delta))


def detector(rows: int, columns: int, dtype: torch.dtype) -> ExitAngles:
    """Return pixels from the horizon to 2 degrees, and 2 degrees to either side."""
    size = (2 / rows, 4 / columns)
    alpha, phi = (step * (torch.arange(n, dtype=dtype) + 0.5) for n, step in zip((rows, columns), size))
    return ExitAngles(alpha, phi - 2, size)


def pattern(
    island: str, layers: list[tuple[float, float]], exits: ExitAngles, device: torch.device | str = "cpu", n: int = 1
) -> torch.Tensor:
    """Compute `n` equal patterns in the dtype of the angles."""
    dtype = exits.alpha_deg.dtype
    sizes, delta, beta = (torch.tensor([t] * n, dtype=dtype, device=device) for t in (SIZES[island], *PARTICLE))
    return grazing_pattern(
        island,
        sizes,
        delta,
        beta,
        stack(layers, dtype, device, n),
        exits,
        energy_ev=ENERGY_EV,
        incidence_deg=INCIDENCE_DEG,
        density=DENSITY,
    )


def speed(island: str, device: torch.device) -> dict[str, object]:
    """Measure a row: the best of three; process time on a CPU, which other processes may share."""
    exits = detector(172, 512, torch.float32)
    seconds = repeated(lambda: float(pattern(island, [SUBSTRATE], exits, device).sum()), 3, device)
    return {"case": island, "patterns/s": 1 / min(seconds)}


def told(
    island: str, layers: list[tuple[float, float]], rows: int = 50, columns: int = 40, n: int = 1
) -> dict[str, object]:
    """Return the input of the peer for `n` equal patterns."""
    return {
        "island": {"name": island, "sizes": SIZES[island]},
        "particle": PARTICLE,
        "density": DENSITY,
        "layers": layers,
        "thickness": [THICKNESS] * (len(layers) - 1),
        "wavelength": wavelength_nm(ENERGY_EV),
        "incidence": INCIDENCE_DEG,
        "alpha": [rows, 0, 2],
        "phi": [columns, -2, 2],
        "n": n,
    }


def compare(command: str) -> pd.DataFrame:
    """Return a row for each calculation."""
    samples = [(island, [SUBSTRATE]) for island in SIZES] + [("cylinder", [LAYER, SUBSTRATE])]
    scan = {key: told("sphere", [LAYER, SUBSTRATE])[key] for key in ("layers", "thickness", "wavelength")}
    given = [*(told(*sample) for sample in samples), scan | {"scan": [0.05, 2.0, 40]}]
    peer = ask(shlex.split(command), given)
    exits = detector(50, 40, torch.float64)
    ours = [pattern(*sample, exits)[0] for sample in samples]
    angles = torch.linspace(0.05, 2, 40, dtype=torch.float64)
    ours.append(reflectivity(stack([LAYER, SUBSTRATE], torch.float64), angles, ENERGY_EV)[0])
    names = [*SIZES, "cylinder on a layer", "reflectivity of a layer"]
    return pd.DataFrame([row(name, t.numpy(), peer[f"i{n}"]) for n, (name, t) in enumerate(zip(names, ours))])


def row(name: str, ours: np.ndarray, peer: np.ndarray) -> dict[str, object]:
    """Return the differences of both."""
    off, brightest = np.abs(ours - peer), peer.max()
    bright, dim = ((off / peer)[peer > share * brightest].max() for share in (1e-2, 1e-4))
    return {"case": name, "apart": off.sum() / peer.sum(), "bright": bright, "dim": dim}


def many(island: str, n: int) -> Task:
    """Calculate `n` patterns of islands on a substrate, in float64, which the peer uses, too."""
    exits = detector(172, 512, torch.float64)
    return timed(lambda: pattern(island, [SUBSTRATE], exits, n=n), n)


def many_of_bornagain(island: str, n: int) -> Task:
    """Calculate the same with BornAgain, one after the other."""
    return script_task("bornagain", "gisaxs_bornagain.py", lambda: [told(island, [SUBSTRATE], 172, 512, n)], n)


COMPARISONS = tuple(
    Comparison(
        name=f"GISAXS, {island.replace('_', ' ')}",
        ours=partial(many, island),
        peers={"bornagain": partial(many_of_bornagain, island)},
        sizes=sizes,
        axis="patterns",
        per="pattern",
    )
    for island, sizes in {"cylinder": (1, 4, 16, 64), "dome": (1, 2, 4)}.items()
)


def main() -> None:
    """Measure, print the tables and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", default="", help='"PYTHON SCRIPT" of another program to compare with')
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = pick_device("auto")
    table = pd.DataFrame([speed(island, device) for island in SIZES])
    if options.peer:
        table = pd.concat([table, compare(options.peer)])
    print(f"172 x 512 pixels, float32, {device.type}, one thread\n")
    print(table.to_string(index=False, float_format="{:.2g}".format, na_rep=""))
    write_table("gisaxs", table)


if __name__ == "__main__":
    main()
