"""Single particles in an X-ray beam at small angles: viruses, a tailed phage, clusters, and several at once.

At small angles, the image is that of the electron density projected along the beam::

    dsigma/dOmega(q) = r_e^2 |sum_b exp(-i q.R_b) integral exp(-i q.r) rho_b t_b(r) d^2r|^2

over the bodies b of a shot at R_b, where t_b(r) is the length of the beam inside a body. All bodies are convex, affine
images of a ball, an icosahedron or a prism, so that t_b is exact. For one particle, or for several of real density, the
image is symmetric under inversion.

The particles are those of Kassemeyer et al. (2012), doi:10.1364/OE.20.004149, and Reddy et al. (2017),
doi:10.1038/sdata.2017.79; their sorting is that of Bobkov et al. (2015), doi:10.1107/S1600577515017348.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch

from rephase.devices import at_once
from rephase.errors import OpticsError, check_positive, nearest_name
from rephase.optics.detector import XFEL, Detector, wavelength_nm
from rephase.optics.droplet_shapes import random_rotations
from rephase.optics.form_factors import phasor

ENERGY_EV = 1200.0
"""Photon energy in eV of the shots of Kassemeyer et al. (2012)."""
BALL, ICOSAHEDRON, PRISM = range(3)
"""Forms of which each body is an affine image: radius 1; corners at distance 1; radius 1 from z = -1 to 1."""
_ELECTRON_RADIUS = 2.81794e-6  # nm, classical
# Electrons per nm^3: virus at 1.38 g/cm^3 with 0.53 electrons per nucleon mass, water, NaCl at 2.17 g/cm^3
_VIRUS, _WATER, _SALT = 440.0, 334.0, 626.0
_CELLS = 96  # along each side of the square that holds a projected body


class Particles(NamedTuple):
    """Convex bodies of uniform density, one per row; a shot may contain any number of them.

    Attributes
    ----------
    shot
        [body] int, number of its shot.
    form
        [body] int: `BALL`, `ICOSAHEDRON` or `PRISM`.
    semi_axes
        [body, 3] nm, by which the form is stretched along its own axes; z is a fivefold axis of the icosahedron.
    rotation
        [body, 3, 3], rotation from the frame of the body to that of the laboratory.
    centre
        [body, 3] nm, position of the body.
    density
        [body] electrons per nm^3.
    """

    shot: torch.Tensor
    form: torch.Tensor
    semi_axes: torch.Tensor
    rotation: torch.Tensor
    centre: torch.Tensor
    density: torch.Tensor

    def take(self, rows: torch.Tensor) -> "Particles":
        """Return some of the bodies, by index or by booleans."""
        return Particles(*(t[rows] for t in self))


def scatter_particles(
    particles: Particles, n_shots: int, detector: Detector = XFEL, *, energy_ev: float = ENERGY_EV
) -> torch.Tensor:
    """Compute the scattering cross section into each pixel: expected photons per incident photon per nm^2.

    Parameters
    ----------
    particles
        Bodies of all the shots.
    n_shots
        Number of shots; a shot without bodies has an image of zeros.
    detector
        Small-angle detector: q is k times the position of a pixel divided by the distance.
    energy_ev
        Photon energy in eV.

    Returns
    -------
    torch.Tensor
        Intensity [shot, row, column] in nm^2, of the dtype and on the device of the particles.

    Raises
    ------
    OpticsError
        The detector extends over more than 10 degrees, a `shot` is not below `n_shots`, or a body is so large that its
        projection would be sampled too coarsely for that detector.
    """
    k, like = 2 * math.pi / wavelength_nm(energy_ev), particles.semi_axes
    if detector.max_angle_deg > 10:
        raise OpticsError(
            f"max_angle_deg = {detector.max_angle_deg}: expected at most 10 degrees, for the small-angle approximation"
        )
    if len(particles.shot) and not 0 <= int(particles.shot.min()) <= int(particles.shot.max()) < n_shots:
        raise OpticsError(
            f"shots {int(particles.shot.min())} to {int(particles.shot.max())}: expected 0 to {n_shots - 1}"
        )
    n = detector.n_pixels
    pixel = (torch.arange(n, dtype=like.dtype, device=like.device) - (n - 1) / 2) * detector.pitch * k
    q_x, q_y = (pixel - shift * detector.pitch * k for shift in detector.centre)
    widest = float(like.amax()) if len(like) else 0.0
    finest = math.pi / max(float(q_x.abs().amax()), float(q_y.abs().amax()))  # nm, half a period of the outermost wave
    if 2 * 2 * widest / _CELLS > finest:
        raise OpticsError(
            f"a semi-axis of {widest:.0f} nm: expected at most {finest * _CELLS / 4:.0f} nm for this detector"
        )
    wave = torch.zeros((n_shots, n, n), dtype=like.dtype.to_complex(), device=like.device)
    for rows in torch.arange(len(like), device=like.device).split(at_once("bodies", like.device)):
        part = particles.take(rows)
        wave.index_add_(0, part.shot, _body_waves(part, q_x, q_y))
    return _ELECTRON_RADIUS**2 * detector.pitch**2 * wave.abs().square()


def _body_waves(particles: Particles, q_x: torch.Tensor, q_y: torch.Tensor) -> torch.Tensor:
    """Return the Fourier transforms of projected densities, in electrons, complex [body, row, column]."""
    stretch = particles.rotation[:, :2] * particles.semi_axes[:, None]
    reach = stretch.norm(dim=2) * torch.where(particles.form == PRISM, math.sqrt(2), 1.0)[:, None]
    unit = (torch.arange(_CELLS, dtype=reach.dtype, device=reach.device) + 0.5) * 2 / _CELLS - 1
    x, y = reach[:, :1] * unit, reach[:, 1:] * unit
    electrons = (
        projected_length(particles, x, y) * (particles.density * reach.prod(1) * (2 / _CELLS) ** 2)[:, None, None]
    )
    from_x, from_y = (
        phasor(-q[:, None] * (t + particles.centre[:, axis, None])[:, None])
        for axis, (q, t) in enumerate(((q_x, x), (q_y, y)))
    )
    return from_y @ electrons.to(from_x.dtype) @ from_x.mT


def projected_length(particles: Particles, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the length in nm of the beam inside each body, [body, row, column], at x [body, column], y [body, row]."""
    to_body = particles.rotation / particles.semi_axes[:, None]  # [laboratory axis, axis of the unit form]
    start = to_body[:, 0, :, None, None] * x[:, None, None] + to_body[:, 1, :, None, None] * y[:, None, :, None]
    length = _length_in_ball(start, to_body[:, 2])
    flat = particles.form != BALL
    if flat.any():
        normals, distances = (t.to(x)[particles.form[flat]] for t in _faces())
        length[flat] = _length_between(start[flat], to_body[flat, 2], normals, distances)
    return length


def _length_in_ball(start: torch.Tensor, along: torch.Tensor) -> torch.Tensor:
    square = along.square().sum(1)[:, None, None]
    middle = torch.einsum("bc,bcij->bij", along, start) / square
    room = (1 - start.square().sum(1)) / square + middle**2
    return 2 * room.clamp(min=0).sqrt()


def _length_between(
    start: torch.Tensor, along: torch.Tensor, normals: torch.Tensor, distances: torch.Tensor
) -> torch.Tensor:
    """Return the length of lines ``start + t along`` inside all planes ``normal.u <= distance``."""
    slope = torch.einsum("bfc,bc->bf", normals, along)[..., None, None]
    slope = torch.where(slope.abs() < 1e-6 * along.norm(dim=1)[:, None, None, None], 1e-6, slope)
    crossing = (distances[..., None, None] - torch.einsum("bfc,bcij->bfij", normals, start)) / slope
    leave = torch.where(slope > 0, crossing, torch.inf).amin(1)
    enter = torch.where(slope < 0, crossing, -torch.inf).amax(1)
    return (leave - enter).clamp(min=0)


@cache
def _faces() -> tuple[torch.Tensor, torch.Tensor]:
    """Return outward normals [form, 20, 3] and distances [form, 20] of the faces of the unit forms; float64."""
    turn = 2 * math.pi / 5 * torch.arange(5, dtype=torch.float64)
    ring = torch.stack([2 * turn.cos(), 2 * turn.sin(), torch.ones(5, dtype=torch.float64)], 1) / math.sqrt(5)
    pole = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    pairs = ring + ring.roll(-1, 0)
    centres = torch.cat([pairs + pole, pairs - ring.roll(2, 0)]) / 3
    icosahedron = torch.cat([centres, -centres])
    turn = 2 * math.pi / 18 * torch.arange(18, dtype=torch.float64)
    sides = torch.stack([turn.cos(), turn.sin(), torch.zeros_like(turn)], 1)
    points = torch.stack([torch.ones_like(icosahedron), icosahedron, torch.cat([sides, pole[None], -pole[None]])])
    distances = points.norm(dim=2)
    return points / distances[..., None], distances


class _Places(NamedTuple):
    """Placement of particles: shot [n], centre [n, 3] in nm; `generator` draws their other properties."""

    shot: torch.Tensor
    centre: torch.Tensor
    generator: torch.Generator

    def uniform(self, low: float, high: float, columns: int = 1) -> torch.Tensor:
        shape = (len(self.shot), columns)
        values = torch.rand(shape, generator=self.generator, device=self.centre.device, dtype=self.centre.dtype)
        return low + (high - low) * values

    def bodies(self, form: int, semi_axes: torch.Tensor, density: float) -> Particles:
        rotation = random_rotations(len(self.shot), self.generator, self.centre.dtype)
        axes = semi_axes.expand(-1, 3)
        return Particles(
            self.shot,
            torch.full_like(self.shot, form),
            axes,
            rotation,
            self.centre,
            torch.full_like(axes[:, 0], density),
        )


def _virus(radius: float) -> Callable[[_Places], Particles]:
    return lambda places: places.bodies(ICOSAHEDRON, radius * places.uniform(0.97, 1.03), _VIRUS)


def _phage(places: _Places) -> Particles:
    """Draw phages modelled on T4: a head of 86 by 120 nm and, along its fivefold axis, a tail of 100 by 20 nm, ±3 %."""
    size = places.uniform(0.97, 1.03)
    head = places.bodies(ICOSAHEDRON, size * size.new_tensor([43.0, 43.0, 60.0]), _VIRUS)
    down = head.rotation[:, :, 2] * (size * (60 + 50))
    tail = head._replace(
        form=torch.full_like(head.form, PRISM),
        semi_axes=size * size.new_tensor([10.0, 10.0, 50.0]),
        centre=head.centre - down,
    )
    return _join([head, tail])


def _cluster(low: float, high: float, density: float) -> Callable[[_Places], Particles]:
    def make(places: _Places) -> Particles:
        radius = low * (high / low) ** places.uniform(0, 1)
        return places.bodies(BALL, radius * places.uniform(0.8, 1.25, 3), density)

    return make


_SINGLE: dict[str, Callable[[_Places], Particles]] = {
    "virus_70": _virus(35.0),
    "virus_190": _virus(95.0),
    "phage": _phage,
    "water": _cluster(20.0, 80.0, _WATER),
    "salt": _cluster(10.0, 40.0, _SALT),
}


def _several(places: _Places) -> Particles:
    """Draw two or three particles of any kinds side by side in each shot."""
    n, device = len(places.shot), places.centre.device
    count = torch.randint(2, 4, (n,), generator=places.generator, device=device)
    row = torch.arange(n, device=device).repeat_interleave(count)
    number = torch.arange(len(row), device=device) - (count.cumsum(0) - count)[row]
    turn, gap = 2 * math.pi * places.uniform(0, 1)[row], places.uniform(320, 700)[row]
    along = (number[:, None] - (count[row, None] - 1) / 2) * gap
    centre = places.centre[row] + along * torch.cat([turn.cos(), turn.sin(), torch.zeros_like(turn)], 1)
    kind = torch.randint(len(_SINGLE), (len(row),), generator=places.generator, device=device)
    parts = []
    for i, make in enumerate(_SINGLE.values()):
        chosen = kind == i
        parts.append(make(_Places(places.shot[row][chosen], centre[chosen], places.generator)))
    return _join(parts)


PARTICLES = _SINGLE | {"several": _several}
"""Kinds of shots by name: viruses of about 70 and 190 nm, a phage, clusters of water or salt, several particles."""


def _join(parts: list[Particles]) -> Particles:
    return Particles(*(torch.cat(tensors) for tensors in zip(*parts)))


def random_particles(
    n_shots: int, kind: str, *, generator: torch.Generator, dtype: torch.dtype = torch.float32
) -> Particles:
    """Draw particles of one kind for `n_shots` shots, in random orientations.

    Parameters
    ----------
    n_shots
        Shots 0 to ``n_shots - 1``, each with one particle, or with two or three of any kinds (several).
    kind
        Name in `PARTICLES`.
    generator
        Generator of all random numbers; its device is that of the result.
    dtype
        float32 or float64.

    Raises
    ------
    OpticsError
        The kind is unknown, or `n_shots` is below one.
    """
    if kind not in PARTICLES:
        raise OpticsError(f"no kind of particle {kind!r}; {nearest_name(kind, PARTICLES)}")
    check_positive("n_shots", n_shots, remedy="ask for at least one shot", error=OpticsError)
    shot = torch.arange(n_shots, device=generator.device)
    return PARTICLES[kind](_Places(shot, shot.new_zeros((n_shots, 3), dtype=dtype), generator))
