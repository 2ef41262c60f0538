"""Time per structure for F(hkl) on a 31×31×31 grid at 10 keV on one thread: this library and its peers.

    rephase bench structure_factors

Every program gets the same crystals, expanded to P1 with every atom displaced. The rows are also written to
``runs/bench/structure_factors.csv``. The peers are Dans_Diffraction (as shipped, and without its magnetic form factors,
which X-rays do not need), gemmi's direct summation reflection by reflection, and the dense sum in numpy.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read when numpy and torch are imported

import contextlib
import io
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import Dans_Diffraction as dif
import gemmi
import numpy as np
import pandas as pd
import torch
from measuring.tables import write_table
from measuring.timing import Comparison, Task, repeated, timed

from rephase.config.crystals import Strain
from rephase.crystal.scattering import dispersion, form_factor_coefficients
from rephase.crystal.structure_factors import GridKernel, grid_hkl, structure_factors
from rephase.crystal.structures import Atoms, Crystal, read_crystal
from rephase.labs.crystals.perturb import strain
from rephase.learning.store import Shard, Store

CRYSTALS = ("Ni", "NaCl", "Ca2RuO4", "NaCoO2_stripe_supercell")
H_MAX, ENERGY_KEV = (15, 15, 15), 10.0
GRID = tuple(2 * m + 1 for m in H_MAX)
HKL = grid_hkl(H_MAX).reshape(-1, 3)
BATCH, STORED, SHARED = 64, 1024, 2048  # structures in one call of the kernel, in a store, in a store of two workers
SHIPPED, WRITING = "Dans_Diffraction, as shipped", "rephase, same lattice, incl. writing"


class Seconds(NamedTuple):
    """Clock time, and user and system time of this process and of its children that have ended."""

    clock: float
    user: float
    system: float

    @classmethod
    def now(cls) -> "Seconds":
        """Return the times of this moment, of which differences are meant."""
        times = os.times()
        return cls(time.perf_counter(), times.user + times.children_user, times.system + times.children_system)

    def __sub__(self, start: "Seconds") -> "Seconds":
        return Seconds(self.clock - start.clock, self.user - start.user, self.system - start.system)


def dans_diffraction(
    crystal: Crystal, xyz_frac: np.ndarray, hkl: np.ndarray = HKL, *, magnetic: bool = False
) -> np.ndarray:
    """Compute F with Dans_Diffraction, from a new crystal in P1 with the displaced atoms."""
    atoms, (u, v, w) = crystal.atoms, xyz_frac.T
    with contextlib.redirect_stdout(io.StringIO()):  # it prints
        moved = dif.Crystal()
        moved.new_cell(*crystal.cell.parameters)
        moved.new_atoms(u, v, w, list(atoms.elements), list(atoms.labels), atoms.occupancy, atoms.u_iso)
        moved.Scatter._use_magnetic_form_factor = magnetic
        return moved.Scatter.structure_factor(hkl, "xray dispersion", energy_kev=ENERGY_KEV)


def gemmi_direct(
    crystal: Crystal, xyz_frac: np.ndarray, corrections: dict[str, float], hkl: np.ndarray = HKL
) -> np.ndarray:
    """Compute F with gemmi, with real `corrections` (f') added to the form factor of each element."""
    small = gemmi.SmallStructure()
    small.cell = gemmi.UnitCell(*crystal.cell.parameters)
    small.spacegroup_hm = "P 1"
    small.determine_and_set_spacegroup("H")
    atoms = crystal.atoms
    for label, element, xyz, occupancy, u_iso in zip(
        atoms.labels, atoms.elements, xyz_frac, atoms.occupancy, atoms.u_iso
    ):
        site = gemmi.SmallStructure.Site()
        site.label, site.element, site.occ, site.u_iso = label, gemmi.Element(element), occupancy, u_iso
        site.fract = gemmi.Fractional(*xyz)
        small.add_site(site)
    small.change_occupancies_to_crystallographic()
    calculator = gemmi.StructureFactorCalculatorX(small.cell)
    for element, value in corrections.items():
        calculator.addends.set(gemmi.Element(element), value)
    return np.array([calculator.calculate_sf_from_small_structure(small, h) for h in hkl.tolist()])


def gemmi_with_absorption(crystal: Crystal, xyz_frac: np.ndarray) -> np.ndarray:
    """Compute F with gemmi and f' + i f'': its corrections are real, but F is linear in them, so two sums give F."""
    elements = sorted(set(crystal.atoms.elements))
    f = dict(zip(elements, dispersion(elements, ENERGY_KEV)))
    real = gemmi_direct(crystal, xyz_frac, {element: value.real for element, value in f.items()})
    both = gemmi_direct(crystal, xyz_frac, {element: value.real + value.imag for element, value in f.items()})
    return real + 1j * (both - real)


def dense_numpy(crystal: Crystal, xyz_frac: np.ndarray, hkl: np.ndarray = HKL) -> np.ndarray:
    """Compute F with one exponential per atom and reflection, times the factors of element and displacement."""
    atoms: Atoms = crystal.atoms
    s_squared = 1 / (4 * crystal.cell.d_spacing(hkl) ** 2)
    f = {}
    for element in set(atoms.elements):
        (ab,), (correction,) = form_factor_coefficients([element]), dispersion([element], ENERGY_KEV)
        f[element] = np.exp(-s_squared[:, None] * ab[1:8:2]) @ ab[0:8:2] + ab[8] + correction
    F = np.zeros(len(hkl), complex)
    phases = np.exp(2j * np.pi * (hkl @ xyz_frac.T))
    for element in f:
        of_element = [i for i, name in enumerate(atoms.elements) if name == element]
        debye_waller = np.exp(-8 * np.pi**2 * atoms.u_iso[of_element] * s_squared[:, None])
        F += f[element] * ((phases[:, of_element] * debye_waller) @ atoms.occupancy[of_element])
    return F


def fill(path: Path, kernel: GridKernel, *variants: torch.Tensor, n: int, workers: int, shard: Shard | None) -> None:
    """Fill a store with the kernel's output for the same coordinates and lattices again and again."""
    with contextlib.redirect_stderr(io.StringIO()):  # the progress bar
        store = Store(path, {"F": (GRID, "complex64")}, n, BATCH, {})
        store.fill(lambda rows: {"F": kernel(*variants).numpy()}, workers=workers, shard=shard)


def seconds_to_fill(
    kernel: GridKernel, *variants: torch.Tensor, n: int = STORED, workers: int = 1, processes: int = 1
) -> Seconds:
    """Return the seconds to fill a new store of `n` structures with some threads in each of some processes."""
    with tempfile.TemporaryDirectory() as folder:
        work = partial(fill, Path(folder), kernel, *variants, n=n, workers=workers)
        if processes == 1:
            start = Seconds.now()
            work(shard=None)
            return Seconds.now() - start
        fork = multiprocessing.get_context("fork")  # the kernel is there already
        shards = [Shard(number, processes) for number in range(1, processes + 1)]
        tasks = [fork.Process(target=work, kwargs={"shard": shard}) for shard in shards]
        start = Seconds.now()
        for task in tasks:
            task.start()
        for task in tasks:
            task.join()
        if any(task.exitcode for task in tasks):
            raise ChildProcessError("a process that fills a store has failed")
        return Seconds.now() - start


def milliseconds_writing(kernel: GridKernel, *variants: torch.Tensor) -> float:
    """Return the process time for one worker to fill a store with the kernel's output, in ms per structure."""
    times = [seconds_to_fill(kernel, *variants) for _ in range(4)]
    return 1e3 * median(t.user + t.system for t in times[1:]) / STORED


def scaling(kernel: GridKernel, *variants: torch.Tensor) -> dict[str, float]:
    """Return how many times faster two threads and two processes fill a store than one: medians of rounds in turn.

    The clock times need two idle cores. The user and system times, in ms per structure, tell what the loss is due to:
    the arithmetic and what the cores share for it, or the files, whose pages the operating system has to provide.
    """
    cases = {"": {}, "threads": {"workers": 2}, "processes": {"processes": 2}}
    names, rounds = list(cases), []
    for first in range(7):  # each comes first in turn, because what the disk still has to write slows the next one
        order = names[first % 3 :] + names[: first % 3]
        rounds.append({name: seconds_to_fill(kernel, *variants, n=SHARED, **cases[name]) for name in order})
    del rounds[0]  # it warms up
    row = {}
    for name in ("threads", "processes"):
        row[f"scaling on two {name}"] = median(r[""].clock / r[name].clock for r in rounds)
    for name in cases:
        writer = f"two {name}" if name else "one thread"
        row[f"user time, {writer}"] = 1e3 * median(r[name].user for r in rounds) / SHARED
        row[f"system time, {writer}"] = 1e3 * median(r[name].system for r in rounds) / SHARED
    return row


def median_ms(work: Callable[[], object], *, repeat: int, structures: int = 1) -> float:
    """Return the median time of `work` after one warm-up, in ms per structure."""
    return 1e3 * median(repeated(work, repeat)) / structures


def measure(name: str) -> dict[str, float]:
    """Return times in ms per structure, and relative differences, for one crystal by method."""
    crystal = read_crystal(name)
    variants = strain(crystal, BATCH, np.random.default_rng(0), Strain(sigma=0.05))
    xyz_frac, lattice = torch.as_tensor(variants.xyz_frac), torch.as_tensor(variants.lattice)
    first = variants.xyz_frac[0]
    kernel = GridKernel(crystal, H_MAX, energy_kev=ENERGY_KEV)
    kernel_64 = GridKernel(crystal, H_MAX, energy_kev=ENERGY_KEV, dtype=torch.float64)
    F_32, F_64 = (k(xyz_frac[:1]).numpy().ravel() for k in (kernel, kernel_64))
    F_dans, F_gemmi = dans_diffraction(crystal, first, magnetic=False), gemmi_with_absorption(crystal, first)
    elements = sorted(set(crystal.atoms.elements))
    f_prime = {element: value.real for element, value in zip(elements, dispersion(elements, ENERGY_KEV))}
    row = {
        "atoms": float(len(crystal.atoms)),
        SHIPPED: median_ms(lambda: dans_diffraction(crystal, first, magnetic=True), repeat=3),
        "Dans_Diffraction, magnetic off": median_ms(lambda: dans_diffraction(crystal, first, magnetic=False), repeat=5),
        "gemmi, direct": median_ms(lambda: gemmi_direct(crystal, first, f_prime), repeat=5),
        "numpy, dense": median_ms(lambda: dense_numpy(crystal, first), repeat=5),
        "rephase, same lattice": median_ms(lambda: kernel(xyz_frac), repeat=11, structures=BATCH),
        "rephase, strained lattices": median_ms(lambda: kernel(xyz_frac, lattice), repeat=7, structures=BATCH),
        WRITING: milliseconds_writing(kernel, xyz_frac),
        "rephase, strained lattices, incl. writing": milliseconds_writing(kernel, xyz_frac, lattice),
        **scaling(kernel, xyz_frac, lattice),
    }
    row[f"ratio {SHIPPED} / {WRITING}"] = row[SHIPPED] / row[WRITING]
    for peer, F in {"Dans_Diffraction": F_dans, "gemmi": F_gemmi, "numpy": dense_numpy(crystal, first)}.items():
        row[f"difference from {peer}, float32"] = relative_difference(F_32, F)
        row[f"difference from {peer}, float64"] = relative_difference(F_64, F)
    return row


def relative_difference(F: np.ndarray, reference: np.ndarray) -> float:
    """Return |F - reference| / |reference|, with L2 norms over the grid."""
    return float(np.linalg.norm(F - reference) / np.linalg.norm(reference))


@cache
def example(n: int) -> tuple[Crystal, np.ndarray]:
    """Return Ca2RuO4 (28 atoms) and coordinates of `n` structures with every atom displaced."""
    crystal = read_crystal("Ca2RuO4")
    return crystal, strain(crystal, n, np.random.default_rng(0), Strain(sigma=0.05)).xyz_frac


def on_grid(h_max: int, n: int) -> Task:
    """Sum `n` structures on a grid, in batches."""
    crystal, xyz_frac = example(BATCH)
    kernel, batch = GridKernel(crystal, (h_max,) * 3, energy_kev=ENERGY_KEV), torch.as_tensor(xyz_frac)
    sizes = [min(BATCH, n - first) for first in range(0, n, BATCH)]
    return timed(lambda: [kernel(batch[:size]) for size in sizes], n)


def on_grid_with(peer: Callable[..., np.ndarray], h_max: int, n: int) -> Task:
    """Sum `n` structures on a grid, one after the other."""
    crystal, xyz_frac = example(BATCH)
    hkl = grid_hkl((h_max,) * 3).reshape(-1, 3)
    return timed(lambda: [peer(crystal, xyz_frac[i % BATCH], hkl=hkl) for i in range(n)], n)


@cache
def all_reflections() -> np.ndarray:
    """Return a million reflections of Ca2RuO4 with the largest d, largest first."""
    hkl = grid_hkl((40, 40, 90)).reshape(-1, 3)[1:]
    return hkl[np.argsort(-example(1)[0].cell.d_spacing(hkl), kind="stable")[:1_000_000]]


def of_list(n: int) -> Task:
    """Sum a list of reflections, without dispersion."""
    crystal, hkl = example(1)[0], all_reflections()[:n]
    return timed(lambda: structure_factors(crystal, hkl, energy_kev=None))


def of_list_with(peer: Callable[..., np.ndarray], n: int) -> Task:
    """Sum a list of reflections with a peer."""
    crystal, hkl = example(1)[0], all_reflections()[:n]
    return timed(lambda: peer(crystal, crystal.atoms.xyz_frac, hkl=hkl))


PEERS = {"gemmi": partial(gemmi_direct, corrections={}), "numpy": dense_numpy, "Dans_Diffraction": dans_diffraction}
COMPARISONS = (
    Comparison(
        name="F of many structures, 13³",
        ours=lambda n: on_grid(6, n),
        peers={name: partial(on_grid_with, peer, 6) for name, peer in PEERS.items()},
        sizes=(100, 1000, 10_000, 100_000),
        axis="structures",
        per="structure",
    ),
    Comparison(
        name="F on a grid",
        ours=lambda points: on_grid(round(points ** (1 / 3)) // 2, 16),
        peers={
            name: lambda points, peer=peer: on_grid_with(peer, round(points ** (1 / 3)) // 2, 1)
            for name, peer in PEERS.items()
        },
        sizes=tuple(side**3 for side in (13, 21, 31, 47, 65)),
        axis="grid points",
        per="structure",
    ),
    Comparison(
        name="F of a list",
        ours=of_list,
        peers={name: partial(of_list_with, peer) for name, peer in PEERS.items() if name != "Dans_Diffraction"},
        sizes=tuple(10**power for power in range(7)),
        axis="reflections",
        per="list",
    ),
)


def main() -> None:
    """Measure, print one table and write the tidy rows."""
    torch.set_num_threads(1)
    table = pd.DataFrame({name: measure(name) for name in CRYSTALS})
    text = table.map(lambda value: f"{value:.2e}" if value < 1e-3 else f"{value:.4g}")
    print("ms per structure, 29,791 reflections, one thread; differences relative, L2\n")
    print(text.to_string())
    write_table("structure_factors", table.rename_axis("quantity").reset_index().melt("quantity", var_name="crystal"))


if __name__ == "__main__":
    main()
