"""Inputs of users that went wrong once: each is read rightly, or refused by what is wrong with it."""

import warnings
from collections import Counter

import numpy as np
import pytest

from rephase.crystal.reflections.files import read_reflections
from rephase.crystal.structures import read_crystal
from rephase.errors import CifError, CurveError, ImageError, ReflectionError
from rephase.formats.curves import read_saxs
from rephase.labs.images.data.files import read_images
from rephase.labs.waves.data.files import open_ptychography

CELL = (8.12, 5.94, 11.73, 90, 101.3, 90)
GROUP = "P 1 21/c 1"


def quiet(read, *arguments, **options):
    """What a reader gives, and its warnings as one text."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        return read(*arguments, **options), " ".join(str(each.message) for each in said)


CRYSTALS = {  # atoms of one cell, U of the first site (None: not looked at), what a warning says
    "cif-aniso-beta": ("Mg4 O4", 0.00997, ""),
    "cif-broken-operations": ("In6 Se6", None, "'P 61'"),
    "cif-crystal-byte-order-mark": ("Mg4 O4", 0.01001, ""),
    "cif-ddlm": ("Mg4 O4", None, ""),
    "cif-fd3m-no-origin": ("Mg8 Al16 O32", None, "which origin"),
    "cif-ho-label": ("C8 O4 H4 N4", None, ""),
    "cif-modulated": ("Na4 O4", None, "modulation is left out"),
    "cif-occupancy-above-1": ("Ca4 O4", None, "occupanc"),
    "cif-origin-code": ("Mg8 Al16 O32", None, ""),
    "cif-tag-without-value": ("Ca4 O4", None, "_cell_volume in line 9"),
    "cif-type-symbols": ("Cu1 Fe1 O2 H2 C1 Zr1 Cl1", None, ""),
    "cif-u-column-holds-b": ("Sr4 O4", 0.00798, "type is B"),
    "cif-underscore-symbol": ("Ca4 O4", None, ""),
    "cif-unknown-hydrogen": ("Ca4 O4", None, "without coordinates, left out: 1"),
    "cif-wat-label": ("Ca4 C4 O16", None, ""),
    "res-created-by-line": ("C8 O4", 0.03, ""),
    "res-negative-u": ("C8 O4", 0.03, "taken as 0: 1"),
}


@pytest.mark.parametrize("name", CRYSTALS)
def test_crystals(reports, name):
    formula, u_iso, warning = CRYSTALS[name]
    (path,) = reports.joinpath(name).glob("sample.*")
    crystal, said = quiet(read_crystal, path)
    assert Counter(crystal.formula.split()) == Counter(formula.split())
    assert u_iso is None or crystal.asymmetric_unit.u_iso[0] == pytest.approx(u_iso, rel=1e-3)
    assert warning in said


LISTS = {  # file, whether cell and group are in it or beside it, reflections, first I and σ, what a warning says
    "cif-byte-order-mark": ("sample.hkl", True, 799, (97.1, 4.14), ""),
    "cif-satellites": ("sample.hkl", True, 799, (97.1, 4.14), "1598 (satellites"),
    "cif-su-in-brackets": ("sample.hkl", True, 799, (97.1, 4.1), ""),
    "hkl-broken-neighbour": ("sample.hkl", False, 799, (97.1, 4.14), ""),
    "hkl-csv": ("sample.csv", False, 799, (97.1, 4.14), ""),
    "hkl-fullprof-int": ("sample.int", False, 799, (97.1, 4.14), ""),
    "hkl-gzip": ("sample.cif.gz", True, 799, (97.1, 4.139), ""),
    "hkl-placeholder-rows": ("rows.hkl", False, 373, (27.72, 5.26), "220 (placeholders"),
    "hkl-rfree-flags": ("sample.hkl", True, 799, (97.1, 4.14), ""),
    "hkl-scalepack": ("sample.sca", True, 799, (97.1, 4.1), ""),
    "hkl-sigma-touches-intensity": ("shelx.hkl", True, 799, (255848, 10904.18), ""),
    "hkl-sigma-touches-intensity/blanks": ("blanks.hkl", True, 799, (115132, 4906.88), ""),
    "hkl-upper-case": ("SAMPLE.HKL", True, 799, (97.1, 4.14), ""),
    "hkl-xds-ascii": ("XDS_ASCII.HKL", True, 783, (97.1, 4.139), "16 (σ below 0"),
    "mmcif-empty-intensity": ("sample.cif", True, 799, (97.1, 4.139), ""),
    "mmcif-negative-sigma": ("sample.cif", True, 1598, (97.1, 4.14), "67 (σ below 0"),
    "mmcif-number-only": ("sample.cif", True, 799, (97.1, 4.139), ""),
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_of_reflections(reports, name):
    file, is_complete, n, (intensity, sigma), warning = LISTS[name]
    given = {} if is_complete else {"cell": CELL, "space_group": GROUP}
    found, said = quiet(read_reflections, reports / name.split("/")[0] / file, **given)
    assert (len(found.hkl), found.group.symbol) == (n, GROUP)
    assert (found.intensity[0], found.sigma[0]) == pytest.approx((intensity, sigma), rel=1e-3)
    assert warning in said
    assert said or not warning


CURVES = {  # options, points, first q in 1/nm, first σ (None: not looked at), what a note says
    "saxs-count-line": ({"q_unit": "1/nm"}, 120, 0.1, 0.0149359, ""),
    "saxs-fit-four-columns": ({}, 120, 0.1, 0.0149359, "model_intensity"),
    "saxs-footer": ({}, 120, 0.1, 0.0149359, "lines of words"),
    "saxs-fortran-exponents": ({}, 120, 0.1, 0.0149359, ""),
    "saxs-latin-1-angstrom": ({}, 120, 0.1, 0.0149359, ""),
    "saxs-nan-rows": ({}, 118, 0.1, 0.0149359, "2 of 120"),
    "saxs-pdh": ({"q_unit": "1/nm"}, 120, 0.1, 0.0149359, ""),
    "saxs-quoted-csv": ({}, 120, 0.1, 0.0149359, ""),
    "saxs-rkh": ({}, 120, 0.1, 0.014936, ""),
    "saxs-sample-name-a-1": ({"q_unit": "1/nm"}, 160, 0.015, 0.0293631, ""),
    "saxs-sample-name-nm-1": ({}, 120, 0.1, 0.0149359, ""),
    "saxs-xml-two-data": ({"entry": "made/rear"}, 40, 0.1, None, ""),
    "saxs-xml-zero-sigma": ({}, 40, 0.1, 0.0198, "1 of 41"),
    "saxs-zero-rows": ({}, 120, 0.1, 0.0149359, "2 of 123"),
}


@pytest.mark.parametrize("name", CURVES)
def test_curves(reports, name):
    options, n, q, sigma, note = CURVES[name]
    (path,) = reports.joinpath(name).glob("sample.*")
    curve, _ = quiet(read_saxs, path, **options)
    assert len(curve.q) == n
    assert curve.q[0] == pytest.approx(q, rel=1e-4)
    assert sigma is None or curve.sigma[0] == pytest.approx(sigma, rel=1e-4)
    assert curve.dq is None
    assert note in " ".join(curve.notes)


REFUSED = [
    (read_crystal, "attack-cif-it-number/x.cif", CifError, "expected a number from 1 to 230"),
    (read_crystal, "mcif/sample.mcif", CifError, "a magnetic CIF"),
    (read_reflections, "cif-twin-fcf/sample.fcf", ReflectionError, "of a twin"),
    (read_reflections, "hkl-twin-free-format/sample.hkl", ReflectionError, "HKLF 5"),
    (read_saxs, "attack-hdf5-claims-huge/big.h5", CurveError, "100,000,000,000 points"),
    (read_saxs, "attack-hdf5-claims-huge/3a7e2156.h5", CurveError, r"shape \(30000, 30000\)"),
    (read_saxs, "attack-hdf5-claims-huge/b8142c5e.h5", CurveError, r"shape \(30000, 30000\)"),
    (read_saxs, "attack-saxs-attr-bytes/x.h5", CurveError, "cannot be read"),
    (read_saxs, "attack-saxs-attr-bytes/3ffc0656.h5", CurveError, "cannot be read"),
    (read_saxs, "saxs-fit-three-columns/sample.fit", CurveError, "like a fit"),
    (read_saxs, "saxs-sample-name-a-1/sample.dat", CurveError, "give q_unit="),
    (read_saxs, "saxs-xml-two-data/sample.xml", CurveError, "'made/front', 'made/rear'"),
    (open_ptychography, "attack-ptycho-mask-group/x.cxi", ImageError, "mask is a group"),
    (read_images, "attack-tiff-planar/x.tif", ImageError, "samples per pixel"),
    (read_images, "attack-tiff-planar/9cf19e5c.tif", ImageError, "samples per pixel"),
    (read_images, "attack-tiff-planar/0261bcbb.tif", ImageError, "form a circle"),
    (read_images, "attack-tiff-planar/43f67ff7.tif", ImageError, "form a circle"),
]


@pytest.mark.parametrize(("read", "name", "error", "message"), REFUSED, ids=[name for _, name, *_ in REFUSED])
def test_refused(reports, read, name, error, message):
    with pytest.raises(error, match=message):
        quiet(read, reports / name)


@pytest.mark.parametrize(("name", "nanometres"), [("cxi-energy-in-ev", 0.15498), ("cxi-energy-of-the-ring", 1.7463)])
def test_wavelengths_of_scans(reports, name, nanometres):
    assert quiet(open_ptychography, reports / name / "scan.cxi")[0].wavelength == pytest.approx(nanometres, rel=1e-4)


IMAGES = {  # images, pixels that are not measured in each
    "image-eiger-master/x_master.h5": (2, 314),
    "image-eiger-maximum/eiger16.tif": (1, 314),
    "image-eiger-maximum/eiger32.npy": (1, 314),
    "image-inverted-mask/shot.cxi": (1, 314),
    "image-nan/shot.npy": (1, 314),
    "image-pilatus-gaps/shot.tif": (1, 315),
}


@pytest.mark.parametrize("name", IMAGES)
def test_images(reports, name):
    n, hidden = IMAGES[name]
    images, _ = quiet(read_images, reports / name, size=64)
    batch, _ = quiet(lambda: images[np.arange(n)])
    assert len(images) == n
    assert [int((~mask).sum()) for mask in batch.mask] == [hidden] * n
    assert float(batch.image.max()) < 3000
