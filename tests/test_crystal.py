"""Cells and structures: known answers, and every input that is refused."""

import codecs
import gzip

import gemmi
import numpy as np
import pytest

from rephase.crystal.cell import Cell, limiting_d_min, wavelength
from rephase.crystal.structures import bundled_names, read_crystal
from rephase.errors import CifError, GridError

CIF = """data_salt
_cell_length_a {a}
_cell_length_b 5.64
_cell_length_c 5.64
_cell_angle_alpha {alpha}
_cell_angle_beta 90
_cell_angle_gamma 90
_space_group_name_H-M_alt '{group}'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
_atom_site_U_iso_or_equiv
Na1 {element} {x} 0 0 {occupancy} 0.01
Cl1 Cl1- 0.5 0.5 0.5 1 0.02
"""
GOOD = {"a": "5.64(1)", "alpha": 90, "group": "F m -3 m", "element": "Na1+", "x": 0, "occupancy": 1}


def cif(**changes) -> str:
    return CIF.format(**GOOD | changes)


def test_cubic_d_spacing_by_hand():
    assert Cell(4.0, 4.0, 4.0).d_spacing([[2, 0, 0], [1, 1, 1]]) == pytest.approx([2.0, 4 / np.sqrt(3)])


def test_triclinic_metric_agrees_with_gemmi():
    parameters = (6.867, 16.706, 5.399, 62.98, 42.25, 52.16)
    hkl = np.array([[1, 2, 3], [-4, 0, 1], [0, 5, -2]])
    reference = gemmi.UnitCell(*parameters)
    assert Cell(*parameters).volume == pytest.approx(reference.volume)
    assert Cell(*parameters).d_spacing(hkl) == pytest.approx([reference.calculate_d(h.tolist()) for h in hkl])


def test_origin_has_infinite_d():
    assert np.isinf(Cell(4, 4, 4).d_spacing([0, 0, 0]))


def test_limiting_sphere_at_10_kev():
    assert limiting_d_min(10.0) == pytest.approx(0.619921, abs=1e-6)


@pytest.mark.parametrize("energy", [0.0, -1.0, float("nan")])
def test_energy_must_be_positive(energy):
    with pytest.raises(GridError, match="energy_kev"):
        wavelength(energy)


def test_rock_salt_expands_to_eight_atoms_with_charges_noted():
    crystal = read_crystal(cif())
    assert crystal.formula == "Na4 Cl4"
    assert crystal.space_group == "F m -3 m"
    assert len(crystal.asymmetric_unit) == 2
    assert crystal.atoms.charges == (1,) * 4 + (-1,) * 4
    assert crystal.atoms.u_iso.tolist() == pytest.approx([0.01] * 4 + [0.02] * 4)


def test_operations_alone_give_the_space_group():
    text = cif(group="?").replace(
        "loop_\n_atom_site_label", "loop_\n_space_group_symop_operation_xyz\nx,y,z\n-x,-y,-z\nloop_\n_atom_site_label"
    )
    assert read_crystal(text).space_group == "P -1"


def test_deuterium_scatters_as_hydrogen():
    assert "H" in read_crystal(cif(element="D")).atoms.elements


@pytest.mark.parametrize("name", bundled_names())
def test_every_bundled_structure_reads(name):
    crystal = read_crystal(name)
    assert len(crystal.atoms) > 0
    assert np.all(crystal.atoms.occupancy > 0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("Ni", 8.90), ("Pt", 21.5), ("Pb", 11.35), ("NaCl", 2.16), ("CaF2", 3.18), ("SrTiO3", 5.12), ("Rutile", 4.25)],
)
def test_mass_density(name, expected):
    crystal = read_crystal(name)
    mass = sum(gemmi.Element(e).weight * o for e, o in zip(crystal.atoms.elements, crystal.atoms.occupancy))
    assert mass * 1.66054 / crystal.cell.volume == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"a": "?"}, "_cell_length_a = .*expected a number"),
        ({"a": 0}, "cell length a = 0"),
        ({"a": -5.64}, "cell length a = -5.64"),
        ({"alpha": 180}, "form no cell"),
        ({"group": "Q 42"}, "space group 'Q 42'"),
        ({"element": "Xx"}, "unknown element 'Xx'"),
        ({"x": "?"}, "'Na1' has no position"),
        ({"x": "."}, "'Na1' has no position"),
        ({"occupancy": 0}, "occupancy 0"),
        ({"occupancy": 1.2}, "occupancy 1.2"),
        ({"occupancy": -0.5}, "occupancy -0.5"),
        ({"occupancy": "full"}, "occupancy 'full'"),
    ],
)
def test_impossible_cif_is_refused(changes, message):
    with pytest.raises(CifError, match=message):
        read_crystal(cif(**changes))


def test_negative_displacement_is_refused():
    with pytest.raises(CifError, match="'Na1' has U = -0.01"):
        read_crystal(cif().replace("1 0.01", "1 -0.01"))


def test_anisotropic_displacement_becomes_its_mean():
    """U_eq of a monoclinic cell against gemmi's own transformation to Cartesian axes."""
    text = (
        cif(alpha=90, group="P 1").replace("_cell_angle_beta 90", "_cell_angle_beta 110").replace("1 0.01\n", "1 .\n")
    )
    text += (
        "loop_\n_atom_site_aniso_label\n_atom_site_aniso_U_11\n_atom_site_aniso_U_22\n_atom_site_aniso_U_33\n"
        "_atom_site_aniso_U_12\n_atom_site_aniso_U_13\n_atom_site_aniso_U_23\nNa1 0.01 0.02 0.03 0 0.005 0\n"
    )
    # U_eq = (U22 + (U11 + U33 + 2 U13 cos β) / sin² β) / 3 (Fischer & Tillmanns 1988, doi:10.1107/S0108270187012745)
    beta = np.radians(110)
    expected = (0.02 + (0.01 + 0.03 + 2 * 0.005 * np.cos(beta)) / np.sin(beta) ** 2) / 3
    assert read_crystal(text).atoms.u_iso[0] == pytest.approx(expected, rel=1e-5)


def test_list_of_atoms_that_was_cut_is_reported():
    with pytest.warns(UserWarning, match=r"formula 'Na Cl O' has O, but no atom is O; the file may be truncated"):
        read_crystal(cif().replace("loop_", "_chemical_formula_sum 'Na Cl O'\nloop_", 1))


def test_missing_coordinate_column():
    with pytest.raises(CifError, match="_atom_site_fract_x, _y, _z"):
        read_crystal(cif().replace("_atom_site_fract_z\n", "_atom_site_other\n"))


def test_number_alone_gives_the_standard_setting():
    text = cif(group="?").replace("loop_", "_space_group_IT_number 221\nloop_", 1)
    assert read_crystal(text).space_group == "P m -3 m"


def test_angles_that_close_no_cell():
    with pytest.raises(CifError, match="form no cell"):
        Cell(5, 5, 5, 100, 130, 140)


def test_cif_without_cell():
    with pytest.raises(CifError, match="_cell_length_a = missing"):
        read_crystal(cif().replace("_cell_length_a 5.64(1)\n", ""))


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "the file is empty"), (cif()[:-6], "not a complete CIF"), ("data_x\n", "lists atoms")],
)
def test_unusable_file(tmp_path, text, message):
    path = tmp_path / "bad.cif"
    path.write_text(text)
    with pytest.raises(CifError, match=message):
        read_crystal(path)


def test_missing_file_names_the_nearest_bundled_crystal():
    with pytest.raises(CifError, match="did you mean 'Copper'"):
        read_crystal("Coper")


def test_unreadable_file(tmp_path, monkeypatch):
    path = tmp_path / "locked.cif"
    path.write_text(cif())
    monkeypatch.setattr("builtins.open", lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, "denied")))
    with pytest.raises(CifError, match="cannot be read"):
        read_crystal(path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x\0y", "no such file"),
        ("x" * 100_000, "no such file"),
        (".", "not a file"),
        ("\udcfc\n", "not a complete CIF"),
    ],
)
def test_what_is_no_file_is_named(source, message):
    with pytest.raises(CifError, match=message):
        read_crystal(source)


@pytest.mark.parametrize("ends", ["\r", "\r\n", "\n"])
def test_lines_end_as_on_any_system(ends):
    text = cif() + "# " + "x" * 300 + "\n"  # longer than the name of a file may be
    assert read_crystal(text.replace("\n", ends)).formula == "Na4 Cl4"


@pytest.mark.parametrize("packed", [bytes, gzip.compress, lambda text: codecs.BOM_UTF8 + text])
def test_a_file_is_read_packed_or_marked(tmp_path, packed):
    path = tmp_path / "salt.CIF"
    path.write_bytes(packed(cif().encode()))
    assert read_crystal(path).formula == "Na4 Cl4"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("CRYST1    5.0    5.0    5.0  90.00  90.00  90.00 P 1\nATOM      1  N   ALA", "a PDB file"),
        ("salt\n1.0\n 5 0 0\n 0 5 0\n 0 0 5\nNa Cl\n1 1\nDirect\n", "a POSCAR of VASP"),
        ("2\nsalt\nNa 0.0 0.0 0.0\nCl 2.8 2.8 2.8\n", "an XYZ file"),
        ('{"lattice": {"a": 5.64}\n}', "a JSON document"),
        ("TITL x\nCELL 5 5 5 90 90 90\nSPGR P1\n", "a PLATON .spf file"),
        ("<cml>\nno such entry", "an XML document"),
    ],
)
def test_other_formats_are_named(tmp_path, text, named):
    (tmp_path / "model").write_text(text)
    with pytest.raises(CifError, match=f"this is {named}"):
        read_crystal(tmp_path / "model")


def test_nothing_in_a_cif_is_evaluated(tmp_path):
    trap = tmp_path / "trap"
    text = cif(group="?").replace(
        "loop_\n_atom_site_label",
        f"loop_\n_space_group_symop_operation_xyz\n\"x,y,open('{trap}','w')\"\nloop_\n_atom_site_label",
    )
    with pytest.raises(CifError):
        read_crystal(text)
    assert not trap.exists()
