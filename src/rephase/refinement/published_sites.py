"""Sites of a published structure, with the anisotropic displacements of its file."""

import numpy as np

from rephase.crystal.atoms import Crystal
from rephase.refinement.sites import Sites, isotropic_u


def sites_of(crystal: Crystal) -> Sites:
    """Return the asymmetric unit of a structure; its hydrogen atoms are free atoms."""
    atoms, n = crystal.asymmetric_unit, len(crystal.asymmetric_unit)
    given = np.full((n, 6), np.nan) if atoms.u_aniso is None else atoms.u_aniso
    is_anisotropic = np.isfinite(given).all(1)
    return Sites(
        labels=atoms.labels,
        elements=atoms.elements,
        xyz_frac=atoms.xyz_frac,
        U=np.where(is_anisotropic[:, None], given, isotropic_u(atoms.u_iso, crystal.cell)),
        is_anisotropic=is_anisotropic,
        occupancy=atoms.occupancy,
        parent=np.full(n, -1),
        afix=np.zeros(n, int),
        part=np.zeros(n, int),
    )
