"""Simulated small-angle shots of single viruses among everything else that an X-ray laser hits.

Each shot belongs to one class. It is ``weak`` if fewer than a third of `LEAST_PHOTONS` are expected on the measured
pixels, whatever is in the focus; in all other classes at least `LEAST_PHOTONS` are expected.

=========  ===========================================================
class      content of the focus
=========  ===========================================================
virus_70   one icosahedral virus of about 70 nm
virus_190  one icosahedral virus of about 190 nm
phage      one phage with its tail
cluster    one droplet of water or crystal of salt
several    two or three particles of any kinds
weak       anything of the above, too far from the middle of the focus
=========  ===========================================================

Single-particle imaging asks whether a shot shows one single particle of the wanted kind, i.e. belongs to that class.
"""

import numpy as np
import torch

from rephase.formats.label_sets import LabelSet
from rephase.labs.images.data.simulated_shots import SimulatedShots, Usual
from rephase.optics.detector import XFEL
from rephase.optics.droplet_shapes import random_rotations
from rephase.optics.particles import ENERGY_EV, Particles, random_particles, scatter_particles

CLASSES: dict[str, tuple[str, ...]] = {
    "virus_70": ("virus_70",),
    "virus_190": ("virus_190",),
    "phage": ("phage",),
    "cluster": ("water", "salt"),
    "several": ("several",),
    "weak": ("virus_70", "virus_190", "phage", "water", "salt", "several"),
}
"""Classes of shots in the order of their labels, and the kinds of particles (`PARTICLES`) in each."""

SHARES = {"virus_70": 0.1, "virus_190": 0.1, "phage": 0.1, "cluster": 0.2, "several": 0.2, "weak": 0.5}
"""Relative frequencies of the classes that are not wanted: guesses, guided by hit rates at X-ray lasers."""

_NAMES = tuple(CLASSES)
PARTICLE_LABEL_SET = LabelSet(
    _NAMES, tuple((one, other) for number, one in enumerate(_NAMES) for other in _NAMES[:number])
)


class ParticleShots(SimulatedShots):
    """Shots of particles: ``n_views`` of each, from different directions and at different positions in the focus."""

    label_set = PARTICLE_LABEL_SET
    usual = Usual(XFEL, ENERGY_EV, peak_fluence=3e4)

    def draw_labels(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw one class each, boolean [n, n_labels]: the wanted one at the hit rate, the others by `SHARES`."""
        shares = np.array([SHARES[name] for name in _NAMES])
        is_wanted = np.array(_NAMES) == self.config.wanted
        shares[is_wanted] = 0
        shares *= (1 - self.config.hit_rate) / shares.sum()
        shares[is_wanted] = self.config.hit_rate
        return np.eye(len(_NAMES), dtype=bool)[rng.choice(len(_NAMES), size=n, p=shares)]

    def is_dim(self, labels: np.ndarray) -> np.ndarray:
        """Which shots are of the class ``weak``."""
        return labels[:, _NAMES.index("weak")]

    def scatter(self, labels: np.ndarray, n_views: int, generator: torch.Generator) -> torch.Tensor:
        """Cross sections in nm^2 of particles of the classes of `labels`, [n * n_views, y, x]."""
        particles = particles_of(labels, generator)
        views = [_view(particles, view, n_views, generator) for view in range(n_views)]
        every = Particles(*(torch.cat(tensors) for tensors in zip(*views)))
        return scatter_particles(every, n_views * len(labels), self.detector, energy_ev=self.energy_ev)


def particles_of(labels: np.ndarray, generator: torch.Generator) -> Particles:
    """Draw the particles of one shot per row of boolean [n, n_labels]; the kinds of a class take turns."""
    rank, parts = labels.cumsum(0) - 1, []
    for kind in CLASSES["weak"]:  # every kind
        shown = [
            labels[:, number] & (rank[:, number] % len(kinds) == kinds.index(kind))
            for number, kinds in enumerate(CLASSES.values())
            if kind in kinds
        ]
        shots = torch.as_tensor(np.flatnonzero(np.any(shown, axis=0)))
        if len(shots):
            drawn = random_particles(len(shots), kind, generator=generator)
            parts.append(drawn._replace(shot=shots[drawn.shot]))
    return Particles(*(torch.cat(tensors) for tensors in zip(*parts)))


def _view(particles: Particles, view: int, n_views: int, generator: torch.Generator) -> Particles:
    """Rotate the particles of each shot together, as view number `view` of `n_views`."""
    turn = random_rotations(int(particles.shot.max()) + 1, generator)[particles.shot]
    return particles._replace(
        shot=particles.shot * n_views + view,
        rotation=turn @ particles.rotation,
        centre=(turn @ particles.centre[..., None])[..., 0],
    )
