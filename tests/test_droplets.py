"""Helium, droplets and their wide-angle images: analytic spheres, volumes, symmetries and their breaking."""

import math

import numpy as np
import pytest
import torch
from scipy.special import spherical_jn, spherical_yn

from rephase.crystal.scattering import dispersion
from rephase.errors import OpticsError
from rephase.optics.detector import Detector, wavelength_nm
from rephase.optics.droplet_shapes import (
    FEATURES,
    KINDS,
    Droplets,
    join,
    random_droplets,
    random_radii,
    random_rotations,
    relative_density,
    spheroids,
)
from rephase.optics.droplets import scatter
from rephase.optics.helium import photoionisation, refractive_index

NEARLY_VACUUM = 1 + 1e-5
WIDE, SMALL = Detector(n_pixels=56, hole_deg=0), Detector(n_pixels=56, max_angle_deg=2.0, hole_deg=0)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(n, kind="oblate", dtype=torch.float64, seed=0, **options):
    return random_droplets(n, kind, generator=seeded(seed), dtype=dtype, **options)


def every_kind(n=2):
    """Droplets of every kind and with every feature."""
    plain = [draw(n, kind) for kind in KINDS]
    return join(plain + [draw(n, features=(feature,)) for feature in FEATURES])


def tilted(semi_axes, angle_deg):
    """A spheroid whose z axis is tilted towards x."""
    c, s = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    rotation = torch.tensor([[[c, 0, s], [0, 1, 0], [-s, 0, c]]], dtype=torch.float64)
    return spheroids(torch.tensor([semi_axes], dtype=torch.float64), rotation)


def sampled(droplets, n=96, room=1.25):
    """Densities [droplet, z, y, x] on a grid wider than the box of each, and the volume of a cell."""
    half = room * droplets.extent().amax(1)
    line = half[:, None] * ((torch.arange(n, dtype=half.dtype) + 0.5) * 2 / n - 1)
    edge = 2 * half / n
    slices = [
        relative_density(droplets, line[:, None, :], line[:, :, None], line[:, j, None, None], edge) for j in range(n)
    ]
    return torch.stack(slices, 1), edge**3, line


def asymmetry(image):
    """Mean of |I(q) - I(-q)| over I(q) + I(-q)."""
    turned = image.flip(-1, -2)
    return float(((image - turned).abs() / (image + turned)).mean())


def test_index_meets_the_dielectric_constant_of_liquid_helium():
    measured = math.sqrt(1.0572)  # Donnelly & Barenghi (1998), low temperature
    assert refractive_index(1.0).real - 1 == pytest.approx(measured - 1, rel=0.02)


@pytest.mark.parametrize("energy_ev", [35.0, 60.0, 100.0])
def test_index_above_the_threshold_meets_the_tables_of_henke(energy_ev):
    f = 2 + dispersion(["He"], energy_ev / 1000)[0]
    expected = 2.81794e-6 * wavelength_nm(energy_ev) ** 2 * 21.84 / (2 * math.pi) * f  # r_e λ² N / 2π (f1 + i f2)
    found = refractive_index(energy_ev)
    # their f1 leaves the discrete lines out, which still matters at 35 eV
    assert 1 - found.real == pytest.approx(expected.real, rel=0.1 if energy_ev > 50 else 0.3)
    assert found.imag == pytest.approx(expected.imag, rel=0.1)


def test_helium_absorbs_most_at_its_first_band_and_is_clear_below():
    energies = np.arange(18, 30, 0.05)
    beta = np.array([refractive_index(energy).imag for energy in energies])
    assert energies[beta.argmax()] == pytest.approx(21.6, abs=0.1)  # Joppien et al. (1993)
    assert (beta > 0).all()
    assert beta[energies < 20].max() < 1e-3
    assert photoionisation(np.array([24.6])) == pytest.approx(7.40, rel=0.01)  # Samson et al. (1994), Mb


@pytest.mark.parametrize("energy_ev", [0.5, 2000.0, math.nan])
def test_an_energy_that_helium_is_not_known_at_is_rejected(energy_ev):
    with pytest.raises(OpticsError, match="expected 1 to 1500 eV"):
        refractive_index(energy_ev)


@pytest.mark.parametrize(
    ("detector", "index", "dtype"), [(SMALL, 1 + 1e-6, torch.float32), (WIDE, 1 + 1e-6, torch.float64)]
)
def test_sphere_of_low_contrast_has_its_analytic_form_factor(detector, index, dtype):
    radius, k = 330.0, 2 * math.pi / wavelength_nm(19.4)
    directions = detector.directions(torch.float64)
    v = radius * k * (directions - torch.tensor([0, 0, 1.0], dtype=torch.float64)).norm(dim=-1)[0]
    amplitude = k**2 / (2 * math.pi) * 1e-6 * 4 / 3 * math.pi * radius**3 * 3 * (v.sin() - v * v.cos()) / v**3
    expected = amplitude**2 * detector.solid_angles(directions)[0]
    found = scatter(spheroids(torch.full((1, 3), radius, dtype=dtype)), detector, index=index)[0]
    assert found.dtype == dtype
    assert float((found - expected).abs().sum() / expected.sum()) < 0.015


def test_dense_sphere_scatters_forwards_as_van_de_hulst_says():
    radius, k, index = 330.0, 2 * math.pi / wavelength_nm(19.4), 1.08 + 0.01j
    w = -2j * k * radius * (index - 1)  # Light scattering by small particles (1957), 11.21
    forwards = abs(k * radius**2 * (0.5 + np.exp(-w) / w + (np.exp(-w) - 1) / w**2)) ** 2
    narrow = Detector(n_pixels=8, max_angle_deg=0.05, hole_deg=0)
    found = scatter(spheroids(torch.full((1, 3), radius, dtype=torch.float64)), narrow, index=index)
    assert found.mean() / narrow.pitch**2 == pytest.approx(forwards, rel=0.01)


def mie(radius, index, k, theta):
    """Cross section per solid angle of a sphere for unpolarised light: Bohren & Huffman (1983), chapter 4."""
    x, n = k * radius, np.arange(1, int(1.2 * k * radius) + 20)
    order = np.arange(len(n) + 1)
    inside = index * x * spherical_jn(order, index * x)
    psi = x * spherical_jn(order, x)
    xi = psi + 1j * x * spherical_yn(order, x)
    D = inside[:-1] / inside[1:] - n / (index * x)
    a, b = (((f + n / x) * psi[1:] - psi[:-1]) / ((f + n / x) * xi[1:] - xi[:-1]) for f in (D / index, D * index))
    before, pi, S_1, S_2 = 0 * theta, 0 * theta + 1, 0, 0
    for i, a_n, b_n in zip(n, a, b):
        tau = i * np.cos(theta) * pi - (i + 1) * before
        S_1 = S_1 + (2 * i + 1) / (i * (i + 1)) * (a_n * pi + b_n * tau)
        S_2 = S_2 + (2 * i + 1) / (i * (i + 1)) * (a_n * tau + b_n * pi)
        before, pi = pi, ((2 * i + 1) * np.cos(theta) * pi - (i + 1) * before) / i
    return (abs(S_1) ** 2 + abs(S_2) ** 2) / (2 * k**2)


@pytest.mark.parametrize(("index", "apart", "weak"), [(1.001, 0.005, 0.02), (refractive_index(19.4), 0.03, 0.35)])
def test_rings_of_a_sphere_are_near_those_of_mie(index, apart, weak):
    radius = 332.0
    detector = Detector(n_pixels=501, max_angle_deg=30.0, hole_deg=0)
    look = detector.directions(torch.float64)
    image = scatter(spheroids(torch.full((1, 3), radius, dtype=torch.float64)), detector, index=index)
    found = (image / detector.solid_angles(look))[0, 250, 265:].numpy()
    theta = np.arccos(look[0, 250, 265:, 2].numpy())
    expected = mie(radius, index, 2 * math.pi / wavelength_nm(19.4), theta)
    rings, known = (theta[1:-1][(y[1:-1] < y[:-2]) & (y[1:-1] < y[2:])] for y in (found, expected))
    assert len(rings) >= 4
    assert rings == pytest.approx(known, rel=apart)
    assert found.sum() == pytest.approx(expected.sum(), rel=weak)


def test_small_angles_are_symmetric_under_inversion_and_wide_ones_are_not():
    droplet = tilted([200.0, 200.0, 400.0], 45)
    assert asymmetry(scatter(droplet, SMALL, index=NEARLY_VACUUM)) < 0.02
    assert asymmetry(scatter(droplet, WIDE, index=NEARLY_VACUUM)) > 0.15
    assert asymmetry(scatter(droplet, WIDE)) > 0.15
    assert asymmetry(scatter(tilted([200.0, 200.0, 400.0], 0), WIDE)) < 0.01


def test_turning_droplets_about_the_beam_turns_their_images():
    droplets = join([draw(1, "bent"), draw(1, features=("asymmetric", "partner", "layered", "core_shell"))])
    quarter = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=torch.float64)
    turned = droplets._replace(
        rotation=quarter @ droplets.rotation, partner_offset=droplets.partner_offset @ quarter.mT
    )
    expected = scatter(droplets, WIDE).mT.flip(-1)
    found = scatter(turned, WIDE)
    assert not torch.allclose(found, scatter(droplets, WIDE), rtol=0.1)
    assert float((found - expected).abs().sum() / expected.sum()) < 1e-6


def test_images_do_not_depend_on_the_batch():
    droplets = every_kind(1)
    together = scatter(droplets, WIDE)
    for i in range(len(together)):
        alone = scatter(droplets.take(torch.tensor([i])), WIDE)[0]
        assert float((together[i] - alone).abs().sum()) <= 0.02 * float(alone.sum())


def test_no_droplet_no_light():
    assert not scatter(draw(3, "empty"), WIDE).any()


def test_partners_interfere():
    """Two equal spheres side by side: dark where sin(theta) d = λ/2, four times as bright where it is λ."""
    d = 1000.0
    pair = spheroids(torch.full((1, 3), 60.0, dtype=torch.float64))._replace(
        partner_radius=torch.tensor([60.0], dtype=torch.float64),
        partner_offset=torch.tensor([[d, 0, 0]], dtype=torch.float64),
    )
    detector = Detector(n_pixels=401, max_angle_deg=5.0, hole_deg=0)
    ratio = (scatter(pair, detector) / scatter(spheroids(pair.semi_axes), detector))[0, 200]
    sine = detector.directions(torch.float64)[0, 200, :, 0]
    for order, expected in ((0.0, 4.0), (0.5, 0.0), (1.0, 4.0)):
        pixel = (sine - order * wavelength_nm(19.4) / d).abs().argmin()
        assert float(ratio[pixel]) == pytest.approx(expected, abs=0.05)


def test_the_beam_off_centre_shifts_the_image():
    droplet = draw(1, "prolate", aspect=(1.5, 1.5))
    shifted = scatter(droplet, SMALL, offset=torch.tensor([[3.0, -2.0]], dtype=torch.float64))
    plain, seen = scatter(droplet, SMALL)[0, 2:, :-3], shifted[0, :-2, 3:]
    assert float((plain - seen).abs().sum() / plain.sum()) < 0.01


@pytest.mark.parametrize("kind", ["oblate", "prolate", "pill", "bent"])
def test_droplets_have_the_volume_of_their_radius(kind):
    droplets = draw(2, kind)
    density, cell, _ = sampled(droplets)
    a, half = droplets.semi_axes, droplets.half_length
    expected = 4 / 3 * math.pi * a.prod(1) + math.pi * a[:, 0] * a[:, 1] * 2 * half
    assert torch.allclose(density.sum((1, 2, 3)) * cell, expected, rtol=0.01)
    assert 60 < (expected[0] * 3 / (4 * math.pi)) ** (1 / 3) < 810
    forwards = scatter(droplets, Detector(n_pixels=8, max_angle_deg=0.01, hole_deg=0), index=NEARLY_VACUUM)
    k = 2 * math.pi / wavelength_nm(19.4)
    pitch = Detector(n_pixels=8, max_angle_deg=0.01, hole_deg=0).pitch
    assert torch.allclose(forwards.mean((1, 2)), (k**2 / (2 * math.pi) * 1e-5 * expected * pitch) ** 2, rtol=0.02)


def test_nothing_sticks_out_of_the_box():
    droplets = every_kind(3)
    densities, _, lines = sampled(droplets, n=48, room=1.5)
    for density, line, extent in zip(densities, lines, droplets.extent()):
        edge = float(line[1] - line[0])
        for axis, half in enumerate(reversed(extent.tolist())):
            outside = (line.abs() > half + edge).nonzero()[:, 0]
            assert not density.index_select(axis, outside).any()


def test_spherical_harmonics_have_unit_height_and_third_degree():
    points = torch.nn.functional.normalize(torch.randn(200_000, 3, generator=seeded(), dtype=torch.float64), dim=1)
    x, y, z = (t[None, None] for t in points.unbind(1))
    heights = []
    for m in range(7):
        ball = spheroids(torch.ones((1, 3), dtype=torch.float64))
        rippled = ball._replace(harmonics=1e-3 * torch.eye(7, dtype=torch.float64)[m, None])
        edge = torch.ones(1, dtype=torch.float64)
        heights.append((relative_density(rippled, x, y, z, edge) - relative_density(ball, x, y, z, edge))[0, 0] / 1e-3)
    products = torch.stack(heights) @ torch.stack(heights).mT / len(points)
    assert torch.allclose(products, torch.eye(7, dtype=torch.float64), atol=0.03)
    assert torch.stack(heights).mean(1).abs().max() < 0.01


def test_core_and_layers_change_the_density_inside():
    ball = spheroids(torch.full((1, 3), 300.0, dtype=torch.float64))
    one = torch.ones(1, dtype=torch.float64)
    points = torch.tensor([0.0, 100.0, 200.0, 290.0, 320.0], dtype=torch.float64)[None, None]
    inside = lambda d: relative_density(d, points, 0 * points, 0 * points, one)[0, 0].tolist()  # noqa: E731
    assert inside(ball) == [1, 1, 1, 1, 0]
    assert inside(ball._replace(core_scale=0.5 * one, core_density=2.5 * one)) == [2.5, 2.5, 1, 1, 0]
    layered = inside(ball._replace(n_layers=3 * one, layer_contrast=0.4 * one))
    assert layered[:3] == pytest.approx([1.4, 1.4, 1.4])
    assert layered[3] < 1.4
    mixed = join([ball._replace(layer_contrast=0.4 * one), ball._replace(n_layers=3 * one, layer_contrast=0.4 * one)])
    assert relative_density(mixed, points, 0 * points, 0 * points, one)[0, 0].tolist() == inside(ball)


def test_radii_are_spread_as_the_real_ones():
    found = np.quantile(random_radii(40_000, seeded()).numpy(), [0.05, 0.25, 0.5, 0.75, 0.95])
    assert found == pytest.approx([141, 259, 332, 404, 554], rel=0.03)


def test_rotations_are_rotations_and_point_everywhere():
    rotation = random_rotations(20_000, seeded(), torch.float64)
    assert torch.allclose(rotation @ rotation.mT, torch.eye(3, dtype=torch.float64).expand_as(rotation))
    assert torch.allclose(torch.linalg.det(rotation), torch.ones(len(rotation), dtype=torch.float64))
    assert float(rotation.mean(0).abs().max()) < 0.02


def test_draws_repeat_with_their_seed():
    one, same, other = (draw(2, "bent", seed=seed, features=("partner",)) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one, same))
    assert not torch.equal(one.semi_axes, other.semi_axes)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_gpu_and_cpu_agree():
    droplets = every_kind(1).to("cpu", torch.float32)
    on_gpu = scatter(droplets.to("cuda", torch.float32), WIDE)
    assert on_gpu.device.type == "cuda"
    on_cpu = scatter(droplets, WIDE)
    assert float((on_gpu.cpu() - on_cpu).abs().sum() / on_cpu.sum()) < 0.02


def big() -> Droplets:
    return spheroids(torch.full((1, 3), 4000.0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: draw(1, "obalte"), "did you mean 'oblate'"),
        (lambda: draw(1, features=("partners",)), "did you mean 'partner'"),
        (lambda: draw(0), "at least one droplet"),
        (lambda: draw(1, aspect=(0.5, 1.0)), "longest axis divided by the shortest"),
        (lambda: scatter(big(), WIDE), "8000 nm large: expected at most 100 wavelengths"),
        (lambda: scatter(draw(2), WIDE, energy_ev=0.1), "expected 1 to 1500 eV"),
        (lambda: scatter(draw(2), WIDE, energy_ev=-1), "give the photon energy in eV"),
        (lambda: scatter(draw(2), WIDE, sampling=1.9), r"sampling = 1\.9: expected two cells per wavelength"),
        (lambda: scatter(draw(2), WIDE, sampling=math.nan), "sampling = nan"),
        (lambda: scatter(draw(2), WIDE, offset=torch.zeros(3, 2)), r"expected \[2, 2\]"),
        (lambda: scatter(draw(1), WIDE, offset=torch.full((1, 2), 40.0)), "at most 14 pixels"),
    ],
)
def test_what_cannot_be_is_rejected(call, message):
    with pytest.raises(OpticsError, match=message):
        call()
