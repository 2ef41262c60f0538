"""Simulated shots of helium nanodroplets, with labels from their geometry and frequencies as in the measured set.

Labels follow from the shape and the orientation of a droplet, never from its image. Let r be the ratio of a droplet's
length along its axis to its width, tau the angle between axis and detector, and the outline the ratio of the longest to
the shortest diameter of its shadow, without harmonics and bends. Per nm along the axis of the shadow its points lie, on
average, ``slant`` nm deeper; ``slant = |r^2 - 1| sin tau cos tau / (r^2 cos^2 tau + sin^2 tau)`` for an ellipsoid. At
wide angles this shifts rings and bends streaks.

============  ==========================================================================  =============================
label         condition                                                                   ambiguous, never drawn
============  ==========================================================================  =============================
empty         no droplet
oblate        r <= 1, spheres included
prolate       r > 1                                                                       outline below 1.6: its shadow
                                                                                          may be that of an oblate
round         oblate, outline <= 1.05                                                     outline 1.05 to 1.12
elliptical    oblate, outline > 1.05                                                      outline 1.05 to 1.12
streak        prolate with straight sides                                                 outline below 1.8
bent          prolate, slant > 0.2, or the axis itself bent by more than 0.3 of the       slant 0.1 to 0.25; a bend that
              radius                                                                      is seen in its own plane
asymmetric    lumpy (harmonics of degree 3 > 0; bends do not count, although they too     harmonics below 0.08; without
              break inversion symmetry), or oblate and slant > 0.1                        them oblate, slant 0.05 to 0.2
newton_rings  a second droplet                                                            radius below 0.4 or above 0.9
                                                                                          of that of the first droplet
double_rings  a core of other density
layered       shells of other density                                                     less than one shell
============  ==========================================================================  =============================

Only measured combinations that such a geometry can have are drawn: those of all but 12 of the 7,264 images, which are
a streak that is not prolate, or layered without a shape.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
import torch

from rephase.labs.images.data.droplet_labels import (
    DROPLET_LABEL_SET,
    LABELS,
    LabelTable,
    draw_combinations,
    label_table,
)
from rephase.labs.images.data.simulated_shots import SimulatedShots, Usual
from rephase.optics.detector import FERMI
from rephase.optics.droplet_shapes import Droplets, join, random_droplets, random_rotations
from rephase.optics.droplets import ENERGY_EV, scatter

_CANDIDATES = 16  # candidates per wanted droplet: many do not show the labels in their orientation
_LAYERS = (130.0, 220.0)  # nm from shell to shell: at 19.4 eV such shells scatter onto the detector


class SeenDroplets(NamedTuple):
    """Labels, boolean [droplet, n_labels], and whether each droplet is unambiguous, boolean [droplet]."""

    labels: torch.Tensor
    is_clear: torch.Tensor


def labels_of(droplets: Droplets) -> SeenDroplets:
    """Label droplets in their orientation to the beam along z, by the rules of this module."""
    a = droplets.semi_axes[:, 0]
    exists = a > 0
    radius = torch.where(exists, a, 1)
    ratio = torch.where(exists, (droplets.semi_axes[:, 2] + droplets.half_length) / radius, 1)
    sine = droplets.rotation[:, 2, 2].abs().clamp(max=1)
    cosine = (1 - sine**2).sqrt()
    side = droplets.half_length / radius
    length = ((ratio - side) ** 2 * cosine**2 + sine**2).sqrt() + side * cosine
    outline = torch.maximum(length, 1 / length)
    slant = (ratio**2 - 1).abs() * sine * cosine / (ratio**2 * cosine**2 + sine**2)
    sagitta = droplets.bend * (ratio * radius) ** 2 / 2 / radius
    partner = droplets.partner_radius / radius

    height = droplets.harmonics.norm(dim=1)
    prolate, has_shape = exists & (ratio > 1), height > 0
    oblate = exists & ~prolate
    seen = {
        "oblate": oblate,
        "round": oblate & (outline <= 1.05),
        "elliptical": oblate & (outline > 1.05),
        "prolate": prolate,
        "streak": prolate & (side > 0),
        "bent": prolate & ((slant > 0.2) | (sagitta > 0.3)),
        "asymmetric": exists & (has_shape | oblate & (slant > 0.1)),
        "newton_rings": exists & (partner > 0),
        "double_rings": exists & (droplets.core_scale > 0),
        "layered": exists & (droplets.n_layers > 0),
        "empty": ~exists,
    }
    unclear = (
        (oblate & _between(outline, 1.05, 1.12))
        | (oblate & ~has_shape & _between(slant, 0.05, 0.2))
        | (has_shape & (height < 0.08))
        | (prolate & (outline < torch.where(side > 0, 1.8, 1.6)))
        | (prolate & (sagitta == 0) & _between(slant, 0.1, 0.25))
        | ((sagitta > 0) & ((sagitta < 0.3) | (droplets.rotation[:, 2, 0].abs() > 0.5)))
        | ((partner > 0) & ((partner < 0.4) | (partner > 0.9)))
        | ((droplets.n_layers > 0) & (droplets.n_layers < 1))
    )
    return SeenDroplets(torch.stack([seen[name] for name in LABELS], 1), ~exists | ~unclear)


def _between(value: torch.Tensor, low: float, high: float) -> torch.Tensor:
    return (value > low) & (value < high)


@cache
def possible_combinations() -> LabelTable:
    """Return the measured combinations of labels that a geometry can have."""
    combinations, images = label_table()
    has = dict(zip(LABELS, combinations.T))
    with_outline = has["oblate"] & (has["round"] | has["elliptical"])
    possible = with_outline | has["prolate"] | has["empty"]
    return LabelTable(combinations[possible], images[possible])


def droplets_with(labels: np.ndarray, generator: torch.Generator) -> Droplets:
    """Draw droplets, with orientations, that have given labels: one per row of boolean [droplet, n_labels]."""
    combinations, which = np.unique(labels, axis=0, return_inverse=True)
    counts = np.bincount(which)
    parts = [_of_one_combination(row, int(n), generator) for row, n in zip(combinations, counts)]
    place = np.argsort(np.argsort(which, kind="stable"), kind="stable")
    return join(parts).take(torch.as_tensor(place))


def turned(droplets: Droplets, generator: torch.Generator) -> Droplets:
    """Rotate droplets at random to orientations in which they have the same labels."""
    wanted, rotation = labels_of(droplets).labels, droplets.rotation.clone()
    left = torch.arange(len(wanted))
    while len(left):
        drawn = droplets.take(left)._replace(rotation=random_rotations(len(left), generator, rotation.dtype))
        fits = _fits(drawn, wanted[left])
        rotation[left[fits]] = drawn.rotation[fits]
        left = left[~fits]
    return droplets._replace(rotation=rotation)


def _fits(droplets: Droplets, wanted: torch.Tensor) -> torch.Tensor:
    seen = labels_of(droplets)
    return seen.is_clear & (seen.labels == wanted).all(1)


def _of_one_combination(labels: np.ndarray, n: int, generator: torch.Generator) -> Droplets:
    ways = _ways(frozenset(name for name, carried in zip(LABELS, labels) if carried))
    wanted, parts = torch.as_tensor(labels), []
    for number, (kind, features) in enumerate(ways):
        left = len(range(number, n, len(ways)))
        while left:
            drawn = random_droplets(_CANDIDATES * left, kind, features=features, generator=generator)
            if "layered" in features:
                drawn = _with_wide_layers(drawn, generator)
            parts.append(drawn.take(_fits(drawn, wanted).nonzero()[:left, 0]))
            left -= len(parts[-1].semi_axes)
    return join(parts)


def _ways(carried: frozenset[str]) -> list[tuple[str, tuple[str, ...]]]:
    """List the kinds of droplets and features that can have a combination of labels; each supplies an equal part."""
    if "empty" in carried:
        return [("empty", ())]
    features = tuple(
        feature
        for label, feature in (("newton_rings", "partner"), ("double_rings", "core_shell"), ("layered", "layered"))
        if label in carried
    )
    uneven = (*features, "asymmetric") if "asymmetric" in carried else features
    if "oblate" in carried:
        tilted = [("oblate", features)] if {"asymmetric", "elliptical"} <= carried else []
        return [*tilted, ("oblate", uneven)]
    if "streak" in carried:
        return [("pill", uneven), *([("bent", uneven)] if "bent" in carried else [])]
    return [("prolate", uneven)]


def _with_wide_layers(droplets: Droplets, generator: torch.Generator) -> Droplets:
    low, high = _LAYERS
    drawn = torch.rand(len(droplets.n_layers), generator=generator, device=generator.device)
    return droplets._replace(n_layers=droplets.semi_axes[:, 0] / (low + (high - low) * drawn))


class DropletShots(SimulatedShots):
    """Shots of droplets: ``n_views`` of each, from different directions and at different positions in the focus."""

    label_set = DROPLET_LABEL_SET
    usual = Usual(FERMI, ENERGY_EV, peak_fluence=10.0)

    def draw_labels(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw combinations of labels that a geometry can have, boolean [n, n_labels]."""
        return draw_combinations(n, rng, power=self.config.frequency_power, among=possible_combinations())

    def scatter(self, labels: np.ndarray, n_views: int, generator: torch.Generator) -> torch.Tensor:
        """Cross sections in nm^2 of droplets with `labels`, [n * n_views, y, x]."""
        first = droplets_with(labels, generator)
        views = join([first, *(turned(first, generator) for _ in range(n_views - 1))])
        order = torch.arange(n_views * len(labels)).reshape(n_views, -1).T.flatten()
        offset = self.offsets(len(order), generator)
        return scatter(views.take(order), self.detector, energy_ev=self.energy_ev, offset=offset)
