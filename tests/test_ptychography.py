"""Scans: the convention of pty-chi, sub-pixel positions, adjoints. Engines: from noise-free and from counted frames."""

import math

import numpy as np
import pytest
import torch

from rephase.errors import OpticsError
from rephase.labs.waves.engines.ptychography import conjugate_gradients, descend, epie, reflect_exit_waves
from rephase.labs.waves.scores import align_wave, amplitude_ssim, wave_error
from rephase.optics.noise import count
from rephase.optics.propagation import FarField, Fresnel
from rephase.optics.ptychography import Scan, gaussian_probe, raster, shifted, smallest_object


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(*shape, seed=1):
    return torch.randn(*shape, dtype=torch.complex128, generator=seeded(seed))


def scan_of(positions, *, n=40, m=16, propagator=None):
    positions = torch.as_tensor(positions, dtype=torch.float64)
    return Scan(positions, object_shape=(n, n), probe_shape=(m, m), propagator=propagator or FarField())


def test_frames_follow_the_convention_of_pty_chi():
    """``fftshift(fft2(exit, norm='ortho')).abs() ** 2``, written out in numpy for each position by itself."""
    positions = [[0, 0], [-12, 12], [5, -3]]
    sample, probe = noise(40, 40), noise(16, 16, seed=2)
    found = scan_of(positions).frames(sample, probe)
    for frame, (row, column) in zip(found.numpy(), positions):
        patch = sample.numpy()[12 + row : 28 + row, 12 + column : 28 + column]
        expected = np.abs(np.fft.fftshift(np.fft.fft2(patch * probe.numpy(), norm="ortho"))) ** 2
        assert np.allclose(frame, expected)


def test_an_empty_object_shows_the_probe_alone_wherever_it_is():
    """In the far field a move of the probe is a ramp, that no detector sees; in the near field it is a move."""
    probe = gaussian_probe(32, width=5, n_photons=100).to(torch.complex128)
    positions = [[0, 0], [0.25, -0.4], [3, 2]]
    empty = torch.ones(40, 40, dtype=torch.complex128)
    far = scan_of(positions, m=32).frames(empty, probe)
    assert torch.allclose(far[1:], far[:1].expand(2, -1, -1))
    assert torch.allclose(far.sum((1, 2)), torch.full((3,), 100.0, dtype=torch.float64))
    near = scan_of(positions, m=32, propagator=Fresnel(0.1)).frames(empty, probe)
    assert torch.allclose(near[2], near[0])
    x = torch.arange(32, dtype=torch.float64) - 15.5
    middle = torch.stack([(near[1].sum(1) * x).sum(), (near[1].sum(0) * x).sum()]) / near[1].sum()
    assert torch.allclose(middle, torch.tensor([0.25, -0.4], dtype=torch.float64), atol=1e-6)


def test_the_offset_of_a_gaussian_is_that_of_its_closed_form():
    x = torch.arange(32, dtype=torch.float64) - 16
    gaussian = lambda row, column: torch.exp(-((x[:, None] - row) ** 2 + (x - column) ** 2) / 18).to(torch.complex128)  # noqa: E731
    found = shifted(gaussian(0, 0), torch.tensor([[0.3, -0.45], [2.0, -1.0]], dtype=torch.float64))
    assert torch.allclose(found[0], gaussian(0.3, -0.45), atol=1e-5)
    assert torch.allclose(found[1], gaussian(0, 0).roll((2, -1), (0, 1)))


def test_whole_positions_take_what_lies_under_the_probe_and_put_is_the_adjoint():
    scan = scan_of([[0, 0], [1, -2], [-3.4, 2.3]])
    sample, patches = noise(2, 40, 40), noise(2, 3, 16, 16, seed=2)
    assert torch.equal(scan.patches(sample)[:, 1], sample[:, 13:29, 10:26])
    assert torch.equal(scan.patches(sample)[:, 2], sample[:, 9:25, 14:30])
    inner = torch.vdot(scan.patches(sample).flatten(), patches.flatten())
    assert torch.allclose(inner, torch.vdot(sample.flatten(), scan.put(patches).flatten()))


def test_a_batch_of_objects_is_each_by_itself_and_a_part_is_a_part():
    scan = scan_of([[0, 0], [1.3, -2], [-3.4, 2.3]])
    samples, probe = noise(2, 40, 40), noise(16, 16, seed=2)
    both = scan.frames(samples, probe)
    assert both.shape == (2, 3, 16, 16)
    assert torch.allclose(both[1], scan.frames(samples[1], probe))
    assert torch.allclose(scan.part(torch.tensor([2, 0])).frames(samples, probe), both[:, [2, 0]])
    by = torch.tensor([[0.0, 0.1], [-0.2, 0.0], [0.05, 0.05]], dtype=torch.float64)
    moved = scan_of(scan.positions + by).frames(samples, probe)
    assert torch.allclose(scan.moved(by).frames(samples, probe), moved)
    single = scan_of([[0, 0], [1.3, -2], [-3.4, 2.3]]).frames(samples.to(torch.complex64), probe.to(torch.complex64))
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), both, rtol=1e-3, atol=1e-3)


def test_gradients_reach_object_probe_and_positions():
    positions = torch.tensor([[0.2, 0.1], [1.3, -2.2]], dtype=torch.float64, requires_grad=True)
    sample, probe = noise(12, 12).requires_grad_(), noise(6, 6, seed=2).requires_grad_()

    def measured(sample, probe, positions):
        return Scan(positions, object_shape=(12, 12), probe_shape=(6, 6), propagator=FarField()).frames(sample, probe)

    assert torch.autograd.gradcheck(measured, (sample, probe, positions), fast_mode=True)


def test_positions_outside_of_the_object_are_reported():
    scan_of([[12, -12]])
    with pytest.raises(
        OpticsError, match=r"1 of 2 positions are outside .* = \[0.0, 13.0\]: expected within \[12.0, 12"
    ):
        scan_of([[0, 0], [0, 13]])
    with pytest.raises(OpticsError, match=r"object of \(16, 42\) pixels or more"):
        scan_of([[0, 0], [0, 13]])
    for wrong in ([[0.0, math.nan]], [[0.0, 0.0, 0.0]], [0.0, 1.0]):
        with pytest.raises(OpticsError, match=r"positions of shape .*: expected finite numbers \[frame, 2\]"):
            scan_of(wrong)
    with pytest.raises(OpticsError, match="there are none; expected one or more"):
        Scan(torch.zeros(0, 2), object_shape=(40, 40), probe_shape=(16, 16), propagator=FarField())
    with pytest.raises(OpticsError, match="torch.int64: expected floating point"):
        Scan(torch.tensor([[0, 1]]), object_shape=(41, 41), probe_shape=(16, 16), propagator=FarField())
    with pytest.raises(OpticsError, match=r"probe has \(16, 48\) pixels, the object \(40, 40\): expected an object at"):
        Scan(torch.zeros(1, 2), object_shape=(40, 40), probe_shape=(16, 48), propagator=FarField())
    with pytest.raises(OpticsError, match=r"object of \(40, 41\) pixels: expected \(40, 40\)"):
        scan_of([[0, 0]]).frames(noise(40, 41), noise(16, 16))
    with pytest.raises(OpticsError, match=r"probe of \(15, 16\) pixels: expected \(16, 16\)"):
        scan_of([[0, 0]]).frames(noise(40, 40), noise(15, 16))
    positions = 9 * torch.rand(20, 2, generator=seeded())
    shape = smallest_object(positions, (16, 16))
    Scan(positions, object_shape=shape, probe_shape=(16, 16), propagator=FarField())


def test_probes_and_rasters():
    probe = gaussian_probe(33, width=6, n_photons=1e4, curvature=2.0)
    assert float(probe.abs().square().sum()) == pytest.approx(1e4, rel=1e-5)
    assert float((probe[16, 22] / probe[16, 16]).abs() ** 2) == pytest.approx(math.exp(-2), rel=1e-5)
    assert float((probe[16, 22] / probe[16, 16]).angle()) == pytest.approx(2.0, rel=1e-5)
    positions = raster(5, step=4.0, jitter=0.2, generator=seeded())
    assert positions.shape == (25, 2)
    assert float((positions - raster(5, step=4.0, jitter=0.0, generator=seeded())).abs().max()) <= 0.8
    assert float(raster(5, step=4.0, jitter=0.0, generator=seeded()).abs().max()) == 8
    for options in ({"width": 0}, {"n_photons": -1}):
        with pytest.raises(OpticsError, match=f"{next(iter(options))} = .*above 0"):
            gaussian_probe(8, **{"width": 3, "n_photons": 1, **options})


@pytest.fixture(scope="module")
def simulated():
    """A scan with much overlap, the probe in photons, a smooth object, and where the probe was."""
    positions = raster(9, step=3.0, jitter=0.3, generator=seeded(3))
    shape = smallest_object(positions, (24, 24))
    scan = Scan(positions, object_shape=shape, probe_shape=(24, 24), propagator=FarField())
    coarse = torch.rand(2, 1, 1, 9, 9, generator=seeded(4))
    amplitude, phase = (torch.nn.functional.interpolate(c, shape, mode="bicubic")[0, 0] for c in coarse)
    true = torch.polar(0.6 + 0.4 * amplitude.clamp(0, 1), -1.5 * phase)
    probe = gaussian_probe(24, width=7, n_photons=1e5, curvature=2.0)
    illumination = scan.put(scan.probes(probe).abs() ** 2)
    return scan, probe, true, illumination > 0.1 * illumination.max()


def error_of(found, true, seen):
    return float(wave_error(align_wave(found[None], true[None], seen), true[None], seen))


ENGINES = {
    "epie": lambda *given, **options: epie(*given, n_epochs=30, at_once=4, generator=seeded(), **options),
    "descend": lambda *given, **options: descend(*given, n_epochs=40, generator=seeded(), **options),
    "conjugate": lambda *given, **options: conjugate_gradients(*given, n_epochs=20, **options),
    "reflect": lambda *given, **options: reflect_exit_waves(*given, n_epochs=60, **options),
}


@pytest.mark.parametrize("name", ENGINES)
def test_engines_find_the_object_under_a_known_probe(simulated, name):
    scan, probe, true, seen = simulated
    found = ENGINES[name](scan.frames(true, probe), scan, probe)
    assert float(found.misfit[-1]) < 0.1 * float(found.misfit[0])
    assert error_of(found.object, true, seen) < 0.05 < 0.3 < error_of(torch.ones_like(true), true, seen)
    assert torch.equal(found.probe, probe)
    rows, columns = (slice(int(i.min()), int(i.max()) + 1) for i in seen.nonzero().T)
    aligned = align_wave(found.object[None], true[None], seen)[:, rows, columns]
    assert float(amplitude_ssim(aligned, true[None, rows, columns])) > 0.9


@pytest.mark.parametrize("name", ENGINES)
def test_engines_leave_the_truth_alone(simulated, name):
    scan, probe, true, seen = simulated
    found = ENGINES[name](scan.frames(true, probe), scan, probe, start=true)
    assert error_of(found.object, true, seen) < 1e-3
    assert float(found.misfit[0]) < 1e-3


@pytest.mark.parametrize(("name", "options"), [("epie", {"probe_step": 1.0}), ("descend", {"refine_probe": True})])
def test_a_wrong_probe_is_refined(simulated, name, options):
    scan, probe, true, seen = simulated
    wrong = gaussian_probe(24, width=6, n_photons=1e5, curvature=1.5)
    frames = scan.frames(true, probe)
    found = ENGINES[name](frames, scan, wrong, **options)
    assert float(found.probe.norm()) == pytest.approx(float(probe.norm()), rel=1e-4)
    assert float(found.misfit[-1]) < 0.5 * float(ENGINES[name](frames, scan, wrong).misfit[-1])
    assert error_of(found.probe, probe, None) < 0.5 * error_of(wrong, probe, None)


def test_wrong_positions_are_refined(simulated):
    """But for a move that is common to all, which moves the object."""
    scan, probe, true, _ = simulated
    errors = 0.3 * torch.randn(len(scan), 2, generator=seeded(5))
    frames = scan.moved(errors).frames(true, probe)
    found = ENGINES["descend"](frames, scan, probe, position_rate=0.03)
    left = found.positions - scan.positions - errors
    assert float((left - left.mean(0)).std()) < 0.25 * float(errors.std())
    unrefined = ENGINES["descend"](frames, scan, probe)
    assert torch.equal(unrefined.positions, scan.positions)
    assert float(found.misfit[-1]) < 0.3 * float(unrefined.misfit[-1])


def test_masked_pixels_say_nothing_and_noise_sets_the_misfit(simulated):
    """Square roots of Poisson counts have the variance 1/4, of which the fit takes a part."""
    scan, probe, true, seen = simulated
    expected = scan.frames(true, probe)
    counts = count(expected, generator=seeded(7))
    mask = torch.rand(24, 24, generator=seeded(8)) > 0.1
    spoiled = torch.where(mask, counts, -1e6)
    found = ENGINES["descend"](spoiled, scan, probe, mask=mask)
    assert error_of(found.object, true, seen) < 0.08
    bright = (expected > 5) & mask
    wave = scan.frames(found.object, probe).sqrt()
    assert 0.1 < float((wave - counts.sqrt())[bright].square().mean()) < 0.3
    with pytest.raises(OpticsError, match="frames are negative or not finite"):
        ENGINES["descend"](spoiled, scan, probe)


def test_a_batch_of_objects_is_reconstructed_at_once(simulated):
    scan, probe, true, _ = simulated
    both = torch.stack([true, true.flip(0)])
    found = epie(scan.frames(both, probe), scan, probe, n_epochs=2, at_once=4, generator=seeded())
    alone = epie(scan.frames(both[1], probe), scan, probe, n_epochs=2, at_once=4, generator=seeded())
    assert torch.allclose(found.object[1], alone.object, atol=1e-4)
    assert torch.allclose(found.misfit[1], alone.misfit)


def test_conjugate_gradients_never_raise_the_misfit_and_leave_out_what_was_not_measured(simulated):
    """From an empty beam, and from a wrong object of far too small a size; hardly a photon is in most pixels."""
    scan, probe, true, _ = simulated
    frames = count(scan.frames(true, probe) / 100, generator=seeded(7))
    mask = torch.rand(24, 24, generator=seeded(8)) > 0.1
    found = conjugate_gradients(frames, scan, probe / 10, n_epochs=30, mask=mask)
    assert (found.misfit[1:] <= found.misfit[:-1]).all()
    spoiled = torch.where(mask, frames, 1e6)
    assert torch.equal(conjugate_gradients(spoiled, scan, probe / 10, n_epochs=30, mask=mask).object, found.object)
    far = conjugate_gradients(frames, scan, probe / 10, n_epochs=5, mask=mask, start=-0.01j * true.flip(0))
    assert (far.misfit[1:] <= far.misfit[:-1]).all()


def test_a_near_field_scan_is_reconstructed(simulated):
    scan, probe, true, seen = simulated
    near = Scan(scan.positions, object_shape=scan.object_shape, probe_shape=(24, 24), propagator=Fresnel(0.08))
    found = descend(near.frames(true, probe), near, probe, n_epochs=40, generator=seeded())
    assert error_of(found.object, true, seen) < 0.1


def test_engines_refuse_frames_that_do_not_fit(simulated):
    scan, probe, true, _ = simulated
    frames = scan.frames(true, probe)
    with pytest.raises(OpticsError, match=r"frames of shape \(80, 24, 24\): expected \[..., 81, 24, 24\]"):
        ENGINES["epie"](frames[1:], scan, probe)
    with pytest.raises(OpticsError, match="mask is False everywhere"):
        ENGINES["reflect"](frames, scan, probe, mask=torch.zeros(24, 24, dtype=torch.bool))
    with pytest.raises(OpticsError, match="at_once = 0"):
        epie(frames, scan, probe, n_epochs=1, at_once=0, generator=seeded())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_engines_find_the_same_on_a_gpu(simulated):
    scan, probe, true, _ = simulated
    options = {"object_shape": scan.object_shape, "probe_shape": scan.probe_shape, "propagator": FarField()}
    on_gpu = Scan(scan.positions.cuda(), **options)
    frames = on_gpu.frames(true.cuda(), probe.cuda())
    for engine in ENGINES.values():
        found = engine(frames, on_gpu, probe.cuda())
        assert torch.allclose(found.misfit.cpu(), engine(frames.cpu(), scan, probe).misfit, atol=1e-3)
