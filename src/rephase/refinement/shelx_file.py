"""A `Model` as instructions of SHELXL: `.ins` to refine, and `.res` with the results.

References
----------
Sheldrick (2015), doi:10.1107/S2053229614024218; the SHELXL manual.
"""

import textwrap
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import numpy as np

from rephase.crystal.labels import short_labels
from rephase.crystal.peaks import Peaks, distances, site_order
from rephase.crystal.shelx import ZERO_CELSIUS, head_lines
from rephase.files.writing import write_whole
from rephase.refinement.bonds import find_bonds
from rephase.refinement.factors import dispersion_corrections
from rephase.refinement.hydrogen_bonds import find_hydrogen_bonds, operation_text
from rephase.refinement.hydrogen_geometry import N_HYDROGEN, N_NEIGHBOURS
from rephase.refinement.model import Model
from rephase.refinement.restraints import BONDED, ISOTROPIC_SD, SIMILAR_SD
from rephase.refinement.twins import Twin

_TABULATED = 1.54184, 1.54178, 1.5418, 1.54056, 1.54059, 0.71073, 0.71069, 0.7107, 0.56083, 0.56086, 0.5608
_NEAR = 2e-4  # Å; Cu, Mo and Ag Kα, whose dispersion SHELXL tabulates
_AT_PLACE = 0.05  # Å
_RIDING_FACTORS = np.array([1.2, 1.5])  # U_iso of hydrogen in units of U_eq of its parent
_MOST_PEAKS = 20
_UNIT_WEIGHTS = ["REM no sigma was measured: unit weights; the .hkl has one sigma for all, in place of 1"]
_RIDES_ALONG = 3  # AFIX
_TURNED = 137, 147  # AFIX of groups whose torsion SHELXL refines


def write_shelx(
    folder: Path,
    name: str,
    model: Model,
    peaks: Peaks | None = None,
    *,
    hkl_scale: float = 1.0,
    title: str = "rephase",
    twin: Twin | None = None,
) -> None:
    """Write ``name.ins`` and ``name.res`` to a folder; the reflections belong beside them as ``name.hkl``.

    Parameters
    ----------
    peaks
        Highest peaks of the difference map, for the end of the `.res`.
    hkl_scale
        Factor by which the intensities in the HKLF 4 file exceed ``model.data.intensity``, see `write_hklf4`.
    title
        Title of the files.
    twin
        What the crystal probably is; its TWIN and BASF are written as remarks.
    """
    instructions = "\n".join(instruction_text(model, hkl_scale=hkl_scale, title=title, twin=twin))
    for suffix, rest in ((".ins", ["END", ""]), (".res", [*_result_lines(model, peaks, title), ""])):
        text = "\n".join([instructions, *rest])
        write_whole(folder / f"{name}{suffix}", text.encode("ascii", errors="replace"))


def instruction_text(
    model: Model, *, hkl_scale: float = 1.0, title: str = "rephase", twin: Twin | None = None
) -> list[str]:
    """Return the lines from TITL to HKLF 4."""
    has_hydrogen = bool(model.sites.is_hydrogen.any())
    variables = _free_variables(model)
    a, b = model.weighting
    return [
        *head_lines(title, model.cell, model.symmetry, model.contents(), model.n_units, model.data.wavelength),
        *_dispersion_lines(model),
        *([] if model.data.temperature is None else [f"TEMP {model.data.temperature - ZERO_CELSIUS:.2f}"]),
        "L.S. 10",
        "BOND $H" if has_hydrogen else "BOND",
        *(["HTAB"] if has_hydrogen else []),
        *_hydrogen_bond_lines(model),
        *_restraint_lines(model),
        "CONF",
        "ACTA",
        "FMAP 2",
        f"PLAN {_MOST_PEAKS}",
        *_twin_lines(twin),
        *([] if model.data.has_sigma else _UNIT_WEIGHTS),
        f"WGHT {a:.6f} {b:.6f}",
        *([f"EXTI {model.extinction:.6f}"] if model.extinction else []),
        *_wrapped("FVAR", [f"{value:.6f}" for value in (model.scale * np.sqrt(hkl_scale), *variables)]),
        *_atom_lines(model, variables),
        "HKLF 4",
    ]


def _twin_lines(twin: Twin | None) -> list[str]:
    """Remarks, because the atoms were refined without the twin."""
    if twin is None:
        return []
    return ["REM probably a twin; without REM, SHELXL refines it:", *(f"REM {line}" for line in twin.instructions)]


def _restraint_lines(model: Model) -> list[str]:
    """The instructions of SHELXL that come closest to the restraints, if there were any: SIMU restrains each U_ij."""
    if not model.is_restrained:
        return []
    return [
        "REM U_eq of bonded atoms, and U_ij of each atom and an isotropic one, were restrained to be similar",
        f"SIMU {SIMILAR_SD:g} {SIMILAR_SD:g} {BONDED:g}",
        f"ISOR {ISOTROPIC_SD:g} {ISOTROPIC_SD:g}",
    ]


def _hydrogen_bond_lines(model: Model) -> list[str]:
    """EQIV of acceptors at other places, and HTAB of each donor with its acceptor, for the CIF of SHELXL."""
    names = short_labels(model.sites.labels, model.sites.elements)
    found = find_hydrogen_bonds(model.sites, model.cell, model.symmetry)
    triplets = {
        code: operation_text(rotation, shift)
        for code, rotation, shift in zip(found.code, found.rotation, found.shift)
        if code != "."
    }
    ends = {code: f"_${number}" for number, code in enumerate(triplets, 1)}
    bonds = zip(found.donor, found.acceptor, found.code)
    tables = dict.fromkeys(f"HTAB {names[i]} {names[j]}{ends.get(code, '')}" for i, j, code in bonds)
    return [*(f"EQIV ${number} {triplet}" for number, triplet in enumerate(triplets.values(), 1)), *tables]


def _dispersion_lines(model: Model) -> list[str]:
    """DISP with the f' and f'' that were used, where SHELXL does not tabulate the wavelength."""
    wavelength = model.wavelength
    if wavelength is None or np.abs(np.subtract(_TABULATED, wavelength)).min() < _NEAR:
        return []
    elements = list(model.contents())
    corrections = dispersion_corrections(elements, wavelength)
    return [f"DISP {element} {f.real:.4f} {f.imag:.4f}" for element, f in zip(elements, corrections)]


def _free_variables(model: Model) -> list[float]:
    """Occupancies that were refined, one for each pair p and 1 - p."""
    refined = model.uncertainties.occupancy > 0
    variables: list[float] = []
    for value in np.round(model.sites.occupancy[refined], 5).tolist():
        if not any(abs(value - known) < 1e-4 or abs(1 - value - known) < 1e-4 for known in variables):
            variables.append(value)
    return variables


def _atom_lines(model: Model, variables: list[float]) -> Iterator[str]:
    """Yield the atoms, each followed by the hydrogen atoms that ride on it, with PART and AFIX where they change."""
    sites, numbers = model.sites, list(model.contents())
    names = short_labels(sites.labels, sites.elements)
    places, occupations, displacements = _places(model), _occupations(model, variables), _displacements(model)
    codes, part = _afix_codes(model), 0

    def line(i: np.integer) -> list[str]:
        fields = [f"{names[i]:<4} {numbers.index(sites.elements[i]) + 1:d}", *places[i], occupations[i]]
        return _wrapped(" ".join(fields), displacements[i])

    for i in np.flatnonzero(sites.parent < 0):
        if sites.part[i] != part:
            part = sites.part[i]
            yield f"PART {part}"
        yield from line(i)
        riding = np.flatnonzero(sites.parent == i)
        for afix, group in groupby(riding, key=lambda h: codes[h]):
            yield f"AFIX {afix}"
            for h in group:
                yield from line(h)
        if len(riding):
            yield "AFIX 0"
    if part:
        yield "PART 0"


def _afix_codes(model: Model) -> np.ndarray:
    """AFIX code [n]: 3, which only moves along, where the group is not as the geometry requires.

    Hydroxyl groups at a metal have too many neighbours, groups on a mirror plane too few hydrogen atoms, as the others
    are images; SHELXL stops at such codes.
    """
    sites = model.sites
    bonds = find_bonds(sites, model.cell, model.symmetry)
    n_neighbours = np.bincount(bonds.first[~sites.is_hydrogen[bonds.second]], minlength=len(sites))[sites.parent]
    n_hydrogen = np.bincount(sites.parent[sites.parent >= 0], minlength=len(sites))[sites.parent]
    codes = sites.afix.tolist()
    is_whole = (n_neighbours == [N_NEIGHBOURS.get(code, n) for code, n in zip(codes, n_neighbours)]) & (
        n_hydrogen == [N_HYDROGEN.get(code, n) for code, n in zip(codes, n_hydrogen)]
    )
    return np.where(is_whole, sites.afix, _RIDES_ALONG)


def _places(model: Model) -> list[list[str]]:
    """Coordinates; one that the site symmetry determines is fixed by adding 10, and exact."""
    sites, group = model.sites, model.symmetry
    images = np.einsum("oij,nj->noi", group.rotations, sites.xyz_frac) + group.translations
    steps = images - sites.xyz_frac[:, None]
    stays = distances(steps, model.cell) < _AT_PLACE
    weight = stays / stays.sum(1, keepdims=True)
    centre = sites.xyz_frac + np.einsum("no,noi->ni", weight, steps - np.rint(steps))
    is_fixed = np.abs(np.einsum("no,oij->nij", weight, group.rotations)).max(2) < 1e-9
    return [[f"{x + 10 * fixed:.6f}" for x, fixed in zip(*row)] for row in zip(centre, is_fixed)]


def _occupations(model: Model, variables: list[float]) -> list[str]:
    """Occupation of each atom as a fraction of a general position: fixed, or p or 1 - p of a free variable."""
    sites = model.sites
    part_of_general = 1 / site_order(sites.xyz_frac, model.cell, model.symmetry)
    leader = np.where(sites.parent < 0, np.arange(len(sites)), sites.parent)
    is_refined = model.uncertainties.occupancy[leader] > 0
    texts = []
    for occupancy, fraction, refined in zip(sites.occupancy, part_of_general, is_refined):
        code, value = 1, fraction * occupancy
        for number, variable in enumerate(variables if refined else [], start=2):
            if abs(occupancy - variable) < 1e-4:
                code, value = number, fraction
                break
            if abs(1 - occupancy - variable) < 1e-4:
                code, value = -number, -fraction
                break
        texts.append(f"{10 * code + value:.5f}")
    return texts


def _displacements(model: Model) -> list[list[str]]:
    """U_iso, or U11 U22 U33 U23 U13 U12; for a riding atom, minus the multiple of U_eq of its parent."""
    sites = model.sites
    u = sites.u_equivalent(model.cell)
    ratio = u / u[sites.parent]
    factor = _RIDING_FACTORS[np.abs(ratio[:, None] - _RIDING_FACTORS).argmin(1)]
    one = np.where(sites.parent < 0, u, -factor)
    rows = zip(sites.U, sites.is_anisotropic, one)
    return [
        [f"{x:.5f}" for x in (components if is_anisotropic else [value])] for components, is_anisotropic, value in rows
    ]


def _wrapped(start: str, values: list[str]) -> list[str]:
    """Lines of at most 79 characters, continued after =."""
    lines = textwrap.wrap(" ".join([start, *values]), 76, break_on_hyphens=False, break_long_words=False)
    return [*(f"{line} =" if i == 0 else f"    {line} =" for i, line in enumerate(lines[:-1]))] + [
        lines[-1] if len(lines) == 1 else f"    {lines[-1]}"
    ]


def _torsion_lines(model: Model) -> list[str]:
    """A remark on the torsions that SHELXL refines and counts, and that were only taken from the map."""
    codes = np.where(np.isin(_afix_codes(model), _TURNED), model.sites.parent, -1)
    n = len(np.unique(codes[codes >= 0]))
    return [f"REM SHELXL counts {n} more: torsions of AFIX 137 and 147, here as the map shows them"] if n else []


def _result_lines(model: Model, peaks: Peaks | None, title: str) -> list[str]:
    """Lines after HKLF 4 as SHELXL writes them: figures of merit, and the peaks after END."""
    s = model.statistics
    a, b = model.weighting
    found = zip(peaks.xyz_frac[:_MOST_PEAKS], peaks.height) if peaks else ()
    return [
        "",
        f"REM  {title}",
        f"REM wR2 = {s.wr2:.4f}, GooF = S = {s.goof:.3f}, Restrained GooF = {s.restrained_goof:.3f} for all data",
        f"REM R1 = {s.r1:.4f} for {s.n_observed} Fo > 4sig(Fo) and {s.r1_all:.4f} for all {s.n_reflections} data",
        f"REM {s.n_parameters} parameters refined using {s.n_restraints} restraints",
        *_torsion_lines(model),
        "",
        "END",
        "",
        f"WGHT {a:.6f} {b:.6f}",
        "",
        f"REM Highest difference peak {s.peak:.3f}, deepest hole {s.hole:.3f}, 1-sigma level {s.rms:.3f}",
        *(
            f"Q{i:<3} 1 {' '.join(f'{x:.4f}' for x in xyz)} 11.00000 0.05 {height:.2f}"
            for i, (xyz, height) in enumerate(found, start=1)
        ),
    ]
