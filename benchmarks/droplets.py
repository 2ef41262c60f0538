"""Images of droplets per second on one thread, and their agreement with those of another program.

    rephase bench droplets
    rephase bench droplets -- --peer "PYTHON SCRIPT"

Images have 224^2 pixels up to 30 degrees, at 19.4 eV, with the radii of real droplets. ``all`` is a mixture like the
real one. ``asymmetry`` is the mean of |I(q) - I(-q)| / (I(q) + I(-q)). Rows are also written to
``runs/bench/droplets.csv``.

``--peer`` runs ``PYTHON SCRIPT IN.npz OUT.npz``. IN holds the ellipsoids' ``semi_axes`` [n, 3] in nm and ``rotation``
[n, 3, 3], ``wavelength`` in nm, complex ``index``, and the positions ``x`` of pixels divided by the distance of the
detector; OUT holds the ``images`` [n, row, column], cross sections per area of a detector at distance 1, and
``seconds``. Both are compared by the sum of |I - I_peer| divided by the sum of I_peer.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read when numpy and torch are imported

import argparse
import shlex

import pandas as pd
import torch
from measuring.peers import ask, script_task
from measuring.tables import write_table
from measuring.timing import Comparison, Task, now, seconds_of, timed

from rephase.devices import pick_device
from rephase.optics.detector import FERMI, wavelength_nm
from rephase.optics.droplet_shapes import Droplets, join, random_droplets
from rephase.optics.droplets import ENERGY_EV, scatter
from rephase.optics.helium import refractive_index

CASES = {
    "oblate": ("oblate", ()),
    "prolate": ("prolate", ()),
    "pill": ("pill", ()),
    "bent": ("bent", ()),
    "asymmetric": ("oblate", ("asymmetric",)),
    "partner": ("oblate", ("partner",)),
    "core-shell": ("oblate", ("core_shell",)),
    "layered": ("oblate", ("layered",)),
}
MIXTURE = {"oblate": 83, "bent": 5, "asymmetric": 5, "partner": 6, "core-shell": 3}  # %, roughly as in the real data


def draw(n: int, case: str, generator: torch.Generator) -> Droplets:
    """Draw the droplets of one row of the table."""
    if case == "all":
        return join([draw(max(1, n * share // 100), name, generator) for name, share in MIXTURE.items()])
    kind, features = CASES[case]
    return random_droplets(n, kind, features=features, generator=generator)


def measure(case: str, n: int, device: torch.device) -> dict[str, object]:
    """Measure one row of the table."""
    generator = torch.Generator(device).manual_seed(0)
    scatter(draw(2, "oblate", generator))
    droplets = draw(n, case, generator)
    start = now(device)
    images = scatter(droplets)
    rate = len(images) / (now(device) - start)
    turned = images.flip(1, 2)
    return {"case": case, "images/s": rate, "asymmetry": float(((images - turned).abs() / (images + turned)).mean())}


def spheroids(n: int) -> Droplets:
    """Draw the droplets that both programs can calculate."""
    return random_droplets(n, "prolate", generator=torch.Generator().manual_seed(0))


def told(droplets: Droplets) -> dict[str, object]:
    """Return the input of the peer."""
    directions = FERMI.directions(torch.float64)[0, 0]
    return {
        "semi_axes": droplets.semi_axes,
        "rotation": droplets.rotation,
        "wavelength": wavelength_nm(ENERGY_EV),
        "index": refractive_index(ENERGY_EV),
        "x": directions[:, 0] / directions[:, 2],
    }


def compare(command: str, n: int) -> dict[str, object]:
    """Run the peer on spheroids; return the row that compares both."""
    droplets = spheroids(n)
    rate = n / seconds_of(lambda: scatter(droplets))
    images, peer = scatter(droplets) / FERMI.pitch**2, ask(shlex.split(command), told(droplets))
    other, seconds = torch.from_numpy(peer["images"]), float(peer["seconds"])
    apart = (images - other).abs().sum((1, 2)) / other.sum((1, 2))
    return {
        "case": "prolate, peer",
        "images/s": n / seconds,
        "ours, images/s": rate,
        "difference, median": float(apart.median()),
        "difference, largest": float(apart.max()),
    }


def images_of_spheroids(n: int) -> Task:
    """Calculate `n` images."""
    droplets = spheroids(n)
    return timed(lambda: scatter(droplets), n)


COMPARISONS = (
    Comparison(
        name="droplets, spheroid",
        ours=images_of_spheroids,
        peers={"pymsft": lambda n: script_task("pymsft", "droplets_pymsft.py", lambda: told(spheroids(n)), n)},
        sizes=(1, 4, 16, 64),
        axis="patterns",
        per="pattern",
    ),
)


def main() -> None:
    """Measure, print one table and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, help="images of each case; by default 48 on a CPU, 2048 on a GPU")
    parser.add_argument("--peer", default="", help='"PYTHON SCRIPT" of another program to compare with')
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = pick_device("auto")
    n = options.n or {"cpu": 48, "cuda": 2048}[device.type]
    rows = [measure(case, n, device) for case in ("all", *CASES)]
    if options.peer:
        rows.append(compare(options.peer, min(n, 12)))
    table = pd.DataFrame(rows)
    print(f"{FERMI.n_pixels}^2 pixels, float32, {device.type}, one thread\n")
    print(table.to_string(index=False, float_format="{:.3g}".format, na_rep=""))
    write_table("droplets", table)


if __name__ == "__main__":
    main()
