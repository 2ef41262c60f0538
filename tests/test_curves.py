"""Files of measured curves: columns of text, NXcanSAS, and everything that can be wrong with them."""

import gzip
import warnings

import h5py
import numpy as np
import pytest

from rephase.errors import CurveError
from rephase.formats.curves import read_saxs

Q = np.linspace(0.05, 2.0, 20)
INTENSITY = 50 * np.exp(-(Q**2)) + 0.1
SIGMA = 0.02 * INTENSITY
DQ = 0.01 * Q


@pytest.fixture
def text(tmp_path):
    """Writes columns below a header and gives the path."""

    def write(*columns, header="# q [1/nm]  I  sigma", separator=" ", name="curve.dat"):
        rows = [separator.join(f"{value:.8g}" for value in row) for row in zip(*columns)]
        path = tmp_path / name
        path.write_text("\n".join([header, *rows, ""]), encoding="utf-8")
        return path

    return write


@pytest.fixture
def nexus(tmp_path):
    """Writes an NXcanSAS file of one or more curves, given as columns by their names, and gives the path."""

    def write(*curves, unit="1/angstrom", sigma_name="Idev", i_unit="1/cm"):
        path = tmp_path / "curve.h5"
        with h5py.File(path, "w") as file:
            for number, columns in enumerate(curves, 1):
                group = file.create_group(f"sasentry{number:02}/sasdata01")
                group.attrs["canSAS_class"] = "SASdata"
                for name, values in columns.items():
                    group[name] = values
                if unit:
                    group["Q"].attrs["units"] = unit
                if i_unit:
                    group["I"].attrs["units"] = i_unit
                group["I"].attrs["uncertainties"] = sigma_name
        return path

    return write


COLUMNS = {"Q": Q / 10, "I": INTENSITY, "Idev": SIGMA}


@pytest.mark.parametrize(
    ("header", "separator", "name"),
    [
        ("# q [1/nm]  I  sigma", " ", "a.dat"),
        ("sample: silica\nq(nm^-1)\tI\tsigma", "\t", "a.txt"),
        ('"q (nm⁻¹)",I,sigma', ",", "a.csv"),
        ("q / nm-1; I; error", " ; ", "a.csv"),
        ("; q per nanometer", "   ", "a"),
    ],
)
def test_columns_of_text(text, header, separator, name):
    found = read_saxs(text(Q, INTENSITY, SIGMA, header=header, separator=separator, name=name))
    for column, expected in zip(found, (Q, INTENSITY, SIGMA)):
        assert column.dtype == np.float64
        assert column == pytest.approx(expected, rel=1e-6)
    assert found.dq is None


@pytest.mark.parametrize("header", ["# Q (1/A)", "# Q [Å⁻¹]", "# q(A^-1)", "Q in A-1", "# 1/Angstrom", "# Å^{-1}"])
def test_one_per_angstrom_is_ten_per_nm(text, header):
    found = read_saxs(text(Q / 10, INTENSITY, SIGMA, DQ / 10, header=header))
    assert found.q == pytest.approx(Q, rel=1e-6)
    assert found.dq == pytest.approx(DQ, rel=1e-6)
    told = read_saxs(text(Q / 10, INTENSITY, SIGMA, header="Q I"), q_unit="1/A")
    assert told.q == pytest.approx(Q, rel=1e-6)


def test_commas_as_decimal_marks(tmp_path):
    path = tmp_path / "a.csv"
    rows = [f"{q:.6f};{i:.6f};{s:.6f}".replace(".", ",") for q, i, s in zip(Q, INTENSITY, SIGMA)]
    path.write_text("\n".join(["q (1/nm);I;s", *rows]))
    assert read_saxs(path).intensity == pytest.approx(INTENSITY, abs=1e-6)


def test_a_byte_order_mark_and_the_line_ends_of_windows(tmp_path):
    path = tmp_path / "a.txt"
    rows = [f"{q:.8g} {i:.8g} {s:.8g}" for q, i, s in zip(Q, INTENSITY, SIGMA)]
    path.write_bytes("\r\n".join(["\ufeff# q 1/nm", *rows, ""]).encode())
    assert read_saxs(path).q == pytest.approx(Q, rel=1e-6)


def test_nexus(nexus):
    found = read_saxs(nexus({**COLUMNS, "Qdev": DQ / 10}))
    for column, expected in zip(found, (Q, INTENSITY, SIGMA, DQ)):
        assert column == pytest.approx(expected, rel=1e-12)
    named = read_saxs(nexus({"Q": Q, "I": INTENSITY, "errors": SIGMA}, unit="1/nm", sigma_name="errors"))
    assert named.q == pytest.approx(Q)
    assert named.sigma == pytest.approx(SIGMA)


def test_one_of_several_curves(nexus):
    path = nexus(COLUMNS, {**COLUMNS, "I": 2 * INTENSITY})
    with pytest.raises(CurveError, match=r"/sasentry01/sasdata01, /sasentry02/sasdata01; give entry="):
        read_saxs(path)
    assert read_saxs(path, entry="/sasentry02/sasdata01").intensity == pytest.approx(2 * INTENSITY)
    with pytest.raises(CurveError, match="expected a group with Q and I"):
        read_saxs(path, entry="sasentry02")


@pytest.fixture
def xml(tmp_path):
    """Writes CanSAS XML of one or more curves, given as columns by their names, and gives the path."""

    def write(*curves, unit="1/A", space="urn:cansas1d:1.1", i_unit="1/cm"):
        entries = ""
        for number, columns in enumerate(curves, 1):
            points = ""
            for row in zip(*columns.values()):
                units = (unit if key.startswith("Q") else i_unit for key in columns)
                fields = (f'<{key} unit="{u}">{value:.8g}</{key}>' for key, u, value in zip(columns, units, row))
                points += f"<Idata>{''.join(fields)}</Idata>"
            entries += f"<SASentry><Title>run {number}</Title><SASdata>{points}</SASdata></SASentry>"
        path = tmp_path / "curve.xml"
        path.write_text(f'<?xml version="1.0"?><SASroot xmlns="{space}">{entries}</SASroot>')
        return path

    return write


@pytest.mark.parametrize("space", ["urn:cansas1d:1.1", "cansas1d/1.0"])
def test_xml(xml, space):
    curve = read_saxs(xml({"Q": Q, "I": INTENSITY, "Idev": SIGMA, "Qdev": DQ}, space=space))
    for found, true in zip(curve, (10 * Q, INTENSITY, SIGMA, 10 * DQ)):
        assert np.allclose(found, true, rtol=1e-6)


def test_one_of_several_curves_in_xml(xml):
    path = xml({"Q": Q, "I": INTENSITY, "Idev": SIGMA}, {"Q": Q, "I": 2 * INTENSITY, "Idev": SIGMA})
    assert np.allclose(read_saxs(path, entry="run 2").intensity, 2 * INTENSITY)
    with pytest.raises(CurveError, match="2 curves: expected one; entries: 'run 1', 'run 2'; give entry=NAME"):
        read_saxs(path)
    with pytest.raises(CurveError, match="0 curves in entry = 'run 3'"):
        read_saxs(path, entry="run 3")


def test_xml_that_is_no_curve(xml, tmp_path):
    whole = xml({"Q": Q, "I": INTENSITY, "Idev": SIGMA}).read_text()
    for content, message in (
        (whole[: len(whole) // 2], "truncated, or not XML"),
        ("<SASroot/>", "0 curves: expected one; entries: none"),
        (whole.replace("<I unit", "<J unit").replace("</I>", "</J>"), "no I in the Idata"),
        (whole.replace("<Idev", "<I", 1).replace("</Idev>", "</I>", 1), "point 1 has 2 values of I: expected one"),
        (whole.replace(">0.05<", ">five<", 1), "Q: could not convert string to float: 'five'"),
        (whole.replace("1/A", "furlong"), "Q has the unit 'furlong'"),
        (whole.replace("Idata>", "Jdata>"), "a SASdata without Idata"),
    ):
        path = tmp_path / "bad.xml"
        path.write_text(content)
        with pytest.raises(CurveError, match=message):
            read_saxs(path)
    with pytest.raises(CurveError, match="no column of σ; give relative_sigma"):
        read_saxs(xml({"Q": Q, "I": INTENSITY}))


@pytest.mark.parametrize("unit", ["1/cm", "cm^-1", "cm-1 sr-1", "1/(cm sr)", "cm⁻¹"])
def test_intensities_in_1_per_cm_need_no_word(nexus, unit):
    found = read_saxs(nexus(COLUMNS, i_unit=unit))
    assert found.intensity == pytest.approx(INTENSITY)
    assert found.notes == ()


@pytest.mark.parametrize(("unit", "factor"), [("1/m", 0.01), ("m^-1 sr^-1", 0.01), ("1/mm", 10.0)])
def test_other_units_of_intensity_become_1_per_cm(nexus, xml, unit, factor):
    columns = {"Q": Q, "I": INTENSITY, "Idev": SIGMA}
    for path in (nexus(columns, i_unit=unit), xml(columns, i_unit=unit)):
        found = read_saxs(path)
        assert found.intensity == pytest.approx(factor * INTENSITY, rel=1e-6)
        assert found.sigma == pytest.approx(factor * SIGMA, rel=1e-6)
        assert found.notes == (f"I in {unit} times {factor:g}: in 1/cm",)


def test_units_of_intensity_that_are_not_known_are_reported(nexus, xml):
    assert "the unit of I is 'arbitrary': taken as 1/cm" in read_saxs(nexus(COLUMNS, i_unit="arbitrary")).notes[0]
    assert "the unit of I is 'a.u.'" in read_saxs(xml({"Q": Q, "I": INTENSITY, "Idev": SIGMA}, i_unit="a.u.")).notes[0]
    assert "the file does not name the unit of I" in read_saxs(nexus(COLUMNS, i_unit="")).notes[0]


@pytest.mark.parametrize("kind", [bool, np.uint8])
def test_masked_points_are_left_out(nexus, kind):
    is_hidden = np.isin(np.arange(20), [0, 7])
    found = read_saxs(nexus({**COLUMNS, "I": np.where(is_hidden, np.nan, INTENSITY), "Mask": is_hidden.astype(kind)}))
    for column, expected in zip(found, (Q, INTENSITY, SIGMA)):
        assert column == pytest.approx(expected[~is_hidden])
    assert found.notes == ("2 points where the Mask of the file is 1: left out",)
    with pytest.raises(CurveError, match="Mask is 1 everywhere: expected 1 only for points to leave out"):
        read_saxs(nexus({**COLUMNS, "Mask": np.ones(20, kind)}))
    with pytest.raises(CurveError, match="19 values of Mask: expected as many"):
        read_saxs(nexus({**COLUMNS, "Mask": np.ones(19, kind)}))


def test_sigma_is_assumed_only_when_asked(text, nexus):
    path = text(Q, INTENSITY)
    with pytest.raises(CurveError, match="no column of σ; give relative_sigma"):
        read_saxs(path)
    assert read_saxs(path, relative_sigma=0.05).sigma == pytest.approx(0.05 * INTENSITY, rel=1e-6)
    with pytest.raises(CurveError, match="relative_sigma = -1"):
        read_saxs(path, relative_sigma=-1)
    assert read_saxs(text(Q, INTENSITY, SIGMA), relative_sigma=0.05).sigma == pytest.approx(SIGMA, rel=1e-6)
    with pytest.raises(CurveError, match="no column of σ"):
        read_saxs(nexus({"Q": Q, "I": INTENSITY}))


def test_some_negative_intensities_are_kept_and_reported(text):
    values = INTENSITY.copy()
    values[[15, 18]] = -0.3
    with pytest.warns(UserWarning, match="2 of 20 intensities are below 0 and are kept"):
        found = read_saxs(text(Q, values, SIGMA))
    assert (found.intensity < 0).sum() == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_saxs(text(Q, INTENSITY, SIGMA))


def replaced(values, row, value):
    changed = values.copy()
    changed[row] = value
    return changed


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ((-Q, INTENSITY, SIGMA), "no point can be used; 20 of 20 points with q = 0 or below: left out"),
        ((Q[::-1], INTENSITY, SIGMA), "expected ascending"),
        ((replaced(Q, 5, Q[4]), INTENSITY, SIGMA), "expected ascending"),
        ((Q, INTENSITY, -SIGMA), "20 of 20 points with σ = 0 or below: expected above 0"),
        ((Q[:8], INTENSITY[:8], replaced(SIGMA[:8], slice(4), 0.0)), r"4 points: expected at least 5 \(4 of 8 points"),
        ((Q, -INTENSITY, SIGMA), "no intensity is above 0"),
        ((Q, INTENSITY, SIGMA, -DQ), "dq has values below 0"),
        ((Q[:4], INTENSITY[:4], SIGMA[:4]), "4 points: expected at least 5"),
        ((Q,), "no columns of numbers"),
    ],
)
def test_values_that_cannot_be_are_rejected(text, columns, message):
    with pytest.raises(CurveError, match=message):
        read_saxs(text(*columns))


@pytest.mark.parametrize(
    ("header", "q_unit", "message"),
    [
        ("# q I sigma", None, "does not name it; give q_unit='1/nm' or '1/A'"),
        ("# q [1/nm], formerly 1/A", None, "names 1/A and 1/nm; give q_unit"),
        ("# q [1/nm]", "1/A", "q_unit = '1/A', but the file names 1/nm"),
        ("# q [1/nm]", "nm", "expected one of 1/nm, 1/A"),
        ("# I in 1/cm, sample A-12", None, "does not name it"),
    ],
)
def test_the_unit_must_be_given(text, header, q_unit, message):
    with pytest.raises(CurveError, match=message):
        read_saxs(text(Q, INTENSITY, SIGMA, header=header), q_unit=q_unit)


def test_units_of_hdf5_must_be_known(nexus):
    with pytest.raises(CurveError, match="Q has the unit 'pixel'"):
        read_saxs(nexus(COLUMNS, unit="pixel"))
    with pytest.raises(CurveError, match="does not name it"):
        read_saxs(nexus(COLUMNS, unit=""))
    assert read_saxs(nexus(COLUMNS, unit=""), q_unit="1/A").q == pytest.approx(Q)


def test_files_that_are_no_curve(tmp_path, text, nexus):
    with pytest.raises(CurveError, match="no such file"):
        read_saxs(tmp_path / "none.dat")
    broken = tmp_path / "broken.h5"
    broken.write_bytes(nexus(COLUMNS).read_bytes()[:600])
    with pytest.raises(CurveError, match="truncated, or not a valid HDF5 file"):
        read_saxs(broken)
    whole = nexus(COLUMNS).read_bytes()
    assert whole.count(b"SNOD") > 1
    broken.write_bytes(whole.replace(b"SNOD", b"SNOB"))  # the signature of HDF5's lists of names
    with pytest.raises(CurveError, match="truncated, or not a valid HDF5 file"):
        read_saxs(broken)
    with pytest.raises(CurveError, match="found: none"):
        read_saxs(nexus())
    with pytest.raises(CurveError, match=r"shape \(20, 20\): expected one curve"):
        read_saxs(nexus({**COLUMNS, "I": np.ones((20, 20))}))
    with pytest.raises(CurveError, match="19 values of intensity and 20 of q"):
        read_saxs(nexus({**COLUMNS, "I": INTENSITY[1:]}))
    path = text(Q, INTENSITY, SIGMA)
    path.write_text("# 1/nm\n1 2 3\n1 2\n")
    with pytest.raises(CurveError, match="2, 3 columns of numbers"):
        read_saxs(path)


NAMES = "q_nm^-1  I  sigma"


def lines(*columns, form="{:.6g}", separator=" "):
    return [separator.join(form.format(value) for value in row) for row in zip(*columns)]


@pytest.fixture
def written(tmp_path):
    """Writes lines, in the encoding given, and gives the path."""

    def write(*rows, name="curve.dat", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes("\n".join([*rows, ""]).encode(encoding))
        return path

    return write


@pytest.mark.parametrize(
    ("header", "factor"),
    [
        (["# file gold_20nm-1.dat", "# q(A-1) I sigma"], 10),
        (["Sample: A-1, 2 mg/ml", "q (nm^-1) I sigma"], 1),
        (["lysozyme nm-1 in buffer A-1", "s [1/Å] I err"], 10),
        (["# sample B-3: q in nm^-1 from run A-1"], 1),
        (["q_A^-1 I sigma"], 10),
        (["Q in 1/Ang."], 10),
        (["# scattering vector (inverse nm), intensity, error"], 1),
        ([r"# $q$ ($\mathrm{\AA}^{-1}$) I sigma"], 10),
        (["# q I sigma", "# 1/nm 1/cm 1/cm"], 1),
        (["# Units of q: 1/A"], 10),
        (["# I(q) in 1/cm", "# h, nm^-1"], 1),
    ],
)
def test_a_unit_is_that_which_is_said_of_q(written, header, factor):
    found = read_saxs(written(*header, *lines(Q, INTENSITY, SIGMA)))
    assert found.q == pytest.approx(factor * Q, rel=1e-4)


@pytest.mark.parametrize(
    "header",
    [
        ["Sample: mutant A-1 in buffer", "s I err"],
        ["# sample_20nm-1.dat"],
        ["nm-1"],
        ["# ratio of A to B: A-1", "q I sigma"],
        ["# mice's A-1", "q I sigma"],
    ],
)
def test_a_name_is_no_unit_and_the_caller_is_believed(written, header):
    path = written(*header, *lines(Q, INTENSITY, SIGMA))
    with pytest.raises(CurveError, match="the file does not name it; give q_unit"):
        read_saxs(path)
    assert read_saxs(path, q_unit="1/nm").q == pytest.approx(Q, rel=1e-4)
    assert read_saxs(path, q_unit="1/A").q == pytest.approx(10 * Q, rel=1e-4)


def test_another_unit_of_q_is_named(written):
    with pytest.raises(CurveError, match=r"q is in 1/m: expected 1/nm or 1/A"):
        read_saxs(written("# q (m^-1) I sigma", *lines(Q, INTENSITY, SIGMA)))


def test_latin_1_and_gzip(written, tmp_path):
    path = written("q (1/Å)\tI\tsigma", *lines(Q, INTENSITY, SIGMA), encoding="latin-1")
    assert read_saxs(path).q == pytest.approx(10 * Q, rel=1e-4)
    packed = tmp_path / "curve.dat.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read_saxs(packed).q == pytest.approx(10 * Q, rel=1e-4)


@pytest.mark.parametrize(
    ("header", "columns", "has_dq"),
    [
        ("# q exp_intensity error model_intensity (q in 1/nm)", (Q, INTENSITY, SIGMA, INTENSITY), False),
        ("q [1/nm]\tI_exp\tI_fit\terr", (Q, INTENSITY, INTENSITY, SIGMA), False),
        ("sigma, I, q (1/nm)", (SIGMA, INTENSITY, Q), False),
        (
            "The 4 columns are | Q (1/nm) | I(Q) (1/cm) | std. dev. I(Q) (1/cm) | sigmaQ (1/nm)",
            (Q, INTENSITY, SIGMA, DQ),
            True,
        ),
        ("q (1/nm)  residual  I  resolution  sigma", (Q, 0 * Q, INTENSITY, DQ, SIGMA), True),
        ("# q (1/nm), columns without names", (Q, INTENSITY, SIGMA, DQ), True),
        ("# q (1/nm), columns without names", (Q, INTENSITY, SIGMA, 1.02 * INTENSITY), False),
    ],
)
def test_columns_are_taken_by_their_names(written, header, columns, has_dq):
    found = read_saxs(written(header, *lines(*columns)))
    for column, expected in zip(found, (Q, INTENSITY, SIGMA, DQ if has_dq else None)):
        assert column is None if expected is None else column == pytest.approx(expected, rel=1e-4)
    is_left = len(columns) > 3 + has_dq
    assert bool(found.notes) == is_left


def test_a_fit_is_not_taken_as_sigma(written):
    rows = lines(Q, INTENSITY, 1.05 * INTENSITY)
    with pytest.raises(CurveError, match="the third column is as large as the intensity, like a fit"):
        read_saxs(written("# 1/nm", *rows))
    with pytest.warns(UserWarning, match="σ is as large as the intensity"):
        read_saxs(written("# q (1/nm) I sigma", *rows))
    with pytest.raises(CurveError, match=r"no column of σ \(columns I_fit of the file: left out\)"):
        read_saxs(written("# q (1/nm) I I_fit", *rows))
    with pytest.raises(CurveError, match="'2theta': expected q and I themselves"):
        read_saxs(written("2theta I sigma", *rows))


@pytest.mark.parametrize(
    ("rows", "note"),
    [
        (["q in 1/nm", "20", "0.05 2.0", *lines(Q, INTENSITY, SIGMA)], "2 lines of other numbers before the rows"),
        ([NAMES, *lines(Q, INTENSITY, SIGMA), "", "creator: me"], "1 lines of words among the rows"),
        ([NAMES, *lines(Q, INTENSITY, SIGMA)[:9], "-- pause --", *lines(Q, INTENSITY, SIGMA)[9:]], "in line 11"),
        (
            ["a title, Q in 1/nm", " 0 0 0 1 20 0", " 0 0 0 0", " 3 (F12.5,2E16.6)", *lines(Q, INTENSITY, SIGMA)],
            "2 lines of other numbers before the rows, the first in line 2",
        ),
        (
            [
                "title",
                "SAXS BOX",
                "20 0 0 0 0 0 0 0",
                "0. 264. 0. 1. 0.15",
                "0. 1. 0. 0. 0.",
                *lines(Q, INTENSITY, SIGMA),
                '<?xml version="1.0"?>',
                '<value key="xUnit">nm^{-1}</value>',
            ],
            "2 lines of words among the rows",
        ),
    ],
)
def test_lines_that_are_no_rows_are_left_out_and_counted(written, rows, note):
    found = read_saxs(written(*rows))
    assert found.q == pytest.approx(Q, rel=1e-4)
    assert found.sigma == pytest.approx(SIGMA, rel=1e-4)
    assert note in "; ".join(found.notes)


def test_a_damaged_row_is_named(written):
    rows = lines(Q, INTENSITY, SIGMA)
    with pytest.raises(CurveError, match=r"line 5: '0.3 O.5 0.1': expected numbers"):
        read_saxs(written(NAMES, *rows[:3], "0.3 O.5 0.1", *rows[3:]))
    with pytest.raises(CurveError, match=r"2, 3 columns of numbers: .* correct or delete line 22"):
        read_saxs(written(NAMES, *rows, "3.0 0.1"))


@pytest.mark.parametrize(
    "rows",
    [
        [row.replace("e", "D") for row in lines(Q, INTENSITY, SIGMA, form="{:.6e}")],
        lines(Q, INTENSITY, SIGMA, form='"{:.6g}"', separator=","),
        lines(Q, INTENSITY, SIGMA, form="{:.6g}", separator="\t"),
        [row.replace(".", ",") for row in lines(Q, INTENSITY, SIGMA, form='"{:.7f}"', separator=",")],
        [row.replace(".", ",") for row in lines(Q, INTENSITY, SIGMA, form="{:.7f}", separator="\t")],
    ],
)
def test_numbers_of_other_programs(written, rows):
    found = read_saxs(written('"q (1/nm)","I","sigma"', *rows))
    for column, expected in zip(found, (Q, INTENSITY, SIGMA)):
        assert column == pytest.approx(expected, rel=1e-4)


def test_exponents_of_fortran(written):
    found = read_saxs(written(NAMES, *lines(Q, INTENSITY, SIGMA), "3.0D+00 1.5d-2 2.5-101"))
    assert (found.q[-1], found.intensity[-1], found.sigma[-1]) == (3.0, 0.015, 2.5e-101)


def test_points_that_say_nothing_are_left_out_and_counted(written, xml, nexus):
    q, i, s = (np.concatenate([[first], column]) for first, column in zip((0.01, 0.0, 0.0), (Q, INTENSITY, SIGMA)))
    s[4], i[6], q[1], s[9] = 0, np.nan, -0.02, np.nan
    columns, is_good = {"Q": q, "I": i, "Idev": s}, ~np.isin(np.arange(21), [0, 1, 4, 6, 9])
    for path in (written(NAMES, *lines(q, i, s)), xml(columns, unit="1/nm"), nexus(columns, unit="1/nm")):
        found = read_saxs(path)
        assert found.q == pytest.approx(q[is_good], rel=1e-4)
        assert found.sigma == pytest.approx(s[is_good], rel=1e-4)
        assert found.notes == (
            "2 of 21 points with a number that is NaN, infinite or missing: left out",
            "1 of 21 points with q = 0 or below: left out",
            "1 of 21 points with I = σ = 0, as behind a beam stop: left out",
            "1 of 21 points with σ = 0 or below: expected above 0: left out",
        )
    gaps = [row.replace("nan", "") for row in lines(q, i, s, separator=";")]
    assert len(read_saxs(written(NAMES, *gaps[:9], *gaps[10:])).q) == 16


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"%File\nFileName=D1.001\n%Counts\n1,2,3\n", "this is a BerSANS file"),
        (b"ALV-7004/USB\nDate : 1\n", "this is a correlation function of an ALV"),
        (b"PK\x03\x04 whatever", "this is a ZIP archive"),
        (b"<!DOCTYPE html><html></html>", "this is an HTML page"),
        (b"\x01\x02\x00\x00\x00binary", "a binary file"),
        (b"", "no columns of numbers"),
        (gzip.compress(b"\x89HDF\r\n\x1a\n", mtime=0), "this is an HDF5 file: unpack it if it is packed"),
    ],
)
def test_files_of_other_programs_are_named(tmp_path, content, message):
    path = tmp_path / "a.dat"
    path.write_bytes(content)
    with pytest.raises(CurveError, match=message):
        read_saxs(path)


def test_several_data_of_one_entry_in_xml(xml):
    path = xml({"Q": Q, "I": INTENSITY, "Idev": SIGMA}, {"Q": Q, "I": 2 * INTENSITY, "Idev": SIGMA})
    joined = path.read_text().replace(
        "</SASdata></SASentry><SASentry><Title>run 2</Title><SASdata>", '</SASdata><SASdata name="rear">'
    )
    path.write_text(joined)
    with pytest.raises(CurveError, match="2 curves: expected one; entries: 'run 1/1', 'run 1/rear'; give entry=NAME"):
        read_saxs(path)
    for entry in ("run 1/rear", "rear"):
        assert read_saxs(path, entry=entry).intensity == pytest.approx(2 * INTENSITY)
    assert read_saxs(path, entry="run 1/1").intensity == pytest.approx(INTENSITY)
    with pytest.raises(CurveError, match="2 curves in entry = 'run 1'"):
        read_saxs(path, entry="run 1")


def test_xml_that_attacks(xml, tmp_path):
    whole = xml({"Q": Q, "I": INTENSITY, "Idev": SIGMA}).read_text()
    path = tmp_path / "bad.xml"
    path.write_text(whole.replace("<SASroot", '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]><SASroot', 1))
    with pytest.raises(CurveError, match="XML with a DOCTYPE"):
        read_saxs(path)
    path.write_text("<SASroot>" * 10**5 + "</SASroot>" * 10**5)
    with pytest.raises(CurveError, match="0 curves: expected one"):
        read_saxs(path)
    path.write_text(whole.replace('<Q unit="1/A"', '<Q unit="1/nm"', 1))
    with pytest.raises(CurveError, match="Q has the units 1/A, 1/nm: expected one for all points"):
        read_saxs(path)


def write_curve(path, **changes):
    """An NXcanSAS file with datasets replaced by what `changes` make of the group."""
    with h5py.File(path, "w") as file:
        group = file.create_group("e/d")
        for key, values in (COLUMNS | {"Qdev": DQ}).items():
            if key in changes:
                changes[key](group, key)
            else:
                group[key] = values
        if isinstance(group.get("Q"), h5py.Dataset):
            group["Q"].attrs["units"] = changes.get("units", "1/nm")
        if "uncertainties" in changes:
            group["I"].attrs.create("uncertainties", changes["uncertainties"], dtype=h5py.string_dtype("utf-8"))


def test_a_filter_that_is_not_installed_is_named(tmp_path):
    path = tmp_path / "a.h5"
    write_curve(path, Idev=lambda group, key: group.create_dataset(key, data=SIGMA, compression="lzf"))
    path.write_bytes(path.read_bytes().replace((32000).to_bytes(2, "little"), (32008).to_bytes(2, "little")))
    with pytest.raises(CurveError, match="is packed by lzf, which is not installed; unpack it with h5repack"):
        read_saxs(path)


def claims(shape, dtype="f8", chunks=None):
    return lambda group, key: group.create_dataset(key, shape=shape, dtype=dtype, chunks=chunks or (100,) * len(shape))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Q": claims((10**12,)), "I": claims((10**12,))}, "1,000,000,000,000 points: expected at most 10,000,000"),
        ({"Q": claims((10**6,))}, "/e/d/Q of shape .* is empty: nothing was ever written to it"),
        ({"I": claims((10**5, 10**5))}, r"/e/d/I has shape \(100000, 100000\): expected one curve"),
        ({"Q": lambda group, key: group.create_group(key)}, "found: none"),
        ({"Idev": lambda group, key: group.create_group(key)}, "/e/d/Idev is a group, or empty"),
        ({"Idev": lambda group, key: group.create_dataset(key, data="words")}, "/e/d/Idev holds words"),
        ({"Qdev": lambda group, key: group.create_dataset(key, data=np.zeros(20, "i4,f8"))}, "holds records"),
        ({"Qdev": lambda group, key: group.create_dataset(key, data=h5py.Empty("f8"))}, "is a group, or empty"),
        ({"Idev": lambda group, key: group.__setitem__(key, h5py.SoftLink("/nowhere"))}, "a link to /nowhere, which"),
        ({"Idev": lambda group, key: group.__setitem__(key, h5py.SoftLink("/e/d/Idev"))}, "is a circular link"),
        (
            {"Idev": lambda group, key: group.__setitem__(key, h5py.ExternalLink("/etc/passwd", "/x"))},
            "is a link to the file /etc/passwd, which is not in the same folder",
        ),
        (
            {
                "Idev": lambda group, key: group.create_dataset(
                    key, shape=(20,), dtype="f8", external=[("x.raw", 0, 160)]
                )
            },
            "keeps its numbers in other files, x.raw: expected one file",
        ),
        ({"uncertainties": b"\xff\xfe"}, "cannot be read: damaged"),
        ({"units": h5py.Empty("f8")}, "does not name it"),
        ({"units": np.array([], dtype="S4")}, "does not name it"),
        ({"units": 7}, "Q has the unit '7'"),
    ],
)
def test_hdf5_is_looked_at_before_it_is_read(tmp_path, changes, message):
    write_curve(tmp_path / "a.h5", **changes)
    with pytest.raises(CurveError, match=message):
        read_saxs(tmp_path / "a.h5")


@pytest.mark.parametrize("units", [b"1/nm", np.array(["1/nm"], dtype="S4"), np.array(["1/nm", "1/A"], dtype=object)])
def test_units_of_hdf5_in_every_form(tmp_path, units):
    write_curve(tmp_path / "a.h5", units=units)
    assert read_saxs(tmp_path / "a.h5").q == pytest.approx(Q / 10)


@pytest.mark.parametrize(
    "header",
    [
        "# log10(q) ln(I) sigma",
        "q^2 I sigma",
        "# q (1/nm)  I*q^2  sigma",
        "d(nm),I,sigma",
        "theta_deg I err",
        "sample 4\n2-Theta Angle (Degrees)\nIntensity",
        "# s = 2 sin(theta)/lambda (1/nm)  I  sigma",
    ],
)
def test_functions_of_q_and_i_are_not_taken_for_them(written, header):
    with pytest.raises(CurveError, match="expected q .*convert it"):
        read_saxs(written(header, *lines(Q, INTENSITY, SIGMA)), q_unit="1/nm")


@pytest.mark.parametrize("header", ["# s = 4 pi sin(theta)/lambda [1/nm]  I  sigma", "q(1/nm)  I  dI\nsee log file"])
def test_words_about_angles_and_logarithms_are_no_columns(written, header):
    assert np.allclose(read_saxs(written(header, *lines(Q, INTENSITY, SIGMA))).q, Q)


@pytest.mark.parametrize("name", ["sigma(%)", "err [%]", "sigma %"])
def test_percentages_are_not_taken_as_sigma(written, name):
    with pytest.raises(CurveError, match="no column of σ .columns .*% of the file: left out"):
        read_saxs(written(f"q(1/nm) I {name}", *lines(Q, INTENSITY, np.full(20, 2.0))))


def test_numbers_of_a_header_that_are_as_many_as_columns_are_left_out(written):
    header = "LABEL: x\nMON LAMBDA(A) DIST\n1e8 6.0 4.0\nBCENT(X,Y) A1 TYP\n64.1 50 ORNL\nq (1/nm) | I | std. dev. I |"
    curve = read_saxs(written(header, *lines(Q, INTENSITY, SIGMA)))
    assert np.allclose(curve.q, Q)
    assert curve.notes == ("1 lines of other numbers before the rows, the first in line 3 ('1e8 6.0 4.0'): left out",)
