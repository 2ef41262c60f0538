"""Random variants of a crystal: one displaced atom, all atoms displaced, or a strained lattice."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from rephase.config.crystals import AllAtoms, PerturbationConfig, SingleAtom, Strain
from rephase.crystal.structures import Crystal
from rephase.errors import ConfigError


class Variants(NamedTuple):
    """Fractional coordinates [n, n_atoms, 3] and lattices [n, 3, 3] (columns in Å; None: the parent's) of variants."""

    xyz_frac: np.ndarray
    lattice: np.ndarray | None


def single_atom(crystal: Crystal, n: int, rng: np.random.Generator, options: SingleAtom) -> Variants:
    """Displace one atom along one axis by a fraction N(0, sigma_frac) of the lattice constant."""
    if options.atom >= len(crystal.atoms):
        raise ConfigError(
            f"perturbation.single_atom.atom = {options.atom}: {crystal.name} has {len(crystal.atoms)} atoms, "
            f"numbered from 0; choose at most {len(crystal.atoms) - 1}"
        )
    xyz_frac = np.repeat(crystal.atoms.xyz_frac[None], n, axis=0)
    xyz_frac[:, options.atom, "abc".index(options.axis)] += rng.normal(0, options.sigma_frac, n)
    return Variants(xyz_frac, None)


def all_atoms(crystal: Crystal, n: int, rng: np.random.Generator, options: AllAtoms) -> Variants:
    """Displace every atom by N(0, sigma) Å along each Cartesian axis.

    The mean displacement is subtracted, because it only shifts the origin and changes no amplitude.
    """
    shifts = rng.normal(0, options.sigma, (n, len(crystal.atoms), 3))
    shifts -= shifts.mean(axis=1, keepdims=True)
    to_fractional = np.linalg.inv(crystal.cell.orthogonalisation)
    return Variants(crystal.atoms.xyz_frac + shifts @ to_fractional.T, None)


def strain(crystal: Crystal, n: int, rng: np.random.Generator, options: Strain) -> Variants:
    """Strain the lattice by a symmetric tensor, and displace every atom as `all_atoms` does.

    The diagonal components are N(0, sigma_strain); the off-diagonal ones, as means of two, are N(0, sigma_strain/√2).

    A strain alone changes no fractional coordinate, and hence no phase.
    """
    gradient = rng.normal(0, options.sigma_strain, (n, 3, 3))
    symmetric = (gradient + gradient.swapaxes(1, 2)) / 2
    lattice = (np.eye(3) + symmetric) @ crystal.cell.orthogonalisation
    return Variants(all_atoms(crystal, n, rng, options).xyz_frac, lattice)


PERTURBATIONS: dict[str, Callable[..., Variants]] = {
    "single_atom": single_atom,
    "all_atoms": all_atoms,
    "strain": strain,
}


def perturb(crystal: Crystal, n: int, rng: np.random.Generator, options: PerturbationConfig) -> Variants:
    """Draw `n` variants with the kind of perturbation that the configuration selects."""
    return PERTURBATIONS[options.kind](crystal, n, rng, getattr(options, options.kind))
