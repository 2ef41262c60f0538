"""Correlation maps: the polar transform, the direct sum with masks, known patterns, rotation."""

import math

import pytest
import torch

from rephase.optics.correlation import PolarImage, correlate, correlate_rings, correlation_map, to_polar


def smooth_image(shape=(64, 64), angle=0.0, fold=3):
    """An n-fold pattern of two rings, turned by an angle, around the middle of the image."""
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) - (n - 1) / 2 for n in shape), indexing="ij")
    radius, phi = torch.hypot(x, y), torch.atan2(y, x) - angle
    inner, outer = torch.exp(-(((radius - 12) / 4) ** 2)), torch.exp(-(((radius - 24) / 4) ** 2))
    return 50 * (1 + inner * (1 + torch.cos(fold * phi)) + outer * (1 + 0.5 * torch.sin(fold * phi)))[None]


def everywhere(image):
    return torch.ones(image.shape, dtype=torch.bool)


@pytest.fixture
def polar():
    generator = torch.Generator().manual_seed(0)
    intensity = torch.rand(2, 3, 8, generator=generator, dtype=torch.float64) + 0.1
    mask = torch.rand(2, 3, 8, generator=generator) < 0.6
    return PolarImage(intensity * mask, mask)


def test_a_linear_image_is_interpolated_exactly():
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(24.0), indexing="ij")
    image, centre = (3 * y + 2 * x + 5).expand(2, -1, -1), torch.tensor([[9.0, 10.0], [8.5, 12.25]])
    polar = to_polar(image, everywhere(image), n_q=4, n_phi=8, centre=centre, r_max=8.0)
    assert polar.mask.all()
    for sample, (row, column) in enumerate(centre.tolist()):
        for ring in range(4):
            radius = 1 + 2 * ring
            expected = [
                3 * (row + radius * math.sin(math.pi * j / 4)) + 2 * (column + radius * math.cos(math.pi * j / 4)) + 5
                for j in range(8)
            ]
            assert polar.intensity[sample, ring].tolist() == pytest.approx(expected, rel=1e-5)


def test_a_point_between_pixels_takes_those_that_were_measured():
    image, mask = torch.tensor([[[1.0, 9.0], [1.0, 9.0]]]), torch.ones(1, 2, 2, dtype=torch.bool)
    at = {"n_q": 1, "n_phi": 1, "centre": torch.tensor([0.5, 0.0]), "r_max": 0.5}  # a quarter of the way to the nines
    assert to_polar(image, mask, **at).intensity.item() == pytest.approx(3)
    mask[0, :, 1] = False
    assert to_polar(image, mask, **at).intensity.item() == pytest.approx(1)
    assert to_polar(torch.where(mask, image, torch.nan), mask, **at).intensity.item() == pytest.approx(1)
    far_side = to_polar(image, ~mask, **at)
    assert not far_side.mask.item()
    assert far_side.intensity.item() == 0


def test_outside_of_the_image_nothing_is_measured():
    image = torch.ones(1, 10, 10)
    polar = to_polar(image, everywhere(image), n_q=5, n_phi=4, r_max=10.0)
    assert polar.mask[0, :, 0].tolist() == [True, True, True, False, False]


def test_the_fourier_route_is_the_direct_sum_over_measured_pairs(polar):
    found = correlate(polar)
    assert found.value.shape == (2, 3, 3, 8)
    for b, q1, q2, shift in torch.cartesian_prod(*map(torch.arange, found.value.shape)).tolist():
        means = [polar.intensity[b, q][polar.mask[b, q]].mean() for q in (q1, q2)]
        products = [
            (polar.intensity[b, q1, j] / means[0] - 1) * (polar.intensity[b, q2, (j + shift) % 8] / means[1] - 1)
            for j in range(8)
            if polar.mask[b, q1, j] and polar.mask[b, q2, (j + shift) % 8]
        ]
        assert found.n_pairs[b, q1, q2, shift] == len(products)
        expected = torch.stack(products).mean().item() if products else 0.0
        assert found.value[b, q1, q2, shift].item() == pytest.approx(expected, abs=1e-12)


def test_rings_with_themselves_are_the_diagonal(polar):
    full, rings = correlate(polar), correlate_rings(polar)
    assert torch.allclose(rings.value, full.value.diagonal(dim1=1, dim2=2).movedim(-1, 1))
    assert torch.equal(rings.n_pairs, full.n_pairs.diagonal(dim1=1, dim2=2).movedim(-1, 1))


def test_a_ring_turned_against_another_has_its_peak_at_that_angle():
    phi = torch.arange(60, dtype=torch.float64) * (2 * math.pi / 60)
    intensity = torch.stack([1 + 0.5 * torch.cos(3 * phi), 4 + 2 * torch.cos(3 * (phi - math.pi / 6))])[None]
    value = correlate(PolarImage(intensity, everywhere(intensity))).value[0]
    assert torch.allclose(value[0, 1], 0.125 * torch.cos(3 * (phi - math.pi / 6)))
    assert torch.allclose(value[1, 0], 0.125 * torch.cos(3 * (phi + math.pi / 6)))
    assert torch.allclose(value[0, 0], 0.125 * torch.cos(3 * phi))


@pytest.mark.parametrize("fold", [2, 4, 6])
def test_an_n_fold_image_has_ridges_at_two_pi_over_n(fold):
    image = smooth_image(fold=fold)
    value, measured = correlation_map(image, everywhere(image), n_q=16, n_delta=60)
    assert measured.all()
    row = value[0, 6]  # at 13 pixels, on the inner ring
    is_peak = (row > row.roll(1)) & (row > row.roll(-1))
    assert is_peak.nonzero().flatten().tolist() == [120 // fold * n for n in range(fold // 2)]


def test_a_rotation_changes_nothing():
    image = smooth_image()
    maps = [correlate(to_polar(m, everywhere(m), n_q=16, n_phi=90)).value for m in (image, smooth_image(angle=0.3))]
    assert torch.allclose(maps[0], maps[1], atol=0.003)
    assert maps[0].max() > 0.05
    mask = everywhere(image)
    mask[:, :20, 30:40] = False
    exact = [correlation_map(*(torch.rot90(m, n, (-2, -1)) for m in (image, mask)), n_q=16, n_delta=50) for n in (0, 1)]
    assert torch.allclose(exact[0][0], exact[1][0])
    assert torch.equal(exact[0][1], exact[1][1])


def test_intensity_and_profile_are_left_out_and_a_mask_changes_little():
    image = smooth_image()
    mask = everywhere(image)
    mask[:, 20:44, :30] = False
    whole, _ = correlation_map(image, everywhere(image), n_q=16, n_delta=60)
    stronger, _ = correlation_map(1000 * image, everywhere(image), n_q=16, n_delta=60)
    masked, _ = correlation_map(image, mask, n_q=16, n_delta=60)
    assert torch.allclose(stronger, whole)
    assert torch.corrcoef(torch.stack([masked.flatten(), whole.flatten()]))[0, 1] > 0.9


def test_shot_noise_leaks_to_neighbouring_angles_where_rings_are_sampled_finer_than_pixels():
    image = torch.poisson(torch.full((64, 64, 64), 2.0), generator=torch.Generator().manual_seed(0))
    value = correlation_map(image, everywhere(image), n_q=32, n_delta=64)[0].mean(0)
    leaked = value / value[:, :1]
    assert leaked[3, 1] > 0.8
    assert leaked[31, 1:].abs().max() < 0.1


def test_rings_without_signal_or_measurement_have_no_pairs():
    intensity = torch.tensor([[[0.0, 0, 0, 0], [1, 2, 1, 2], [3, 3, 3, 3]]])
    mask = torch.ones(1, 3, 4, dtype=torch.bool)
    mask[0, 2] = False
    value, n_pairs = correlate(PolarImage(intensity, mask))
    assert (n_pairs[0].amax(-1) > 0).tolist() == [[False] * 3, [False, True, False], [False] * 3]
    assert torch.isfinite(value).all()
    assert not value[0, 0].any()


def test_single_precision_agrees():
    image = smooth_image()
    single, double = (correlation_map(m, everywhere(m), n_q=16, n_delta=60)[0] for m in (image.float(), image))
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), double, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_gpu_equals_cpu():
    image = smooth_image()
    on_gpu, _ = correlation_map(image.cuda(), everywhere(image).cuda(), n_q=16, n_delta=60)
    assert torch.allclose(on_gpu.cpu(), correlation_map(image, everywhere(image), n_q=16, n_delta=60)[0])
