"""Single particles at small angles: analytic form factors, exact projections, symmetry, fringes."""

import math

import pytest
import torch

from rephase.errors import OpticsError
from rephase.optics.detector import XFEL, Detector, wavelength_nm
from rephase.optics.droplet_shapes import random_rotations
from rephase.optics.particles import (
    BALL,
    ENERGY_EV,
    ICOSAHEDRON,
    PARTICLES,
    PRISM,
    Particles,
    projected_length,
    random_particles,
    scatter_particles,
)

SMALL = Detector(n_pixels=64, max_angle_deg=2.5, hole_deg=0)
K = 2 * math.pi / wavelength_nm(ENERGY_EV)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(n, kind, seed=0, dtype=torch.float64):
    return random_particles(n, kind, generator=seeded(seed), dtype=dtype)


def bodies(form, semi_axes, centre=(0.0, 0.0, 0.0), n=1, dtype=torch.float64):
    rotation = random_rotations(n, seeded(), dtype)
    axes, place = (torch.tensor([t], dtype=dtype).repeat(n, 1) for t in (semi_axes, centre))
    return Particles(
        torch.arange(n), torch.full((n,), form), axes, rotation, place, torch.full((n,), 400.0, dtype=dtype)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ball_has_its_analytic_form_factor(dtype):
    radius = 40.0
    image = scatter_particles(bodies(BALL, (radius,) * 3, dtype=dtype), 1, SMALL)[0]
    assert image.dtype == dtype
    pixel = (torch.arange(64, dtype=torch.float64) - 31.5) * SMALL.pitch
    v = K * radius * (pixel[:, None] ** 2 + pixel**2).sqrt()
    electrons = 400 * 4 / 3 * math.pi * radius**3 * 3 * (v.sin() - v * v.cos()) / v**3
    expected = (2.81794e-6 * electrons * SMALL.pitch) ** 2
    assert float((image - expected).abs().sum() / expected.sum()) < 0.002


@pytest.mark.parametrize(
    ("form", "semi_axes", "volume"),
    [
        (BALL, (30.0, 40.0, 50.0), 4 / 3 * math.pi * 30 * 40 * 50),
        (ICOSAHEDRON, (50.0, 50.0, 70.0), 2.536150 * 50 * 50 * 70),  # 5/12 (3 + √5) a³, a = 1 / sin 72°
        (PRISM, (10.0, 12.0, 60.0), 18 * math.tan(math.pi / 18) * 10 * 12 * 2 * 60),  # eighteen sides around a circle
    ],
)
def test_projections_hold_the_volume(form, semi_axes, volume):
    line = (torch.arange(200, dtype=torch.float64) + 0.5) * 1.0 - 100
    length = projected_length(bodies(form, semi_axes, n=3), line.expand(3, -1), line.expand(3, -1))
    assert torch.allclose(length.sum((1, 2)), torch.full((3,), volume, dtype=torch.float64), rtol=0.01)


def test_icosahedron_down_its_fivefold_axis():
    body = bodies(ICOSAHEDRON, (1.0, 1.0, 1.0))._replace(rotation=torch.eye(3, dtype=torch.float64)[None])
    line = torch.tensor([[0.0, 0.89, 0.9]], dtype=torch.float64)  # the corners around stand at 2/√5 = 0.894
    length = projected_length(body, line, torch.zeros(1, 1, dtype=torch.float64))[0, 0]
    assert float(length[0]) == pytest.approx(2)
    assert float(length[1]) > 0
    assert float(length[2]) == 0


def test_one_corner_of_five_makes_the_shadow_tenfold():
    """Centrosymmetric, with a fivefold axis along the beam: the image has ten equal streaks."""
    body = bodies(ICOSAHEDRON, (95.0,) * 3)._replace(rotation=torch.eye(3, dtype=torch.float64)[None])
    turn = torch.tensor(math.pi / 5, dtype=torch.float64)
    c, s = turn.cos(), turn.sin()
    turned = body._replace(rotation=torch.stack([c, -s, 0 * c, s, c, 0 * c, 0 * c, 0 * c, 1 + 0 * c]).view(1, 3, 3))
    one, other = scatter_particles(body, 1, SMALL), scatter_particles(turned, 1, SMALL)
    assert float((one - other).abs().sum() / one.sum()) < 0.01


@pytest.mark.parametrize("kind", PARTICLES)
def test_images_are_symmetric_under_inversion(kind):
    images = scatter_particles(draw(3, kind), 3, SMALL)
    assert images.shape == (3, 64, 64)
    assert (images >= 0).all()
    assert images.sum((1, 2)).min() > 0
    assert torch.allclose(images, images.flip(1, 2), rtol=1e-6, atol=1e-9 * float(images.max()))
    assert not torch.allclose(images[0], images[1], rtol=0.01)


def test_two_particles_make_fringes_of_their_distance():
    d = 500.0
    pair = [bodies(BALL, (20.0,) * 3, centre=(x, 0.0, 300.0 * x)) for x in (-d / 2, d / 2)]
    both = Particles(*(torch.cat(t) for t in zip(*pair)))._replace(shot=torch.zeros(2, dtype=torch.long))
    detector = Detector(n_pixels=1000, max_angle_deg=1.0, hole_deg=0)
    row = (scatter_particles(both, 1, detector) / scatter_particles(pair[0], 1, detector))[0, 500]
    dark = ((row[1:-1] < row[:-2]) & (row[1:-1] < row[2:])).nonzero()[:, 0].double()
    spacing = float(dark.diff().mean()) * detector.pitch
    assert spacing == pytest.approx(wavelength_nm(ENERGY_EV) / d, rel=0.01)
    assert float(row.max()) == pytest.approx(4, rel=0.01)


def test_sizes_are_those_of_the_names():
    assert torch.allclose(2 * draw(50, "virus_70").semi_axes, torch.tensor(70.0, dtype=torch.float64), rtol=0.031)
    assert torch.allclose(2 * draw(50, "virus_190").semi_axes, torch.tensor(190.0, dtype=torch.float64), rtol=0.031)
    phage = draw(2, "phage")
    assert sorted(phage.form.tolist()) == [ICOSAHEDRON, ICOSAHEDRON, PRISM, PRISM]
    apart = phage.centre[2:] - phage.centre[:2]
    along = phage.rotation[:2, :, 2]
    assert torch.allclose(torch.linalg.cross(apart, along).norm(dim=1), torch.zeros(2, dtype=torch.float64), atol=1e-9)
    assert torch.allclose(apart.norm(dim=1), phage.semi_axes[:2, 2] + phage.semi_axes[2:, 2])


def test_several_are_two_or_three_apart():
    several = draw(40, "several")
    places = [several.centre[several.shot == shot, :2] for shot in range(40)]
    heads = [place[several.form[several.shot == shot] != PRISM] for shot, place in enumerate(places)]
    assert {len(head) for head in heads} == {2, 3}
    assert min(float(torch.pdist(head).min()) for head in heads) >= 320


def test_bodies_go_to_their_shots():
    two = Particles(*(torch.cat(t) for t in zip(draw(1, "virus_70"), draw(1, "phage"))))
    images = scatter_particles(two._replace(shot=torch.tensor([2, 0, 0])), 4, SMALL)
    assert torch.allclose(images[2], scatter_particles(draw(1, "virus_70"), 1, SMALL)[0])
    assert torch.allclose(images[0], scatter_particles(draw(1, "phage"), 1, SMALL)[0])
    assert not images[[1, 3]].any()


def test_draws_repeat_with_their_seed():
    assert all(torch.equal(a, b) for a, b in zip(draw(3, "several"), draw(3, "several")))
    assert not torch.equal(draw(3, "water").semi_axes, draw(3, "water", seed=1).semi_axes)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_gpu_and_cpu_agree():
    several = draw(3, "several", dtype=torch.float32)
    on_gpu = scatter_particles(Particles(*(t.cuda() for t in several)), 3, SMALL)
    on_cpu = scatter_particles(several, 3, SMALL)
    assert float((on_gpu.cpu() - on_cpu).abs().sum() / on_cpu.sum()) < 1e-3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: draw(1, "virus"), "did you mean 'virus_"),
        (lambda: draw(0, "phage"), "at least one shot"),
        (lambda: scatter_particles(draw(3, "phage"), 2), "expected 0 to 1"),
        (lambda: scatter_particles(draw(1, "phage"), 1, Detector()), "for the small-angle approximation"),
        (lambda: scatter_particles(bodies(BALL, (900.0,) * 3), 1, XFEL), "a semi-axis of 900 nm"),
        (lambda: scatter_particles(draw(1, "phage"), 1, energy_ev=0), "photon energy in eV"),
    ],
)
def test_what_cannot_be_is_rejected(call, message):
    with pytest.raises(OpticsError, match=message):
        call()
