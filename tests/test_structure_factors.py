"""Structure factors against hand calculation, Dans_Diffraction and gemmi, and their invariants."""

import contextlib
import io

import gemmi
import numpy as np
import pytest
import torch
from Dans_Diffraction.classes_structures import Structures

from rephase.crystal.cell import Cell
from rephase.crystal.scattering import dispersion, form_factor_coefficients
from rephase.crystal.structure_factors import GridKernel, grid_hkl, sphere_mask, structure_factors
from rephase.crystal.structures import Atoms, Crystal, read_crystal
from rephase.errors import CifError, GridError

H_MAX = (4, 3, 5)


def crystal_of(elements, xyz_frac, cell=Cell(5, 6, 7, 80, 95, 100)) -> Crystal:  # noqa: B008
    n = len(elements)
    atoms = Atoms(tuple(elements), tuple(elements), (0,) * n, np.array(xyz_frac, float), np.ones(n), np.full(n, 0.01))
    return Crystal("test", cell, "P 1", atoms, atoms)


def on_grid(crystal, xyz_frac=None, **options):
    xyz_frac = crystal.atoms.xyz_frac if xyz_frac is None else xyz_frac
    return GridKernel(crystal, H_MAX, dtype=torch.float64, **options)(torch.as_tensor(xyz_frac)[None])[0].numpy()


def dans_reference(name, hkl):
    with contextlib.redirect_stdout(io.StringIO()):
        shipped = getattr(Structures(), name)()
        shipped.Scatter._use_magnetic_form_factor = False
        return shipped.Scatter.structure_factor(hkl, "xray dispersion", energy_kev=10.0)


def test_one_atom_at_the_origin_scatters_its_form_factor():
    F = structure_factors(crystal_of(["Ni"], [[0, 0, 0]]), [[0, 0, 0]])
    # Z + f' + i f'' of nickel at 10 keV; f'' just above the K edge (8.333 keV) is about 3
    assert F[0].real == pytest.approx(28 + dispersion(["Ni"], 10.0)[0].real, abs=0.02)
    assert 2.5 < F[0].imag < 3.5


def test_two_atoms_by_hand():
    """Two equal atoms at 0 and 1/4 along a: F(h) is proportional to 1 + i^h."""
    crystal = crystal_of(["Si", "Si"], [[0, 0, 0], [0.25, 0, 0]])
    one = crystal_of(["Si"], [[0, 0, 0]])
    hkl = [[1, 0, 0], [2, 0, 0], [4, 0, 0], [-1, 0, 0]]
    ratio = structure_factors(crystal, hkl) / structure_factors(one, hkl)
    assert ratio == pytest.approx(np.array([1 + 1j, 0, 2, 1 - 1j]), abs=1e-12)


@pytest.mark.parametrize("name", ["ZnO", "Ca2RuO4", "Na08CoO2_P63mmc", "Sr3LiRuO6", "NaCoO2_stripe_supercell"])
def test_agrees_with_dans_diffraction(name):
    hkl = grid_hkl(H_MAX).reshape(-1, 3)
    reference = dans_reference(name, hkl)
    F = on_grid(read_crystal(name)).ravel()
    assert np.linalg.norm(F - reference) < 1e-6 * np.linalg.norm(reference)


@pytest.mark.parametrize("name", ["Ca2RuO4", "ZnO"])
def test_agrees_with_gemmi_within_the_tables(name):
    crystal, energy = read_crystal(name), 10.0
    small = gemmi.SmallStructure()
    small.cell = gemmi.UnitCell(*crystal.cell.parameters)
    small.spacegroup = gemmi.SpaceGroup("P 1")
    atoms = crystal.atoms
    for element, xyz, u_iso in zip(atoms.elements, atoms.xyz_frac, atoms.u_iso):
        site = gemmi.SmallStructure.Site()
        site.element, site.fract, site.u_iso = gemmi.Element(element), gemmi.Fractional(*xyz), u_iso
        small.add_site(site)
    small.change_occupancies_to_crystallographic()
    calculator = gemmi.StructureFactorCalculatorX(small.cell)
    for element in set(atoms.elements):
        f1, f2 = gemmi.cromer_liberman(z=gemmi.Element(element).atomic_number, energy=energy * 1000)
        calculator.addends.set(gemmi.Element(element), f1)
    hkl = grid_hkl(H_MAX).reshape(-1, 3)
    hkl = hkl[crystal.cell.d_spacing(hkl) > 0.7]
    reference = np.array([calculator.calculate_sf_from_small_structure(small, h.tolist()) for h in hkl])
    # gemmi's addend is real, so its F has no f''. The part of ours that obeys Friedel's law has none either.
    F = (
        structure_factors(crystal, hkl, energy_kev=energy) + structure_factors(crystal, -hkl, energy_kev=energy).conj()
    ) / 2
    assert np.linalg.norm(F - reference) < 0.01 * np.linalg.norm(reference)


def test_dispersion_agrees_with_cromer_liberman():
    for element, z in (("Ni", 28), ("Ca", 20), ("Zn", 30)):
        f1, f2 = gemmi.cromer_liberman(z=z, energy=10000.0)
        ours = dispersion([element], 10.0)[0]
        assert ours.imag == pytest.approx(f2, rel=0.06)
        assert ours.real == pytest.approx(f1, abs=0.25)


def test_anomalous_signal_has_the_right_sign():
    """In a polar crystal F(h) and F(-h)* differ by 2i f'' terms: by hand for two atoms along c."""
    crystal = crystal_of(["Zn", "S"], [[0, 0, 0], [0, 0, 0.25]], Cell(4, 4, 6))
    F = structure_factors(crystal, [[0, 0, 1], [0, 0, -1]])
    s2 = 1 / (4 * 36)
    f0 = [
        sum(c[i] * np.exp(-c[i + 1] * s2) for i in range(0, 8, 2)) + c[8] for c in form_factor_coefficients(["Zn", "S"])
    ]
    f = (np.array(f0) + dispersion(["Zn", "S"], 10.0)) * np.exp(-8 * np.pi**2 * 0.01 * s2)
    assert pytest.approx([f[0] + 1j * f[1], f[0] - 1j * f[1]], rel=1e-10) == F.tolist()
    assert abs(F[0]) != pytest.approx(abs(F[1]), rel=1e-3)


def test_list_and_grid_agree():
    crystal = read_crystal("ZnO")
    hkl = grid_hkl(H_MAX).reshape(-1, 3)
    inside = crystal.cell.d_spacing(hkl) > 0.63
    listed = structure_factors(crystal, hkl[inside])
    assert np.allclose(on_grid(crystal).ravel()[inside], listed, rtol=0, atol=1e-10)


def test_shuffled_reflections_give_the_same_values():
    crystal, rng = read_crystal("ZnO"), np.random.default_rng(0)
    hkl = rng.integers(-2, 3, (50, 3))
    order = rng.permutation(50)
    assert np.array_equal(structure_factors(crystal, hkl)[order], structure_factors(crystal, hkl[order]))


def test_rigid_shift_leaves_amplitudes():
    crystal = read_crystal("Ca2RuO4")
    shifted = on_grid(crystal, crystal.atoms.xyz_frac + [0.123, -0.456, 0.789])
    F = on_grid(crystal)
    assert np.allclose(np.abs(shifted), np.abs(F), atol=1e-9)
    assert not np.allclose(shifted, F)


def test_different_crystals_give_different_amplitudes(data):
    """The generation loop of the reference work gave every crystal the reflections of the last one."""
    means = [data.F[data.parent == number].abs().mean() for number in range(len(data.parents.crystals))]
    assert len({round(float(mean), 3) for mean in means}) == len(means)


def test_strained_lattice_is_that_of_the_strained_crystal():
    """The kernel with a lattice per sample equals a crystal that has this lattice from the start."""
    crystal = crystal_of(["Ni", "O"], [[0.1, 0.2, 0.3], [0.6, 0.5, 0.2]])
    strained = Cell(5.2, 6.1, 6.8, 82, 96, 99)
    kernel = GridKernel(crystal, H_MAX, dtype=torch.float64)
    F = kernel(torch.as_tensor(crystal.atoms.xyz_frac)[None], torch.as_tensor(strained.orthogonalisation)[None])[0]
    expected = on_grid(crystal_of(["Ni", "O"], crystal.atoms.xyz_frac, strained))
    assert np.allclose(F.numpy(), expected, atol=1e-10)


def test_batch_equals_one_by_one_and_keeps_dtype():
    crystal, rng = read_crystal("ZnO"), np.random.default_rng(0)
    xyz_frac = torch.as_tensor(crystal.atoms.xyz_frac + rng.normal(0, 0.02, (5, 4, 3)))
    kernel = GridKernel(crystal, (15, 15, 15))
    batch = kernel(xyz_frac)
    assert batch.dtype == torch.complex64
    exact = GridKernel(crystal, (15, 15, 15), dtype=torch.float64)
    for i in range(5):
        alone = exact(xyz_frac[i : i + 1])[0]
        assert torch.linalg.norm(batch[i] - alone) < 4e-7 * torch.linalg.norm(alone)


EXTREMES = {
    "triclinic": (["Ca", "O", "H"], 0.01, Cell(5, 6, 7, 70, 110, 100)),
    "one atom": (["Br"], 0.02, Cell(8, 9, 10)),
    "tiny cell": (["C", "O"], 0.005, Cell(1.5, 1.6, 1.7, 80, 95, 100)),
    "huge cell": (["C", "S"], 0.05, Cell(90, 80, 120)),
    "no displacement": (["Cs", "Cl"], 0.0, Cell(4, 4, 4)),
    "very large U": (["Ca", "O"], 20.0, Cell(5, 6, 7)),
}


@pytest.mark.parametrize("shrunk", [1.0, 0.5])  # half the cell: s beyond the table of scattering factors
@pytest.mark.parametrize("name", EXTREMES)
def test_float32_keeps_its_precision_in_strained_lattices(name, shrunk):
    elements, u_iso, cell = EXTREMES[name]
    rng = np.random.default_rng(0)
    crystal = crystal_of(elements, rng.random((len(elements), 3)), cell)
    crystal.atoms.u_iso[:] = u_iso
    xyz_frac = torch.as_tensor(rng.random((6, len(elements), 3)))
    lattice = torch.as_tensor(shrunk * (np.eye(3) + rng.normal(0, 0.03, (6, 3, 3))) @ cell.orthogonalisation)
    F, exact = (
        GridKernel(crystal, (15, 7, 9), dtype=dtype)(xyz_frac, lattice) for dtype in (torch.float32, torch.float64)
    )
    difference = torch.linalg.vector_norm(F - exact, dim=(1, 2, 3)) / torch.linalg.vector_norm(exact, dim=(1, 2, 3))
    assert difference.max() < 5e-7
    assert ((F - exact).abs() < 1e-6 * sum(gemmi.Element(element).atomic_number for element in elements)).all()


def test_lattices_that_are_not_numbers_give_no_numbers():
    crystal = crystal_of(["Ni", "O"], [[0.1, 0.2, 0.3], [0.6, 0.5, 0.2]])
    xyz_frac, lattice = torch.as_tensor(crystal.atoms.xyz_frac)[None], torch.full((1, 3, 3), torch.nan)
    assert GridKernel(crystal, H_MAX)(xyz_frac, lattice).isnan().all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_gpu_equals_cpu():
    crystal = read_crystal("Ca2RuO4")
    xyz_frac = torch.as_tensor(crystal.atoms.xyz_frac)[None]
    on_cpu = GridKernel(crystal, H_MAX, dtype=torch.float64)(xyz_frac)
    on_gpu = GridKernel(crystal, H_MAX, dtype=torch.float64, device="cuda")(xyz_frac)
    assert torch.allclose(on_gpu.cpu(), on_cpu, atol=1e-9)


def test_measurable_sphere_of_nickel():
    lattice = torch.as_tensor(read_crystal("Ni").cell.orthogonalisation)[None]
    assert int(sphere_mask(lattice, (15, 15, 15), 0.619921).sum()) == 751  # counted independently


def test_sphere_follows_the_strained_lattice():
    """Against gemmi's d for a skewed cell; the whole grid is inside a sphere of radius 0."""
    cell = Cell(5.2, 6.1, 6.8, 82, 96, 99)
    mask = sphere_mask(torch.as_tensor(cell.orthogonalisation)[None], H_MAX, 1.4)[0].numpy()
    reference = gemmi.UnitCell(*cell.parameters)
    hkl = grid_hkl(H_MAX)
    expected = [reference.calculate_d(h.tolist()) >= 1.4 if h.any() else True for h in hkl.reshape(-1, 3)]
    assert mask.ravel().tolist() == expected
    assert sphere_mask(torch.as_tensor(cell.orthogonalisation)[None], H_MAX, 0.0).all()


def test_reflection_beyond_the_limiting_sphere():
    with pytest.raises(GridError, match=r"\(6, 0, 0\) has d = .*raise energy_kev"):
        structure_factors(read_crystal("Ni"), [[6, 0, 0]])


@pytest.mark.parametrize("energy", [0.0, -5.0, 100.0])
def test_energy_outside_the_tables(energy):
    with pytest.raises(GridError, match="energy_kev"):
        structure_factors(read_crystal("Ni"), [[0, 0, 0]], energy_kev=energy)


def test_half_integer_reflections_are_refused():
    with pytest.raises(GridError, match="expected integers"):
        structure_factors(read_crystal("Ni"), [[0.5, 0, 0]])


def test_no_reflections():
    assert structure_factors(read_crystal("Ni"), np.zeros((0, 3), int)).shape == (0,)


def test_element_without_form_factor():
    with pytest.raises(CifError, match="'Xq' has no form factor"):
        form_factor_coefficients(["Xq"])
