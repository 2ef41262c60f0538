"""Phases that are known already: a list of them with weights, read from MTZ or CIF."""

from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np

from rephase.crystal.cell import Cell
from rephase.crystal.cif_blocks import cell_of, cif_document, space_group_of
from rephase.crystal.reflection_checks import file_content
from rephase.crystal.reflection_mtz import open_mtz
from rephase.crystal.symmetry import Symmetry, find_symmetry, symmetry_in
from rephase.errors import ReflectionError

_TAGS = ["index_h", "index_k", "index_l", "?phase_meas", "?phase_calc", "?fom"]


@dataclass(frozen=True, eq=False)
class PhaseList:
    """Phases of some reflections; few are enough, and no amplitudes are needed.

    Parameters
    ----------
    hkl
        [n, 3] integers.
    phi
        [n], radians.
    weight
        [n], figure of merit in 0–1: how sure each is.
    cell, symmetry
        What the list belongs to; None: that of the data.
    name
        For messages.

    Raises
    ------
    ReflectionError
        Columns of unequal length, no phase, one that is not finite, a weight outside 0–1.
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
    """Read phases of an MTZ with a column of type P, or of a CIF with `_refln_phase_calc` or `_refln_phase_meas`.

    Figures of merit, of type W or `_refln_fom`, are their weights; without them every phase is taken as sure.
    Reflections without a phase are left out.

    Raises
    ------
    ReflectionError
        The file cannot be read, or holds no phases.
    """
    path = Path(path)
    content = file_content(path)
    if content[:4] == b"MTZ ":
        return _from_mtz(path)
    return _from_cif(content.decode("utf-8", errors="replace"), path.name)


def _from_mtz(path: Path) -> PhaseList:
    mtz = open_mtz(path, path.name)
    phases = sorted((column for column in mtz.columns if column.type == "P"), key=lambda one: one.label != "PHI")
    if not phases:
        labels = ", ".join(mtz.column_labels())
        raise ReflectionError(f"{path.name}: no phases among the columns {labels}; expected one of type P, e.g. PHI")
    weights = sorted((column for column in mtz.columns if column.type == "W"), key=lambda one: one.label != "FOM")
    phi = np.array(phases[0], dtype=float)
    fom = np.array(weights[0], dtype=float) if weights else np.ones(len(phi))
    symmetry = find_symmetry(mtz.spacegroup.xhm()) if mtz.spacegroup else None
    return _phase_list(mtz.make_miller_array(), phi, fom, Cell(*mtz.cell.parameters), symmetry, path.name)


def _from_cif(text: str, name: str) -> PhaseList:
    for block in cif_document(text, name=name):
        for prefix in ("_refln_",):
            table = block.find(prefix, _TAGS)
            phase = next((column for column in (3, 4) if len(table) and table.has_column(column)), None)
            if phase is None:
                continue
            number = lambda column: np.array([gemmi.cif.as_number(row[column]) for row in table])  # noqa: B023, E731
            hkl = np.stack([number(axis) for axis in range(3)], axis=1)
            fom = number(5) if table.has_column(5) else np.ones(len(hkl))
            cell, group = cell_of(block), space_group_of(block)
            symmetry = None if group is None else symmetry_in(cell, group)
            return _phase_list(hkl, number(phase), fom, cell, symmetry, name)
    raise ReflectionError(f"{name}: no phases in this CIF; expected a loop with _refln_phase_calc or _refln_phase_meas")


def _phase_list(
    hkl: np.ndarray, phi_deg: np.ndarray, fom: np.ndarray, cell: Cell | None, symmetry: Symmetry | None, name: str
) -> PhaseList:
    """The reflections that have a phase."""
    kept = np.isfinite(phi_deg) & np.isfinite(fom) & np.isfinite(hkl).all(1)
    return PhaseList(np.rint(hkl[kept]).astype(int), np.radians(phi_deg[kept]), fom[kept], cell, symmetry, name)
