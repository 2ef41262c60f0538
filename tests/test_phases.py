"""Phases and densities: wrapping, hands, origins, alignment, the Fourier round trip."""

import numpy as np
import pytest
import torch

from rephase.config.crystals import PerturbationConfig, Strain
from rephase.crystal.density import F_from_density, density_from_F, refine
from rephase.crystal.phases import align, align_hand, friedel_mate, phase_difference, shift_origin, wrap
from rephase.crystal.structure_factors import GridKernel
from rephase.crystal.structures import read_crystal
from rephase.errors import ConfigError
from rephase.labs.crystals.perturb import PERTURBATIONS, perturb

H_MAX = (5, 6, 4)


@pytest.fixture(scope="module", params=["ZnO", "Rutile", "triclinic"])
def F(request):
    """Four variants of a crystal with and without a centre: complex128 [4, 11, 13, 9]."""
    crystal = read_crystal(request.param)
    variants = perturb(crystal, 4, np.random.default_rng(1), PerturbationConfig(kind="all_atoms"))
    return GridKernel(crystal, H_MAX, dtype=torch.float64)(torch.as_tensor(variants.xyz_frac))


def ones(F):
    return torch.ones(F.shape, dtype=F.real.dtype)


def test_wrap_is_half_open():
    phi = torch.tensor([torch.pi, -torch.pi, 3.5, -7.0], dtype=torch.float64)
    assert wrap(phi).tolist() == pytest.approx([-np.pi, -np.pi, 3.5 - 2 * np.pi, -7 + 2 * np.pi])


def test_difference_across_the_cut():
    assert float(phase_difference(torch.tensor(3.1), torch.tensor(-3.1))) == pytest.approx(6.2 - 2 * np.pi, abs=1e-6)


def test_shift_is_the_motion_of_the_atoms():
    crystal, t = read_crystal("ZnO"), torch.tensor([[0.1, 0.25, -0.4]], dtype=torch.float64)
    kernel = GridKernel(crystal, H_MAX, dtype=torch.float64)
    xyz_frac = torch.as_tensor(crystal.atoms.xyz_frac)[None]
    assert torch.allclose(kernel(xyz_frac + t), shift_origin(kernel(xyz_frac), t), atol=1e-9)


def test_friedel_mate_is_the_inverted_structure():
    crystal = read_crystal("ZnO")
    kernel = GridKernel(crystal, H_MAX, dtype=torch.float64)
    xyz_frac = torch.as_tensor(crystal.atoms.xyz_frac)[None]
    assert torch.allclose(kernel(-xyz_frac), friedel_mate(kernel(xyz_frac)), atol=1e-9)


def test_friedel_law_without_dispersion_and_not_with_it(F):
    density = density_from_F(F, 1.0, (22, 26, 18))
    hermitian = F_from_density(density, 1.0, F.shape[-3:])
    assert torch.allclose(hermitian, (F + friedel_mate(F).conj()) / 2, atol=1e-9)
    assert (F - friedel_mate(F).conj()).abs().max() > 0.1


def test_density_round_trip():
    density = torch.rand(2, 9, 11, 7, dtype=torch.float64)
    back = density_from_F(F_from_density(density, 50.0, (9, 11, 7)), 50.0, (9, 11, 7))
    assert torch.allclose(back, density, atol=1e-12)


def test_density_holds_the_electrons():
    crystal = read_crystal("Ni")
    F = GridKernel(crystal, (6, 6, 6), dtype=torch.float64)(torch.as_tensor(crystal.atoms.xyz_frac)[None])
    density = density_from_F(F, crystal.cell.volume, (26, 26, 26))
    assert float(density.mean()) * crystal.cell.volume == pytest.approx(float(F[0, 0, 0, 0].real))
    peak = np.unravel_index(int(density.argmax()), density.shape[1:])
    assert all(index in (0, 13) for index in peak)  # an atom: 0 or 1/2 along each axis


@pytest.mark.parametrize("is_inverted", [False, True])
def test_alignment_finds_origin_and_hand(F, is_inverted):
    t = torch.rand(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    moved = shift_origin(friedel_mate(F) if is_inverted else F, t)
    aligned = align(moved, F, ones(F))
    assert torch.allclose(aligned.F, F, atol=1e-5 * float(F.abs().max()))


def test_alignment_does_not_depend_on_origin_and_hand(F):
    generator = torch.Generator().manual_seed(5)
    noisy = F * torch.polar(ones(F), 1.2 * torch.randn(F.shape, generator=generator, dtype=torch.float64))
    moved = friedel_mate(shift_origin(noisy, torch.rand(4, 3, generator=generator, dtype=torch.float64)))
    score = [
        (torch.cos(phase_difference(align(f, F, ones(F)).F.angle(), F.angle()))).mean((1, 2, 3)) for f in (noisy, moved)
    ]
    assert torch.allclose(score[0], score[1], atol=1e-6)


def test_alignment_of_poor_phases_is_the_best_there_is(F):
    """Against brute force: the sum on a grid sixteen times as fine as the cell needs, over both hands."""
    generator = torch.Generator().manual_seed(7)
    poor = F * torch.polar(ones(F), 4 * torch.rand(F.shape, generator=generator, dtype=torch.float64))
    found = torch.cos(phase_difference(align(poor, F, ones(F)).F.angle(), F.angle())).sum((1, 2, 3))
    hands = torch.stack([poor, friedel_mate(poor)])
    product = torch.polar(torch.ones_like(hands.real), hands.angle() - F.angle())
    fine = torch.zeros((2, 4, 88, 104, 72), dtype=torch.complex128)
    h, k, l = (torch.fft.fftfreq(n, 1 / n).long() for n in F.shape[1:])
    fine[:, :, h[:, None, None], k[:, None], l] = product
    best = torch.fft.ifftn(fine, dim=(2, 3, 4), norm="forward").real.amax((0, 2, 3, 4))
    assert (found >= best - 1e-9).all()
    assert torch.allclose(found, best, rtol=0.02)


def test_identical_inputs_stay(F):
    aligned = align(F, F, ones(F))
    assert not aligned.is_other_hand.any()
    assert torch.allclose(aligned.F, F, atol=1e-9)


def test_alignment_of_hand_alone(F):
    assert torch.allclose(align_hand(friedel_mate(F), F, ones(F)), F)


def test_alignment_ignores_what_is_not_weighted(F):
    weight = ones(F)
    weight[:, 3:8] = 0
    spoiled = F.clone()
    spoiled[:, 3:8] = spoiled[:, 3:8].flip(0) * 1j
    moved = shift_origin(spoiled, torch.full((4, 3), 0.21, dtype=torch.float64))
    aligned = align(moved, F, weight).F
    assert torch.allclose(aligned[:, :3], F[:, :3], atol=1e-4 * float(F.abs().max()))


# perturbations


def variants(kind, n=500, name="NaCl", **options):
    return perturb(read_crystal(name), n, np.random.default_rng(0), PerturbationConfig(kind=kind, **options))


def test_single_atom_moves_one_atom_along_a():
    crystal = read_crystal("NaCl")
    shift = variants("single_atom").xyz_frac - crystal.atoms.xyz_frac
    assert np.count_nonzero(shift) == 500
    assert shift[:, 0, 0].std() == pytest.approx(0.05, rel=0.1)


def test_all_atoms_are_isotropic_in_angstrom_without_net_shift():
    crystal = read_crystal("Rutile")  # a = 4.59, c = 2.95: isotropic in Å is not so in fractions
    shift = (variants("all_atoms", name="Rutile").xyz_frac - crystal.atoms.xyz_frac) @ crystal.cell.orthogonalisation.T
    assert shift.std(axis=(0, 1)) == pytest.approx(
        [0.1 * np.sqrt(5 / 6)] * 3, rel=0.05
    )  # one of six atoms' freedom is the origin
    assert np.abs(shift.mean(axis=1)).max() < 1e-12


def test_strain_is_symmetric_and_moves_atoms():
    crystal = read_crystal("NaCl")
    drawn = variants("strain", strain=Strain(sigma_strain=0.02))
    strain = drawn.lattice @ np.linalg.inv(crystal.cell.orthogonalisation) - np.eye(3)
    assert np.allclose(strain, strain.swapaxes(1, 2))
    assert strain[:, 0, 0].std() == pytest.approx(0.02, rel=0.1)
    assert not np.allclose(drawn.xyz_frac, crystal.atoms.xyz_frac)


def test_every_perturbation_repeats_with_its_seed():
    for kind in PERTURBATIONS:
        assert np.array_equal(variants(kind).xyz_frac, variants(kind).xyz_frac)


def test_atom_number_out_of_range():
    with pytest.raises(ConfigError, match=r"atom = 8: NaCl has 8 atoms"):
        variants("single_atom", single_atom={"atom": 8})


def test_refined_map_goes_through_the_points_of_the_coarse_one():
    F = torch.randn(1, 7, 5, 9, dtype=torch.complex128)
    coarse = density_from_F(F, 1.0, (14, 10, 18))
    assert torch.allclose(refine(coarse, (28, 30, 18))[:, ::2, ::3], coarse, atol=1e-12)
