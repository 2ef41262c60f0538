"""Random crystals per second on one thread, without and with their |F| to 1.5 Å.

    rephase bench random_crystals

The rows are also written to ``runs/bench/random_crystals.csv``. Times are process times on a CPU, clock times on a GPU.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read when numpy and torch are imported

import pandas as pd
import torch
from measuring.tables import write_table
from measuring.timing import Comparison, Task, now, timed

from rephase.devices import pick_device
from rephase.random_crystals.crystals import RandomCrystalOptions, random_crystals
from rephase.random_crystals.structure_factors import many_structure_factors, unique_reflections

D_MIN, SIZES = 1.5, {"5 to 60 atoms": (5, 60), "5 to 30 atoms": (5, 30)}
N = {"cpu": 4096, "cuda": 16384}  # enough for full batches


def measure(n_atoms: tuple[int, int], device: torch.device) -> dict[str, float]:
    """Measure structures per second in each step; the first, small call warms up."""
    options = RandomCrystalOptions(n_atoms=n_atoms)
    generator = torch.Generator(device).manual_seed(0)
    warm = random_crystals(32, generator=generator, options=options)
    many_structure_factors(warm, unique_reflections(warm, D_MIN).hkl)
    n, start = N[device.type], now(device)
    crystals = random_crystals(n, generator=generator, options=options)
    made = now(device)
    lists = unique_reflections(crystals, D_MIN)
    many_structure_factors(crystals, lists.hkl).abs()
    end = now(device)
    return {
        "structures/s, made": n / (made - start),
        "structures/s, |F| alone": n / (end - made),
        "structures/s, made with |F|": n / (end - start),
        "reflections each": float(lists.mask.sum(1).float().mean()),
    }


def with_amplitudes(n: int) -> Task:
    """Make `n` random crystals of 5 to 60 atoms and their |F| to 1.5 Å."""
    device = pick_device("auto")
    generator = torch.Generator(device).manual_seed(0)

    def make() -> None:
        crystals = random_crystals(n, generator=generator, options=RandomCrystalOptions(n_atoms=(5, 60)))
        many_structure_factors(crystals, unique_reflections(crystals, D_MIN).hkl).abs()

    return timed(make, n, device)


COMPARISONS = (
    Comparison("random crystals with |F|", with_amplitudes, sizes=(32, 128, 512), axis="crystals", per="crystal"),
)


def main() -> None:
    """Measure, print one table and write the tidy rows."""
    torch.set_num_threads(1)
    device = pick_device("auto")
    table = pd.DataFrame({f"{name}, {device.type}": measure(n_atoms, device) for name, n_atoms in SIZES.items()})
    print(f"random crystals, |F| to {D_MIN} Å, unique reflections, float32\n")
    print(table.map("{:.4g}".format).to_string())
    write_table("random_crystals", table.rename_axis("quantity").reset_index().melt("quantity", var_name="case"))


if __name__ == "__main__":
    main()
