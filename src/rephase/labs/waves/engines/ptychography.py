"""Iterative engines of ptychography: ePIE, gradient descent, conjugate gradients, reflections; some refine the probe.

Frames are intensities [..., frame, row, column] of one object, or of a batch of objects with the same scan; objects and
probes are [..., row, column]. `mask` [row, column] is False where nothing was measured. Object and probe are only
determined up to a common factor: if the probe is refined, the result has the norm of the given probe.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch

from rephase.errors import OpticsError, check_positive
from rephase.labs.waves.engines.projections import reflect, with_amplitude
from rephase.optics.ptychography import Scan, shifted

_DIM = 1e-2  # of the brightest illumination: floor of the illumination in step lengths
_TINY = 1e-30
_EVEN = 0.02  # of Adam's step: larger changes of the object take equal steps, smaller ones proportional steps


class Reconstruction(NamedTuple):
    """Object and probe [..., row, column], complex; ``misfit`` [..., epoch] of the amplitudes during each epoch.

    The misfit is ``(sum (|wave| - sqrt(I))^2 / sum I)^1/2`` over the measured pixels, before each correction.
    ``positions`` [frame, 2] are those of the scan, refined if requested.
    """

    object: torch.Tensor
    probe: torch.Tensor
    misfit: torch.Tensor
    positions: torch.Tensor


def epie(
    frames: torch.Tensor,
    scan: Scan,
    probe: torch.Tensor,
    *,
    n_epochs: int,
    generator: torch.Generator,
    start: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    object_step: float = 1.0,
    probe_step: float = 0.0,
    at_once: int = 1,
) -> Reconstruction:
    """Extended ptychographic iterative engine (ePIE): correct object and probe frame by frame, in random order.

    ``object += step conj(probe) change / max |probe|^2``, where the change of the exit wave imposes the measured
    amplitudes; the same for the probe with the roles exchanged. Numerator and denominator sum over a step's frames.

    Parameters
    ----------
    frames, scan, probe, mask
        See the module docstring.
    n_epochs
        Passes over all frames.
    generator
        Generator for the order of the frames, on the CPU.
    start
        Object to start from; by default 1.
    object_step, probe_step
        Fractions of the correction; with a `probe_step` of 0 the probe is known.
    at_once
        Frames in a step: 1 is ePIE as published, more are faster.

    Raises
    ------
    OpticsError
        Frames are negative, not finite, or differ from the scan in number or size; or the mask hides everything.

    References
    ----------
    Maiden & Rodenburg (2009), doi:10.1016/j.ultramic.2009.05.012.
    """
    amplitude = _amplitudes(frames, scan, mask)
    given, sample = probe, _start(amplitude, scan, start)
    misfits = []
    for _ in range(n_epochs):
        squares = []
        for chosen in _batches(len(scan), at_once, generator):
            part, seen = scan.part(chosen), amplitude[..., chosen, :, :]
            probes, patches = part.probes(probe), part.patches(sample)
            wave = part.propagator(probes * patches)
            squares.append(_squares(wave, seen, mask))
            change = part.propagator.back(with_amplitude(wave, seen, mask) - wave)
            sample = sample + object_step * part.put(probes.conj() * change) / _peak(part.put(probes.abs().square()))
            if probe_step:
                moved = shifted(patches.conj() * change, -part.offsets).sum(-3)
                probe = probe + probe_step * moved / _peak(patches.abs().square().sum(-3))
        misfits.append(torch.stack(squares).sum(0))
    return _scaled(sample, probe, given, scan, _relative(misfits, amplitude, mask))


def descend(
    frames: torch.Tensor,
    scan: Scan,
    probe: torch.Tensor,
    *,
    n_epochs: int,
    generator: torch.Generator,
    start: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    learning_rate: float = 0.05,
    refine_probe: bool = False,
    position_rate: float = 0.0,
    at_once: int = 16,
) -> Reconstruction:
    """Minimise the squared misfit of the amplitudes by gradient descent (Adam) through the forward model of the scan.

    To first order this loss is the negative log likelihood of Poisson counts, whose square roots all have variance 1/4.
    Steps shrink with the gradient, so that a good start is preserved.

    Parameters
    ----------
    frames, scan, probe, n_epochs, generator, start, mask, at_once
        As in `epie`.
    learning_rate
        Step of Adam for objects of about 1; falls to 0 along a cosine.
    refine_probe
        Whether to refine the probe too, by the same steps relative to its root mean square.
    position_rate
        Step of Adam for the positions, in pixels; 0: positions are known.

    Raises
    ------
    OpticsError
        As `epie`.
    """
    amplitude = _amplitudes(frames, scan, mask)
    scale = probe.abs().square().mean((-2, -1), keepdim=True).sqrt()
    sample = _start(amplitude, scan, start).clone().requires_grad_()
    relative = (probe / scale).requires_grad_(refine_probe)
    moves = torch.zeros_like(scan.positions).requires_grad_(position_rate > 0)
    optimiser = torch.optim.Adam([sample], lr=learning_rate, eps=_EVEN * learning_rate)
    if refine_probe:
        optimiser.add_param_group({"params": [relative]})
    if position_rate:
        optimiser.add_param_group({"params": [moves], "lr": position_rate})
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, n_epochs)
    # scaled to the frames of a step, so that the gradient equals the change of the object that they imply
    peak = 2 * at_once / len(scan) * _peak(scan.put(scan.probes(probe).abs().square()))[..., 0, 0]
    misfits = []
    for _ in range(n_epochs):
        squares = []
        for chosen in _batches(len(scan), at_once, generator):
            part = scan.moved(moves).part(chosen)
            wave = part.propagator(part.patches(sample) * part.probes(scale * relative))
            loss = _squares(wave, amplitude[..., chosen, :, :], mask)
            optimiser.zero_grad()
            (loss / peak).sum().backward()
            optimiser.step()
            squares.append(loss.detach())
        schedule.step()
        misfits.append(torch.stack(squares).sum(0))
    refined = (scale * relative).detach() if refine_probe else probe
    found = _scaled(sample.detach(), refined, probe, scan, _relative(misfits, amplitude, mask))
    return found._replace(positions=scan.positions + moves.detach())


def conjugate_gradients(
    frames: torch.Tensor,
    scan: Scan,
    probe: torch.Tensor,
    *,
    n_epochs: int,
    start: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
) -> Reconstruction:
    """Minimise the squared misfit of the amplitudes of all frames by conjugate gradients, with a known probe.

    Gradients are divided by the illumination of each pixel, and the Gauss–Newton curvature gives the step length: no
    line search is needed, and an epoch takes one propagation forward and one back.

    Parameters
    ----------
    frames, scan, probe, n_epochs, start, mask
        As in `epie`.

    Raises
    ------
    OpticsError
        As `epie`.

    References
    ----------
    Thibault & Guizar-Sicairos (2012), doi:10.1088/1367-2630/14/6/063004.
    """
    amplitude, probes = _amplitudes(frames, scan, mask), scan.probes(probe)
    light = scan.put(probes.abs().square())
    light = light.clamp_min(_DIM * _peak(light))
    sample = _start(amplitude, scan, start)
    weight = torch.ones_like(amplitude) if mask is None else mask.to(amplitude)
    wave = scan.propagator(probes * scan.patches(sample))
    ahead, before, product, misfits = torch.zeros_like(sample), torch.zeros_like(sample), torch.tensor(torch.inf), []
    for _ in range(n_epochs):
        size = wave.abs().clamp_min(_TINY)
        misfits.append((weight * (size - amplitude).square()).sum((-3, -2, -1)))
        downhill = scan.put(probes.conj() * scan.propagator.back(weight * (amplitude / size - 1) * wave))
        lit = downhill / light
        turned = (_dot(downhill - before, lit) / product.clamp_min(_TINY)).clamp_min(0)  # Polak and Ribière
        ahead, before, product = lit + turned[..., None, None] * ahead, downhill, _dot(downhill, lit)
        move = scan.propagator(probes * scan.patches(ahead))
        along = (torch.view_as_real(wave) * torch.view_as_real(move)).sum(-1) / size
        step = _dot(downhill, ahead) / (weight * along.square()).sum((-3, -2, -1)).clamp_min(_TINY)
        sample, wave = sample + step[..., None, None] * ahead, wave + step[..., None, None, None] * move
    return Reconstruction(sample, probe, _relative(misfits, amplitude, mask), scan.positions)


def reflect_exit_waves(
    frames: torch.Tensor,
    scan: Scan,
    probe: torch.Tensor,
    *,
    n_epochs: int,
    start: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    beta: float = 0.75,
) -> Reconstruction:
    """Relaxed averaged alternating reflections of all exit waves at once, with a known probe.

    One projection imposes the measured amplitudes on each exit wave, the other makes all of them views of one object.

    Parameters
    ----------
    frames, scan, probe, n_epochs, start, mask
        As in `epie`.
    beta
        Relaxation, 1/2 to 1.

    Raises
    ------
    OpticsError
        As `epie`.
    """
    amplitude = _amplitudes(frames, scan, mask)
    probes = scan.probes(probe)
    illumination = scan.put(probes.abs().square().expand(amplitude.shape))
    floor = 1e-6 * _peak(illumination)
    misfits = []

    def seen_object(waves: torch.Tensor) -> torch.Tensor:
        return scan.put(probes.conj() * waves) / illumination.clamp_min(floor)

    def measured(waves: torch.Tensor) -> torch.Tensor:
        wave = scan.propagator(waves)
        return scan.propagator.back(with_amplitude(wave, amplitude, mask))

    def views(waves: torch.Tensor) -> torch.Tensor:
        return probes * scan.patches(seen_object(waves))

    waves = probes * scan.patches(_start(amplitude, scan, start))
    for _ in range(n_epochs):
        misfits.append(_squares(scan.propagator(views(waves)), amplitude, mask))
        waves = reflect(waves, measured, views, beta=beta)
    return Reconstruction(seen_object(measured(waves)), probe, _relative(misfits, amplitude, mask), scan.positions)


def _amplitudes(frames: torch.Tensor, scan: Scan, mask: torch.Tensor | None) -> torch.Tensor:
    expected = (len(scan), *scan.probe_shape)
    if tuple(frames.shape[-3:]) != expected:
        raise OpticsError(f"frames of shape {tuple(frames.shape)}: expected [..., {', '.join(map(str, expected))}]")
    if mask is not None and not mask.any():
        raise OpticsError("mask is False everywhere: expected True where frames were measured")
    seen = frames if mask is None else torch.where(mask, frames, 0)
    if not (torch.isfinite(seen).all() and (seen >= 0).all()):
        raise OpticsError("frames are negative or not finite in places: expected counts; mask such pixels")
    return seen.sqrt()


def _start(amplitude: torch.Tensor, scan: Scan, start: torch.Tensor | None) -> torch.Tensor:
    shape = (*amplitude.shape[:-3], *scan.object_shape)
    return torch.ones(shape, dtype=amplitude.dtype.to_complex(), device=amplitude.device) if start is None else start


def _batches(n: int, at_once: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    check_positive("at_once", at_once, remedy="give the number of frames per step", error=OpticsError)
    yield from torch.randperm(n, generator=generator).split(at_once)


def _squares(wave: torch.Tensor, amplitude: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    squares = (wave.abs() - amplitude).square()
    return (squares if mask is None else squares * mask).sum((-3, -2, -1))


def _relative(misfits: list[torch.Tensor], amplitude: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Relative misfits [..., epoch]; amplitudes are 0 where nothing was measured."""
    return (torch.stack(misfits, dim=-1) / amplitude.square().sum((-3, -2, -1))[..., None]).sqrt()


def _dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a.conj() * b).real.sum((-2, -1))


def _peak(values: torch.Tensor) -> torch.Tensor:
    return values.amax((-2, -1), keepdim=True)


def _scaled(
    sample: torch.Tensor, probe: torch.Tensor, given: torch.Tensor, scan: Scan, misfit: torch.Tensor
) -> Reconstruction:
    factor = probe.norm(dim=(-2, -1), keepdim=True) / given.norm(dim=(-2, -1), keepdim=True)
    return Reconstruction(sample * factor, probe / factor, misfit, scan.positions)
