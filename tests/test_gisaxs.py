"""Reflection by layers, scattering at grazing incidence: textbook values, waves solved otherwise, limits, gradients."""

import cmath
import math

import numpy as np
import pytest
import scipy.stats
import torch

from rephase.errors import OpticsError
from rephase.optics.detector import wavelength_nm
from rephase.optics.form_factors import Spread
from rephase.optics.gisaxs import ISLANDS, ExitAngles, grazing_pattern
from rephase.optics.reflectivity import Stack, reflected_amplitude, reflectivity, substrate

ENERGY_EV = 12_000.0
K = 2 * math.pi / wavelength_nm(ENERGY_EV)
SIZES = {
    "sphere": [5.0],
    "cylinder": [5.0, 4.0],
    "truncated_sphere": [5.0, 7.0],
    "dome": [6.0, 4.0],
    "frustum": [6.0, 5.0, 3.0],
}
CRITICAL_DEG = math.degrees(math.sqrt(2 * 6e-6))


def double(values):
    return torch.tensor(values, dtype=torch.float64)


def silicon(beta=1e-8):
    return substrate(double([6e-6]), double([beta]))


def pattern(island="cylinder", stack=None, exits=None, *, sizes=None, incidence_deg=0.3, **options):
    sizes = double([SIZES[island]]) if sizes is None else sizes
    exits = exits or ExitAngles(torch.linspace(0.05, 1.5, 30).double(), double([0.0, 0.4, -0.4]), (0.05, 0.05))
    delta = torch.full_like(sizes[:, 0], 2e-5)
    return grazing_pattern(
        island,
        sizes,
        delta,
        0.01 * delta,
        stack or silicon(),
        exits,
        energy_ev=ENERGY_EV,
        incidence_deg=incidence_deg,
        **options,
    )


def test_reflection_at_steep_angles_is_that_of_the_textbook():
    """Fresnel's formula for light polarised across the plane of incidence, in angles from the normal."""
    n, alpha = 0.9, double([30.0, 60.0, 90.0])
    medium = substrate(double([1 - n]), double([0.0]))
    found = reflectivity(medium, alpha, ENERGY_EV)[0].tolist()
    enters = [math.radians(60), math.radians(30)]
    leaves = [math.asin(math.sin(t) / n) for t in enters]
    expected = [(math.sin(a - b) / math.sin(a + b)) ** 2 for a, b in zip(enters, leaves)]
    assert found == pytest.approx([*expected, ((1 - n) / (1 + n)) ** 2], rel=1e-9)


def test_reflection_is_total_below_the_critical_angle():
    alpha = CRITICAL_DEG * double([0.01, 0.5, 0.99, 1.0])
    assert reflectivity(silicon(0.0), alpha, ENERGY_EV)[0].tolist() == pytest.approx([1, 1, 1, 1], abs=2e-3)
    phase = reflected_amplitude(silicon(0.0), alpha.deg2rad().sin(), ENERGY_EV)[0].angle()
    assert float(phase[0].abs()) == pytest.approx(math.pi, abs=0.03)  # a node at the surface, then an antinode
    assert float(phase[3].abs()) < 0.01
    far = reflectivity(silicon(0.0), double([20 * CRITICAL_DEG]), ENERGY_EV)
    assert float(far) == pytest.approx(1 / 40**4, rel=0.01)


def solved(stack, sine):
    """R of a smooth stack by linear equations: waves and their slopes are continuous at each interface."""
    index = [1.0, *(1 - stack.delta[0].numpy() + 1j * stack.beta[0].numpy())]
    k_z = [K * cmath.sqrt(n**2 - 1 + sine**2) for n in index]
    depth = [0.0, *np.cumsum(stack.thickness[0].numpy())]
    unknown = 2 * len(k_z) - 2  # R; down and up in each layer; down in the substrate
    matrix, right = np.zeros((unknown, unknown), complex), np.zeros(unknown, complex)
    for face, d in enumerate(depth):
        for side, sign in ((face, 1), (face + 1, -1)):
            for way in (-1, 1):  # down is exp(-i k_z z), at z = -d
                value = sign * np.exp(-way * 1j * k_z[side] * d) * np.array([1, way * k_z[side]])
                column = 2 * side - 1 + (way == 1)
                if side == 0 and way == -1:
                    right[2 * face : 2 * face + 2] -= value
                elif column < unknown:
                    matrix[2 * face : 2 * face + 2, column] += value
    return np.linalg.solve(matrix, right)[0]


@pytest.mark.parametrize("layers", [[(2e-5, 1e-7), (6e-6, 1e-8)], [(2e-5, 1e-7), (1e-6, 0.0), (6e-6, 1e-8)]])
def test_layers_reflect_as_continuity_demands(layers):
    delta, beta = double(layers).T[:, None]
    stack = Stack(delta, beta, torch.full_like(delta[:, 1:], 14.0), torch.zeros_like(delta))
    sine = double([1e-3, 3e-3, 5e-3, 2e-2])
    found = reflected_amplitude(stack, sine, ENERGY_EV)[0].tolist()
    assert found == pytest.approx([solved(stack, s) for s in sine.tolist()], rel=1e-7)


def test_layers_that_cannot_be_seen():
    alpha = double([0.1, 0.3, 1.0])
    plain = reflectivity(silicon(), alpha, ENERGY_EV)
    same = Stack(double([[6e-6, 6e-6]]), double([[1e-8, 1e-8]]), double([[20.0]]), torch.zeros(1, 2).double())
    assert torch.allclose(reflectivity(same, alpha, ENERGY_EV), plain, rtol=1e-9)
    buried = Stack(double([[6e-6, 3e-5]]), double([[1e-8, 1e-6]]), double([[1e8]]), torch.zeros(1, 2).double())
    assert torch.allclose(reflectivity(buried, alpha, ENERGY_EV), plain, rtol=1e-9)


def test_rough_surfaces_reflect_less():
    """Far above the critical angle by exp(-q^2 s^2)."""
    alpha = double([1.5])
    rough = silicon()._replace(roughness=double([[0.4]]))
    q = 2 * K * math.sin(math.radians(1.5))
    ratio = reflectivity(rough, alpha, ENERGY_EV) / reflectivity(silicon(), alpha, ENERGY_EV)
    assert float(ratio) == pytest.approx(math.exp(-((0.4 * q) ** 2)), rel=0.02)


def test_reflection_in_single_precision_and_its_gradients():
    alpha = double([0.05, CRITICAL_DEG, 0.5, 2.0])
    layers = Stack(double([[2e-5, 6e-6]]), double([[1e-7, 1e-8]]), double([[14.0]]), double([[0.3, 0.2]]))
    full = reflectivity(layers, alpha, ENERGY_EV)
    single = reflectivity(Stack(*(t.float() for t in layers)), alpha.float(), ENERGY_EV)
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), full, rtol=2e-3)
    scaled = [1e6 * layers.delta, 1e7 * layers.beta, layers.thickness, layers.roughness]
    inputs = tuple(t.clone().requires_grad_() for t in scaled)

    def reflected(delta, beta, thickness, roughness):
        return reflectivity(Stack(1e-6 * delta, 1e-7 * beta, thickness, roughness), alpha[[0, 2, 3]], ENERGY_EV)

    assert torch.autograd.gradcheck(reflected, inputs, atol=1e-7, rtol=1e-4)
    edge = double([6e-6]).requires_grad_()
    clear = reflectivity(substrate(edge, torch.zeros_like(edge)), double([CRITICAL_DEG]), ENERGY_EV)
    assert torch.isfinite(torch.autograd.grad(clear.sum(), edge)[0]).all()


def points_in(island):
    """Points spread evenly in an island, [point, 3], and its volume."""
    sizes = SIZES[island]
    height = 2 * sizes[0] if island == "sphere" else sizes[1]
    unit = scipy.stats.qmc.Sobol(3, seed=0).random_base2(16)
    x, y, z = (unit * [2 * sizes[0], 2 * sizes[0], height] - [sizes[0], sizes[0], 0]).T
    radius = {
        "sphere": lambda: np.sqrt(np.maximum(25 - (z - 5) ** 2, 0)),
        "cylinder": lambda: 5.0,
        "truncated_sphere": lambda: np.sqrt(np.maximum(25 - (z - 2) ** 2, 0)),
        "dome": lambda: 6 * np.sqrt(1 - (z / 4) ** 2),
        "frustum": lambda: 6 - 3 * z / 5,
    }[island]()
    inside = np.hypot(x, y) < radius
    return np.stack([x, y, z], 1)[inside], inside.mean() * 4 * sizes[0] ** 2 * height


@pytest.mark.parametrize("island", ISLANDS)
def test_scattering_is_that_of_waves_over_a_mirror(island):
    """The waves of beam and detector, each with its reflection, multiplied at points of the island."""
    points, volume = points_in(island)
    incidence, alpha, phi = (math.radians(t) for t in (0.25, 0.3, 0.2))

    def wave(angle, along):
        k_z, lateral = K * math.sin(angle), points[:, :2] @ along
        standing = np.exp(-1j * k_z * points[:, 2]) + solved(silicon(), math.sin(angle)) * np.exp(
            1j * k_z * points[:, 2]
        )
        return np.exp(1j * lateral) * standing

    beam = wave(incidence, K * np.array([math.cos(incidence), 0]))
    detected = wave(alpha, -K * math.cos(alpha) * np.array([math.cos(phi), math.sin(phi)]))
    n = 1 - 2e-5 + 2e-7j
    cross_section = abs(K**2 * (n**2 - 1) / (4 * math.pi) * volume * (beam * detected).mean()) ** 2
    exits = ExitAngles(double([0.3]), double([0.2]), (0.01, 0.02))
    found = float(pattern(island, exits=exits, incidence_deg=0.25, density=1e-4))
    solid_angle = math.radians(0.01) * math.radians(0.02) * math.cos(alpha)
    assert found == pytest.approx(1e-4 * cross_section * solid_angle / math.sin(incidence), rel=0.005)


def test_intensity_peaks_at_the_critical_angle():
    """Yoneda's peak."""
    exits = ExitAngles(torch.linspace(0.02, 0.6, 581).double(), double([0.3]), (0.001, 0.05))
    found = pattern("cylinder", exits=exits, sizes=double([[5.0, 0.5]]))[0, :, 0]
    assert float(exits.alpha_deg[found.argmax()]) == pytest.approx(CRITICAL_DEG, abs=0.004)


def test_steep_beams_see_no_substrate():
    """Far above the critical angle only the first of the four terms is left."""
    exits = ExitAngles(torch.linspace(2.9, 4.0, 20).double(), double([0.0, 0.3]), (0.05, 0.05))
    thin, vacuum = double([[5.0, 0.3]]), substrate(double([0.0]), double([0.0]))
    alone = pattern(stack=vacuum, exits=exits, sizes=thin, incidence_deg=3.0)
    distorted = pattern(exits=exits, sizes=thin, incidence_deg=3.0)
    assert torch.allclose(distorted, alone, rtol=0.01)
    assert float((pattern() / pattern(stack=vacuum))[0, :10].max()) > 3


def test_islands_of_the_same_form_scatter_alike():
    ball = pattern("sphere")
    assert torch.allclose(pattern("truncated_sphere", sizes=double([[5.0, 10.0]])), ball, rtol=1e-9)
    assert torch.allclose(pattern("frustum", sizes=double([[5.0, 4.0, 5.0]])), pattern("cylinder"), rtol=1e-9)
    half = pattern("dome", sizes=double([[5.0, 5.0]]))
    assert torch.allclose(pattern("truncated_sphere", sizes=double([[5.0, 5.0]])), half, rtol=1e-9)
    assert not torch.allclose(ball, half, rtol=0.1)


def test_cuts_are_rows_and_columns_of_the_pattern():
    alpha, phi = torch.linspace(0.1, 1, 7).double(), torch.linspace(-1, 1, 5).double()
    full = pattern(exits=ExitAngles(alpha, phi, (0.1, 0.1)))
    row = pattern(exits=ExitAngles(alpha[[3]], phi, (0.1, 0.1)))
    column = pattern(exits=ExitAngles(alpha, phi[[1]], (0.1, 0.1)))
    assert torch.allclose(full[:, [3]], row, rtol=1e-12)
    assert torch.allclose(full[:, :, [1]], column, rtol=1e-12)
    assert torch.allclose(full, full.flip(2), rtol=1e-12)


def test_sizes_that_vary_add_their_intensities():
    spread = Spread("radius", "gaussian", 0.2, n_sigmas=2.0, n_nodes=3)
    heavy, light = 1, math.exp(-2)
    each = pattern(
        sizes=double([[3.0, 4.0], [5.0, 4.0], [7.0, 4.0]]), stack=Stack(*(t.expand(3, -1) for t in silicon()))
    )
    expected = (light * each[0] + heavy * each[1] + light * each[2]) / (heavy + 2 * light)
    assert torch.allclose(pattern(spread=spread)[0], expected, rtol=1e-9)


@pytest.mark.parametrize("island", ISLANDS)
def test_single_precision_and_gradients(island):
    exits = ExitAngles(double([0.15, 0.6]), double([0.2]), (0.05, 0.05))
    full = pattern(island, exits=exits)
    single = pattern(island, Stack(*(t.float() for t in silicon())), exits, sizes=torch.tensor([SIZES[island]]))
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), full, rtol=2e-3)
    sizes = double([SIZES[island]]).requires_grad_()
    incidence = double([0.3]).requires_grad_()

    def scattered(sizes, incidence):
        found = pattern(island, exits=exits, sizes=sizes, incidence_deg=incidence)
        return found / full

    assert torch.autograd.gradcheck(scattered, (sizes, incidence), atol=1e-5, rtol=1e-4)


ANGLES = (double([0.1]), double([0.0]), (0.1, 0.1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pattern("cylindre", sizes=double([[5.0, 4.0]])), "did you mean 'cylinder'"),
        (lambda: pattern(sizes=double([[5.0]])), r"expected \[sample, 2\]: radius, height"),
        (lambda: pattern("truncated_sphere", sizes=double([[5.0, 11.0]])), "at most twice its radius"),
        (lambda: pattern(stack=Stack(*(t.expand(3, -1) for t in silicon()))), "3 stacks for 1 samples"),
        (lambda: pattern(incidence_deg=0.0), "above 0 and at most 90"),
        (lambda: pattern(stack=silicon(-1e-8)), "beta has values that are negative"),
        (lambda: pattern(stack=silicon()._replace(thickness=double([[3.0]]))), r"thickness has shape \(1, 1\)"),
        (lambda: pattern(spread=Spread("length", "schulz", 0.1)), "radius, height"),
        (lambda: ExitAngles(double([0.0]), *ANGLES[1:]), "above 0 and below 90"),
        (lambda: ExitAngles(double([]), *ANGLES[1:]), "expected two non-empty one-dimensional arrays"),
        (lambda: ExitAngles(*ANGLES[:2], (0.1, 0.0)), "pixel_deg = 0.0"),
        (lambda: reflectivity(silicon(), double([-0.1]), ENERGY_EV), "above the sample.s horizon"),
        (lambda: reflectivity(silicon(), double([0.1]), 0.0), "energy_ev = 0.0"),
    ],
)
def test_what_cannot_be_is_rejected(call, message):
    with pytest.raises(OpticsError, match=message):
        call()
