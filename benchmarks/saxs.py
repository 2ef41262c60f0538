"""Small-angle scattering curves per second on one thread, and their agreement with sasmodels.

    rephase bench saxs
    rephase bench saxs -- --peer "PYTHON benchmarks/peers/saxs_sasmodels.py"

Batches have N samples with 128 q, in float32. Rows are also written to ``runs/bench/saxs.csv``.

With ``--peer``, both programs do every calculation in float64 and the largest |I - I_peer| / I_peer is printed.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read when numpy and torch are imported

import argparse
import shlex
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from measuring.peers import ask, script_task
from measuring.tables import write_table
from measuring.timing import Comparison, Task, repeated, timed

from rephase.devices import pick_device
from rephase.optics.form_factors import Spread
from rephase.optics.saxs import PER_ANGSTROM, SHAPES, curve, pattern, smear

SIZES = {"sphere": [6.0], "core_shell_sphere": [5.0, 2.0], "ellipsoid": [12.0, 4.0], "cylinder": [3.0, 40.0]}  # nm
CONTRAST = 3e-4  # nm^-2, i.e. 3e-6 Å^-2; half of it in a shell
SPREADS = (
    ("gaussian", 0.1, 3.0, 35),
    ("gaussian", 0.2, 3.0, 35),
    ("lognormal", 0.15, 8.0, 80),
    ("schulz", 0.25, 8.0, 80),
)
Q = torch.logspace(-2, 0.7, 128, dtype=torch.float64)  # nm^-1


class Case(NamedTuple):
    """One calculation by both programs: the input of the peer, and our function."""

    name: str
    told: dict[str, object]
    ours: Callable[[], torch.Tensor]


def parameters(shape: str, spread: Spread | None) -> dict[str, float | int | str]:
    """Return the peer's parameters, in Å and 1e-6 Å^-2."""
    names = dict(zip(SHAPES[shape].sizes, (10 * size for size in SIZES[shape])))
    layered = {"sld_core": 3.0, "sld_shell": 1.5}
    told = {**names, **(layered if shape == "core_shell_sphere" else {"sld": 3.0}), "sld_solvent": 0.0, "scale": 0.02}
    if spread is None:
        return told
    return told | {
        f"{spread.size}_pd": spread.width,
        f"{spread.size}_pd_type": spread.kind,
        f"{spread.size}_pd_nsigma": spread.n_sigmas,
        f"{spread.size}_pd_n": spread.n_nodes,
    }


def arguments(shape: str, n: int, dtype: torch.dtype, device: torch.device | str = "cpu") -> tuple[torch.Tensor, ...]:
    """Return sizes [n, size] and contrasts [n, region]."""
    contrast = torch.tensor([CONTRAST, CONTRAST / 2][: SHAPES[shape].n_contrasts], dtype=dtype, device=device)
    return torch.tensor(SIZES[shape], dtype=dtype, device=device).repeat(n, 1), contrast.repeat(n, 1)


def cases() -> list[Case]:
    """Return curves with and without a spread, a smeared curve, and patterns."""
    found = []
    for shape in SHAPES:
        args = arguments(shape, 1, torch.float64)
        for spread in (None, *(Spread(SHAPES[shape].sizes[0], *values) for values in SPREADS)):
            told = {"shape": shape, "parameters": parameters(shape, spread), "q": [(Q / PER_ANGSTROM).tolist()]}
            name = shape if spread is None else f"{shape}, {spread.kind} {spread.width}"
            ours = partial(curve, shape, Q, *args, scale=0.02, spread=spread)
            found.append(Case(name, {**told, "dq": None}, ours))
    found.append(smeared_case())
    return found + [oriented_case(shape) for shape in ("cylinder", "ellipsoid")]


def smeared_case() -> Case:
    """Return spheres with a resolution of 5 %; the peer sums over a grid of q, whose steps cause the difference."""
    q, args = Q[40:100:10], arguments("sphere", 1, torch.float64)
    dq = 0.05 * q
    told = {"shape": "sphere", "parameters": parameters("sphere", None), "q": [(q / PER_ANGSTROM).tolist()]}
    told |= {"dq": (dq / PER_ANGSTROM).tolist(), "n_calc": 2_000_000}
    return Case("sphere, smeared", told, lambda: smear(lambda t: curve("sphere", t, *args, scale=0.02), q, dq))


def oriented_case(shape: str) -> Case:
    """Return a tilted body on a detector of 64^2 pixels."""
    axis = torch.linspace(-1.5, 1.52, 64, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    angles = {"theta": 65.0, "phi": 25.0}
    told = {
        "shape": shape,
        "parameters": parameters(shape, None) | angles,
        "dq": None,
        "q": [(t.flatten() / PER_ANGSTROM).tolist() for t in (x, y)],
    }
    args = arguments(shape, 1, torch.float64)
    ours = partial(pattern, shape, x.flatten(), y.flatten(), *args, theta_deg=65.0, phi_deg=25.0, scale=0.02)
    return Case(f"{shape}, oriented", told, ours)


def compare(command: str) -> pd.DataFrame:
    """Return a row for each calculation."""
    every = cases()
    peer, rows = ask(shlex.split(command), [case.told for case in every]), []
    for number, case in enumerate(every):
        other = peer[f"i{number}"]
        rows.append({"case": case.name, "difference": np.abs(case.ours()[0].numpy() / other - 1).max()})
    return pd.DataFrame(rows)


def speed(shape: str, n: int, spread: bool, device: torch.device) -> dict[str, object]:
    """Measure a row: batches of `n` curves, best of three; process time on a CPU, which other processes may share."""
    args = arguments(shape, n, torch.float32, device)
    q = Q.float().to(device)
    width = Spread(SHAPES[shape].sizes[0], "schulz", 0.1) if spread else None
    seconds = repeated(lambda: float(curve(shape, q, *args, spread=width).sum()), 3, device)
    return {"case": f"{shape}{', spread' if spread else ''}", "curves/s": n / min(seconds)}


def cylinders(n: int) -> Task:
    """Calculate `n` curves of cylinders in random orientation, in float64, which the peer uses, too."""
    args = arguments("cylinder", n, torch.float64)
    return timed(lambda: curve("cylinder", Q, *args, scale=0.02), n)


def cylinders_of_sasmodels(n: int) -> Task:
    """Calculate the same with sasmodels, one after the other; it compiles its model before."""
    told = {"shape": "cylinder", "parameters": parameters("cylinder", None), "q": [(Q / PER_ANGSTROM).tolist()]}
    return script_task("sasmodels", "saxs_sasmodels.py", lambda: [{**told, "dq": None, "n": n}], n)


COMPARISONS = (
    Comparison(
        name="SAXS, cylinder",
        ours=cylinders,
        peers={"sasmodels": cylinders_of_sasmodels},
        sizes=(1, 4, 16, 64),
        axis="patterns",
        per="pattern",
    ),
)


def main() -> None:
    """Measure, print the tables and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, help="samples of a batch; by default 64 on a CPU, 4096 on a GPU")
    parser.add_argument("--peer", default="", help='"PYTHON SCRIPT" of another program to compare with')
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = pick_device("auto")
    n = options.n or {"cpu": 64, "cuda": 4096}[device.type]
    table = pd.DataFrame([speed(s, max(1, n // (16 if w else 1)), w, device) for s in SHAPES for w in (False, True)])
    print(f"128 q, float32, {device.type}, one thread\n")
    print(table.to_string(index=False, float_format="{:.0f}".format))
    write_table("saxs", table)
    if options.peer:
        apart = compare(options.peer)
        print("\n" + apart.to_string(index=False, float_format="{:.2g}".format))
        write_table("saxs_peer", apart)


if __name__ == "__main__":
    main()
