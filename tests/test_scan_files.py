"""Ptychographic scans in CXI files: what is read, what is refused, and a measured one."""

import h5py
import numpy as np
import pytest
import torch

from rephase.errors import ImageError
from rephase.formats.cxi import JOULE_PER_EV
from rephase.labs.waves.data.files import open_ptychography
from rephase.labs.waves.engines.ptychography import descend
from rephase.optics.propagation import Fresnel, effective_geometry, fresnel_number
from rephase.optics.ptychography import Scan, smallest_object

DETECTOR, SOURCE = "entry_1/instrument_1/detector_1", "entry_1/instrument_1/source_1"
POSITIONS = "entry_1/sample_1/geometry_1/translation"
COUNTS = np.random.default_rng(0).poisson(3, (4, 20, 24)).astype(np.int32)
CONTENT = {
    f"{DETECTOR}/data": COUNTS,
    f"{DETECTOR}/distance": np.float32(2.0),
    f"{DETECTOR}/x_pixel_size": 75e-6,
    f"{DETECTOR}/y_pixel_size": 75e-6,
    f"{SOURCE}/energy": 8000 * JOULE_PER_EV,
    POSITIONS: 1e-6 * np.array([[0, 0, 0], [1, 0, 0], [1, 2, 0], [0, 2, 5.0]]),
}


@pytest.fixture
def scan_file(tmp_path):
    """Writes a scan, with other content where it is given, without what is None; gives the path."""

    def write(**other):
        path = tmp_path / "scan.cxi"
        names = {"data": f"{DETECTOR}/data", "energy": f"{SOURCE}/energy", "translation": POSITIONS}
        content = CONTENT | {names.get(name, f"{DETECTOR}/{name}"): value for name, value in other.items()}
        with h5py.File(path, "w") as file:
            for name, value in content.items():
                if value is not None:
                    file[name] = value
        return path

    return write


def test_geometry_positions_and_frames(scan_file):
    found = open_ptychography(scan_file())
    assert found.shape == (4, 20, 24)
    assert found.wavelength == pytest.approx(0.15498, abs=1e-5)  # 12.39842 keV angstrom
    assert (found.distance, found.pixel) == pytest.approx((2e9, 75e3))
    assert found.mask.all()
    assert torch.equal(found.frames(), torch.as_tensor(COUNTS, dtype=torch.float32))
    assert torch.equal(found.frames(slice(1, 3)), found.frames()[1:3])
    assert torch.equal(found.frames([3, 0, 3]), found.frames()[[3, 0, 3]])


def test_the_beam_goes_over_the_sample_the_other_way(scan_file):
    """The sample moves 1 um along +x, to the left: the beam goes to the right on it; and 2 um up: the beam goes down.

    All in nm about the middle of the range; the third axis is along the beam.
    """
    expected = torch.tensor([[-1000, -500], [-1000, 500], [1000, 500], [1000, -500.0]], dtype=torch.float64)
    assert torch.allclose(open_ptychography(scan_file()).positions, expected)
    turned = np.array([[75e-6, 0], [0, -75e-6], [0, 0]])  # rows along x, columns along -y
    found = open_ptychography(scan_file(basis_vectors=turned)).positions
    assert torch.allclose(found, torch.stack([-expected[:, 1], expected[:, 0]], dim=1))


def test_only_frames_that_are_asked_for_are_read(scan_file):
    path = scan_file(data=np.where(np.arange(4)[:, None, None] == 2, -1, COUNTS))
    found = open_ptychography(path)
    assert len(found.frames([0, 1, 3])) == 3
    with pytest.raises(ImageError, match="measured counts are negative or NaN"):
        found.frames([1, 2])
    path.unlink()
    with pytest.raises(ImageError, match="no such file"):
        found.frames([0])


def test_masks_hide_what_is_wrong(scan_file):
    mask = np.zeros((20, 24), np.uint32)
    mask[5, 6], mask[0, 0] = 1, 1 << 10  # invalid; noisy, which can still be used
    found = open_ptychography(scan_file(mask=mask, data=np.where(mask == 1, np.nan, COUNTS)))
    assert found.mask.sum() == 20 * 24 - 1
    assert not found.mask[5, 6]
    assert (found.frames()[:, 5, 6] == 0).all()


def test_a_wavelength_does_as_well_as_an_energy_and_links_are_followed(scan_file):
    path = scan_file(energy=None, translation=None, data=None)
    with h5py.File(path, "a") as file:
        file[f"{SOURCE}/wavelength"] = 1.5e-10
        file["entry_1/data_1/data"] = COUNTS
        file["positions"] = CONTENT[POSITIONS]
        file["entry_1/data_1/translation"] = h5py.SoftLink("/positions")
    found = open_ptychography(path)
    assert found.wavelength == pytest.approx(0.15)
    assert found.positions.shape == (4, 2)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"data": None}, "no frames; looked for entry_1/instrument_1/detector_1/data"),
        ({"data": COUNTS[0]}, r"frames of shape \(20, 24\): expected a scan \[frame, y, x\]"),
        ({"data": COUNTS.astype(complex)}, "complex"),
        ({"energy": None}, "no photon energy or wavelength; looked for one number in .*wavelength"),
        ({"energy": -1.0}, "photon energy = .*: expected a number above 0"),
        ({"distance": None}, "no distance; looked for"),
        ({"distance": 0.0}, "distance = 0: expected a number above 0"),
        ({"distance": [1.0, 2.0]}, "no distance; looked for one number"),
        ({"x_pixel_size": np.nan}, "size of pixels = nan"),
        ({"y_pixel_size": 80e-6}, "pixels of 75000 x 80000 nm: expected square pixels"),
        ({"translation": None}, "no positions; looked for"),
        ({"translation": np.zeros((3, 3))}, r"positions of shape \(3, 3\) for 4 frames"),
        ({"translation": np.full((4, 3), np.nan)}, "4 positions are NaN or infinite"),
        ({"basis_vectors": np.zeros((3, 2))}, "basis vectors .*: expected"),
        ({"mask": np.ones((20, 24), np.uint32)}, "every pixel is masked"),
        ({"mask": np.ones((24, 20), np.uint32)}, r"a mask of shape \(24, 20\)"),
    ],
)
def test_what_is_missing_or_wrong_is_reported(scan_file, other, message):
    with pytest.raises(ImageError, match=message):
        open_ptychography(scan_file(**other))


def test_other_bytes_are_reported(tmp_path):
    (tmp_path / "scan.cxi").write_bytes(b"no scan at all")
    with pytest.raises(ImageError, match="truncated, or not a valid HDF5 file"):
        open_ptychography(tmp_path / "scan.cxi")


def test_a_measured_near_field_scan_is_explained_better_epoch_by_epoch(near_field_scan):
    """P25 at PETRA III: the focus was 3.65 mm before the sample. Positions that are mirrored explain it less."""
    data = open_ptychography(near_field_scan)
    assert data.shape == (200, 100, 100)
    assert data.wavelength == pytest.approx(0.097949, abs=1e-6)
    geometry = effective_geometry(pixel=data.pixel, source_distance=3.65e6, detector_distance=data.distance)
    number = fresnel_number(wavelength=data.wavelength, pixel=geometry.pixel, distance=geometry.distance)
    propagator, frames = Fresnel(number), data.frames()
    probe = propagator.back(frames.mean(0).sqrt().to(torch.complex64))
    last = []
    for sign in (1, -1):
        positions = sign * (data.positions / geometry.pixel).float()
        shape = smallest_object(positions, data.shape[1:])
        scan = Scan(positions, object_shape=shape, probe_shape=data.shape[1:], propagator=propagator)
        options = {"n_epochs": 3, "mask": data.mask, "refine_probe": True}
        misfit = descend(frames, scan, probe, generator=torch.Generator().manual_seed(0), **options).misfit
        assert (misfit.diff() < 0).all()
        last.append(float(misfit[-1]))
    assert last[0] < 0.85 * last[1]


@pytest.mark.parametrize(("unit", "value"), [("eV", 8000), ("keV", 8.0), ("J", 8000 * JOULE_PER_EV), (b"eV", [8000.0])])
def test_an_energy_is_in_its_unit(scan_file, unit, value):
    path = scan_file(energy=value)
    with h5py.File(path, "a") as file:
        file[f"{SOURCE}/energy"].attrs["units"] = unit
    assert open_ptychography(path).wavelength == pytest.approx(0.15498, abs=1e-5)


def test_the_energy_of_the_beam_goes_before_that_of_the_ring(scan_file):
    path = scan_file(energy=3.0)
    with h5py.File(path, "a") as file:
        file[f"{SOURCE}/energy"].attrs["units"] = "GeV"
    with pytest.raises(ImageError, match="photon energy = 3 GeV: expected a number above 0, from 1 eV to 1 MeV"):
        open_ptychography(path)
    with h5py.File(path, "a") as file:
        file["entry_1/instrument_1/beam_1/incident_beam_energy"] = 8000 * JOULE_PER_EV
    assert open_ptychography(path).wavelength == pytest.approx(0.15498, abs=1e-5)
    with pytest.raises(ImageError, match="photon energy = 8000 J: expected a number above 0"):
        open_ptychography(scan_file(energy=8000.0))


def test_lengths_are_in_their_units(scan_file):
    path = scan_file(distance=2000.0)
    with h5py.File(path, "a") as file:
        file[f"{DETECTOR}/distance"].attrs["units"] = "mm"
    assert open_ptychography(path).distance == pytest.approx(2e9)


def test_masks_of_every_kind(scan_file):
    good = np.ones((20, 24), dtype=bool)
    good[:2] = False
    assert np.array_equal(open_ptychography(scan_file(mask=good)).mask.numpy(), good)
    counts = COUNTS.copy()
    counts[:, 5] = -1
    with pytest.warns(UserWarning, match="24 pixels of 1 images"):
        found = open_ptychography(scan_file(data=counts))
    assert not found.mask[5].any()
    assert not found.frames()[:, 5].any()
    path = scan_file()
    with h5py.File(path, "a") as file:
        file.create_group(f"{DETECTOR}/mask")
    with pytest.raises(ImageError, match="mask is a group, or empty"):
        open_ptychography(path)
