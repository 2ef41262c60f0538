"""Lists as strangers write them: columns that touch, twins, satellites, placeholders, lists of other programs."""

import gzip
import warnings

import gemmi
import numpy as np
import pytest

from rephase.crystal.cell import Cell
from rephase.crystal.decimal_numbers import decimal_numbers
from rephase.crystal.reflections.files import read_reflections, write_mtz
from rephase.crystal.reflections.names import column_roles
from rephase.crystal.reflections.phase_lists import read_phases
from rephase.crystal.reflections.statistics import unique_hkl
from rephase.crystal.symmetry import find_symmetry
from rephase.errors import ReflectionError, RephaseError

CELL, GROUP = (7.1, 9.2, 11.3, 90, 101.5, 90), "P 1 21/n 1"
HKL = np.array([[h, k, l] for h in range(-3, 4) for k in range(3) for l in range(1, 4)])
INTENSITY = np.round(np.random.default_rng(0).exponential(300, len(HKL)) - 20, 2)
SIGMA = np.round(1 + 0.03 * np.abs(INTENSITY), 2)
INS = "TITL x\nCELL 0.71073 7.1 9.2 11.3 90 101.5 90\nLATT 1\nSYMM 0.5-X, 1/2+Y, .5-Z\nSFAC C\nUNIT 4\nHKLF 4\nEND\n"
OPTIONS = {"cell": CELL, "space_group": GROUP}


def lines(pattern="{h} {k} {l} {I:.2f} {s:.2f}", intensity=INTENSITY, sigma=SIGMA):
    """One line for each reflection; n is its number."""
    return [
        pattern.format(h=h, k=k, l=l, I=value, s=s, n=n)
        for n, ((h, k, l), value, s) in enumerate(zip(HKL.tolist(), intensity, sigma))
    ]


def read(tmp_path, content, name="x.hkl", **options):
    content = "\n".join(content) + "\n" if isinstance(content, list) else content
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_reflections(tmp_path / name, **options or OPTIONS)


def assert_read(found, intensity=INTENSITY, sigma=SIGMA, hkl=HKL):
    assert np.array_equal(found.hkl, hkl)
    assert found.intensity == pytest.approx(intensity)
    assert found.sigma == pytest.approx(sigma)


# Free against fixed columns

FIXED = "{h:4d}{k:4d}{l:4d}{I:8.2f}{s:8.2f}"


def eight(value):
    """A number in eight columns as SHELX writes it: without decimals where they do not fit."""
    return f"{value:8.2f}" if value < 1e5 else f"{value:8.0f}"


@pytest.mark.parametrize("batch", ["", "   1", "  12"])
@pytest.mark.parametrize("factor", [1, 50, 400, 3000])
def test_intensities_and_sigmas_that_touch_are_separated(factor, batch, tmp_path):
    intensity, sigma = np.abs(np.round(INTENSITY * factor, 0)), np.round(10000 + SIGMA * factor, 2)
    written = [
        f"{h:4d}{k:4d}{l:4d}{eight(value)}{eight(s)}{batch}"
        for (h, k, l), value, s in zip(HKL.tolist(), intensity, sigma)
    ]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*fields touch in every line.*", UserWarning)
        found = read(tmp_path, written)
    assert_read(found, intensity, np.where(sigma < 1e5, sigma, np.rint(sigma)))


def test_one_line_that_reads_otherwise_does_not_decide(tmp_path):
    written = lines(FIXED + "   1")
    written[5] = f"{-3:4d}{1:4d}{3:4d}{'  255848'}{'10904.18'}   1"
    found = read(tmp_path, written)
    assert (found.intensity[5], found.sigma[5]) == (255848, 10904.18)


def test_two_readings_are_reported(tmp_path):
    written = [f"{h:4d}{k:4d}{l:4d}  25584810904.18   1" for h, k, l in HKL.tolist()]
    with pytest.warns(
        UserWarning, match="fields touch in every line; .* is read in fixed columns .* I = 255848, σ = 10904"
    ):
        assert read(tmp_path, written).sigma[0] == 10904.18


@pytest.mark.parametrize(
    "pattern",
    [
        "{h:5d}{k:5d}{l:5d}{I:10.2f}{s:10.2f}",
        "{h} {k} {l} {I:.2f} {s:.2f} 1",
        "{h}\t{k}\t{l}\t{I:.2f}\t{s:.2f}",
        "{h:4d}{k:4d}{l:4d}{I:9.3f}{s:9.3f}",
        "{h:4d}{k:4d}{l:4d}{I:12.4f}{s:8.2f}",
        "{h:3d}{k:3d}{l:3d} {I:.2f} {s:.2f} 7",
        "{h:4d}{k:4d}{l:4d}{I:8.2f}{s:8.2f}   1 0.12345-0.98765",
        "{h:4d}{k:4d}{l:4d} {I:.3E} {s:.3E}",
        "{h} {k} {l} {I:.5f}D+00 {s:.5f}d0",
    ],
)
def test_lists_with_spaces_are_read(pattern, tmp_path):
    found = read(tmp_path, lines(pattern))
    assert np.array_equal(found.hkl, HKL)
    assert found.intensity == pytest.approx(INTENSITY, rel=1e-3)
    assert found.sigma == pytest.approx(SIGMA, rel=1e-3)


def test_intensities_in_wide_columns_without_sigma_are_no_fixed_columns(tmp_path):
    with pytest.warns(UserWarning, match="have no σ above zero"):
        found = read(tmp_path, lines("{h:4d}{k:4d}{l:4d}{I:12.3f}"))
    assert found.intensity == pytest.approx(INTENSITY)


def test_lines_of_unequal_length_are_refused(tmp_path):
    written = lines("{h:5d}{k:5d}{l:5d}{I:10.2f} {s:.2f} 1")
    written[3] = "   -3    1    1    255.48107.10 1"
    with pytest.raises(
        ReflectionError, match=r"lines of 5 to 6 columns, for instance '-3    1    1    255.48107.10 1'"
    ):
        read(tmp_path, written)


def test_a_sixth_column_that_is_unknown_is_reported(tmp_path):
    with pytest.warns(
        UserWarning, match="'-3 0 1 .* 0.5' has more than h k l I σ; the columns from the sixth on are not"
    ):
        assert_read(read(tmp_path, lines("{h} {k} {l} {I:.2f} {s:.2f} 0.5")))


# Twins and flags


@pytest.mark.parametrize("pattern", ["{h} {k} {l} {I:.2f} {s:.2f} ", FIXED])
@pytest.mark.parametrize("batches", [("  -2", "   1"), ("  -1", "   2"), ("  -1", "   1")])
def test_overlapping_reflections_of_a_twin_are_refused(batches, pattern, tmp_path):
    written = [line + batch for line in lines(pattern) for batch in batches]
    with pytest.raises(ReflectionError, match="HKLF 5 .overlapping reflections of a twin. is not supported"):
        read(tmp_path, written)


@pytest.mark.parametrize("pattern", ["{h} {k} {l} {I:.2f} {s:.2f} ", FIXED])
@pytest.mark.parametrize("has_ins", [True, False])
def test_flags_of_the_free_set_are_no_twin(has_ins, pattern, tmp_path):
    if has_ins:
        (tmp_path / "x.ins").write_text(INS)
    written = [line + ("  -1" if n % 9 == 0 else "   1") for n, line in enumerate(lines(pattern))]
    assert_read(read(tmp_path, written))


# Satellites


@pytest.mark.parametrize("pattern", ["{h} {k} {l} m {I:.2f} {s:.2f}", "{h:4d}{k:4d}{l:4d}   m{I:8.2f}{s:8.2f}"])
@pytest.mark.parametrize("header", [[], ["h k l m I sigma"]])
def test_satellites_of_a_list_are_left_out(header, pattern, tmp_path):
    written = [line.replace("m", str(m)) for line in lines(pattern) for m in (0, 1)]
    with pytest.warns(UserWarning, match="x: left out of 126 rows: 63 .satellites of a modulated crystal"):
        assert_read(read(tmp_path, header + written))


def test_satellites_with_integers_are_no_batches(tmp_path):
    intensity, sigma = np.rint(INTENSITY) + 100, np.rint(SIGMA)
    written = [
        f"{line} {m} {value:.0f} {s:.0f}"
        for line, value, s in zip(lines("{h} {k} {l}"), intensity, sigma)
        for m in (0, 1)
    ]
    with pytest.warns(UserWarning, match="63 .satellites"):
        assert_read(read(tmp_path, written), intensity, sigma)
    assert_read(read(tmp_path, lines("{h} {k} {l} {I:.0f} {s:.0f} 1", intensity, sigma)), intensity, sigma)


def cif(columns, rows, *, prefix="_refln_", before=""):
    return "\n".join(["data_x", before, "loop_", *(f"{prefix}{label}" for label in columns.split()), *rows]) + "\n"


@pytest.mark.parametrize("labels", ["index_m_1", "index_m_1 index_m_2", "index_m"])
def test_satellites_of_a_cif_are_left_out(labels, tmp_path):
    orders = [" ".join([str(m), "0"][: len(labels.split())]) for m in (0, 1, -1)]
    rows = [f"{line} {order}" for line in lines() for order in orders]
    with pytest.warns(UserWarning, match="left out of 189 rows: 126 .satellites"):
        assert_read(read(tmp_path, cif(f"index_h index_k index_l F_squared_meas F_squared_sigma {labels}", rows)))


# Rows that are no measurements


@pytest.mark.parametrize(
    ("value", "sigma", "why"),
    [
        (-1, -1, "placeholders"),
        (-1, 0, "placeholders"),
        (0, 0, "placeholders"),
        (-99, -99, "placeholders"),
        (-99.99, 1, "placeholders"),
        (-999, 999, "placeholders"),
        (999, 9999, "placeholders"),
        (0, 9999, "placeholders"),
        (-9999, -9999, "placeholders"),
        (0, -1, "placeholders"),
        (8539.1, -13.49, "σ below 0"),
    ],
)
@pytest.mark.parametrize("pattern", ["{h} {k} {l} {I:.2f} {s:.2f}", FIXED])
def test_rows_that_were_not_measured_are_left_out_and_counted(pattern, value, sigma, why, tmp_path):
    is_bad = np.arange(len(HKL)) % 4 == 1
    rows = lines(pattern, *(np.where(is_bad, bad, good) for bad, good in ((value, INTENSITY), (sigma, SIGMA))))
    with pytest.warns(UserWarning, match=f"left out of 63 rows: {is_bad.sum()} .{why}"):
        found = read(tmp_path, rows)
    assert_read(found, INTENSITY[~is_bad], SIGMA[~is_bad], HKL[~is_bad])


def test_a_measurement_of_999_is_kept(tmp_path):
    intensity = np.where(np.arange(len(HKL)) == 7, 999.0, np.where(np.arange(len(HKL)) == 9, -1.0, INTENSITY))
    assert_read(read(tmp_path, lines(intensity=intensity)), intensity)


def test_negative_sigmas_in_a_list_that_has_no_others_are_no_marks(tmp_path):
    with pytest.warns(UserWarning, match="63 of 63 reflections have no σ above zero"):
        found = read(tmp_path, lines(intensity=np.abs(INTENSITY), sigma=np.full(len(HKL), -5.0)))
    assert found.intensity == pytest.approx(np.abs(INTENSITY))


def test_rejected_amplitudes_are_left_out(tmp_path):
    rows = lines(intensity=np.abs(INTENSITY), sigma=np.where(np.arange(len(HKL)) < 3, -SIGMA, SIGMA))
    with pytest.warns(UserWarning, match="3 .σ below 0"):
        found = read(tmp_path, cif("index_h index_k index_l F_meas F_meas_sigma", rows))
    assert found.intensity == pytest.approx(INTENSITY[3:] ** 2)


# Columns of a CIF


def test_the_first_column_that_is_not_empty_is_read(tmp_path):
    empty = {"F_squared_meas F_squared_sigma": "? ?", "intensity_meas intensity_sigma": ". .", "pdbx_I_plus": "0.0"}
    rows = [line + " " + " ".join(empty.values()) for line in lines()]
    found = read(tmp_path, cif(f"index_h index_k index_l F_meas_au F_meas_sigma_au {' '.join(empty)}", rows))
    assert found.intensity == pytest.approx(INTENSITY * np.abs(INTENSITY))


def test_capitals_and_dots_of_tags_do_not_matter(tmp_path):
    text = cif("index_h index_k index_l f_squared_MEAS F_SQUARED_sigma", lines(), prefix="_REFLN.")
    assert_read(read(tmp_path, text))


def bracketed(value, sigma):
    return f"{value:.2f}({round(sigma * 100)})"


@pytest.mark.parametrize(
    "written",
    [
        bracketed,
        lambda value, sigma: bracketed(value, sigma) + "e0",
        lambda value, sigma: f"{value:.2f}({sigma:.2f})",
        lambda value, sigma: f"{value / 100:.4f}e2({round(sigma * 100)})",
    ],
    ids=["12.3(4)", "12.3(4)e0", "12.3(0.4)", "0.123e2(4)"],
)
@pytest.mark.parametrize("empty", ["", " ?"])
def test_the_uncertainty_in_brackets_is_sigma(empty, written, tmp_path):
    rows = [f"{h} {k} {l} {written(value, s)}{empty}" for (h, k, l), value, s in zip(HKL.tolist(), INTENSITY, SIGMA)]
    columns = "index_h index_k index_l F_squared_meas" + (" F_squared_sigma" if empty else "")
    assert_read(read(tmp_path, cif(columns, rows)))


def test_a_column_of_another_loop_is_not_read(tmp_path):
    text = cif("index_h index_k index_l F_squared_meas F_squared_sigma", lines())
    with pytest.warns(UserWarning, match="given twice, of which the first is used: _refln_index_k in line 7"):
        found = read(tmp_path, text.replace("loop_", "loop_\n_refln_index_k\n8\n9\nloop_", 1))
    assert_read(found)
    with pytest.raises(ReflectionError, match="no reflections in this CIF; expected a loop"):
        read(tmp_path, cif("index_h index_k index_l F_squared_meas", []))


def test_a_twin_and_a_model_in_cif_are_named(tmp_path):
    with pytest.raises(ReflectionError, match="of a twin .the loop _twin_refln_.*give detwinned data"):
        read(tmp_path, cif("index_h index_k index_l F_squared_meas F_squared_sigma", lines(), prefix="_twin_refln_"))
    with pytest.raises(ReflectionError, match="no reflections in this CIF, only a structure; expected a loop"):
        read(tmp_path, "data_x\nloop_\n_atom_site.Cartn_x\n1.0\n")


def test_a_cell_that_is_impossible_gives_way_to_the_one_that_is_given(tmp_path):
    cell = "".join(f"_cell_length_{axis} 0\n" for axis in "abc")
    cell += "".join(f"_cell_angle_{angle} 90\n" for angle in ("alpha", "beta", "gamma"))
    text = cif("index_h index_k index_l F_squared_meas F_squared_sigma", lines(), before=cell)
    with pytest.warns(UserWarning, match="the cell in the file is not read: cell length a = 0"):
        assert_read(read(tmp_path, text))


# Encodings and neighbours

TEXT = "\n".join(lines(FIXED + "   1")) + "\n"
CIF = cif("index_h index_k index_l F_squared_meas F_squared_sigma", lines(), before="_publ_author_name 'Müller'")


@pytest.mark.parametrize("text", [TEXT, CIF])
@pytest.mark.parametrize(
    "encoded",
    [
        lambda text: text.replace("\n", "\r\n").encode("utf-8-sig"),
        lambda text: text.encode("utf-16"),
        lambda text: text.encode("latin-1"),
        lambda text: text.replace("\n", "\r").encode(),
        lambda text: gzip.compress(text.encode()),
    ],
    ids=["byte order mark", "UTF-16", "Latin-1", "CR", "gzip"],
)
def test_every_encoding_is_read(encoded, text, tmp_path):
    assert_read(read(tmp_path, encoded(text)))


@pytest.mark.parametrize(
    ("name", "neighbour", "packed"),
    [
        ("SAMPLE.HKL", "SAMPLE.INS", False),
        ("sample.hkl", "SAMPLE.RES", False),
        ("x.hkl", "x.ins", True),
        ("x.hkl.gz", "x.ins", False),
        ("x.HKL", "X.Res.GZ", True),
    ],
)
def test_instructions_are_found_in_any_capitals_and_packed(name, neighbour, packed, tmp_path):
    content = gzip.compress(INS.encode()) if packed else INS.encode()
    (tmp_path / (neighbour + ".gz" * (packed and not neighbour.endswith("GZ")))).write_bytes(content)
    found = read(tmp_path, gzip.compress(TEXT.encode()) if name.endswith("gz") else TEXT, name, wavelength=None)
    assert_read(found)
    assert (found.symmetry.symbol, found.cell.parameters) == (GROUP, pytest.approx(CELL))
    assert found.name == name.split(".")[0]


def test_a_broken_neighbour_is_looked_at_only_where_it_is_needed(tmp_path):
    (tmp_path / "x.cif").write_text("data_x\nloop_\n_a\n_b\n1\n")
    assert_read(read(tmp_path, TEXT))
    (tmp_path / "x.ins").write_text(INS.replace("SYMM 0.5-X", "SYMM nonsense"))
    with pytest.warns(UserWarning, match="x.hkl: the file beside it is not read: x.ins: SYMM"):
        assert_read(read(tmp_path, TEXT))
    with pytest.raises(RephaseError, match="x.ins: SYMM"):
        read(tmp_path, TEXT, cell=CELL)
    (tmp_path / "x.ins").unlink()
    with pytest.warns(UserWarning, match="x.hkl: the file beside it is not read: x.cif: not a complete CIF"):
        assert read(tmp_path, TEXT, cell=CELL).symmetry is None


# Tables with names


@pytest.mark.parametrize(
    ("header", "pattern"),
    [
        ("h,k,l,I,sigma", "{h},{k},{l},{I:.2f},{s:.2f}"),
        ('"h","k","l","I","SIGI"', '"{h}","{k}","{l}","{I:.2f}","{s:.2f}"'),
        ("h;k;l;Fo^2;sig(Fo^2)", "{h};{k};{l};{I:.2f};{s:.2f}"),
        ("h\tk\tl\tIobs\tσ", "{h}\t{k}\t{l}\t{I:.2f}\t{s:.2f}"),
        ("d,sigma,I,l,k,h", "1.5,{s:.2f},{I:.2f},{l},{k},{h}"),
        ("# h, k, l, I, esd", "{h}, {k}, {l}, {I:.2f}, {s:.2f}"),
        (",h,k,l,I,sigma", "17,{h},{k},{l},{I:.2f},{s:.2f}"),
        ("h,k,l,note,I,sigma", "{h},{k},{l},,{I:.2f},{s:.2f}"),
        ("h k l I sigma", "{h} {k} {l} {I:.2f} {s:.2f} # a note"),
        ("set,h,k,l,I,sigma", "native,{h},{k},{l},{I:.2f},{s:.2f}"),
        ("h k l Fc2 I sigI", "{h} {k} {l} 7.0 {I:.2f} {s:.2f}"),
        ("h,k,l,I,sigma,batch", "{h},{k},{l},{I:.2f},{s:.2f},4"),
        ("h,k,l,m,I,sigma", "{h},{k},{l},0,{I:.2f},{s:.2f}"),
        (None, "{h},{k},{l},{I:.2f},{s:.2f}"),
        (None, "{h}, {k}, {l}, {I:.2f}, {s:.2f}"),
    ],
)
def test_tables_with_names_and_separators_are_read(header, pattern, tmp_path):
    assert_read(read(tmp_path, ([header] if header else []) + lines(pattern), "x.csv"))


def test_a_table_of_something_else_is_refused(tmp_path):
    with pytest.raises(
        ReflectionError, match="the columns are called a, b, c, d, e: expected h, k, l, I or F, and sigma"
    ):
        read(tmp_path, ["a,b,c,d,e", *lines("{h},{k},{l},{I:.2f},{s:.2f}")])


@pytest.mark.parametrize("pattern", ["{h};{k};{l};{I:.2f};{s:.2f}", "{h} {k} {l} {I:.2f} {s:.2f}"])
def test_decimal_commas_are_read(pattern, tmp_path):
    assert_read(read(tmp_path, [line.replace(".", ",") for line in lines(pattern)]))


def test_empty_fields_are_not_measured(tmp_path):
    with pytest.warns(UserWarning, match="1 of 62 reflections have no σ"):
        found = read(
            tmp_path, ["h,k,l,I,sigma", "9,9,9,,1.0", "8,8,8,100.0,", *lines("{h},{k},{l},{I:.2f},{s:.2f}")[2:]]
        )
    assert len(found) == len(HKL) - 1
    assert found.intensity[0] == 100


@pytest.mark.parametrize("row", [",2,3,4.0,1.0", "1e999,2,3,4.0,1.0", "1,2,3,1e999,1.0"])
def test_rows_of_a_table_without_indices_are_refused(row, tmp_path):
    with pytest.raises(ReflectionError, match="expected finite h, k, l and I"):
        read(tmp_path, ["h,k,l,I,sigma", *lines("{h},{k},{l},{I:.2f},{s:.2f}"), row])


def test_amplitudes_by_name_become_intensities(tmp_path):
    amplitude = np.abs(INTENSITY)
    found = read(tmp_path, ["h k l F sigma", *lines(intensity=amplitude)])
    assert found.intensity == pytest.approx(amplitude**2)


def test_names_that_say_no_columns_are_none():
    assert column_roles("Sample 7 of May") is None
    assert column_roles("h k l sigma") is None
    assert column_roles("h,k,l,I,sigF,F") == {"h": 0, "k": 1, "l": 2, "I": 3, "F": 5}


# Lists of other programs

XDS = """!FORMAT=XDS_ASCII    MERGE=FALSE    FRIEDEL'S_LAW=TRUE
!SPACE_GROUP_NUMBER=   {group}
!UNIT_CELL_CONSTANTS=     7.100     9.200    11.300  90.000 101.500  90.000
!X-RAY_WAVELENGTH=  1.541800
!ITEM_H=1
!ITEM_K=2
!ITEM_L=3
!ITEM_IOBS={I}
!ITEM_SIGMA(IOBS)={s}
!ITEM_XD=6
!END_OF_HEADER"""


@pytest.mark.parametrize(("group", "symbol"), [(14, "P 1 21/c 1"), (4, "P 1 21 1"), (0, None)])
def test_xds_ascii_is_read(group, symbol, tmp_path):
    rows = [
        XDS.format(group=group, I=4, s=5),
        *lines("{h:6d}{k:6d}{l:6d} {I:.3E} {s:.3E} 1000.0"),
        "     9     9     9  9.000E+03 -9.000E+01 1000.0",
        "!END_OF_DATA",
    ]
    with pytest.warns(UserWarning, match="left out of 64 rows: 1 .σ below 0"):
        found = read(tmp_path, rows, "XDS_ASCII.HKL", cell=None)
    assert_read(found, [float(f"{value:.3E}") for value in INTENSITY], [float(f"{s:.3E}") for s in SIGMA])
    assert (found.symmetry and found.symmetry.symbol, found.wavelength) == (symbol, 1.5418)
    assert found.cell.parameters == CELL


def test_columns_of_xds_are_found_by_their_items(tmp_path):
    text = [XDS.format(group=14, I=5, s=4), *lines("{h} {k} {l} {s} {I} 3.0"), "!END_OF_DATA"]
    assert_read(read(tmp_path, text))
    with pytest.raises(ReflectionError, match="x.hkl: XDS_ASCII without !ITEM_SIGMA.IOBS. in its header"):
        read(tmp_path, [text[0].replace("SIGMA", "SIGN"), *text[1:]])


@pytest.mark.parametrize("group", ["p21/n", "P 1 21/n 1"])
def test_merged_scalepack_is_read(group, tmp_path):
    header = f"    1\n -987\n     7.100     9.200    11.300    90.000   101.500    90.000 {group}\n"
    intensity, sigma = np.rint(INTENSITY), np.rint(SIGMA)
    rows = lines("{h:4d}{k:4d}{l:4d}{I:8.1f}{s:8.1f}", intensity, sigma)
    found = read(tmp_path, header + "\n".join(rows), "x.sca", cell=None)
    assert_read(found, intensity, sigma)
    assert (found.symmetry.symbol, found.cell.parameters) == (GROUP, CELL)
    mates = [row + ("   100.0     2.0" if n % 2 else "     0.0    -1.0") for n, row in enumerate(rows)]
    with pytest.warns(UserWarning, match=r"left out of 126 rows: 32 .placeholders"):
        found = read(tmp_path, header + "\n".join(mates), "x.sca", cell=None)
    assert np.array_equal(found.hkl[len(HKL) :], -HKL[1::2])
    assert (found.intensity[len(HKL) :] == 100).all()


@pytest.mark.parametrize("code", [0, 1])
def test_fullprof_is_read(code, tmp_path):
    value = np.abs(np.round(INTENSITY, 2)) + 1000000
    rows = lines("{h:4d}{k:4d}{l:4d}{I:10.2f}{s:10.2f}   1", intensity=value, sigma=SIGMA + 1000000)  # fields touch
    found = read(tmp_path, [f"2 words\n(3i4,2f10.2,i4)\n0.7107 {code} 0", *rows], "x.int")
    assert found.intensity == pytest.approx(value**2 if code else value)
    assert found.wavelength == 0.7107
    with pytest.raises(ReflectionError, match=r"FullProf's .int with the codes 4 0 .*: expected 0 or 1"):
        read(tmp_path, ["x\n(3i4,2f10.2,i4)\n0.7107 4 0", *rows], "x.int")
    with pytest.raises(ReflectionError, match="'1' after its header, as lists with propagation vectors have"):
        read(tmp_path, ["x\n(4i4,2f8.2,i4)\n0.7107 0 0\n1\n1 0.5 0 0", *rows], "x.int")
    with pytest.raises(ReflectionError, match="its second line is not a format of h k l I σ"):
        read(tmp_path, ["x\n(a80)\n0.7107 0 0", *rows], "x.int")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"PK\x03\x04" + bytes(60), "a ZIP archive"),
        (b"\x89HDF\r\n\x1a\n" + bytes(60), "an HDF5 file"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"\x80\x04\x95" + bytes(60), "a Python pickle, which could run any code"),
        (b"\xfd7zXZ\0", "packed by xz: unpack it"),
        (bytes(208) + b"MAP " + bytes(900), "a map in CCP4 format"),
        (b"!OUTPUT_FILE=INTEGRATE.HKL    DATE= 1-Jan-2026\n!Generated by INTEGRATE\n", "INTEGRATE.HKL of XDS"),
        (b"    4 p21/c\n  1  0  0\n  0  1  0\n  0  0  1\n", "an unmerged SCALEPACK list: merge it"),
        (b"HEADER    HYDROLASE\nCRYST1   40.0   40.0   40.0  90.00  90.00  90.00 P 1\n", "a model in PDB format"),
        (INS.encode(), "instructions of SHELX: give the .hkl beside them"),
        (b" NREFlection=   2\n ANOMalous=FALSE\n INDE 1 2 3 FOBS= 3.0\n", "a list of CNS or X-PLOR"),
        (b"<!DOCTYPE html>\n<html>404</html>\n", "an HTML page"),
        (b'{"data": [1, 2]}\n', "a JSON document"),
        (b"3 2 0\nnH\nnK\nnL\nfIntensity\nfSigmaI\n", "a list of d.TREK"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_list_is_named(content, what, tmp_path):
    with pytest.raises(ReflectionError, match=f"x.hkl: this is {what}"):
        read(tmp_path, content)


def test_what_cannot_be_read_is_named_by_its_suffix(tmp_path):
    with pytest.raises(
        ReflectionError, match="3 columns; .*; by its suffix this is a list of JANA: export it as SHELX"
    ):
        read(tmp_path, lines("{h} {k} {l}"), "x.m91")
    assert_read(read(tmp_path, lines(), "x.m91"))


@pytest.mark.parametrize("header", ["TITLE of a sample", "REMARK 7", "Index h k l sigma I", "HEADER", "63 reflections"])
def test_headers_are_not_taken_for_other_programs(header, tmp_path):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*of a header are left out", UserWarning)
        assert_read(read(tmp_path, ["# " * header[0].isdigit() + header, *lines()]))


@pytest.mark.parametrize("word", ["1_0", "1e999", "１", "0x1", "inf", "12..3", "1d"])
def test_words_that_are_no_numbers_are_refused(word, tmp_path):
    for rows in (lines(), lines(FIXED)):
        rows[40] = rows[40][:12] + f"{word:>8}" + rows[40][20:] if rows[0][0] == " " else f"1 2 3 {word} 1.0"
        with pytest.raises(ReflectionError):
            read(tmp_path, rows)
    rows = [*lines("{h} {k} {l} 1.00"), f"1 2 3 {word}"]
    with pytest.raises(ReflectionError, match="F_squared_meas = .* in row 64: expected a number"):
        read(tmp_path, cif("index_h index_k index_l F_squared_meas", rows))


# MTZ


def mtz(path, columns, *, symbol=GROUP, cells=(CELL,)):
    """An MTZ file: a label, a type, values and a number of a data set for each column."""
    file = gemmi.Mtz(with_base=True)
    file.spacegroup = gemmi.SpaceGroup(symbol)
    for _ in cells:
        file.add_dataset("x")
    file.set_cell_for_all(gemmi.UnitCell(*CELL))
    for dataset, cell in zip(list(file.datasets)[1:], cells):
        dataset.cell = gemmi.UnitCell(*cell)
    file.cell = gemmi.UnitCell(*cells[0])
    for label, kind, _, number in columns:
        file.add_column(label, kind, dataset_id=number)
    file.set_data(np.column_stack([HKL, *(values for _, _, values, _ in columns)]).astype(np.float32))
    file.write_to_file(str(path))
    return path


I_COLUMNS = (("I", "J", INTENSITY, 1), ("SIGI", "Q", SIGMA, 1))


def test_an_mtz_is_read_packed(tmp_path):
    packed = gzip.compress(mtz(tmp_path / "x.mtz", I_COLUMNS).read_bytes())
    found = read(tmp_path, packed, "x.mtz.gz", cell=None)
    assert found.intensity == pytest.approx(INTENSITY, rel=1e-6)
    assert (found.name, found.symmetry.symbol) == ("x", GROUP)


def test_the_first_column_of_an_mtz_that_is_not_empty_is_read(tmp_path):
    empty = np.full(len(HKL), np.nan)
    columns = [("IMEAN", "J", empty, 1), ("SIGIMEAN", "Q", empty, 1), ("I0", "J", np.zeros(len(HKL)), 1)]
    path = mtz(tmp_path / "x.mtz", [*columns, ("F", "F", np.abs(INTENSITY), 1), ("SIGF", "Q", SIGMA, 1)])
    assert read_reflections(path).intensity == pytest.approx(INTENSITY**2, rel=1e-5)


def test_rejected_and_missing_rows_of_an_mtz_are_left_out(tmp_path):
    sigma, intensity = SIGMA.copy(), INTENSITY.copy()
    sigma[[3, 4]], intensity[[7, 8]], sigma[[7, 8]] = -sigma[[3, 4]], 0, 0
    with pytest.warns(UserWarning, match="left out of 63 rows: 2 .placeholders .*, 2 .σ below 0"):
        found = read_reflections(mtz(tmp_path / "x.mtz", [("I", "J", intensity, 1), ("SIGI", "Q", sigma, 1)]))
    assert len(found) == len(HKL) - 4


def test_numbers_that_an_mtz_calls_missing_are_not_measured(tmp_path):
    path = mtz(tmp_path / "x.mtz", [("I", "J", np.where(HKL[:, 1] == 1, -12345, INTENSITY), 1), I_COLUMNS[1]])
    content = path.read_bytes()
    path.write_bytes(content.replace(f"{'VALM NAN':80}".encode(), f"{'VALM -12345.0':80}".encode()))
    assert len(read_reflections(path)) == (HKL[:, 1] != 1).sum()


@pytest.mark.parametrize("symbol", ["F d -3 m:1", "F d -3 m:2", "P n n n:1", "P n n n:2", "R 3:H", "P 1 21/a 1"])
def test_an_mtz_keeps_the_origin(symbol, tmp_path):
    cell = (8, 8, 8, 90, 90, 120 if symbol == "R 3:H" else 90)
    group = find_symmetry(symbol)
    hkl = unique_hkl(Cell(*cell), group, 0.8)
    ones = np.ones(len(hkl))
    write_mtz(tmp_path / "x.mtz", hkl, ones, ones, ones, Cell(*cell), group)
    found = read_phases(tmp_path / "x.mtz").symmetry
    assert {gemmi.Op(t).wrap().triplet() for t in found.triplets} == {
        gemmi.Op(t).wrap().triplet() for t in group.triplets
    }


def test_the_cell_of_an_mtz_is_that_of_the_data_set(tmp_path):
    other = (7.3, 9.4, 11.5, 90, 101.5, 90)
    columns = [*I_COLUMNS, ("I2", "J", 2 * INTENSITY, 2), ("SIGI2", "Q", SIGMA, 2)]
    path = mtz(tmp_path / "x.mtz", columns, cells=(CELL, other))
    with pytest.warns(UserWarning, match="x.mtz: I is read, not I2 of other data sets; name one with column="):
        assert read_reflections(path).cell.parameters == pytest.approx(CELL)
    assert read_reflections(path, column="I2").cell.parameters == pytest.approx(other)


@pytest.mark.parametrize(
    "cell",
    [(1, 1, 1, 90, 90, 90), (0, 0, 0, 0, 0, 0), (np.nan,) * 6, (7, 8, 9, 20, 20, 170), (7, 8, 9, 90, np.inf, 90)],
)
def test_an_mtz_without_a_cell_takes_the_one_that_is_given(cell, tmp_path):
    path = mtz(tmp_path / "x.mtz", I_COLUMNS, cells=(cell,))
    with pytest.raises(ReflectionError, match="x.mtz: no cell in the file or beside it"):
        read_reflections(path)
    assert read_reflections(path, cell=CELL).cell.parameters == CELL


def test_an_mtz_without_indices_is_refused(tmp_path):
    path = mtz(tmp_path / "x.mtz", I_COLUMNS)
    path.write_bytes(
        path.read_bytes().replace(
            b"COLUMN L                              H", b"COLUMN L                              F"
        )
    )
    with pytest.raises(ReflectionError, match="the first columns of the MTZ file are not H, K and L"):
        read_reflections(path)


def test_partially_recorded_reflections_are_left_out(tmp_path):
    isym = np.where(np.arange(len(HKL)) < 5, 257, 1)
    path = mtz(tmp_path / "x.mtz", [("M/ISYM", "Y", isym, 1), *I_COLUMNS])
    with pytest.warns(UserWarning, match="left out of 63 rows: 5 .partially recorded"):
        assert len(read_reflections(path)) == len(HKL) - 5


# Phases


@pytest.mark.parametrize(
    "content",
    [
        lambda rows: cif("index_h index_k index_l phase_meas phase_calc fom", [f"{row} ? 90.0 0.5" for row in rows]),
        lambda rows: "\ufeff" + cif("index_h index_k index_l PHASE_CALC fom", [f"{row} 90.0(1) 0.5" for row in rows]),
        lambda rows: cif("index_h index_k index_l phase_calc fom", [f"{r} 90.0 0.5" for r in rows], prefix="_refln."),
        lambda rows: cif(
            "index_h index_k index_l phase_calc fom status",
            [*(f"{row} 90.0 0.5 o" for row in rows), "9 9 9 10.0 0.5 x"],
        ),
        lambda rows: "\n".join(["h,k,l,phi,fom", *(",".join([*row.split(), "90.0", "0.5"]) for row in rows)]),
    ],
    ids=["empty first column", "brackets and mark", "dotted", "status", "table"],
)
@pytest.mark.filterwarnings("ignore:.*left out of [0-9]+ rows. 1 .status x")
@pytest.mark.parametrize("packed", [False, True])
def test_phases_are_read_from_whatever_has_them(packed, content, tmp_path):
    text = content(lines("{h} {k} {l}")).encode()
    (tmp_path / "x.cif").write_bytes(gzip.compress(text) if packed else text)
    found = read_phases(tmp_path / "x.cif")
    assert np.array_equal(found.hkl, HKL)
    assert found.phi == pytest.approx(np.full(len(HKL), np.pi / 2))
    assert found.weight == pytest.approx(np.full(len(HKL), 0.5))


def test_phases_of_satellites_are_left_out(tmp_path):
    rows = [f"{row} {m} {90.0 + m}" for row in lines("{h} {k} {l}") for m in (0, 1)]
    (tmp_path / "x.cif").write_text(cif("index_h index_k index_l index_m_1 phase_calc", rows))
    with pytest.warns(UserWarning, match="left out of 126 rows: 63 .satellites"):
        assert read_phases(tmp_path / "x.cif").phi == pytest.approx(np.full(len(HKL), np.pi / 2))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"%PDF-1.7\n", "this is a PDF document"),
        (TEXT.encode(), "a list of reflections without phases"),
        (CIF.encode(), "no phases in this CIF"),
        (b"", "no reflections"),
        (b"MTZ \0\0", "not a complete MTZ file"),
    ],
)
def test_files_without_phases_are_named(content, message, tmp_path):
    (tmp_path / "x.dat").write_bytes(content)
    with pytest.raises(ReflectionError, match=f"x.dat: .*{message}"):
        read_phases(tmp_path / "x.dat")


def test_many_numbers_are_what_python_reads():
    rng = np.random.default_rng(0)
    shown = [
        f"{x:.{places}f}" for x, places in zip(rng.normal(0, 10 ** rng.uniform(-4, 7, 400)), rng.integers(0, 9, 400))
    ]
    shown += ["+5", "5.", ".5", "-.5", "1e-3", "-2.5E+04", "123456789012345678", "0.1234567890123456789", "  7 "]
    raw = np.array([text.encode() for text in shown], dtype="S24")
    assert decimal_numbers(raw.view(np.uint8).reshape(len(raw), 24)).tolist() == [float(text) for text in shown]


@pytest.mark.filterwarnings("ignore:.*more than h k l I σ")
@pytest.mark.parametrize("pattern", ["{h} {k} {l} {c:.2f} {I:.2f} {s:.2f} o", "{h:4d}{k:4d}{l:4d}{c:8.2f}{I:8.2f}"])
def test_calculated_beside_measured_intensities_are_not_taken_for_sigma(pattern, tmp_path):
    content = [
        pattern.format(h=h, k=k, l=l, c=1.04 * value + 1, I=value, s=sigma)
        for (h, k, l), value, sigma in zip(HKL.tolist(), INTENSITY, SIGMA)
    ]
    with pytest.raises(ReflectionError, match="fifth column is as large as the fourth.*write the names above"):
        read(tmp_path, content)


@pytest.mark.parametrize(
    "header", ["! h k l I sigma", "% h k l Fo-squared sigma", "// h k l I sig", "h k l I s\n-- -- --"]
)
def test_headers_with_the_marks_of_other_programs_are_read(header, tmp_path):
    assert_read(read(tmp_path, [header, *lines()]))


def test_named_columns_without_a_measured_one_are_refused(tmp_path):
    content = ["h k l Fcalc2 Fmess2 Fehler", *lines("{h} {k} {l} {I:.2f} {s:.2f} 1.5")]
    with pytest.raises(ReflectionError, match="called h, k, l, Fcalc2, Fmess2, Fehler: expected h, k, l, I or F"):
        read(tmp_path, content)


def test_numbers_that_overflowed_their_field_are_named(tmp_path):
    content = [*lines("{h:4d}{k:4d}{l:4d}{I:8.2f}{s:8.2f}"), "   1   1   9********    2.00"]
    with pytest.raises(ReflectionError, match=r"1   1   9\*{8}    2.00': asterisks, where a number did not fit"):
        read(tmp_path, content)


def test_reflections_that_a_status_excludes_are_left_out_and_counted(tmp_path):
    rows = [f"{row} {'x' if n < 4 else 'o'}" for n, row in enumerate(lines())]
    labels = "index_h index_k index_l F_squared_meas F_squared_sigma observed_status"
    with pytest.warns(UserWarning, match=r"left out of 63 rows: 4 \(status x: excluded by the authors\)"):
        found = read(tmp_path, cif(labels, rows))
    assert_read(found, INTENSITY[4:], SIGMA[4:], HKL[4:])


def test_data_that_are_as_weak_as_their_noise_are_read(tmp_path):
    weak = np.round(np.random.default_rng(2).normal(0.2, 1, len(HKL)), 2)
    assert_read(read(tmp_path, lines(intensity=weak, sigma=np.ones(len(HKL)))), weak, np.ones(len(HKL)))
    sigma = 1 + 0.05 * np.abs(weak)
    assert_read(read(tmp_path, lines("{h} {k} {l} {I:.4f} {s:.4f}", weak, sigma)), weak, np.round(sigma, 4))
