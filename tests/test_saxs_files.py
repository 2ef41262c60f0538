"""Files of measured curves: columns of text, NXcanSAS, and everything that can be wrong with them."""

import warnings

import h5py
import numpy as np
import pytest

from rephase.datasets.saxs_files import read_saxs
from rephase.errors import CurveError

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
        (whole[: len(whole) // 2], "truncated, or no XML"),
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


def test_units_of_intensity_that_are_not_known_are_told(nexus, xml):
    assert "the unit of I is 'arbitrary': taken as 1/cm" in read_saxs(nexus(COLUMNS, i_unit="arbitrary")).notes[0]
    assert "the unit of I is 'a.u.'" in read_saxs(xml({"Q": Q, "I": INTENSITY, "Idev": SIGMA}, i_unit="a.u.")).notes[0]
    assert "the file does not name the unit of I" in read_saxs(nexus(COLUMNS, i_unit="")).notes[0]


@pytest.mark.parametrize("kind", [bool, np.uint8])
def test_masked_points_are_left_out(nexus, kind):
    is_hidden = np.isin(np.arange(20), [0, 7])
    found = read_saxs(nexus({**COLUMNS, "I": np.where(is_hidden, np.nan, INTENSITY), "Mask": is_hidden.astype(kind)}))
    for column, expected in zip(found, (Q, INTENSITY, SIGMA)):
        assert column == pytest.approx(expected[~is_hidden])
    assert found.notes == ("2 points at which the Mask of the file is 1: left out",)
    with pytest.raises(CurveError, match="Mask is 1 everywhere: expected 1 where a point is to be left out"):
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


def test_some_negative_intensities_are_kept_and_told(text):
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
        ((replaced(Q, 0, 0.0), INTENSITY, SIGMA), "the first q is 0: expected above 0"),
        ((replaced(Q, 0, -0.1), INTENSITY, SIGMA), "the first q is -0.1: expected above 0"),
        ((Q[::-1], INTENSITY, SIGMA), "expected ascending"),
        ((replaced(Q, 5, Q[4]), INTENSITY, SIGMA), "expected ascending"),
        ((replaced(Q, 5, np.nan), INTENSITY, SIGMA), "1 values of q are NaN"),
        ((Q, replaced(INTENSITY, 3, np.nan), SIGMA), "1 values of intensity are NaN"),
        ((Q, INTENSITY, replaced(SIGMA, 3, np.inf)), "1 values of sigma are NaN or infinite"),
        ((Q, INTENSITY, replaced(SIGMA, 3, 0.0)), "σ = 0 at q = 0.357895"),
        ((Q, INTENSITY, -SIGMA), "expected above 0"),
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
def test_the_unit_must_be_told(text, header, q_unit, message):
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
    with pytest.raises(CurveError, match="truncated, or no HDF5 file"):
        read_saxs(broken)
    whole = nexus(COLUMNS).read_bytes()
    assert whole.count(b"SNOD") > 1
    broken.write_bytes(whole.replace(b"SNOD", b"SNOB"))  # the signature of HDF5's lists of names
    with pytest.raises(CurveError, match="truncated, or no HDF5 file"):
        read_saxs(broken)
    with pytest.raises(CurveError, match="there are: none"):
        read_saxs(nexus())
    with pytest.raises(CurveError, match=r"shape \(20, 20\): expected one curve"):
        read_saxs(nexus({**COLUMNS, "I": np.ones((20, 20))}))
    with pytest.raises(CurveError, match="19 values of intensity and 20 of q"):
        read_saxs(nexus({**COLUMNS, "I": INTENSITY[1:]}))
    path = text(Q, INTENSITY, SIGMA)
    path.write_text(path.read_text() + "end of data\n")
    with pytest.raises(CurveError, match="line 22: 'end of data': expected numbers"):
        read_saxs(path)
    path.write_text("# 1/nm\n1 2 3\n1 2\n")
    with pytest.raises(CurveError, match="2, 3 columns of numbers"):
        read_saxs(path)
