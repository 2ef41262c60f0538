"""Flat detectors: where pixels look, masks, and the counts of an exposure."""

import math

import pytest
import torch

from rephase.errors import OpticsError
from rephase.optics.detector import FERMI, Detector, expose, focus_fluence, wavelength_nm

SMALL = Detector(n_pixels=32, max_angle_deg=30.0, hole_deg=0)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def flat(n=2, detector=SMALL):
    return torch.ones(n, detector.n_pixels, detector.n_pixels)


def test_pixels_look_where_the_geometry_says():
    directions = FERMI.directions(torch.float64)
    assert directions.shape == (1, 224, 224, 3)
    assert torch.allclose(directions.norm(dim=-1), torch.ones((), dtype=torch.float64))
    middle_of_edge = directions[0, 111:113, -1].mean(0)
    angle = math.degrees(math.acos(middle_of_edge[2] / middle_of_edge.norm()))
    assert angle == pytest.approx(30, abs=0.12)  # half a pixel inside of the edge
    assert directions[0, 112, 200, 0] > 0
    assert directions[0, 200, 112, 1] > 0


def test_solid_angles_add_up_to_that_of_a_pyramid():
    detector = Detector(n_pixels=400, max_angle_deg=45.0)  # one side of a cube, seen from its middle
    total = detector.solid_angles(detector.directions(torch.float64)).sum()
    assert float(total) == pytest.approx(4 * math.pi / 6, rel=1e-5)


def test_the_beam_hits_the_centre():
    detector = Detector(n_pixels=32, max_angle_deg=10, centre=(4.5, -2.5))
    assert (
        detector.directions(torch.float64)[0, :, :, 2].flatten().argmax() == 13 * 32 + 20
    )  # row 15.5 - 2.5, column 15.5 + 4.5
    plain = Detector(n_pixels=32, max_angle_deg=10)
    offset = torch.tensor([[4.5, -2.5], [0, 0]], dtype=torch.float64)
    both = plain.directions(torch.float64, offset=offset)
    assert torch.allclose(both, torch.cat([detector.directions(torch.float64), plain.directions(torch.float64)]))


def test_hole_and_dead_areas_are_masked():
    detector = Detector(n_pixels=100, max_angle_deg=30.0, hole_deg=6.0, dead=((0, 100, 70, 73), (10, 20, 0, 5)))
    mask = detector.mask()
    hole = math.pi * (math.tan(math.radians(6)) / detector.pitch) ** 2
    assert (~mask).sum() == pytest.approx(300 + 50 + hole, rel=0.02)
    assert not mask[50, 50]
    assert not mask[:, 71].any()
    assert mask[50, 90]
    assert SMALL.mask().all()


def test_counts_have_the_mean_and_the_variance_of_photons():
    counts = expose(flat(400), SMALL, 5 * 32**2, background=2.0, generator=seeded())
    assert counts.dtype == torch.float32
    assert float(counts.mean()) == pytest.approx(7, rel=0.01)
    assert float(counts.var()) == pytest.approx(7, rel=0.02)
    assert torch.equal(counts, counts.round())


def test_photons_are_those_of_the_image_whatever_its_scale():
    image = torch.rand(3, 32, 32, generator=seeded())
    photons = torch.tensor([1e3, 1e5, 1e7])
    found = expose(1e-12 * image, SMALL, photons, generator=seeded()).sum((1, 2))
    assert torch.allclose(found, photons, rtol=0.1)
    again = expose(image, SMALL, photons, generator=seeded()).sum((1, 2))
    assert torch.allclose(found, again, rtol=0.01)


def test_pixels_saturate_and_masked_ones_show_nothing():
    detector = Detector(n_pixels=32, hole_deg=5.0, gain=3.0, saturation=20.0)
    counts = expose(flat(), detector, 1e6, background=1.0, generator=seeded())
    assert set(counts.unique().tolist()) == {0.0, 20.0}
    assert not counts[:, ~detector.mask()].any()


def test_an_empty_shot_shows_the_background():
    counts = expose(0 * flat(50), SMALL, 1e6, background=0.5, generator=seeded())
    assert float(counts.mean()) == pytest.approx(0.5, rel=0.03)


def test_fluence_is_even_in_its_logarithm():
    fluence = focus_fluence(20_000, 1e4, decades=3, generator=seeded())
    assert fluence.max() <= 1e4
    shares = [float((fluence < 10**k).float().mean()) for k in (1, 2, 3, 4)]
    assert shares == pytest.approx([0, 1 / 3, 2 / 3, 1], abs=0.02)


def test_focus_is_that_of_random_places_in_a_gaussian():
    places = torch.rand(400_000, 2, generator=seeded()) * 8 - 4
    met = 1e4 * torch.exp(-places.square().sum(1))
    met = met[met > 10]
    shares = [float((met < 10**k).float().mean()) for k in (2, 3)]
    assert shares == pytest.approx([1 / 3, 2 / 3], abs=0.02)


def test_wavelength_in_nm():
    assert wavelength_nm(1239.84) == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_pixels": 4}, "at least 8"),
        ({"max_angle_deg": 60.0}, "below 60 degrees"),
        ({"max_angle_deg": math.nan}, "below 60 degrees"),
        ({"hole_deg": 31.0}, "hole_deg = 31.0"),
        ({"dead": ((0, 300, 0, 5),)}, "within 0 to 224"),
        ({"dead": ((7, 7, 0, 5),)}, "dead area"),
        ({"gain": 0.0}, "gain = 0.0"),
        ({"saturation": -1.0}, "saturation = -1.0"),
        ({"centre": (0.0, 60.0)}, "at most 56 pixels"),
    ],
)
def test_what_no_detector_can_have_is_rejected(options, message):
    with pytest.raises(OpticsError, match=message):
        Detector(**options)


@pytest.mark.parametrize(
    ("image", "photons", "background", "message"),
    [
        (torch.ones(2, 32, 31), 1.0, 0.0, r"expected \[shot, 32, 32\]"),
        (torch.ones(32, 32), 1.0, 0.0, r"expected \[shot, 32, 32\]"),
        (-torch.ones(2, 32, 32), 1.0, 0.0, "intensity has values that are negative"),
        (torch.ones(2, 32, 32), math.nan, 0.0, "n_photons has values"),
        (torch.ones(2, 32, 32), 1.0, -1.0, "background has values"),
    ],
)
def test_images_that_cannot_be_exposed_are_rejected(image, photons, background, message):
    with pytest.raises(OpticsError, match=message):
        expose(image, SMALL, photons, background=background, generator=seeded())
