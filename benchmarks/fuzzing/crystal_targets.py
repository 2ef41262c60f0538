"""Crystals, reflection lists, phases and maps: small good files, and their use."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import gemmi
import numpy as np
import torch

from fuzzing.trials import Target
from rephase.crystal.cell import Cell
from rephase.crystal.map_files import read_density, write_density
from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.files import read_reflections, write_mtz
from rephase.crystal.reflections.phase_lists import read_phases
from rephase.crystal.structure_factors import structure_factors
from rephase.crystal.structures import read_crystal
from rephase.crystal.symmetry import find_symmetry
from rephase.paths import ROOT

REAL = ROOT.parent / "shared" / "crystals" / "2012000.hkl"
CELL = """_cell_length_a 7.595
_cell_length_b 9.9731(4)
_cell_length_c 13.7266
_cell_angle_alpha 90
_cell_angle_beta 98.967
_cell_angle_gamma 90
"""
GROUP = "_symmetry_space_group_name_H-M 'P 1 21 1'\n"
OPERATIONS = "loop_\n_symmetry_equiv_pos_as_xyz\n'x, y, z'\n'-x, y+1/2, -z'\n"
LOOP = "loop_\n_refln_index_h\n_refln_index_k\n_refln_index_l\n"
MEASURED = "_refln_F_squared_meas\n_refln_F_squared_sigma\n"
INS = "TITL good\nCELL 0.71073 7.595 9.9731 13.7266 90 98.967 90\nZERR 4 0 0 0 0 0 0\nLATT -1\nSYMM -X, 0.5+Y, -Z\n"
SITES = """SFAC C H CU
UNIT 40 40 2
FVAR 0.5 0.7
C1 1 0.1 0.2 0.3 11.0 0.04 0.05 =
  0.03 0.001 0.002 0.01
REM a comment
CU1 3 0.4 0.1 0.25 11.0 0.03
AFIX 43
H1 2 0.15 0.22 0.31 21.0 -1.2
AFIX 0
PART 1
C2 1 0.6 0.7 0.1 21.0 0.05
PART 0
HKLF 4
END
"""
ATOMS = """_chemical_formula_sum 'C2 Cu H2 O'
_cell_formula_units_Z 2
_exptl_crystal_density_diffrn 1.5
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_U_iso_or_equiv
_atom_site_adp_type
_atom_site_occupancy
C1 C 0.1 0.2 0.3 0.04 Uani 1
Cu1 Cu2+ 0.4(1) 0.1 0.25 0.03 Uiso 1
H1 H 0.15 0.22 0.31 0.05 Uiso 0.5
O1 O 0.6 0.7 -0.1 0.05 Uiso 0.5
loop_
_atom_site_aniso_label
_atom_site_aniso_U_11
_atom_site_aniso_U_22
_atom_site_aniso_U_33
_atom_site_aniso_U_12
_atom_site_aniso_U_13
_atom_site_aniso_U_23
C1 0.04 0.05 0.03 0.01 0.002 0.001
"""
MAGNETIC = """data_good
_parent_space_group.name_H-M_alt 'P n m a'
_parent_space_group.IT_number 62
_space_group_magn.number_BNS 62.448
_space_group_magn.name_BNS "Pn'ma'"
_space_group_name_H-M_alt 'P n m a'
_cell_length_a 5.6
_cell_length_b 7.7
_cell_length_c 5.5
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_space_group_symop_magn_operation.id
_space_group_symop_magn_operation.xyz
1 x,y,z,+1
2 -x,y+1/2,-z,+1
3 -x,-y,-z,+1
4 x,-y+1/2,z,+1
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
La1 La 0.05 0.25 0.99 1
Mn1 Mn 0 0 0.5 1
loop_
_atom_site_moment.label
_atom_site_moment.crystalaxis_x
_atom_site_moment.crystalaxis_y
_atom_site_moment.crystalaxis_z
Mn1 3.8 0.0 0.0
"""


def sample() -> Reflections:
    """Return a short list of reflections."""
    if REAL.is_file():
        return read_reflections(REAL).take(np.arange(60))
    hkl = np.array([[h, k, l] for h in range(-2, 3) for k in range(5) for l in range(1, 5)])
    intensity = np.random.default_rng(0).exponential(100, len(hkl))
    return Reflections(hkl, intensity, 1 + 0.02 * intensity, Cell(7.6, 10, 13.7, 90, 99, 90), find_symmetry("P 21"))


def _rows(data: Reflections, form: str) -> str:
    every = zip(data.hkl.tolist(), data.intensity, data.sigma)
    return "".join(form.format(h, k, l, value, sigma) for (h, k, l), value, sigma in every)


def texts() -> dict[str, str]:
    """Return the reflection lists in text formats, by file name."""
    data = sample()
    core, head = _rows(data, "{} {} {} {:.2f} {:.2f} o\n"), f"data_good\n{CELL}{GROUP}"
    macro = head.replace("_length_", ".length_").replace("_angle_", ".angle_").replace("_symmetry_", "_symmetry.")
    macro += (LOOP + "_refln_F_meas_au\n_refln_F_meas_sigma_au\n_refln_status\n").replace("_refln_", "_refln.")
    diffracted = (LOOP + "_refln_intensity_net\n_refln_intensity_u\n").replace("_refln_", "_diffrn_refln_")
    fixed = _rows(data, "{:4d}{:4d}{:4d}{:8.2f}{:8.2f}   1\n") + "   0   0   0    0.00    0.00   0\n"
    return {
        "cod.hkl": f"{head}{OPERATIONS}{LOOP}{MEASURED}_refln_observed_status\n{core}",
        "list6.fcf": f"{head}{LOOP}{MEASURED}_refln_phase_calc\n" + _rows(data, "{} {} {} {:.2f} {:.2f} 120.0\n"),
        "macro.cif": macro + core,
        "unmerged.cif": f"{head}{diffracted}" + _rows(data, "{} {} {} {:.2f} {:.2f}\n"),
        "embedded.cif": f"{head}_shelx_hkl_file\n;\n{fixed};\n",
        "spaced.hkl": _rows(data, "{} {} {} {:.3f} {:.3f}\n"),
        "table.csv": "h,k,l,I,sigI\n" + _rows(data, "{},{},{},{:.3f},{:.3f}\n"),
        "shelx.hkl": fixed,
    }


def write_list(name: str, folder: Path) -> Path:
    """Write a reflection list, with the instructions beside it if the format is SHELX or bare columns."""
    path = folder / name
    path.write_text(texts()[name])
    if name in ("spaced.hkl", "table.csv", "shelx.hkl"):
        path.with_suffix(".ins").write_text(INS + "HKLF 4\nEND\n")
    return path


def write_instructions(folder: Path) -> Path:
    """Write SHELX instructions beside a reflection list."""
    return write_list("shelx.hkl", folder).with_suffix(".ins")


def write_neighbour(folder: Path) -> Path:
    """Write a CIF with a cell and a group beside a list that has none."""
    path = write_list("shelx.hkl", folder)
    path.with_suffix(".ins").unlink()
    path.with_suffix(".cif").write_text(f"data_good\n{CELL}{GROUP}{OPERATIONS}{ATOMS}")
    return path.with_suffix(".cif")


def write_merged_mtz(folder: Path) -> Path:
    """Write amplitudes with phases and figures of merit."""
    data = sample()
    root = np.sqrt(np.abs(data.intensity))
    write_mtz(folder / "merged.mtz", data.hkl, root, root % 3, np.ones(len(data)), data.cell, data.group)
    return folder / "merged.mtz"


def write_unmerged_mtz(folder: Path) -> Path:
    """Write intensities, with batch numbers and the operation of each."""
    data, mtz = sample(), gemmi.Mtz(with_base=True)
    mtz.spacegroup = gemmi.SpaceGroup("P 1 21 1")
    mtz.add_dataset("good")
    mtz.set_cell_for_all(gemmi.UnitCell(*data.cell.parameters))
    for label, kind in (("M/ISYM", "Y"), ("BATCH", "B"), ("I", "J"), ("SIGI", "Q")):
        mtz.add_column(label, kind)
    ones = np.ones(len(data))
    mtz.set_data(np.column_stack([data.hkl, ones, ones, data.intensity, data.sigma]).astype(np.float32))
    mtz.write_to_file(str(folder / "unmerged.mtz"))
    return folder / "unmerged.mtz"


def write_map(folder: Path) -> Path:
    """Write a density in CCP4 format."""
    density = np.random.default_rng(0).normal(size=(12, 16, 20))
    write_density(folder / "good.ccp4", density, Cell(7.6, 10, 13.7, 90, 99, 90), find_symmetry("P 1 21 1"))
    return folder / "good.ccp4"


def write_text(name: str, text: str, folder: Path) -> Path:
    """Write a text file."""
    (folder / name).write_text(text)
    return folder / name


def use_reflections(path: Path) -> None:
    """Merge the reflections and compute amplitudes."""
    read_reflections(path).merge().reflections.amplitudes()


def use_neighbour(path: Path) -> None:
    """Use the reflections beside the changed file."""
    use_reflections(path.with_suffix(".hkl"))


def use_crystal(path: Path) -> None:
    """Compute a few structure factors."""
    F = structure_factors(read_crystal(path), np.array([[1, 0, 0], [1, 1, 0], [0, 2, 1]]), energy_kev=10.0)
    assert np.isfinite(F).all(), "structure factors that are not finite"


def use_text_of_crystal(path: Path) -> None:
    """Compute a few structure factors of a crystal given as text."""
    read_crystal(path.read_bytes().decode("utf-8", errors="replace") + "\n")


def use_phases(path: Path) -> None:
    """Check phases in radians."""
    assert np.isfinite(read_phases(path).phi).all()


def use_map(path: Path) -> None:
    """Check a density on its grid."""
    torch.as_tensor(read_density(path).density).sum()


CRYSTALS: dict[str, Callable[[Path], Path]] = {
    "crystal.cif": partial(write_text, "good.cif", f"data_good\n{CELL}{GROUP}{OPERATIONS}{ATOMS}"),
    "crystal.mcif": partial(write_text, "good.mcif", MAGNETIC),
    "crystal.res": partial(write_text, "good.res", INS + SITES),
    "crystal.ins": partial(write_text, "good.ins", INS + SITES),
}
TARGETS = {
    **{name: Target(make, use_crystal) for name, make in CRYSTALS.items()},
    "crystal text": Target(CRYSTALS["crystal.cif"], use_text_of_crystal),
    **{name: Target(partial(write_list, name), use_reflections) for name in texts()},
    "shelx.ins": Target(write_instructions, use_neighbour),
    "neighbour.cif": Target(write_neighbour, use_neighbour),
    "merged.mtz": Target(write_merged_mtz, use_reflections),
    "unmerged.mtz": Target(write_unmerged_mtz, use_reflections),
    "phases.mtz": Target(write_merged_mtz, use_phases),
    "phases.fcf": Target(partial(write_list, "list6.fcf"), use_phases),
    "map.ccp4": Target(write_map, use_map),
}
