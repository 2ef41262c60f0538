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
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import Dans_Diffraction as dif
import gemmi
import numpy as np
import pandas as pd
import torch

from rephase.config.crystals import Strain
from rephase.crystal.scattering import dispersion, form_factor_coefficients
from rephase.crystal.structure_factors import GridKernel, grid_hkl
from rephase.crystal.structures import Atoms, Crystal, read_crystal
from rephase.labs.crystals.perturb import strain
from rephase.learning.store import Store
from rephase.paths import RUNS

CRYSTALS = ("Ni", "NaCl", "Ca2RuO4", "NaCoO2_stripe_supercell")
H_MAX, ENERGY_KEV = (15, 15, 15), 10.0
GRID = tuple(2 * m + 1 for m in H_MAX)
HKL = grid_hkl(H_MAX).reshape(-1, 3)
BATCH, STORED = 64, 256  # structures in one call of the kernel, and in one store
SHIPPED, WRITING = "Dans_Diffraction, as shipped", "rephase, same lattice, incl. writing"


def median_ms(work: Callable[[], object], *, repeat: int, structures: int = 1) -> float:
    """Return the median time of `work` after one warm-up, in ms per structure."""
    times = []
    for _ in range(repeat + 1):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1e3 * median(times[1:]) / structures


def dans_diffraction(crystal: Crystal, xyz_frac: np.ndarray, *, magnetic: bool) -> np.ndarray:
    """Compute F with Dans_Diffraction, from a new crystal in P1 with the displaced atoms."""
    atoms, (u, v, w) = crystal.atoms, xyz_frac.T
    with contextlib.redirect_stdout(io.StringIO()):  # it prints
        moved = dif.Crystal()
        moved.new_cell(*crystal.cell.parameters)
        moved.new_atoms(u, v, w, list(atoms.elements), list(atoms.labels), atoms.occupancy, atoms.u_iso)
        moved.Scatter._use_magnetic_form_factor = magnetic
        return moved.Scatter.structure_factor(HKL, "xray dispersion", energy_kev=ENERGY_KEV)


def gemmi_direct(crystal: Crystal, xyz_frac: np.ndarray, corrections: dict[str, float]) -> np.ndarray:
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
    return np.array([calculator.calculate_sf_from_small_structure(small, hkl) for hkl in HKL.tolist()])


def gemmi_with_absorption(crystal: Crystal, xyz_frac: np.ndarray) -> np.ndarray:
    """Compute F with gemmi and f' + i f'': its corrections are real, but F is linear in them, so two sums give F."""
    elements = sorted(set(crystal.atoms.elements))
    f = dict(zip(elements, dispersion(elements, ENERGY_KEV)))
    real = gemmi_direct(crystal, xyz_frac, {element: value.real for element, value in f.items()})
    both = gemmi_direct(crystal, xyz_frac, {element: value.real + value.imag for element, value in f.items()})
    return real + 1j * (both - real)


def dense_numpy(crystal: Crystal, xyz_frac: np.ndarray) -> np.ndarray:
    """Compute F with one exponential per atom and reflection, times the factors of element and displacement."""
    atoms: Atoms = crystal.atoms
    s_squared = 1 / (4 * crystal.cell.d_spacing(HKL) ** 2)
    f = {}
    for element in set(atoms.elements):
        (ab,), (correction,) = form_factor_coefficients([element]), dispersion([element], ENERGY_KEV)
        f[element] = np.exp(-s_squared[:, None] * ab[1:8:2]) @ ab[0:8:2] + ab[8] + correction
    F = np.zeros(len(HKL), complex)
    phases = np.exp(2j * np.pi * (HKL @ xyz_frac.T))
    for element in f:
        of_element = [i for i, name in enumerate(atoms.elements) if name == element]
        debye_waller = np.exp(-8 * np.pi**2 * atoms.u_iso[of_element] * s_squared[:, None])
        F += f[element] * ((phases[:, of_element] * debye_waller) @ atoms.occupancy[of_element])
    return F


def milliseconds_writing(kernel: GridKernel, xyz_frac: torch.Tensor, lattice: torch.Tensor | None) -> float:
    """Return the time for one worker to fill a store with the kernel's output, in ms per structure."""
    times = []
    for _ in range(4):
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):  # the progress bar
            store = Store(Path(folder), {"F": (GRID, "complex64")}, STORED, BATCH, {})
            start = time.perf_counter()
            store.fill(lambda rows: {"F": kernel(xyz_frac, lattice).numpy()}, workers=1)
            times.append(time.perf_counter() - start)
    return 1e3 * median(times[1:]) / STORED


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
        WRITING: milliseconds_writing(kernel, xyz_frac, None),
        "rephase, strained lattices, incl. writing": milliseconds_writing(kernel, xyz_frac, lattice),
    }
    row[f"ratio {SHIPPED} / {WRITING}"] = row[SHIPPED] / row[WRITING]
    for peer, F in {"Dans_Diffraction": F_dans, "gemmi": F_gemmi, "numpy": dense_numpy(crystal, first)}.items():
        row[f"difference from {peer}, float32"] = relative_difference(F_32, F)
        row[f"difference from {peer}, float64"] = relative_difference(F_64, F)
    return row


def relative_difference(F: np.ndarray, reference: np.ndarray) -> float:
    """Return |F - reference| / |reference|, with L2 norms over the grid."""
    return float(np.linalg.norm(F - reference) / np.linalg.norm(reference))


def main() -> None:
    """Measure, print one table and write the tidy rows."""
    torch.set_num_threads(1)
    table = pd.DataFrame({name: measure(name) for name in CRYSTALS})
    text = table.map(lambda value: f"{value:.2e}" if value < 1e-3 else f"{value:.4g}")
    print("ms per structure, 29,791 reflections, one thread; differences relative, L2\n")
    print(text.to_string())
    folder = RUNS / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    tidy = table.rename_axis("quantity").reset_index().melt("quantity", var_name="crystal")
    tidy.to_csv(folder / "structure_factors.csv", index=False)


if __name__ == "__main__":
    main()
