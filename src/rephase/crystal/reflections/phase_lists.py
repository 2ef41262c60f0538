"""Known phases: a list with weights, read from MTZ, CIF or a table."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rephase.crystal.cell import Cell
from rephase.crystal.cif_blocks import cif_document, is_cif
from rephase.crystal.reflections.cif import PHASES, ReflectionLoop, with_metadata
from rephase.crystal.reflections.files import read_listing
from rephase.crystal.reflections.listing import Listing, measured_rows
from rephase.crystal.reflections.mtz import filled_column, open_mtz
from rephase.crystal.symmetry import Symmetry, symmetry_in
from rephase.errors import ReflectionError
from rephase.files.foreign_documents import foreign_document
from rephase.files.reading import decoded, file_bytes


@dataclass(frozen=True, eq=False)
class PhaseList:
    """Phases of some reflections; a few are enough, and amplitudes are not needed.

    Parameters
    ----------
    hkl
        Miller indices, integers [n, 3].
    phi
        Phases in radians, [n].
    weight
        Figure of merit of each phase, 0–1, [n].
    cell, symmetry
        Cell and space group of the list; None: the same as for the data.
    name
        Name in messages.

    Raises
    ------
    ReflectionError
        The columns have unequal lengths, there are no phases, a phase is not finite, or a weight is outside 0–1.
    """

    hkl: np.ndarray
    phi: np.ndarray
    weight: np.ndarray
    cell: Cell | None = None
    symmetry: Symmetry | None = None
    name: str = "phases"

    def __post_init__(self) -> None:
        if self.hkl.shape != (len(self.phi), 3) or self.weight.shape != self.phi.shape:
            shapes = self.hkl.shape, self.phi.shape, self.weight.shape
            raise ReflectionError(f"{self.name}: hkl, phi, weight of shapes {shapes}; expected [n, 3], [n], [n]")
        if not len(self.phi):
            raise ReflectionError(f"{self.name}: no phases in this list; give at least one reflection with a phase")
        if not np.isfinite(self.phi).all() or not ((self.weight >= 0) & (self.weight <= 1)).all():
            raise ReflectionError(
                f"{self.name}: a phase that is not finite or a weight outside 0–1; leave unknown phases out"
            )


def read_phases(path: str | Path) -> PhaseList:
    """Read phases from an MTZ, from a CIF, or from a table whose header names them.

    The phases are in the first column of type P that has values, preferably PHI; in `_refln_phase_meas` or else
    `_refln_phase_calc`; or in the column ``phi``. Figures of merit (type W, `_refln_fom` or ``fom``) are their weights;
    without them, every phase has weight 1. Reflections without a phase are left out.

    Raises
    ------
    ReflectionError
        The file cannot be read, or has no phases.

    Warns
    -----
    UserWarning
        Satellites, or reflections with an excluding status, were left out.
    """
    path = Path(path)
    content = file_bytes(path, ReflectionError)
    if content[:4] == b"MTZ ":
        return _from_mtz(content, path.name)
    if not foreign_document(content) and is_cif(text := decoded(content)):
        return _from_cif(text, path.name)
    try:
        found = read_listing(path, needed=False)
    except ReflectionError as error:
        raise ReflectionError(f"{path.name}: not an MTZ, a CIF or a table of phases: {error}") from error
    if found.phi_deg is None:
        raise ReflectionError(
            f"{path.name}: a list of reflections without phases; give an MTZ, a CIF with _refln_phase_calc, or a table "
            "whose header names h, k, l, phi"
        )
    return _phase_list(found, path.name)


def _from_mtz(content: bytes, name: str) -> PhaseList:
    found = open_mtz(content, name)
    phase, weight = filled_column(found.mtz, "P", "PHI"), filled_column(found.mtz, "W", "FOM")
    if phase is None:
        labels = ", ".join(found.mtz.column_labels())
        raise ReflectionError(f"{name}: no phases among the columns {labels}; expected one of type P, e.g. PHI")
    hkl, phi_deg = found.mtz.make_miller_array(), found.values(phase)
    cell, fom = found.cell(phase.dataset_id), None if weight is None else found.values(weight)
    return _phase_list(Listing(hkl, phi_deg, phi_deg=phi_deg, cell=cell, space_group=found.symmetry, fom=fom), name)


def _from_cif(text: str, name: str) -> PhaseList:
    document = cif_document(text, name=name)
    loop = ReflectionLoop.first_of(document, name=name, needs=PHASES)
    if loop is None:
        raise ReflectionError(
            f"{name}: no phases in this CIF; expected a loop with _refln_phase_calc or _refln_phase_meas"
        )
    phase = next(filter(loop.is_filled, (label for label in PHASES if label in loop.labels)))
    fom = loop.numbers("fom") if "fom" in loop.labels and loop.is_filled("fom") else None
    phi_deg = loop.numbers(phase)
    listing = Listing(loop.hkl, phi_deg, phi_deg=phi_deg, fom=fom, marked=loop.marked)
    return _phase_list(with_metadata(listing, [loop.block]), name)


def _phase_list(listing: Listing, name: str) -> PhaseList:
    """Keep the reflections that have a phase."""
    phi_deg = np.full(len(listing.hkl), np.nan) if listing.phi_deg is None else listing.phi_deg
    fom = np.ones(len(phi_deg)) if listing.fom is None else listing.fom
    kept = measured_rows(listing._replace(value=phi_deg + 0 * fom, sigma=None), name=name)
    kept &= np.isfinite(listing.hkl).all(1)
    symmetry = None if listing.space_group is None else symmetry_in(listing.cell, listing.space_group)
    hkl = np.rint(listing.hkl[kept]).astype(int)
    return PhaseList(hkl, np.radians(phi_deg[kept]), fom[kept], listing.cell, symmetry, name)
