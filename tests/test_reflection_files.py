"""Every format read and written: round trips, real data, each rejected file by its message, mutated files."""

import subprocess
import sys
import time

import gemmi
import numpy as np
import pytest

import rephase
from rephase.crystal.cell import Cell
from rephase.crystal.map_files import read_density, write_cif, write_density, write_res
from rephase.crystal.peaks import Peaks, assign_elements, find_peaks, parse_formula, site_order, without_noise
from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.files import read_reflections, write_hklf4, write_mtz
from rephase.crystal.reflections.statistics import unique_hkl
from rephase.crystal.shelx import lattice_lines, read_instructions
from rephase.crystal.structures.shelx_atoms import read_sites
from rephase.crystal.symmetry import find_symmetry
from rephase.errors import CifError, GridError, ReflectionError, RephaseError

CELL, GROUP = Cell(7.1, 9.2, 11.3, 90, 101.5, 90), find_symmetry("P 21/n")
INS = (
    "TITL test\nCELL 0.71073 7.1 9.2 11.3 90 101.5 90\nZERR 4 0 0 0 0 0 0\nLATT 1\nSYMM 0.5-X, 1/2+Y, =\n  .5-Z\n"
    "SFAC C H\nUNIT 40 40\nHKLF 4\nEND\n"
)
HEAD = (
    "data_test\n_cell_length_a 7.1(2)\n_cell_length_b 9.2\n_cell_length_c 11.3\n_cell_angle_alpha 90\n"
    "_cell_angle_beta 101.5\n_cell_angle_gamma 90\n_symmetry_space_group_name_H-M 'P 1 21/n 1'\n"
    "_diffrn_radiation_wavelength 1.5418\n"
)
LOOP = "loop_\n_refln_index_h\n_refln_index_k\n_refln_index_l\n"
TAIL = (
    "   0   0   0    0.00    0.00   0\n_exptl_absorpt_process_details 'SADABS 2016/2'\n"
    "_exptl_absorpt_correction_T_max 0.7456\nloop_\n_exptl_crystal_face_index_h\n 1 0 0 0.05\n"
)


@pytest.fixture(scope="module")
def data():
    """Unmerged, with negative intensities, two decimals as in a file."""
    rng = np.random.default_rng(0)
    hkl = np.array([[h, k, l] for h in range(-11, 12, 3) for k in range(-4, 13, 2) for l in range(-14, 0, 4)])
    intensity = np.round(rng.exponential(300, len(hkl)) - 30, 2)
    return Reflections(hkl, intensity, np.round(1 + 0.03 * np.abs(intensity), 2), CELL, GROUP, wavelength=0.71073)


def rows(data, end="\n"):
    return "".join(
        f"{h} {k} {l} {value:.2f} {sigma:.2f}{end}"
        for (h, k, l), value, sigma in zip(data.hkl.tolist(), data.intensity, data.sigma)
    )


def fixed(data, batch="   1"):
    return "".join(
        f"{h:4d}{k:4d}{l:4d}{value:8.2f}{sigma:8.2f}{batch}\n"
        for (h, k, l), value, sigma in zip(data.hkl.tolist(), data.intensity, data.sigma)
    )


def assert_same(found, data, rel=1e-9):
    assert np.array_equal(found.hkl, data.hkl)
    assert found.intensity == pytest.approx(data.intensity, rel=rel)
    assert found.sigma == pytest.approx(data.sigma, rel=rel)
    assert found.cell.parameters == pytest.approx(data.cell.parameters)
    assert set(found.symmetry.triplets) == set(data.symmetry.triplets)


TEXTS = {
    "cod.hkl": lambda data: (
        HEAD
        + LOOP
        + "_refln_F_squared_meas\n_refln_F_squared_sigma\n_refln_observed_status\n"
        + rows(data, " o\n")
        + "1 1 1 999.0 1.0 x\n2 1 1 ? ? o\n"
    ),
    "list4.fcf": lambda data: (
        HEAD
        + LOOP
        + "_refln_F_squared_calc\n_refln_F_squared_meas\n_refln_F_squared_sigma\n"
        + "".join(" ".join([*row.split()[:3], "1.0", *row.split()[3:]]) + "\n" for row in rows(data).splitlines())
    ),
    "net.cif": lambda data: (
        HEAD
        + LOOP.replace("_refln", "_diffrn_refln")
        + "_diffrn_refln_intensity_net\n"
        + "_diffrn_refln_intensity_u\n"
        + rows(data)
    ),
    "macro.cif": lambda data: (
        HEAD.replace("_length_", ".length_").replace("_angle_", ".angle_").replace("_symmetry_", "_symmetry.")
        + (LOOP + "_refln_intensity_meas\n_refln_intensity_sigma\n").replace("_refln_", "_refln.")
        + rows(data)
    ),
    "embedded.cif": lambda data: (
        HEAD
        + "_shelx_res_file\n;\n"
        + INS
        + ";\n_shelx_hkl_file\n;\n"
        + fixed(data)
        + "   0   0   0    0.00    0.00   0\n;\n"
    ),
    "iucr.cif": lambda data: HEAD + "_iucr_refine_reflections_details\n;\n" + fixed(data) + ";\n",
    "list.txt": lambda data: "# h k l I sigma\n" + rows(data) + "0 0 0 0 0\n9 9 9 nonsense\n",
    "shelx.hkl": lambda data: fixed(data) + "   0   0   0    0.00    0.00   0\nTITL after the end\n",
    "sadabs.hkl": lambda data: fixed(data) + TAIL,
    "sadabs.cif": lambda data: (
        HEAD + "_shelx_res_file\n;\n" + INS + ";\n_shelx_hkl_file\n;\n" + fixed(data) + TAIL + ";\n"
    ),
    "commented.cif": lambda data: "\n#" + "-" * 70 + "\n" * 3 + "# a note\r\n" + TEXTS["iucr.cif"](data),
    "touching.hkl": lambda data: fixed(data, "1234").replace("\n", "\r\n"),
}


@pytest.mark.filterwarnings("ignore:.*left out of [0-9]+ rows. 1 .status x")
@pytest.mark.parametrize("name", TEXTS)
def test_every_text_format_is_recognised(name, data, tmp_path):
    (tmp_path / name).write_text(TEXTS[name](data))
    (tmp_path / name).with_suffix(".ins").write_text(INS)
    found = read_reflections(tmp_path / name)
    assert_same(found, data)
    assert found.wavelength == (
        1.5418 if name in ("cod.hkl", "list4.fcf", "net.cif", "macro.cif", "iucr.cif", "commented.cif") else 0.71073
    )


def test_friedel_mates_of_a_cif_are_two_reflections(data, tmp_path):
    tags = "".join(f"_refln.pdbx_I_{mate}\n_refln.pdbx_I_{mate}_sigma\n" for mate in ("plus", "minus"))
    columns = zip(data.hkl.tolist(), data.intensity, data.sigma)
    table = "".join(
        f"{h} {k} {l} {value} {sigma} {value + 7 if h % 2 else '?'} {2 * sigma} 90\n"
        for (h, k, l), value, sigma in columns
    )
    path, has_mate = tmp_path / "x.cif", data.hkl[:, 0] % 2 == 1
    path.write_text(HEAD + LOOP.replace("_refln_", "_refln.") + tags + "_refln.phase_calc\n" + table)
    found = read_reflections(path)
    assert np.array_equal(found.hkl, np.concatenate([data.hkl, -data.hkl[has_mate]]))
    assert found.intensity == pytest.approx(np.concatenate([data.intensity, data.intensity[has_mate] + 7]))
    assert found.sigma == pytest.approx(np.concatenate([data.sigma, 2 * data.sigma[has_mate]]))
    assert found.phi == pytest.approx(np.repeat([np.pi / 2, -np.pi / 2], [len(data), has_mate.sum()]))
    only = read_reflections(path, column="pdbx_I_minus")
    assert np.array_equal(only.hkl, -data.hkl[has_mate])


@pytest.mark.parametrize("written", [fixed, rows])
def test_a_header_of_words_is_left_out_with_a_warning(written, data, tmp_path):
    path = tmp_path / "x.hkl"
    path.write_text("# 1 2 3 4\nSample 7 of May\n h k l  I  sigma\n" + written(data))
    with pytest.warns(UserWarning, match="2 lines of a header are left out, the last is 'h k l  I  sigma'"):
        found = read_reflections(path, cell=CELL, space_group="P 21/n")
    assert_same(found, data)


@pytest.mark.parametrize("law", ["TWIN 0 1 0 1 0 0 0 0 -1 2\nBASF 0.3", "BASF 0.3"])
def test_twins_are_reported(law, data, tmp_path):
    (tmp_path / "x.hkl").write_text(fixed(data))
    (tmp_path / "x.ins").write_text(INS.replace("HKLF 4", f"{law}\nHKLF 4"))
    with pytest.warns(UserWarning, match="x.hkl: .* the crystal is twinned .*TWIN, BASF.*give detwinned data"):
        assert len(read_reflections(tmp_path / "x.hkl")) == len(data)


@pytest.mark.parametrize("law", ["TWIN\nBASF 0.3", "TWIN -1 0 0 0 -1 0 0 0 -1 2"])
def test_twins_by_inversion_are_no_trouble(law, data, tmp_path):
    (tmp_path / "x.hkl").write_text(fixed(data))
    (tmp_path / "x.ins").write_text(INS.replace("HKLF 4", f"{law}\nHKLF 4"))
    assert_same(read_reflections(tmp_path / "x.hkl"), data)


def test_fields_of_fixed_columns_may_touch(data, tmp_path):
    hkl = np.where(data.hkl < 0, data.hkl - 100, data.hkl + 100)
    cell = Cell(70, 90, 110, 90, 101.5, 90)
    big = Reflections(hkl, data.intensity + 90000, data.sigma + 10000, cell, GROUP)
    path = tmp_path / "big.hkl"
    path.write_text(fixed(big, "   2"))
    assert len(path.read_text().split()) < 3.5 * len(big)
    assert_same(read_reflections(path, cell=big.cell, space_group="P 21/n"), big)


@pytest.mark.filterwarnings("ignore:.*left out of [0-9]+ rows. 1 .status x")
def test_what_is_given_goes_before_what_the_file_says(data, tmp_path):
    path = tmp_path / "x.hkl"
    path.write_text(TEXTS["cod.hkl"](data))
    found = read_reflections(path, cell=(8, 9, 10, 90, 90, 90), space_group=19, wavelength=1.0)
    assert (found.cell, found.symmetry.symbol, found.wavelength) == (Cell(8, 9, 10), "P 21 21 21", 1.0)
    assert read_reflections(path, cell=[8, 8, 8, 80, 80, 80], space_group="R -3").symmetry.symbol == "R -3:R"


@pytest.mark.parametrize("written", [fixed, rows])
@pytest.mark.parametrize("end", ["   0   0   0    0.00    0.00   0\n", "0 0 0 9999.0 1.0\n\n", "0 0 0\n" * 2])
def test_reflections_after_the_end_of_a_list_are_counted(written, end, data, tmp_path):
    lines = written(data).splitlines(keepends=True)
    (tmp_path / "x.hkl").write_text("".join(lines[:-7]) + end + "".join(lines[-7:]) + "_a_note 'of words'\n")
    with pytest.warns(UserWarning, match="x.hkl: 7 reflections after the row 0 0 0, .*; delete that row"):
        found = read_reflections(tmp_path / "x.hkl", cell=CELL)
    assert len(found) == len(data) - 7


UNKNOWN = HEAD.replace("'P 1 21/n 1'", "'P 1 21/q 1'")


def test_an_unknown_symbol_gives_way_to_the_number_or_to_what_is_given(data, tmp_path):
    path, list_ = tmp_path / "x.hkl", LOOP + "_refln_F_squared_meas\n_refln_F_squared_sigma\n" + rows(data)
    path.write_text(UNKNOWN + "_symmetry_Int_Tables_number 14\n" + list_)
    with pytest.warns(UserWarning, match="'P 1 21/q 1' of test is not in the tables; '14'"):
        assert read_reflections(path).symmetry.symbol == "P 1 21/c 1"
    path.write_text(UNKNOWN + list_)
    assert_same(read_reflections(path, space_group="P 21/n"), data)
    path.write_text(fixed(data))
    path.with_suffix(".cif").write_text(UNKNOWN)
    assert_same(read_reflections(path, space_group="P 21/n"), data)


@pytest.mark.parametrize(
    ("stated", "symbol"),
    [
        ("_symmetry_space_group_name_H-M 'R -3'", "R -3:R"),
        ("_symmetry_Int_Tables_number 148", "R -3:R"),
        ("_symmetry_equiv_pos_as_xyz 'x,y,z'", "P 1"),
    ],
)
def test_rhombohedral_axes_are_seen_in_the_cell(stated, symbol, data, tmp_path):
    (tmp_path / "x.hkl").write_text(fixed(data))
    cell = "".join(f"_cell_length_{axis} 9.31\n" for axis in "abc")
    cell += "".join(f"_cell_angle_{angle} 69\n" for angle in ("alpha", "beta", "gamma"))
    (tmp_path / "x.cif").write_text(f"data_x\n{cell}{stated}\n")
    assert read_reflections(tmp_path / "x.hkl").symmetry.symbol == symbol


@pytest.mark.parametrize("symbol", ["R -3:H", "R -3 H"])
def test_a_setting_that_is_stated_is_kept(symbol, data, tmp_path):
    (tmp_path / "x.hkl").write_text(fixed(data))
    with pytest.raises(ReflectionError, match="and the space group R -3:H disagree"):
        read_reflections(tmp_path / "x.hkl", cell=[9.31] * 3 + [69] * 3, space_group=symbol)


def test_cell_and_group_come_from_the_cif_beside_the_list(data, tmp_path):
    (tmp_path / "x.hkl").write_text(fixed(data))
    (tmp_path / "x.cif").write_text(HEAD)
    assert_same(read_reflections(tmp_path / "x.hkl"), data)


def test_matrix_and_scale_of_the_instructions_apply(data, tmp_path):
    (tmp_path / "x.hkl").write_text(fixed(data))
    (tmp_path / "x.ins").write_text(INS.replace("HKLF 4", "HKLF 4 2.0 -1 0 0 0 -1 0 0 0 1"))
    found = read_reflections(tmp_path / "x.hkl")
    assert np.array_equal(found.hkl, data.hkl * (-1, -1, 1))
    assert found.intensity == pytest.approx(2 * data.intensity)


def test_amplitudes_become_intensities(data, tmp_path):
    (tmp_path / "x.hkl").write_text(fixed(data))
    (tmp_path / "x.ins").write_text(INS.replace("HKLF 4", "HKLF 3"))
    found = read_reflections(tmp_path / "x.hkl")
    assert found.intensity == pytest.approx(data.intensity * np.abs(data.intensity))
    strong = data.intensity > 200
    assert found.sigma[strong] == pytest.approx((2 * data.intensity * data.sigma)[strong], rel=0.01)


def test_phases_of_list_6_are_read(data, tmp_path):
    path = tmp_path / "x.fcf"
    tags = "_refln_F_squared_meas\n_refln_F_squared_sigma\n_refln_F_calc\n_refln_phase_calc\n"
    path.write_text(HEAD + LOOP + tags + rows(data, " 12.0 270.0\n"))
    found = read_reflections(path)
    assert_same(found, data)
    assert found.phi == pytest.approx(np.full(len(data), -np.pi / 2))
    calculated = read_reflections_quietly(path, column="F_calc")
    assert calculated.intensity == pytest.approx(np.full(len(data), 144.0))


def read_reflections_quietly(path, **options):
    with pytest.warns(UserWarning, match="have no σ above zero"):
        return read_reflections(path, **options)


def test_hklf4_loses_nothing(data, tmp_path):
    assert write_hklf4(tmp_path / "x.hkl", data) == 1
    (tmp_path / "x.ins").write_text(INS)
    assert_same(read_reflections(tmp_path / "x.hkl"), data)
    for factor, largest in ((1e5, 9.99e7), (1e-6, 1e-3)):
        scaled = Reflections(data.hkl, data.intensity * factor, data.sigma * factor, CELL, GROUP)
        scale = write_hklf4(tmp_path / "x.hkl", scaled)
        found = read_reflections(tmp_path / "x.hkl")
        assert found.intensity / scale == pytest.approx(scaled.intensity, rel=1e-3, abs=1e-7 * largest)


def test_hklf4_fills_eight_columns(tmp_path):
    values = {9.5: "  9.5000", -0.25: " -0.2500", 123.4567: " 123.457", -9999.25: "-9999.25", 12345.678: "12345.68"}
    intensity = np.resize(list(values), 40)
    write_hklf4(tmp_path / "x.hkl", Reflections(unique_hkl(CELL, GROUP, 1.0)[:40], intensity, np.ones(40), CELL, GROUP))
    written = [line[12:20] for line in (tmp_path / "x.hkl").read_text().splitlines()[: len(values)]]
    assert written == list(values.values())


@pytest.mark.parametrize("symbol", ["P 21/n", "C 2/c", "A -1", "R 3:R", "P 2 1 1", "F d -3 m:1", "P 1"])
def test_mtz_loses_nothing(symbol, tmp_path):
    group = find_symmetry(symbol)
    cell = Cell(8, 8, 8, 80, 80, 80) if symbol == "R 3:R" else Cell(8, 8, 8)
    hkl = unique_hkl(cell, group, 1.0)
    rng = np.random.default_rng(0)
    amplitude, phi = rng.exponential(20, len(hkl)), rng.uniform(-np.pi, np.pi, len(hkl))
    write_mtz(tmp_path / "x.mtz", hkl, amplitude, phi, rng.random(len(hkl)), cell, group)
    found = read_reflections_quietly(tmp_path / "x.mtz")
    assert np.array_equal(found.hkl, hkl)
    assert found.intensity == pytest.approx(amplitude**2, rel=1e-5)
    assert found.phi == pytest.approx(phi, abs=1e-5)
    assert (found.symmetry.symbol, found.cell.parameters) == (group.symbol, pytest.approx(cell.parameters))
    mtz = gemmi.read_mtz_file(str(tmp_path / "x.mtz"))
    assert mtz.column_labels() == ["H", "K", "L", "F", "PHI", "FOM"]
    assert mtz.column_with_label("PHI").array == pytest.approx(np.degrees(phi), abs=1e-3)


def test_mtz_of_a_group_without_a_name_is_expanded(tmp_path):
    group = find_symmetry(["x,y,z", "-x+1/8,-y+1/8,-z+1/24"])
    assert gemmi.find_spacegroup_by_ops(gemmi.GroupOps([gemmi.Op(t) for t in group.triplets])) is None
    hkl = unique_hkl(CELL, group, 1.5)
    ones = np.ones(len(hkl))
    write_mtz(tmp_path / "x.mtz", hkl, ones, ones, ones, CELL, group)
    found = read_reflections_quietly(tmp_path / "x.mtz")
    assert (found.symmetry.symbol, len(found)) == ("P 1", 2 * len(hkl))


def mtz_of(path, data, columns):
    mtz = gemmi.Mtz(with_base=True)
    mtz.spacegroup = gemmi.SpaceGroup("P 1 21/n 1")
    mtz.add_dataset("x").wavelength = 0.71073
    mtz.set_cell_for_all(gemmi.UnitCell(*data.cell.parameters))
    for label, kind, _ in columns:
        mtz.add_column(label, kind)
    mtz.set_data(np.column_stack([data.hkl, *(values for _, _, values in columns)]).astype(np.float32))
    mtz.write_to_file(str(path))


def test_mtz_columns_are_found_by_type_or_name(data, tmp_path):
    root, path = np.sqrt(np.abs(data.intensity)), tmp_path / "x.mtz"
    mtz_of(
        path,
        data,
        [
            ("FC", "F", root + 1),
            ("FP", "F", root),
            ("SIGFP", "Q", root / 50),
            ("IOBS", "J", data.intensity),
            ("SIGIOBS", "Q", data.sigma),
        ],
    )
    found = read_reflections(path)
    assert_same(found, data, rel=1e-6)
    assert found.wavelength == pytest.approx(0.71073)
    assert read_reflections(path, column="FP").intensity == pytest.approx(root**2, rel=1e-5)
    with pytest.raises(ReflectionError, match="no column 'FOBS'; did you mean 'IOBS'"):
        read_reflections(path, column="FOBS")
    with pytest.raises(ReflectionError, match="column 'SIGFP' has type Q; expected J, K, F or G"):
        read_reflections(path, column="SIGFP")


@pytest.mark.parametrize("labels", ["I F SIGI SIGF", "F SIGI I SIGF", "SIGF SIGI F I"])
def test_sigma_of_an_mtz_is_found_by_name_wherever_it_stands(labels, data, tmp_path):
    path, root = tmp_path / "x.mtz", np.sqrt(np.abs(data.intensity) + 400)
    columns = {"I": ("J", data.intensity), "SIGI": ("Q", data.sigma), "F": ("F", root), "SIGF": ("Q", root / 100)}
    mtz_of(path, data, [(label, *columns[label]) for label in labels.split()])
    assert read_reflections(path, column="I").sigma == pytest.approx(data.sigma, rel=1e-6)
    assert read_reflections(path, column="F").sigma == pytest.approx(root**2 / 50, rel=1e-3)


def test_sigma_of_another_column_is_not_taken(data, tmp_path):
    mtz_of(tmp_path / "x.mtz", data, [("I", "J", data.intensity), ("F", "F", data.sigma), ("SIGI", "Q", data.sigma)])
    assert not read_reflections_quietly(tmp_path / "x.mtz", column="F").has_sigma


def test_sigmas_of_friedel_mates_are_found_by_name(data, tmp_path):
    mtz_of(
        tmp_path / "x.mtz",
        data,
        [
            ("I(+)", "K", data.intensity),
            ("I(-)", "K", data.intensity),
            ("SIGI(+)", "M", data.sigma),
            ("SIGI(-)", "M", 2 * data.sigma),
        ],
    )
    sigma = read_reflections(tmp_path / "x.mtz").sigma
    assert sigma == pytest.approx(np.concatenate([data.sigma, 2 * data.sigma]), rel=1e-6)


def test_friedel_mates_of_an_mtz_are_two_reflections(data, tmp_path):
    path, half = tmp_path / "x.mtz", np.where(np.arange(len(data)) % 2, data.intensity / 2, np.nan)
    mtz_of(
        path,
        data,
        [
            ("I(+)", "K", data.intensity),
            ("SIGI(+)", "M", data.sigma),
            ("I(-)", "K", half),
            ("SIGI(-)", "M", data.sigma),
        ],
    )
    found = read_reflections(path)
    assert len(found) == len(data) + np.isfinite(half).sum()
    assert np.array_equal(found.hkl[len(data) :], -data.hkl[np.isfinite(half)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no reflections; expected lines of h k l I σ"),
        ("1 2 3\n" * 40, r"'1 2 3': 3 columns; expected at least four: h k l I"),
        ("1 2 3 4.0 1.0\n" * 40 + "1 2 x 4.0 1.0\n", r"could not convert string 'x' to float64 at row 40"),
        ("1 2 3 4.0 1.0\n" * 40 + "1 2 3 4.0\n", r"row 41|requested column|columns"),
        ("TITL 1 2 3 4\n" + "1 2 3 4.0 1.0\n" * 40, "could not convert string 'TITL' to float64 at row 0"),
        ("h k l I sigma\n", "no reflections; expected lines of h k l I σ"),
        ("1 2 3 nan 1.0\n" * 40, r"'1 2 3 nan 1.0': expected finite"),
        ("0 0 0 9999.0 1.0\n" + "1 2 3 4.0 1.0\n" * 40, "0 0 0 in row 1 ends an HKLF 4 list; leave F.000. out"),
        ("# h k l\n0 0 0 9999.0 1.0\n" + "1 2 3 4.0 1.0\n" * 40, "0 0 0 in row 1 ends an HKLF 4 list"),
        ("1 2 3 4.0 1.0\n" * 20, "20 reflections: expected at least 30"),
        ("1 2 3 0.0 1.0\n" * 40, "no intensity is above 0"),
        ("1 2 3 -4.0 1.0\n" * 40, "no intensity is above 0"),
        ("1 2 3333 4.0 1.0\n" * 40, "expected three integers from -1000 to 1000"),
        ("   1   2   3    4.00    1.00  -1\n" * 40, "HKLF 5 .* is not supported"),
        ("\x00\x01\x02" * 500, "a binary file, but no MTZ"),
        (HEAD + LOOP + "_refln_F_squared_meas\n1 2 3\n", "not a complete CIF .*Wrong number of values"),
        (HEAD + LOOP + "_refln_F_squared_meas\n" + "1 2 3 abc\n" * 40, "_refln_F_squared_meas = 'abc' in row 1"),
        (HEAD + LOOP + "_refln_F_squared_meas\n" + "1 2 3 NaN\n" * 40, "_refln_F_squared_meas = 'NaN' in row 1"),
        (HEAD + LOOP + "_refln_F_squared_calc\n" + "1 2 3 4.0\n" * 40, "no measured column among index_h"),
        (HEAD + LOOP.replace("index_l", "index_m") + "_refln_F_meas\n" + "1 2 3 4\n" * 40, "no column _refln_index_l"),
        (HEAD, "no reflections in this CIF"),
        (HEAD.replace("'P 1 21/n 1'", "'P 1 21/q 1'") + LOOP + "_refln_F_meas\n1 2 3 4\n", "not in the tables"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*have no σ above zero:UserWarning")
def test_lists_that_make_no_sense_are_refused(text, message, tmp_path):
    (tmp_path / "x.hkl").write_text(text)
    with pytest.raises(RephaseError, match=message):
        read_reflections(tmp_path / "x.hkl", cell=CELL)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"no cell in the file or beside it; give cell=.*\(--cell\)"),
        ({"cell": (1, 2, 3)}, r"cell = \(1, 2, 3\): expected six numbers"),
        ({"cell": (7, 9, 11, 80, 100, 90), "space_group": "P 21/c"}, r"the cell .* disagree"),
        ({"cell": CELL, "space_group": "P 21/q"}, "not in the tables"),
        ({"cell": CELL, "space_group": "0"}, "space group 0 is not in the tables"),
        ({"cell": CELL, "column": "I"}, "the columns of this file have no names"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message, data, tmp_path):
    (tmp_path / "x.hkl").write_text(rows(data))
    with pytest.raises(RephaseError, match=message):
        read_reflections(tmp_path / "x.hkl", **options)


@pytest.mark.parametrize(
    ("ins", "message"),
    [
        (INS.replace("HKLF 4", "HKLF 5"), "HKLF 5 .* is not supported; write HKLF 4"),
        (INS.replace("HKLF 4", "HKLF 2"), "HKLF 2 is not supported"),
        (INS.replace("LATT 1", "LATT 9"), "LATT 9: expected ±1 to ±7"),
        (INS.replace("7.1 9.2", "a b"), "could not convert"),
        (INS.replace(" 101.5 90", ""), "expected 7 numbers, received 5"),
        (INS.replace("1/2+Y", "1/5+Y"), "SYMM: .* expected e.g. 'SYMM -X"),
    ],
)
def test_instructions_that_make_no_sense_are_refused(ins, message, data, tmp_path):
    (tmp_path / "x.hkl").write_text(fixed(data))
    (tmp_path / "x.ins").write_text(ins)
    with pytest.raises(ReflectionError, match=message):
        read_reflections(tmp_path / "x.hkl")


def test_missing_files_and_broken_mtz_are_refused(data, tmp_path):
    with pytest.raises(ReflectionError, match="cannot be read"):
        read_reflections(tmp_path / "none.hkl")
    mtz_of(tmp_path / "x.mtz", data, [("M", "I", data.sigma)])
    with pytest.raises(ReflectionError, match="no intensities or amplitudes among the columns H, K, L, M"):
        read_reflections(tmp_path / "x.mtz")
    (tmp_path / "x.mtz").write_bytes((tmp_path / "x.mtz").read_bytes()[:500])
    with pytest.raises(ReflectionError, match="not a complete MTZ file"):
        read_reflections(tmp_path / "x.mtz")


def test_an_mtz_with_a_damaged_count_of_columns_is_refused(data, tmp_path):
    mtz_of(tmp_path / "x.mtz", data, [("I", "J", data.intensity)])
    content = (tmp_path / "x.mtz").read_bytes()
    place = content.index(b"NCOL")
    (tmp_path / "x.mtz").write_bytes(content[: place + 5] + b" " * 75 + content[place + 80 :])
    with pytest.raises(ReflectionError, match="not a complete MTZ file"):
        read_reflections(tmp_path / "x.mtz")


def test_a_binary_file_is_named_as_such(tmp_path):
    (tmp_path / "x.hkl").write_bytes(bytes(range(256)))
    with pytest.raises(ReflectionError, match="a binary file, but no MTZ"):
        read_reflections(tmp_path / "x.hkl", cell=CELL)


def test_real_measurements_are_read(cod_file):
    for name, n, d_min in (("2012000", 2481, 0.7704), ("2200000", 1269, 0.8409)):
        found = read_reflections(cod_file(f"{name}.hkl"))
        assert (len(found), found.symmetry.symbol) == (n, "P 1 21 1")
        assert found.d_min == pytest.approx(d_min, abs=1e-4)
        merged = found.merge()
        assert (len(merged.reflections), merged.n_absent) == (n, 0)
        amplitude, _ = merged.reflections.amplitudes()
        crystal = rephase.read_crystal(cod_file(f"{name}.cif"))
        calculated = np.abs(rephase.structure_factors(crystal, merged.reflections.hkl, energy_kev=17.44))
        assert np.corrcoef(amplitude, calculated)[0, 1] > 0.97


def test_a_million_reflections_are_read_in_two_gigabytes(tmp_path):
    script = """
import resource, sys, numpy as np
resource.setrlimit(resource.RLIMIT_DATA, (2 << 30, 2 << 30))
from rephase.crystal.reflections.files import read_reflections
line = b"%4d%4d%4d  123.45    1.25\\n"
table = np.array([line % (h, k, l) for h in range(-50, 50) for k in range(100) for l in range(1, 101)])
open(sys.argv[1], "wb").write(table.tobytes())
data = read_reflections(sys.argv[1], cell=(60, 60, 60, 90, 90, 90), space_group="P 21 21 21")
print(len(data), len(data.merge().reflections), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 2 << 20)
"""
    command = [sys.executable, "-c", script, str(tmp_path / "big.hkl")]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.stdout.split() == ["1000000", "509950", "True"], found.stderr


@pytest.mark.parametrize("text", ["\n" * 200_000, "_a" * 100_000, " " * 200_000, "0 " * 100_000, "=\n" * 100_000])
def test_no_text_takes_long(text, tmp_path):
    (tmp_path / "x.hkl").write_text(text)
    (tmp_path / "x.ins").write_text(text)
    start = time.perf_counter()
    with pytest.raises(ReflectionError):
        read_reflections(tmp_path / "x.hkl", cell=CELL)
    assert time.perf_counter() - start < 2


# Maps and peaks


def gaussians(xyz, weights, cell, shape):
    grid = np.indices(shape).reshape(3, -1).T / shape
    density = np.zeros(len(grid))
    for centre, weight in zip(xyz, weights):
        step = (grid - centre + 0.5) % 1.0 - 0.5
        density += weight * np.exp(-(np.linalg.norm(step @ cell.orthogonalisation.T, axis=1) ** 2) / 0.3)
    return density.reshape(shape)


@pytest.fixture(scope="module")
def peaked():
    """Three atoms in P 21/n, one of them on the centre, and their map."""
    sites = np.array([[0.5, 0.0, 0.5], [0.12, 0.23, 0.31], [0.35, 0.41, 0.78]])
    images = [np.unique(np.round((GROUP.rotations @ xyz + GROUP.translations) % 1.0, 6), axis=0) for xyz in sites]
    weights = np.repeat([20.0, 8.0, 6.0], [len(image) for image in images])
    return sites, gaussians(np.concatenate(images), weights, CELL, (36, 46, 56))


def nearest(sites, peaks):
    images = np.einsum("oij,nj->noi", GROUP.rotations, peaks.xyz_frac) + GROUP.translations
    steps = images - sites[:, None]
    return np.linalg.norm((steps - np.rint(steps)) @ CELL.orthogonalisation.T, axis=-1).min(1)


def test_peaks_are_found_once_and_between_the_points(peaked):
    sites, density = peaked
    peaks = find_peaks(density, CELL, GROUP, 10)
    assert len(peaks.height) == 3
    assert peaks.height == pytest.approx([20, 8, 6], rel=0.02)
    assert nearest(sites, peaks).max() < 0.02
    assert site_order(peaks.xyz_frac, CELL, GROUP).tolist() == [2, 1, 1]
    assert peaks.elements == ("Q", "Q", "Q")
    assert len(find_peaks(density, CELL, GROUP, 2).height) == 2


def test_peaks_of_the_noise_are_left_out(peaked):
    _, density = peaked
    noisy = density + np.random.default_rng(0).normal(size=density.shape)
    heavy = noisy + 10 * density * (density > 10)  # raises σ of the whole map above the light atoms
    assert heavy.std() > 3
    for noise in (noisy, heavy):
        peaks = find_peaks(noise, CELL, GROUP, 2000)
        kept = without_noise(peaks, noise)
        assert kept.height.min() > 2.9
        assert len(kept.height) < len(peaks.height) / 3
        assert np.array_equal(kept.xyz_frac, peaks.xyz_frac[: len(kept.height)])


def test_peaks_of_an_empty_map_are_none():
    assert len(find_peaks(np.zeros((4, 4, 4)), CELL, GROUP, 5).height) == 0
    for wrong in (np.zeros((4, 4)), np.zeros((2, 4, 4)), np.full((4, 4, 4), np.nan)):
        with pytest.raises(GridError, match="expected a finite map"):
            find_peaks(wrong, CELL, GROUP, 5)


def test_elements_go_to_the_highest_peaks():
    """Fe on the centre counts for half a formula unit: two Fe and 40 others in 720 Å^3."""
    xyz = np.vstack([[0.5, 0, 0.5], np.random.default_rng(1).uniform(0.05, 0.2, (14, 3))])
    peaks = Peaks(xyz, np.arange(15, 0, -1.0), ("Q",) * 15)
    found = assign_elements(peaks, "C18 H20 O2 Fe", GROUP, CELL)
    assert found.elements == ("Fe", "O", *["C"] * 9, *["Q"] * 4)


@pytest.mark.parametrize(
    "formula", ["", "C20 Xx2", "20", "c6h6", "C6 H6 __import__", "C0", "C6 H0", "C0.0 H2", "C" + "9" * 400]
)
def test_formulas_that_make_no_sense_are_refused(formula):
    with pytest.raises(CifError, match="expected element symbols and counts"):
        parse_formula(formula)


def test_density_comes_back(peaked, tmp_path):
    write_density(tmp_path / "x.ccp4", peaked[1], CELL, GROUP)
    found = read_density(tmp_path / "x.ccp4")
    assert found.density == pytest.approx(peaked[1], rel=1e-6)
    assert found.cell.parameters == pytest.approx(CELL.parameters)
    assert found.symmetry.symbol == "P 1 21/n 1"
    (tmp_path / "x.ccp4").write_bytes((tmp_path / "x.ccp4").read_bytes()[:3000])
    with pytest.raises(GridError, match="not a complete CCP4 map"):
        read_density(tmp_path / "x.ccp4")


PEAKS = Peaks(
    np.array([[0.5, 0, 0.5], [0.12, 0.23, 0.31], [0.35, 0.41, 0.78]]), np.array([20.0, 8, 6.25]), ("Fe", "C", "Q")
)


def test_res_comes_back(tmp_path):
    write_res(tmp_path / "x.res", CELL, GROUP, PEAKS, wavelength=1.5418, formula="C18 H20 O2 Fe", title="a\ntest")
    text = (tmp_path / "x.res").read_text()
    found = read_instructions(text, name="x.res")
    assert (found.cell, found.wavelength, found.hklf) == (CELL, 1.5418, 4)
    assert set(found.symmetry.triplets) == set(GROUP.triplets)
    lines = text.splitlines()
    assert lines[0] == "TITL a test in P 1 21/n 1"
    assert "SFAC C H O Fe" in lines
    assert "UNIT 36 40 4 2" in lines
    atoms = {line.split()[0]: line.split()[1:] for line in lines[lines.index("FVAR 1.0") + 1 : lines.index("HKLF 4")]}
    assert atoms["Fe1"] == ["4", "0.500000", "0.000000", "0.500000", "10.50000", "0.05000"]
    assert lines[-2:] == ["END", "Q1   1 0.350000 0.410000 0.780000 11.00000 0.05000 6.25"]
    assert max(map(len, lines)) <= 80


def test_res_without_a_formula_counts_its_atoms(tmp_path):
    write_res(tmp_path / "x.res", CELL, GROUP, PEAKS)
    text = (tmp_path / "x.res").read_text()
    assert "SFAC Fe C\nUNIT 2 8\n" in text
    assert "CELL 0.71073 " in text


def test_special_positions_determine_z_of_a_formula(tmp_path):
    """Na2MoO4 as a spinel: 8 Mo, 16 Na and 32 O; the volume alone would suggest Z = 6."""
    cell, xyz = Cell(9.109, 9.109, 9.109), np.array([[1 / 8] * 3, [1 / 2] * 3, [0.262] * 3])
    peaks = Peaks(xyz, np.array([3.0, 2.0, 1.0]), ("Mo", "Na", "O"))
    write_res(tmp_path / "x.res", cell, find_symmetry("F d -3 m:2"), peaks, formula="Mo Na2 O4")
    lines = (tmp_path / "x.res").read_text().splitlines()
    assert {"ZERR 8 0.00000 0.00000 0.00000 0.0000 0.0000 0.0000", "UNIT 8 16 32"} < set(lines)


def test_labels_of_many_atoms_differ(tmp_path):
    elements = ("C",) * 1100 + ("Cl",) * 120
    xyz = np.random.default_rng(0).random((len(elements), 3))
    write_res(tmp_path / "x.res", CELL, find_symmetry("P 1"), Peaks(xyz, np.ones(len(xyz)), elements))
    labels = [site.label for site in read_sites((tmp_path / "x.res").read_text(), name="x")]
    assert len(set(labels)) == len(elements)
    assert max(map(len, labels)) == 4
    assert {"C1", "C999", "CA00", "Cl99", "ClA0"} <= set(labels)


def test_every_setting_of_the_tables_survives_latt_and_symm():
    for group in gemmi.spacegroup_table():
        symmetry = find_symmetry(group.xhm())
        lines = "\n".join(["CELL 1 10 10 10 90 90 90", *lattice_lines(symmetry), "HKLF 4"])
        found = read_instructions(lines, name="x").symmetry
        assert {gemmi.Op(t).wrap() for t in found.triplets} == {gemmi.Op(t).wrap() for t in symmetry.triplets}, group


@pytest.mark.parametrize(
    ("symbol", "latt"),
    [("P -1", 1), ("P 21/c", 1), ("P 21 21 21", -1), ("C 2/c", 7), ("I 41/a:2", 2), ("I 41/a:1", -2), ("R 3:H", -3)],
)
def test_latt_is_positive_where_the_centre_is_at_the_origin(symbol, latt):
    assert lattice_lines(find_symmetry(symbol))[0] == f"LATT {latt}"


def test_cif_comes_back(tmp_path):
    write_cif(tmp_path / "x.cif", CELL, GROUP, PEAKS, title="found peaks")
    crystal = rephase.read_crystal(tmp_path / "x.cif")
    assert (crystal.name, crystal.cell, crystal.space_group) == ("found_peaks", CELL, "P 1 21/n 1")
    assert crystal.asymmetric_unit.elements == ("Fe", "C", "C")
    assert crystal.asymmetric_unit.xyz_frac == pytest.approx(PEAKS.xyz_frac)
    assert crystal.formula == "Fe2 C8"
