"""The calculations without a network: structure factors, random crystals, trials of the solver, simulated patterns."""

import time
from collections.abc import Iterator
from functools import cache, partial
from importlib.metadata import distribution
from typing import Any

import numpy as np
import torch

from gpu.measuring import (
    CPU,
    Call,
    Kernel,
    Row,
    Setup,
    compare,
    difference,
    scan,
    scan_row,
    seconds_of,
    share_of_peak,
    wait,
)
from rephase.config.scattering import GisaxsSimulation, SaxsSimulation
from rephase.config.waves import HologramSimulation, PtychogramSimulation
from rephase.crystal.phases import align_list
from rephase.crystal.reflections.simulation import simulate_reflections
from rephase.crystal.structure_factors import GridKernel
from rephase.crystal.structures import Crystal, read_crystal
from rephase.crystal.symmetry import find_symmetry
from rephase.labs.scattering.data.gisaxs import GisaxsSimulator
from rephase.labs.scattering.data.saxs import SaxsSimulator
from rephase.labs.waves.data.holograms import HologramSimulator
from rephase.labs.waves.data.ptychograms import PtychogramSimulator
from rephase.learning.batches import on_device
from rephase.optics.droplet_shapes import random_droplets
from rephase.optics.droplets import scatter
from rephase.optics.particles import random_particles, scatter_particles
from rephase.random_crystals.crystals import RandomCrystalOptions, RandomCrystals, random_crystals
from rephase.random_crystals.structure_factors import many_structure_factors, unique_reflections
from rephase.solvers import RECIPES
from rephase.solvers.problem import PhaseProblem, working_problem
from rephase.solvers.trials import aligned_phasors

_ENOUGH = 6.0  # seconds of random crystals after which no larger batch is made
H_MAX = (15, 15, 15)  # 31 x 31 x 31 reflections
D_MIN = 1.0  # Å, of lists


def seeded(seed: int = 0, device: torch.device = CPU) -> torch.Generator:
    """Return a seeded generator."""
    return torch.Generator(device).manual_seed(seed)


def repeated(values: torch.Tensor, n: int) -> torch.Tensor:
    """Return `n` rows: those of `values` again and again."""
    return values[torch.arange(n) % len(values)]


@cache
def ca2ruo4() -> Crystal:
    """Read Ca2RuO4, 28 atoms, from the files of Dans_Diffraction without importing it."""
    return read_crystal(distribution("Dans_Diffraction").locate_file("Dans_Diffraction/Structures/Ca2RuO4.cif"))


def grid(n: int, device: torch.device, *, strained: bool = False) -> Call:
    """Prepare F of `n` variants of Ca2RuO4 on a grid."""
    crystal = ca2ruo4()
    kernel = GridKernel(crystal, H_MAX, device=device)
    shifts = torch.rand(64, len(crystal.atoms), 3, generator=seeded(), dtype=torch.float64)
    xyz = repeated(torch.as_tensor(crystal.atoms.xyz_frac) + 0.01 * shifts, n).to(device)
    strain = 1 + 0.01 * torch.rand(64, 3, 3, generator=seeded(1), dtype=torch.float64)
    lattice = repeated(strain * torch.as_tensor(crystal.cell.orthogonalisation), n).to(device) if strained else None
    return lambda: kernel(xyz, lattice)


@cache
def crystals_on_cpu() -> RandomCrystals:
    """Make 64 random crystals."""
    return random_crystals(64, generator=seeded(), options=RandomCrystalOptions(n_atoms=(5, 30)))


@cache
def lists_on_cpu() -> torch.Tensor:
    """List their unique reflections; on a GPU, rounding may move a reflection over the limit."""
    return unique_reflections(crystals_on_cpu(), D_MIN).hkl


def some_crystals(n: int, device: torch.device) -> RandomCrystals:
    """Return `n` crystals on a device, the same 64 again and again."""
    of = crystals_on_cpu()
    columns = (of.lattice, of.group, of.xyz_frac, of.numbers, of.u_iso, of.occupancy)
    return RandomCrystals(of.symmetries, *(repeated(column, n).to(device) for column in columns))


def lists(n: int, device: torch.device) -> Call:
    """Prepare the lists of unique reflections of `n` crystals; the result that is compared is their number."""
    of = some_crystals(n, device)
    return lambda: unique_reflections(of, D_MIN).mask.sum(1).float()


def sums(n: int, device: torch.device) -> Call:
    """Prepare the direct sums of `n` crystals over their lists."""
    of, hkl = some_crystals(n, device), repeated(lists_on_cpu(), n).to(device)
    return lambda: many_structure_factors(of, hkl)


def _simulated(simulator: Any, n: int, device: torch.device) -> Call:
    z = repeated(torch.randn(64, *simulator.u_shape, generator=seeded()), n)
    u = simulator.from_normal(z).to(device)
    if hasattr(simulator, "pattern"):
        return lambda: simulator.pattern(simulator.wave(u))
    return lambda: simulator.intensity(u)


def saxs(n: int, device: torch.device) -> Call:
    """Prepare curves of ellipsoids at 96 q."""
    return _simulated(SaxsSimulator(SaxsSimulation()), n, device)


def gisaxs(n: int, device: torch.device) -> Call:
    """Prepare patterns of islands, the default detector."""
    return _simulated(GisaxsSimulator(GisaxsSimulation()), n, device)


def holography(n: int, device: torch.device) -> Call:
    """Prepare holograms of the default size."""
    return _simulated(HologramSimulator(HologramSimulation()), n, device)


def ptychography(n: int, device: torch.device) -> Call:
    """Prepare scans of the default size."""
    return _simulated(PtychogramSimulator(PtychogramSimulation()), n, device)


def droplets(n: int, device: torch.device) -> Call:
    """Prepare wide-angle patterns of droplets."""
    of = random_droplets(64, "oblate", generator=seeded())
    of = type(of)(*(repeated(field, n).to(device) for field in of))
    return lambda: scatter(of)


def bodies(n: int, device: torch.device) -> Call:
    """Prepare small-angle patterns of viruses, one or a few bodies each."""
    of = random_particles(n, "several", generator=seeded())
    of = on_device(of, device)
    return lambda: scatter_particles(of, n)


VOXELS = float(np.prod([2 * m + 1 for m in H_MAX]))
KERNELS = {
    "grid kernel, 28 atoms": Kernel("structures", grid, (32, 8192), "grid kernel", 4 * VOXELS * 28, 8 * VOXELS),
    "grid kernel, strained": Kernel(
        "structures", partial(grid, strained=True), (32, 4096), "grid kernel", 4 * VOXELS * 28, 8 * VOXELS
    ),
    "direct sums to 1.0 Å": Kernel("crystals", sums, (16, 2048), "direct sums of many crystals"),
    "lists to 1.0 Å": Kernel("crystals", lists, (64, 2048), "lists of many crystals"),
    "SAXS": Kernel("curves", saxs, (64, 8192), "SAXS"),
    "GISAXS": Kernel("patterns", gisaxs, (16, 1024), "GISAXS"),
    "holography": Kernel("holograms", holography, (16, 2048), "predicted patterns"),
    "ptychography": Kernel("scans", ptychography, (16, 1024), "predicted patterns"),
    "droplets": Kernel("droplets", droplets, (2, 512), "droplets"),
    "bodies": Kernel("shots", bodies, (4, 1024), "bodies"),
}
_SCANNED = ("grid kernel, 28 atoms", "direct sums to 1.0 Å", "lists to 1.0 Å", "SAXS", "GISAXS", "droplets", "bodies")


def kernel_rows(names: tuple[str, ...], setup: Setup) -> Iterator[Row]:
    """Compare some of `KERNELS` on both devices."""
    return (compare(name, KERNELS[name], setup) for name in names)


def kernel_scans(setup: Setup) -> Iterator[Row]:
    """Scan the pieces of the kernels that work in pieces."""
    for name in _SCANNED:
        kernel = KERNELS[name]
        n = 2 if setup.is_rehearsal else kernel.n[1]
        yield scan(kernel.work, kernel.make(n, setup.device), n, setup)


def made_with_amplitudes(n: int, device: torch.device) -> Call:
    """Prepare random crystals made from nothing, with |F| to 1.5 Å."""
    generator, options = seeded(0, device), RandomCrystalOptions(n_atoms=(5, 30))

    def call() -> torch.Tensor:
        crystals = random_crystals(n, generator=generator, options=options)
        return many_structure_factors(crystals, unique_reflections(crystals, 1.5).hkl).abs()

    return call


def random_crystal_rows(setup: Setup) -> Iterator[Row]:
    """Compare random crystals with |F|, in larger and larger batches; the devices draw other ones."""
    n_cpu = 4 if setup.is_rehearsal else 256
    cpu = n_cpu / seconds_of(made_with_amplitudes(n_cpu, CPU), CPU, at_most=0)
    made_with_amplitudes(2, setup.device)()
    begun = time.perf_counter()
    for n in (4,) if setup.is_rehearsal else (256, 1024, 4096, 16384):
        start = time.perf_counter()
        made_with_amplitudes(n, setup.device)()
        wait(setup.device)
        gpu = n / (time.perf_counter() - start)
        row = {"kernel": f"random crystals with |F|, {n}", "unit": "crystals", "cpu_per_s": cpu, "gpu_per_s": gpu}
        yield row | {"ratio": gpu / cpu}
        if time.perf_counter() - begun > _ENOUGH:
            break


def random_crystal_scans(setup: Setup) -> Iterator[Row]:
    """Scan the pieces of random crystals."""
    n = 4 if setup.is_rehearsal else 512
    for work in ("random crystals", "contacts"):
        yield scan(work, made_with_amplitudes(n, setup.device), n, setup, (1, 1 / 8, 1 / 64))


@cache
def crystal_to_solve() -> Crystal:
    """Make a crystal of P 2₁/c with about twenty atoms in the asymmetric unit."""
    options = RandomCrystalOptions(space_groups=("P 1 21/c 1",), n_atoms=(18, 22))
    return random_crystals(1, generator=seeded(3), options=options).crystal(0)


def problem_of(d_min: float, device: torch.device) -> PhaseProblem:
    """Return the phase problem of that crystal to a limit in Å."""
    data = simulate_reflections(crystal_to_solve(), d_min)[0].merge().reflections
    return working_problem(data, np.sqrt(data.intensity.clip(0)), device=device)


def trial_rows(d_min: float, setup: Setup) -> Iterator[Row]:
    """Compare whole trials of the solver on both devices, and the batches of the GPU; agreement after few cycles."""
    recipe = RECIPES["raar"][0]
    if setup.is_rehearsal:
        recipe = recipe._replace(n_search=4, n_settle=2, n_finish=(2, 2))
    n_cycles = recipe.n_search + recipe.n_settle
    problems = {CPU: problem_of(d_min, CPU), setup.device: problem_of(d_min, setup.device)}
    n_voxels = recipe.space(problems[CPU]).n_voxels

    def trials(device: torch.device, n: int) -> Call:
        return lambda: recipe.trials(problems[device], n, seeded()).misfit

    short = recipe._replace(n_search=6, n_settle=2, n_finish=(2, 2))
    apart = difference(*(short.trials(problems[device], 4, seeded()).misfit for device in (CPU, setup.device)))
    n_cpu = 4 if setup.is_rehearsal else 16
    cpu = n_cpu / seconds_of(trials(CPU, n_cpu), CPU, at_most=0)
    rates, taken = {}, {}
    for size in (1 << 12,) if setup.is_rehearsal else [1 << power for power in range(18, 28, 2)]:
        n = max(4, size // n_voxels)
        try:
            taken[size] = seconds_of(trials(setup.device, n), setup.device, at_most=0.5, n_most=3)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            break
        rates[size] = n / taken[size]
    best, free = max(rates, key=lambda size: rates[size]), max(s for s in taken if taken[s] <= 1.5 * taken[min(taken)])
    flop, n_bytes = 2 * 2.5 * n_cycles * n_voxels * np.log2(n_voxels), 36.0 * n_cycles * n_voxels
    row = {"kernel": f"trials at {d_min} Å, {n_voxels} voxels", "unit": "trials", "cpu_per_s": cpu}
    row |= {"gpu_per_s": rates[best], "ratio": rates[best] / cpu, "difference": apart}
    yield row | share_of_peak(rates[best], flop, n_bytes, setup)
    yield scan_row("search maps", rates)
    yield scan_row("first search maps", rates, free)  # the largest batch that takes hardly longer than the smallest


def direct_methods_rows(setup: Setup) -> Iterator[Row]:
    """Compare trials that begin with direct methods on both devices; agreement after few cycles."""
    recipe = RECIPES["direct_methods"][0]
    if setup.is_rehearsal:
        recipe = recipe.shortened(0.05)
    problems = {CPU: problem_of(1.0, CPU), setup.device: problem_of(1.0, setup.device)}

    def rate(device: torch.device, n: int) -> float:
        call = partial(recipe.trials, problems[device], n)
        return n / seconds_of(lambda: call(seeded()).misfit, device, at_most=0.5, n_most=3)

    short = recipe._replace(n_direct=2, n_search=2, n_settle=2, n_finish=(2, 2))
    apart = difference(*(short.trials(problems[device], 4, seeded()).misfit for device in (CPU, setup.device)))
    cpu, gpu = rate(CPU, 4), rate(setup.device, 4 if setup.is_rehearsal else 256)
    row = {"kernel": "trials with direct methods at 1.0 Å", "unit": "trials", "cpu_per_s": cpu, "gpu_per_s": gpu}
    yield row | {"ratio": gpu / cpu, "difference": apart}


def list_scans(setup: Setup) -> Iterator[Row]:
    """Scan the pieces of the origin of the group, of the comparison of trials, and of shifts along polar axes."""
    of, n = problem_of(1.5, setup.device), 4 if setup.is_rehearsal else 256
    phase = 6.3 * torch.rand(n, len(of.hkl), generator=seeded())
    F = torch.polar(torch.ones_like(phase), phase).to(setup.device)
    polar, ones = find_symmetry("P 1 21 1").origins, torch.ones(of.n_known, device=setup.device)
    few = F[:16, : of.n_known]
    calls: dict[str, tuple[Call, int]] = {
        "origin maps": (lambda: of.group.move_to_origin(F, of.n_known, of.grid.shape)[0], n),
        "aligned phasors": (lambda: aligned_phasors(of, F, 0), n),
        "shift grids": (lambda: align_list(few, few[0], of.hkl[: of.n_known], polar, ones).F, len(few)),
    }
    for work, (call, n_lists) in calls.items():
        yield scan(work, call, n_lists, setup)
