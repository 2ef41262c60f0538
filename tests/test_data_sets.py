"""Which file holds the reflections, and what the files beside it add: folders, `.ins`, `.p4p`, blocks of a CIF."""

import numpy as np
import pytest

import rephase
from rephase.crystal.cell import Cell
from rephase.crystal.formulas import check_formula
from rephase.crystal.reflections.data_sets import all_data_sets, data_sets
from rephase.crystal.symmetry import find_symmetry
from rephase.errors import CifError, ReflectionError

CELL = (7.1, 9.2, 11.3, 90, 101.5, 90)
INS = (
    "TITL test\nCELL 1.5418 7.1 9.2 11.3 90 101.5 90\nZERR 4 0 0 0 0 0 0\nLATT 1\nSYMM 0.5-X, 1/2+Y, .5-Z\n"
    "SFAC C H\nSFAC O\nUNIT 36 40 4\nHKLF 4\nEND\n"
)
P4P = (
    "FILEID SAINT 1\nSITEID somewhere\nTITLE test\nCHEM   C9 H10 O\n"
    "CELL   7.1000 9.2000 11.3000 90.000 101.500 90.000 723.29\nCELLSD 0.001 0.001 0.001 0.01 0.01 0.01 0.2\n"
    "SOURCE Mo 0.71073 0.70930 0.71359 2.0 50.0 40.0\nBRAVAIS Monoclinic P\nSYMM   2/m\nREF05  1 2 3\n"
)
HKL = np.array([(h, k, l) for h in range(-2, 3) for k in range(3) for l in range(1, 5)])
ROWS = [f"{h} {k} {l} {abs(h) + k + l}.5" for h, k, l in HKL]
LIST = "\n".join(f"{row} 0.5" for row in ROWS) + "\n"


def cif_of(name, *, prefix="_refln_", value="F_squared_meas", sigma="F_squared_sigma", factor=1):
    rows = "\n".join(f"{h} {k} {l} {factor * (abs(h) + k + l)} 0.5" for h, k, l in HKL)
    return (
        f"data_{name}\n_cell_length_a 7.1\n_cell_length_b 9.2\n_cell_length_c 11.3\n_cell_angle_alpha 90\n"
        "_cell_angle_beta 101.5\n_cell_angle_gamma 90\n_symmetry_space_group_name_H-M 'P 21/n'\n"
        "_chemical_formula_sum 'C9 H10 O'\n_diffrn_radiation_wavelength 0.71073\n"
        f"loop_\n{prefix}index_h\n{prefix}index_k\n{prefix}index_l\n{prefix}{value}\n{prefix}{sigma}\n{rows}\n"
    )


@pytest.mark.parametrize("name", ["x.ins", "x.res", "X.INS", "x.hkl", ""])
def test_a_data_set_is_named_by_any_of_its_files(tmp_path, name):
    (tmp_path / "x.hkl").write_text(LIST)
    (tmp_path / (name if name and name != "x.hkl" else "x.ins")).write_text(INS)
    data = rephase.read_reflections(tmp_path / name)
    assert (len(data), data.name, data.cell, data.wavelength) == (len(HKL), "x", Cell(*CELL), 1.5418)
    assert data.group.symbol == "P 1 21/n 1"
    assert data.formula == "C9 H10 O"
    assert data.has_sigma


@pytest.mark.parametrize("name", ["x.p4p", "x.hkl"])
def test_a_p4p_gives_cell_wavelength_and_formula_but_no_group(tmp_path, name):
    (tmp_path / "x.hkl").write_text(LIST)
    (tmp_path / "x.p4p").write_text(P4P)
    data = rephase.read_reflections(tmp_path / name)
    assert (data.cell, data.symmetry, data.wavelength, data.formula) == (Cell(*CELL), None, 0.71073, "C9 H10 O")
    assert data.cell.su == (0.001, 0.001, 0.001, 0.01, 0.01, 0.01)


def test_a_p4p_that_cannot_be_read_is_said(tmp_path):
    (tmp_path / "x.hkl").write_text(LIST)
    (tmp_path / "x.p4p").write_text(P4P.replace("CELL   7.1000", "CELL   seven"))
    with (
        pytest.warns(UserWarning, match=r"the file beside it is not read: x\.p4p: CELL seven"),
        pytest.raises(ReflectionError, match="no cell in the file or beside it"),
    ):
        rephase.read_reflections(tmp_path / "x.hkl")


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ((), r"a\.res, a\.p4p or a\.cif$"),
        (("b.p4p",), r"or a\.cif, but found b\.p4p; it has another name: rename it if it belongs to a\.hkl"),
        (("b.p4p", "c.ins"), r"but found b\.p4p, c\.ins; rename the one that belongs to a\.hkl"),
        (("b.p4p", "c.res", "d.ins", "e.ins"), r"but found b\.p4p, c\.res, d\.ins and 1 more;"),
    ],
)
def test_a_cell_in_a_file_of_another_name_is_said(tmp_path, others, said):
    (tmp_path / "a.hkl").write_text(LIST)
    for other in others:
        (tmp_path / other).write_text(P4P)
    with pytest.raises(ReflectionError, match=rf"^a\.hkl: no cell .*--cell\); expected beside it a\.ins, .*{said}"):
        rephase.read_reflections(tmp_path)


def test_instructions_without_a_list(tmp_path):
    (tmp_path / "x.ins").write_text(INS)
    with pytest.raises(ReflectionError, match=r"x\.ins: instructions without reflections, and no x\.hkl beside it"):
        rephase.read_reflections(tmp_path / "x.ins")


def test_data_sets_of_a_folder(tmp_path):
    """One file for each name; a structure and a list that is not yet scaled are none."""
    folder = tmp_path / "inner"
    folder.mkdir()
    for name, text in {
        "b.hkl": LIST,
        "b.fcf": cif_of("b"),
        "b.ins": INS,
        "a.cif": cif_of("a"),
        "model.cif": "data_model\nloop_\n_atom_site_label\n_atom_site_fract_x\nC1 0.1\n",
        "INTEGRATE.HKL": "!OUTPUT_FILE=INTEGRATE.HKL\n",
        "notes.txt": "x",
    }.items():
        (folder / name).write_text(text)
    assert [path.name for path in data_sets(folder)] == ["a.cif", "b.hkl"]
    with pytest.raises(ReflectionError, match=r"a folder with 2 data sets \(a\.cif, b\.hkl\); give one of them"):
        rephase.read_reflections(folder)
    assert all_data_sets([folder, folder / "b.hkl"]) == [folder / "a.cif", folder / "b.hkl", folder / "model.cif"]
    assert data_sets(tmp_path) == data_sets(folder)


def test_a_folder_without_a_data_set_says_what_it_has(tmp_path):
    for name in ("x.ins", "notes.txt"):
        (tmp_path / name).write_text("")
    with pytest.raises(ReflectionError, match=r"without a data set \(it has: notes\.txt, x\.ins\); expected one"):
        rephase.read_reflections(tmp_path)


def test_several_blocks_of_a_cif_are_asked_about(tmp_path):
    (tmp_path / "x.cif").write_text(cif_of("low") + cif_of("high", factor=10) + "data_empty\n_cell_length_a 1\n")
    with pytest.raises(ReflectionError, match=r"2 data blocks have reflections \(low, high\); choose one .*--block"):
        rephase.read_reflections(tmp_path / "x.cif")
    low, high = (rephase.read_reflections(tmp_path / "x.cif", block=name) for name in ("LOW", "data_high"))
    assert high.intensity == pytest.approx(10 * low.intensity)
    with pytest.raises(ReflectionError, match=r"no data block 'hihg'; did you mean 'high'\?"):
        rephase.read_reflections(tmp_path / "x.cif", block="hihg")
    with pytest.raises(ReflectionError, match="no reflections in this CIF"):
        rephase.read_reflections(tmp_path / "x.cif", block="empty")


def test_bad_input_is_asked_about_on_the_command_line(tmp_path, command):
    """Two data sets in one CIF, a block that does not exist, a folder without a data set, an impossible element."""
    path = tmp_path / "x.cif"
    path.write_text(cif_of("low") + cif_of("high"))
    (tmp_path / "empty").mkdir()
    expected = {
        (path,): "2 data blocks have reflections (low, high); choose one with block= (--block)",
        (path, "--block", "hihg"): "no data block 'hihg'; did you mean 'high'?",
        (path, "--block", "high", "--formula", "C10 Xx2"): "Xx is not an element",
        (
            path,
            "--block",
            "high",
            "--formula",
            "C250",
        ): "the likeliest Z = 1 gives 2.9 Å^3 per atom other than hydrogen and 6.89 g/cm^3",
        (tmp_path / "empty",): "a folder without a data set (it has: nothing)",
    }
    for words, message in expected.items():
        status, _, complaints = command("solve", *words, "--out", tmp_path / "out")
        assert status == 2
        assert message in complaints.splitlines()[-1]


def test_only_a_cif_has_blocks(tmp_path):
    (tmp_path / "x.hkl").write_text(LIST)
    with pytest.raises(ReflectionError, match="only a CIF has data blocks"):
        rephase.read_reflections(tmp_path / "x.hkl", cell=CELL, block="a")


def test_unmerged_reflections_of_a_cif(tmp_path):
    text = cif_of("x", prefix="_diffrn_refln_", value="intensity_net", sigma="intensity_u")
    (tmp_path / "x.cif").write_text(text)
    data = rephase.read_reflections(tmp_path / "x.cif")
    assert data.intensity == pytest.approx(np.abs(HKL).sum(1))
    assert data.sigma == pytest.approx(np.full(len(HKL), 0.5))
    assert (data.wavelength, data.formula, data.has_sigma) == (0.71073, "C9 H10 O", True)


def test_a_list_without_sigma_says_so_and_keeps_it_when_merged(tmp_path):
    (tmp_path / "x.hkl").write_text("\n".join(ROWS))
    with pytest.warns(UserWarning, match="without any σ, a refinement gives all reflections the same weight"):
        data = rephase.read_reflections(tmp_path / "x.hkl", cell=CELL, space_group="P -1")
    assert not data.has_sigma
    assert not data.merge().reflections.has_sigma


@pytest.mark.parametrize(
    ("stated", "radiation"),
    [
        ("_diffrn_radiation_type neutron", "neutron"),
        ("_diffrn_radiation_probe neutron\n_diffrn_radiation_type 'time of flight'", "neutron"),
        ("_diffrn_radiation.probe electron", "electron"),
        ("_diffrn_radiation_type 'Electron, 200 kV'", "electron"),
        ("_exptl.method 'NEUTRON DIFFRACTION'", "neutron"),
        ("_diffrn_radiation_probe x-ray\n_diffrn_radiation_type MoK\\a", ""),
        ("_diffrn_radiation_type 'synchrotron, electron storage ring'", ""),
        ("_diffrn_radiation_probe ?", ""),
    ],
)
def test_radiation_that_is_not_of_x_rays_is_said(tmp_path, recwarn, stated, radiation):
    (tmp_path / "x.cif").write_text(f"{cif_of('x')}\n{stated}\n")
    data = rephase.read_reflections(tmp_path / "x.cif")
    assert data.radiation == radiation
    said = [str(warning.message) for warning in recwarn]
    start = f"x: the file states {radiation} diffraction, but the intensities are treated as those of X-rays"
    assert [message.startswith(start) for message in said] == [True] * bool(radiation)


@pytest.mark.parametrize(
    ("cards", "formula"),
    [
        ("ZERR 4 0 0 0 0 0 0\nSFAC C H O\nUNIT 36 40 4", "C9 H10 O"),
        ("ZERR 4 0 0 0 0 0 0\nSFAC C 2.31 20.8 1.02 10.2 =\n 1.59 0.57 0.87 51.7 0.22 0 0 0 0.7 12\nUNIT 40", "C10"),
        ("ZERR 4 0 0 0 0 0 0\nSFAC C H O\nUNIT 1 1 1", ""),  # the same count for each
        ("ZERR 4 0 0 0 0 0 0\nSFAC C H\nUNIT 2 3", ""),  # 362 Å^3 per carbon atom
        ("ZERR 4 0 0 0 0 0 0\nSFAC C H O\nUNIT 36 40", ""),
        ("SFAC C H O\nUNIT 0 0 0", ""),
        ("SFAC Q H\nUNIT 36 40", ""),
        ("SFAC C H\nUNIT many 40", ""),
    ],
)
def test_the_formula_of_instructions(tmp_path, cards, formula):
    (tmp_path / "x.hkl").write_text(LIST)
    (tmp_path / "x.ins").write_text(f"CELL 0.7 7.1 9.2 11.3 90 101.5 90\nLATT 1\n{cards}\nHKLF 4\n")
    assert rephase.read_reflections(tmp_path / "x.hkl").formula == formula


@pytest.mark.parametrize(
    ("stated", "unknown"), [("C9 H10 Xx O", "Xx"), ("C9H10Xx2Jj1", "Xx, Jj"), ("C9 H10, H2 O", ""), ("Unknown", "")]
)
def test_an_unknown_element_in_the_formula_of_a_file_is_said(tmp_path, recwarn, stated, unknown):
    (tmp_path / "x.cif").write_text(cif_of("x").replace("C9 H10 O", stated))
    (tmp_path / "y.hkl").write_text(LIST)
    (tmp_path / "y.p4p").write_text(P4P.replace("C9 H10 O", stated))
    assert {rephase.read_reflections(tmp_path / name).formula for name in ("x.cif", "y.hkl")} == {""}
    said = [str(warning.message) for warning in recwarn]
    reason = f"the formula '{stated}' is ignored: unknown element {unknown};"
    assert [message.split(" correct")[0] for message in said] == [f"x: {reason}", f"y.p4p: {reason}"] * bool(unknown)


CUBE = Cell(10, 10, 10, 90, 90, 90)


def test_a_formula_that_does_not_fit_says_z_and_density():
    """C250 in 1000 Å^3: 4 Å^3 per atom, and 250 × 12.011 / (1000 × 0.60221) = 4.99 g/cm^3."""
    with pytest.raises(CifError, match=r"likeliest Z = 1 gives 4\.0 Å\^3 per .* and 4\.99 g/cm\^3; expected 10 to 40"):
        check_formula("C250 H0.001", CUBE, find_symmetry("P 1"))
    with pytest.warns(UserWarning, match=r"Z = 1 gives 8\.3 Å\^3 .* 2\.39 g/cm\^3"):
        check_formula("C120", CUBE, find_symmetry("P 1"))
    with pytest.raises(CifError, match="Xx is not an element"):
        check_formula("C10 Xx2", CUBE, find_symmetry("P 1"))


@pytest.mark.parametrize("formula", ["C55", "C14 H10", "H2 O"])
def test_a_formula_that_fits_raises_nothing(formula):
    check_formula(formula, CUBE, find_symmetry("P 1"))
