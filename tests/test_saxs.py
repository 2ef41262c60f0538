"""Small-angle scattering: shapes against integrals done another way, limits, distributions, smearing, gradients."""

import math

import mpmath
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import torch

from rephase.errors import OpticsError
from rephase.optics.form_factors import Spread, ball, disc
from rephase.optics.saxs import PER_ANGSTROM, SHAPES, curve, pattern, smear

SIZES = {"sphere": [6.0], "core_shell_sphere": [5.0, 2.0], "ellipsoid": [12.0, 4.0], "cylinder": [3.0, 20.0]}
Q = torch.logspace(-2, 0.5, 40, dtype=torch.float64)


def double(values):
    return torch.tensor(values, dtype=torch.float64)


def arguments(shape, dtype=torch.float64, n=1):
    contrast = [3e-4, -1e-4][: SHAPES[shape].n_contrasts]
    return torch.tensor([SIZES[shape]] * n, dtype=dtype), torch.tensor([contrast] * n, dtype=dtype)


def points_of(shape, n, seed=0):
    """Points in a body, and the contrast at each: drawn evenly, [n, 3] and [n]; and the volume drawn from."""
    rng = np.random.default_rng(seed)
    sizes = SIZES[shape]
    box = {
        "sphere": [sizes[0]] * 3,
        "core_shell_sphere": [sum(sizes)] * 3,
        "ellipsoid": [sizes[-1], sizes[-1], sizes[0]],
        "cylinder": [sizes[0], sizes[0], sizes[-1] / 2],
    }[shape]
    unit = rng.uniform(-1, 1, (n, 3))
    axes = unit[:, :2] if shape == "cylinder" else unit
    inside = (axes**2).sum(1) <= 1
    points = unit * box
    contrast = np.where(inside, 3e-4, 0.0)
    if shape == "core_shell_sphere":
        contrast = np.where(inside & (np.linalg.norm(points, axis=1) > sizes[0]), -1e-4, contrast)
    return points, contrast, 8 * math.prod(box)


@pytest.mark.parametrize("shape", SHAPES)
def test_intensity_at_small_q_is_that_of_points_in_the_body(shape):
    """Guinier: ln I = ln I(0) - (q Rg)^2 / 3, with both from points drawn in the body."""
    points, contrast, box = points_of(shape, 400_000)
    electrons = contrast.mean() * box
    middle = (contrast[:, None] * points).mean(0) / contrast.mean()
    square = (contrast * ((points - middle) ** 2).sum(1)).mean() / contrast.mean()
    volume = (contrast != 0).mean() * box
    q = double([1e-3, 2e-2])
    found = curve(shape, q, *arguments(shape), scale=0.02)[0]
    assert float(found[0]) == pytest.approx(0.02 * 1e7 * electrons**2 / volume, rel=0.01)
    slope = float((found[1] / found[0]).log() / (q[1] ** 2 - q[0] ** 2))
    assert -3 * slope == pytest.approx(square, rel=0.03)


@pytest.mark.parametrize("shape", ["ellipsoid", "cylinder"])
def test_a_pattern_is_the_transform_of_the_body(shape):
    """Points in the body, turned by the angles, against the pattern."""
    points, contrast, box = points_of(shape, 200_000)
    points, contrast = points[contrast != 0], contrast[contrast != 0]
    theta, phi = math.radians(50), math.radians(20)
    tilt = np.array([[math.cos(theta), 0, math.sin(theta)], [0, 1, 0], [-math.sin(theta), 0, math.cos(theta)]])
    turn = np.array([[math.cos(phi), -math.sin(phi), 0], [math.sin(phi), math.cos(phi), 0], [0, 0, 1]])
    x, y = double([[0.0, 0.1], [-0.15, 0.05]]), double([[0.0, 0.05], [0.1, -0.2]])
    q = np.stack([x.numpy().ravel(), y.numpy().ravel(), np.zeros(4)], 1)
    volume = box * len(points) / 200_000
    amplitude = volume * (contrast * np.exp(-1j * q @ (turn @ tilt @ points.T))).mean(1)
    found = pattern(shape, x, y, *arguments(shape), theta_deg=50.0, phi_deg=20.0)
    assert found.shape == (1, 2, 2)
    peak = float(found.max())
    assert found[0].flatten().tolist() == pytest.approx(1e7 * np.abs(amplitude) ** 2 / volume, abs=0.01 * peak)


@pytest.mark.parametrize("shape", ["ellipsoid", "cylinder"])
def test_a_curve_is_the_mean_of_patterns_over_all_directions(shape):
    q = double([0.1, 0.7, 2.0])
    sine = torch.linspace(0, 1, 2001, dtype=torch.float64)  # cosine of the angle between q along x and the axis
    args = [t.expand(2001, -1) for t in arguments(shape)]
    views = pattern(shape, q, torch.zeros_like(q), *args, theta_deg=sine.asin().rad2deg(), phi_deg=0.0)
    mean = scipy.integrate.simpson(views.numpy(), sine.numpy(), axis=0)
    assert curve(shape, q, *arguments(shape))[0].tolist() == pytest.approx(mean.tolist(), rel=1e-8)


def test_layers_of_spheres_are_a_radial_integral():
    q, (core, shell) = 1.3, SIZES["core_shell_sphere"]

    def radial(a, b):
        return scipy.integrate.quad(lambda r: 4 * math.pi * r**2 * np.sinc(q * r / math.pi), a, b, epsabs=0)[0]

    volume = 4 / 3 * math.pi * (core + shell) ** 3
    expected = 1e7 * (3e-4 * radial(0, core) - 1e-4 * radial(core, core + shell)) ** 2 / volume
    found = curve("core_shell_sphere", double([q]), *arguments("core_shell_sphere"))
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_cylinder_is_an_integral_over_its_height_and_section():
    q_x, q_y, (radius, length) = 0.9, 0.4, SIZES["cylinder"]
    wave = scipy.integrate.quad(lambda z: math.cos(q_x * z), -length / 2, length / 2, epsabs=0)[0]
    chord = scipy.integrate.quad(lambda t: 2 * math.sqrt(radius**2 - t**2) * math.cos(q_y * t), -radius, radius)[0]
    expected = 1e7 * (3e-4 * wave * chord) ** 2 / (math.pi * radius**2 * length)
    q = (double([t]) for t in (q_x, q_y))
    assert float(pattern("cylinder", *q, *arguments("cylinder"), theta_deg=90.0, phi_deg=0.0)) == pytest.approx(
        expected, rel=1e-7
    )


def test_transforms_of_ball_and_disc_are_exact_everywhere():
    x = np.concatenate([[0.0], np.geomspace(1e-3, 500, 400), [0.5, 12.0, 12.0 - 1e-9]])
    with mpmath.workdps(40):
        round_body = [float(3 * (mpmath.sin(t) - t * mpmath.cos(t)) / t**3) if t else 1.0 for t in map(mpmath.mpf, x)]
    flat_body = np.where(x > 0, 2 * scipy.special.j1(x) / np.where(x > 0, x, 1), 1)
    for function, expected in ((ball, round_body), (disc, flat_body)):
        for dtype, off in ((torch.float64, 2e-12), (torch.float32, 2e-6)):
            found = function(torch.tensor(x**2, dtype=dtype)).double().numpy()
            assert np.abs(found - expected).max() < off


@pytest.mark.parametrize("function", [ball, disc])
def test_transforms_have_gradients_that_are_right(function):
    x_squared = torch.tensor([0.01, 0.3, 7.0, 150.0, 1e4], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(function, x_squared)
    at_origin = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    slope = {ball: -1 / 10, disc: -1 / 8}[function]
    assert float(torch.autograd.grad(function(at_origin), at_origin)[0]) == pytest.approx(slope, rel=1e-6)


def moment(kind, width, k):
    """<r^k> of a distribution of centre 1, from its textbook."""
    if kind == "lognormal":
        return math.exp(k**2 * width**2 / 2)
    if kind == "schulz":
        z = width**-2
        return math.exp(math.lgamma(z + k) - math.lgamma(z)) / z**k
    return scipy.integrate.quad(lambda t: (1 + width * t) ** k * math.exp(-(t**2) / 2), -3, 3)[0] / (
        math.sqrt(2 * math.pi) * math.erf(3 / math.sqrt(2))
    )


@pytest.mark.parametrize(("kind", "n_sigmas"), [("gaussian", 3.0), ("lognormal", 8.0), ("schulz", 8.0)])
def test_moments_of_distributions(kind, n_sigmas):
    """At q = 0 I is proportional to <V^2>/<V>; at large q it is 2 pi contrast^2 <S>/<V> q^-4: Porod."""
    width = 0.15
    spread = Spread("radius", kind, width, n_sigmas=n_sigmas, n_nodes=400)
    q = torch.cat([torch.tensor([1e-4]), torch.linspace(20, 21, 200)]).double()
    found = curve("sphere", q, *arguments("sphere"), spread=spread)[0]
    m2, m3, m6 = (moment(kind, width, k) for k in (2, 3, 6))
    volume = 4 / 3 * math.pi * 6**3
    assert float(found[0]) == pytest.approx(1e7 * 9e-8 * volume * m6 / m3, rel=1e-3)
    porod = 1e7 * 2 * math.pi * 9e-8 * 3 / 6 * m2 / m3
    assert float((found[1:] * q[1:] ** 4).mean()) == pytest.approx(porod, rel=2e-3)


@pytest.mark.parametrize(
    ("kind", "width"), [("lognormal", 0.1), ("lognormal", 0.3), ("lognormal", 0.5), ("schulz", 0.3), ("schulz", 0.5)]
)
def test_wide_distributions_are_taken_as_far_out_as_forward_intensity_and_radius_of_gyration_need(kind, width):
    q = double([1e-5, 3e-5])
    low, high = curve("sphere", q, *arguments("sphere"), spread=Spread("radius", kind, width))[0].tolist()
    m3, m6, m8 = (moment(kind, width, k) for k in (3, 6, 8))
    assert low == pytest.approx(1e7 * 9e-8 * 4 / 3 * math.pi * 6**3 * m6 / m3, rel=1e-3)
    gyration = math.sqrt(3 * math.log(low / high) / 8e-10)
    assert gyration == pytest.approx(6 * math.sqrt(0.6 * m8 / m6), rel=1e-3)


def test_no_width_is_one_size():
    plain = curve("cylinder", Q, *arguments("cylinder"))
    for kind in ("gaussian", "lognormal", "schulz"):
        narrow = curve("cylinder", Q, *arguments("cylinder"), spread=Spread("radius", kind, 0.0))
        assert torch.allclose(narrow, plain, rtol=1e-12)


def test_limits_of_shapes():
    sphere = curve("sphere", Q, *arguments("sphere"))
    contrast = arguments("sphere")[1]
    assert torch.allclose(curve("ellipsoid", Q, double([[6.0, 6.0]]), contrast), sphere, rtol=1e-12)
    uniform = curve("core_shell_sphere", Q, double([[4.0, 2.0]]), contrast.expand(1, 2))
    assert torch.allclose(uniform, sphere, rtol=1e-9)
    rod = curve("cylinder", Q[15:30], double([[0.2, 2000.0]]), contrast)[0] * Q[15:30]
    assert float(rod.std() / rod.mean()) < 0.02  # q^-1 between 1/L and 1/R


def test_smearing_is_an_integral_over_a_gaussian():
    q, dq = double([0.5, 0.9]), double([0.05, 0.0])

    def model(q):
        return curve("sphere", q, *arguments("sphere"))

    found = smear(model, q, dq)[0]

    def moment_of(weight):
        return scipy.integrate.quad(lambda t: weight(t) * math.exp(-(t**2) / 2), -2.5, 3)[0]

    mean = moment_of(lambda t: float(model(double([0.5 + 0.05 * t])))) / moment_of(lambda t: 1.0)
    assert float(found[0]) == pytest.approx(mean, rel=1e-8)
    assert float(found[1]) == pytest.approx(float(model(q)[0, 1]), rel=1e-12)


def test_scale_and_background_are_of_each_sample():
    sizes, contrast = arguments("sphere", n=3)
    plain = curve("sphere", Q, sizes, contrast)
    scale, background = double([1.0, 0.1, 0.0]), double([0.0, 0.5, 2.0])
    found = curve("sphere", Q, sizes, contrast, scale=scale, background=background)
    assert torch.allclose(found, scale[:, None] * plain + background[:, None])
    assert torch.allclose(curve("sphere", Q, sizes, contrast, scale=0.1, background=0.5)[1], found[1], rtol=1e-12)


def test_samples_of_a_batch_do_not_mix():
    sizes = double([[3.0, 20.0], [6.0, 8.0]])
    contrast = double([[1e-4], [3e-4]])
    spread = Spread("length", "schulz", double([0.1, 0.3]))
    both = curve("cylinder", Q, sizes, contrast, spread=spread)
    for row in range(2):
        alone = curve("cylinder", Q, sizes[[row]], contrast[[row]], spread=spread._replace(width=spread.width[[row]]))
        assert torch.allclose(alone[0], both[row], rtol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_single_precision_and_gradients(shape):
    full = curve(shape, Q, *arguments(shape))
    single = curve(shape, Q, *arguments(shape, torch.float32))
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), full, rtol=1e-3, atol=1e-6 * float(full.max()))
    sizes, contrast = (t.requires_grad_() for t in arguments(shape))
    width = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)

    def intensity(sizes, contrast, width):
        spreads = (Spread(SHAPES[shape].sizes[-1], "lognormal", width, n_sigmas, 5) for n_sigmas in (3.0, None))
        return torch.stack([curve(shape, Q[::10], sizes, contrast, spread=spread) for spread in spreads])

    assert torch.autograd.gradcheck(intensity, (sizes, contrast, width), eps=1e-7, atol=1e-4, rtol=1e-4)


def test_one_per_angstrom_is_ten_per_nm():
    """A sphere of 60 Å at 0.05 Å^-1 is where q R = 3."""
    found = curve("sphere", double([0.05 * PER_ANGSTROM]), *arguments("sphere"), scale=1.0)
    start = curve("sphere", double([1e-4]), *arguments("sphere"))
    assert float(found / start) == pytest.approx((3 * (math.sin(3) - 3 * math.cos(3)) / 27) ** 2, rel=1e-6)


ONE = torch.ones(1, 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: curve("spher", Q, ONE, ONE), "did you mean 'sphere'"),
        (lambda: curve("sphere", torch.tensor([0.0, 1.0]), ONE, ONE), r"values above 0 in 1/nm"),
        (lambda: curve("sphere", torch.tensor([math.nan]), ONE, ONE), r"values above 0 in 1/nm"),
        (lambda: curve("cylinder", Q, ONE, ONE), r"shape \(1, 1\): expected \[sample, 2\]: radius, length"),
        (lambda: curve("sphere", Q, -ONE, ONE), "radius has values that are not above 0"),
        (
            lambda: curve("core_shell_sphere", Q, torch.ones(1, 2), ONE),
            r"contrast has shape \(1, 1\): expected \[1, 2\]",
        ),
        (lambda: curve("sphere", Q, ONE, ONE, spread=Spread("length", "schulz", 0.1)), "one of the sizes radius"),
        (lambda: curve("sphere", Q, ONE, ONE, spread=Spread("radius", "flat", 0.1)), "gaussian, lognormal, schulz"),
        (lambda: curve("sphere", Q, ONE, ONE, spread=Spread("radius", "schulz", -0.1)), "expected 0 to 1"),
        (lambda: curve("sphere", Q, ONE, ONE, spread=Spread("radius", "schulz", 0.1, 3.0, 1)), "n_nodes = 1"),
        (lambda: pattern("sphere", Q, Q[1:], ONE, ONE, theta_deg=0.0, phi_deg=0.0), "expected the same"),
        (lambda: smear(lambda q: q, Q, -Q), "0 or more"),
    ],
)
def test_what_cannot_scatter_is_rejected(call, message):
    with pytest.raises(OpticsError, match=message):
        call()
