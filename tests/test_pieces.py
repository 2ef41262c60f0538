"""Pieces of work: their table, the memory of a GPU that they respect, and results that do not depend on their size."""

import re

import numpy as np
import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from rephase.config.scattering import GisaxsSimulation, SaxsSimulation
from rephase.crystal.phases import align_list
from rephase.crystal.reflections.simulation import simulate_reflections
from rephase.crystal.structure_factors import GridKernel, structure_factors
from rephase.crystal.structures import read_crystal
from rephase.crystal.symmetry import find_symmetry
from rephase.devices import WORK, at_once
from rephase.labs.scattering.data.gisaxs import GisaxsSimulator
from rephase.labs.scattering.data.saxs import SaxsSimulator
from rephase.optics.detector import Detector
from rephase.optics.droplet_shapes import random_droplets
from rephase.optics.droplets import scatter
from rephase.optics.particles import random_particles, scatter_particles
from rephase.paths import ROOT
from rephase.random_crystals.crystals import RandomCrystalOptions, random_crystals
from rephase.random_crystals.structure_factors import many_structure_factors, unique_reflections
from rephase.solvers.problem import PhaseProblem
from rephase.solvers.strategy import Recipe, batch_size, finish_in_group, random_phasors, search
from rephase.solvers.trials import aligned_phasors, joined

GPU = torch.device("cuda")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def piece(monkeypatch):
    """Set the size of a piece on the CPU."""

    def set_size(size, *works):
        for work in works:
            monkeypatch.setitem(WORK, work, WORK[work]._replace(cpu=size))

    return set_size


@pytest.fixture
def gpu(monkeypatch):
    """Give the GPU, which is not there, some free memory in bytes; a part of it unused in torch's cache."""

    def set_free(n_bytes):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (n_bytes - 1000, 80 << 30))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 5000)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 4000)

    return set_free


def test_the_table_has_what_is_asked_for_and_nothing_else():
    sources = [path.read_text() for path in (ROOT / "src").rglob("*.py")]
    asked = {name for text in sources for name in re.findall(r'at_once\(\s*"([^"]+)"', text)}
    assert asked == set(WORK)


@pytest.mark.parametrize("work", WORK)
def test_a_piece_fits_in_the_free_memory_of_the_gpu(work, gpu):
    kind = WORK[work]
    assert kind.cuda >= kind.cpu
    gpu(1 << 45)
    assert at_once(work, GPU) == kind.cuda
    gpu(10 * kind.n_bytes)
    assert at_once(work, GPU) == 5
    gpu(5000)
    assert at_once(work, GPU) == max(1, 2500 // kind.n_bytes)
    assert at_once(work, torch.device("cpu")) == kind.cpu


def test_a_gpu_starts_with_more_trials_and_takes_thousands(gpu):
    gpu(80 << 30)
    sizes = [batch_size(10_000, GPU, n) for n in range(6)]
    assert sizes[0] == WORK["first search maps"].cuda // 10_000 > 400
    assert sizes[1] == 2 * sizes[0]
    assert batch_size(10_000, GPU, 0, n_proposals=8) == sizes[0] // 8
    assert sizes[5] == WORK["search maps"].cuda // 10_000 > 4000
    gpu(1 << 30)
    assert batch_size(10_000, GPU, 5) * 10_000 * WORK["search maps"].n_bytes <= 1 << 29
    assert batch_size(1 << 29, GPU, 0) == 1


def grid_kernel():
    crystal = read_crystal("NaCl")
    xyz = torch.as_tensor(crystal.atoms.xyz_frac) + 0.01 * torch.rand(7, len(crystal.atoms), 3, generator=seeded())
    stretched = torch.as_tensor(crystal.cell.orthogonalisation) * (1 + 0.01 * torch.arange(7.0))[:, None, None]
    return GridKernel(crystal, (2, 3, 4), dtype=torch.float64)(xyz, stretched)


def direct_sum():
    hkl = np.stack(np.meshgrid(*[np.arange(-3, 4)] * 3), -1).reshape(-1, 3)
    return torch.as_tensor(structure_factors(read_crystal("Rutile"), hkl, energy_kev=None))


def crystals():
    options = RandomCrystalOptions(n_atoms=(5, 8), space_groups=("P 1 21/c 1", "P 21 21 21"))
    return random_crystals(12, generator=seeded(), options=options, dtype=torch.float64)


def sums_of_many_crystals():
    many = crystals()
    return many_structure_factors(many, unique_reflections(many, 2.0).hkl)


def lists_of_many_crystals():
    return unique_reflections(crystals(), 2.0).hkl


def problem():
    crystal = random_crystals(
        1, generator=seeded(1), options=RandomCrystalOptions(space_groups=("P 1 21/c 1",), n_atoms=(6, 7))
    ).crystal(0)
    data = simulate_reflections(crystal, 1.4)[0].merge().reflections
    return PhaseProblem(data.hkl, np.sqrt(data.intensity.clip(0)), crystal.cell, find_symmetry(crystal.space_group))


def lists(of):
    shape = 5, len(of.hkl)
    return torch.complex(torch.randn(shape, generator=seeded()), torch.randn(shape, generator=seeded(1)))


def origins_of_the_group():
    of = problem()
    return torch.cat([t.flatten() for t in of.group.move_to_origin(lists(of), of.n_known, of.grid.shape)])


def phasors_of_trials():
    of = problem()
    return aligned_phasors(of, lists(of), 0)


def shifts():
    """Along the polar axes of P 1 2 1 and P 1, where grids of shifts are searched."""
    hkl = torch.cartesian_prod(*[torch.arange(-2, 3)] * 3)
    F = torch.polar(torch.ones(4, len(hkl)), 6 * torch.rand(4, len(hkl), generator=seeded()))
    ones = torch.ones(len(hkl))
    found = [align_list(F, F[0], hkl, find_symmetry(name).origins, ones) for name in ("P 1 2 1", "P 1")]
    return torch.cat([each.F for each in found])


def droplets():
    return scatter(random_droplets(5, "oblate", generator=seeded(), dtype=torch.float64), Detector(n_pixels=32))


def bodies():
    of, n = random_particles(4, "several", generator=seeded(), dtype=torch.float64), 4
    return scatter_particles(of, n, Detector(n_pixels=32, max_angle_deg=2.5, hole_deg=0))


def saxs():
    one = SaxsSimulator(SaxsSimulation(shape="ellipsoid", n_q=20))
    return one.intensity(one.from_normal(torch.randn(9, *one.u_shape, generator=seeded(), dtype=torch.float64)))


def gisaxs():
    one = GisaxsSimulator(GisaxsSimulation(pixels=(8, 12)))
    return one.intensity(one.from_normal(torch.randn(9, *one.u_shape, generator=seeded(), dtype=torch.float64)))


CASES = {
    "grid kernel": grid_kernel,
    "direct sum": direct_sum,
    "direct sums of many crystals": sums_of_many_crystals,
    "lists of many crystals": lists_of_many_crystals,
    "contacts": crystals,
    "origin maps": origins_of_the_group,
    "aligned phasors": phasors_of_trials,
    "shift grids": shifts,
    "droplets": droplets,
    "bodies": bodies,
    "SAXS": saxs,
    "GISAXS": gisaxs,
}
BY_LARGEST = {"droplets": 0.01}  # the largest droplet of a piece sets its number of cells: within the error of 1.5 %


@pytest.mark.parametrize("work", CASES)
def test_results_do_not_depend_on_the_pieces(work, piece):
    found = []
    for size in (1, 1 << 40):
        piece(size, work)
        value = CASES[work]()
        found.append(value if isinstance(value, torch.Tensor) else value.xyz_frac)
    assert found[0].shape == found[1].shape
    difference = float((found[0] - found[1]).abs().max() / found[0].abs().max())
    assert difference < BY_LARGEST.get(work, 1e-5 if found[0].dtype in (torch.float32, torch.complex64) else 1e-9)


class Memory(TorchDispatchMode):
    """Follows the memory of all tensors that are made, and its peak, in bytes."""

    def __init__(self):
        super().__init__()
        self.sizes, self.peak = {}, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for value in tree_iter(out):
            if isinstance(value, torch.Tensor):
                storage = value.untyped_storage()
                self.sizes[StorageWeakRef(storage)] = storage.nbytes()
        self.sizes = {held: size for held, size in self.sizes.items() if not held.expired()}
        self.peak = max(self.peak, sum(self.sizes.values()))
        return out


def trials():
    return Recipe(n_search=2, n_settle=1, n_finish=(2, 2)).trials(problem(), 9, seeded())


UNITS = {
    "grid kernel": (grid_kernel, lambda: 7 * 5 * 7 * 9),
    "search maps": (trials, lambda: 9 * problem().n_voxels),
    "droplets": (droplets, lambda: 5),
    "bodies": (bodies, lambda: 4),
    "SAXS": (saxs, lambda: 9 * 20 * 100),
    "GISAXS": (gisaxs, lambda: 9 * 8 * 12 * 9),
}


@pytest.mark.parametrize("work", UNITS)
def test_a_unit_needs_no_more_memory_than_the_table_says(work, piece):
    call, n = UNITS[work]
    piece(1 << 40, work)
    with Memory() as memory:
        call()
    assert memory.peak < WORK[work].n_bytes * n() + 1e6  # some tables do not grow with the piece


@pytest.mark.parametrize("iteration", ["raar", "charge_flipping"])
def test_trials_do_not_depend_on_their_batch(iteration):
    of = problem()
    recipe = Recipe(iteration, n_search=6, n_settle=2, n_finish=(2, 2))
    together, generator = recipe.trials(of, 6, seeded()), seeded()
    apart = joined([recipe.trials(of, 2, generator) for _ in range(3)])
    for whole, parts in ((together.F, apart.F), (together.misfit, apart.misfit)):
        assert torch.allclose(whole, parts, rtol=1e-3, atol=1e-4 * float(whole.abs().max()))


class Waits(TorchDispatchMode):
    """Counts the operations for whose results the host waits on a GPU."""

    def __init__(self):
        super().__init__()
        self.n = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name()
        indices = [t for t in args[1] if t is not None] if name.startswith(("aten::index", "aten::_index")) else []
        has_mask = any(isinstance(t, torch.Tensor) and t.dtype == torch.bool for t in indices)
        self.n += has_mask or name.startswith(("aten::_local_scalar", "aten::nonzero", "aten::masked_select"))
        return func(*args, **(kwargs or {}))


def waits(function, *arguments):
    with Waits() as counted:
        function(*arguments)
    return counted.n


@pytest.mark.parametrize("recipe", [Recipe(), Recipe(of_atoms=True), Recipe("charge_flipping", weak_share=0.2)])
def test_the_host_waits_in_no_cycle(recipe):
    of = problem()
    start = random_phasors(of, 2, seeded())
    few, many = recipe._replace(n_search=4, n_settle=2), recipe._replace(n_search=9, n_settle=7)
    assert waits(search, of, *start, few) == waits(search, of, *start, many)
    F = lists(of)
    assert waits(finish_in_group, of, F, of.amplitude, 2) == waits(finish_in_group, of, F, of.amplitude, 9)


def test_the_host_waits_once_for_a_mask():
    assert waits(lambda: torch.ones(4)[torch.ones(4) > 0]) >= 1
    assert waits(lambda: float(torch.ones(4).sum())) == 1
