"""The unit cell: metric tensors, d-spacings, the limiting sphere."""

from dataclasses import dataclass, field

import numpy as np

from rephase.errors import CifError, GridError, check_positive

_SHORTEST, _LONGEST = 0.01, 1e6  # Å; no crystal has shorter or longer axes
HC_KEV_ANGSTROM = 12.398419843320026  # h c (CODATA 2018, exact)


@dataclass(frozen=True)
class Cell:
    """A unit cell: a, b, c in Å, α, β, γ in degrees.

    ``su`` are the standard uncertainties of the six parameters as measured, 0 for a fixed one; None: unknown. They do
    not count when cells are compared.

    Raises
    ------
    CifError
        A length is not positive or out of range, or the angles form no cell.

    Examples
    --------
    >>> round(Cell(4.0, 4.0, 4.0, 90.0, 90.0, 90.0).volume, 6)
    64.0
    """

    a: float
    b: float
    c: float
    alpha: float = 90.0
    beta: float = 90.0
    gamma: float = 90.0
    su: tuple[float, ...] | None = field(default=None, compare=False, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        for name in ("a", "b", "c"):
            check_positive(f"cell length {name}", getattr(self, name), remedy="give it in Å", error=CifError)
            if not _SHORTEST <= (length := getattr(self, name)) <= _LONGEST:
                raise CifError(f"cell length {name} = {length:g}: expected {_SHORTEST:g} to {_LONGEST:g}; give it in Å")
        in_range = all(0 < angle < 180 for angle in (self.alpha, self.beta, self.gamma))
        cosines = np.cos(np.radians([self.alpha, self.beta, self.gamma] if in_range else [0.0, 0.0, 0.0]))
        if not in_range or 1 - np.sum(cosines**2) + 2 * np.prod(cosines) <= 1e-8:
            raise CifError(
                f"cell angles α, β, γ = {self.alpha}, {self.beta}, {self.gamma}°: they form no cell; "
                "each lies in (0, 180) and each is less than the sum of the other two"
            )

    @property
    def parameters(self) -> tuple[float, float, float, float, float, float]:
        """a, b, c (Å), α, β, γ (degrees)."""
        return self.a, self.b, self.c, self.alpha, self.beta, self.gamma

    @property
    def orthogonalisation(self) -> np.ndarray:
        """Matrix [3, 3] with the cell vectors as columns (a along x, b in the xy plane), Å: r = M x_frac."""
        cos_a, cos_b, cos_g = np.cos(np.radians([self.alpha, self.beta, self.gamma]))
        sin_g = np.sin(np.radians(self.gamma))
        c_y = (cos_a - cos_b * cos_g) / sin_g
        c_z = np.sqrt(1 - cos_b**2 - c_y**2)
        return np.array(
            [
                [self.a, self.b * cos_g, self.c * cos_b],
                [0.0, self.b * sin_g, self.c * c_y],
                [0.0, 0.0, self.c * c_z],
            ]
        )

    @property
    def volume(self) -> float:
        """Volume in Å^3."""
        return float(np.linalg.det(self.orthogonalisation))

    @property
    def volume_su(self) -> float:
        """Standard uncertainty of the volume in Å^3; 0 if `su` is unknown.

        Parameters with equal values and equal uncertainties are taken as one, because symmetry makes them equal; the
        others as independent.
        """
        cos, sin = np.cos(np.radians(self.parameters[3:])), np.sin(np.radians(self.parameters[3:]))
        by_angle = (self.a * self.b * self.c) ** 2 / self.volume * sin * (cos - np.roll(cos, 1) * np.roll(cos, 2))
        gradient = np.concatenate([self.volume / np.array(self.parameters[:3]), np.radians(by_angle)])
        errors: dict[tuple[float, float], float] = {}
        for value, su, slope in zip(self.parameters, self.su or (0.0,) * 6, gradient):
            errors[value, su] = errors.get((value, su), 0.0) + float(slope) * su
        return float(np.linalg.norm(list(errors.values())))

    @property
    def reciprocal_metric(self) -> np.ndarray:
        """G* [3, 3] in Å^-2: 1/d^2 = h G* h^T."""
        return reciprocal_metric(self.orthogonalisation)

    def d_spacing(self, hkl: np.ndarray) -> np.ndarray:
        """Lattice-plane spacing d in Å of ``hkl [..., 3]``; infinite for (0, 0, 0)."""
        hkl = np.asarray(hkl, dtype=float)
        with np.errstate(divide="ignore"):
            return 1 / np.sqrt(np.einsum("...i,ij,...j->...", hkl, self.reciprocal_metric, hkl))


def reciprocal_metric(lattice: np.ndarray) -> np.ndarray:
    """G* [..., 3, 3] in Å^-2 of lattices [..., 3, 3] whose columns are the cell vectors in Å."""
    return np.linalg.inv(np.swapaxes(lattice, -1, -2) @ lattice)


def wavelength(energy_kev: float) -> float:
    """Wavelength in Å of photons of `energy_kev`.

    >>> round(wavelength(10.0), 5)
    1.23984
    """
    check_positive("energy_kev", energy_kev, remedy="give the photon energy in keV, e.g. 10.0", error=GridError)
    return HC_KEV_ANGSTROM / energy_kev


def limiting_d_min(energy_kev: float) -> float:
    """Smallest d in Å that can be measured at `energy_kev`: the limiting sphere, d = λ/2."""
    return wavelength(energy_kev) / 2
