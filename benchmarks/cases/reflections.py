"""The reflections of a crystal, simulated or measured, with the true structure factors that judge a solution."""

import argparse
from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np

from cases.crystals import reflection_file
from cases.options import SPOILING
from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.files import read_reflections
from rephase.crystal.reflections.simulation import Truth, random_phases, simulate_reflections
from rephase.crystal.reflections.statistics import unique_hkl
from rephase.crystal.structure_factors import structure_factors
from rephase.crystal.structures import Crystal
from rephase.crystal.symmetry import Symmetry, find_symmetry

_N_CHANCE = 20  # sets of random phases


def case_of(name: str, crystal: Crystal, d_min: float, options: argparse.Namespace) -> tuple[Reflections, Truth]:
    """Read or simulate the reflections of a crystal, without their group if it is to be found.

    Raises
    ------
    ReflectionError
        There are too few reflections.
    """
    if options.measured:
        data, truth = measured_reflections(options.measured / f"{name}.cif", crystal, d_min)
    else:
        protocol = {key: getattr(options, key) for key in (*SPOILING, "seed")}
        data, truth = simulate_reflections(crystal, d_min, **protocol)
    if options.unknown_group:
        return replace(data, symmetry=None, is_merged=False), whole_truth(crystal, data)
    return data, truth


def measured_reflections(path: Path, crystal: Crystal, d_min: float) -> tuple[Reflections, Truth]:
    """Read the reflections of a CIF to `d_min` in Å (0 for all), with F_calc of its structure at the same hkl."""
    data = read_reflections(reflection_file(path) or path, cell=crystal.cell, space_group=crystal.space_group)
    data = data.cut(d_min) if d_min else data
    hkl = data.merge().reflections.hkl
    return data, Truth(hkl, structure_factors(crystal, hkl, energy_kev=None))


def whole_truth(crystal: Crystal, data: Reflections) -> Truth:
    """Compute F of every reflection of the sphere, absences and Friedel mates included, for any group of the answer."""
    hkl = unique_hkl(crystal.cell, find_symmetry("P 1"), data.d_min * (1 - 1e-6))
    F = structure_factors(crystal, hkl, energy_kev=None)
    return Truth(np.concatenate([hkl, -hkl]), np.concatenate([F, F.conj()]))


def chance(merged: Reflections, truth: Truth, seed: int) -> float:
    """Return the mean map_cc of random phases of merged reflections."""
    phi = random_phases(merged.hkl, merged.group, _N_CHANCE, np.random.default_rng(seed))
    return float(truth.score(merged.amplitudes().amplitude * np.exp(1j * phi), merged).map_cc.mean())


def is_same_group(one: Symmetry, other: Symmetry) -> bool:
    """Return whether two groups in the same axes are equal, or an enantiomorphic pair, for which |F| is the same."""
    inverse = [gemmi.Op("-x,-y,-z") * gemmi.Op(triplet) * gemmi.Op("-x,-y,-z") for triplet in one.triplets]
    hands = ({gemmi.Op(t).wrap().triplet() for t in one.triplets}, {op.wrap().triplet() for op in inverse})
    without_origin = one.symbol.split(":")[0] == other.symbol.split(":")[0]
    return without_origin or {gemmi.Op(t).wrap().triplet() for t in other.triplets} in hands
