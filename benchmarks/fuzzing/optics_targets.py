"""Scattering curves, ptychographic scans and images: small good files, and their use."""

from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tifffile
import torch

from fuzzing.array_edits import NUMPY_EDITS, TIFF_EDITS
from fuzzing.crystal_targets import write_text
from fuzzing.hdf5_edits import HDF5_EDITS
from fuzzing.text_edits import TEXT_EDITS
from fuzzing.trials import Target
from rephase.formats.curves import read_saxs
from rephase.formats.cxi import JOULE_PER_EV, write_cxi
from rephase.labs.images.data.droplet_labels import LABELS
from rephase.labs.images.data.files import read_images
from rephase.labs.waves.data.files import open_ptychography

Q = np.linspace(0.05, 2.0, 20)
INTENSITY = 50 * np.exp(-(Q**2)) + 0.1
SIGMA = 0.02 * INTENSITY
COUNTS = np.random.default_rng(0).poisson(3, (4, 20, 24)).astype(np.int32)
_DETECTOR = "entry_1/instrument_1/detector_1"


def _columns(form: str) -> str:
    return "".join(form.format(*row) for row in zip(Q, INTENSITY, SIGMA))


_PDH = (
    "silica\nSAXS BOX\n" + "%9d" * 8 % (20, 0, 0, 0, 0, 0, 0, 0) + ("\n" + "%14.6E" * 5 % (0, 0, 0, 1, 0.15)) * 2 + "\n"
)
_XML = (
    '<?xml version="1.0"?>\n<SASroot version="1.1" xmlns="urn:cansas1d:1.1">\n<SASentry name="a">',
    "<Title>silica</Title>\n<Run>1</Run>\n<SASdata>\n",
    _columns('<Idata><Q unit="1/nm">{:.6g}</Q><I unit="1/cm">{:.6g}</I><Idev unit="1/cm">{:.6g}</Idev></Idata>\n'),
    "</SASdata>\n<SASsample><ID>x</ID></SASsample>\n</SASentry>\n</SASroot>\n",
)
CURVES = {
    "curve.dat": "# sample: silica\n# q [1/nm]  I [1/cm]  sigma\n" + _columns("{:.6g} {:.6g} {:.6g}\n"),
    "curve.csv": '"q (nm^-1)",I,sigma,dq\n' + _columns("{0:.6g},{1:.6g},{2:.6g},0.001\n"),
    "comma.csv": "q (1/nm);I;s\n" + _columns("{:.6g};{:.6g};{:.6g}\n").replace(".", ","),
    "curve.pdh": _PDH + _columns("{:14.6E}{:14.6E}{:14.6E}\n"),
    "curve.xml": "".join(_XML),
}
_BOMB = (
    '<!DOCTYPE a [<!ENTITY b "b">'
    + "".join(f'<!ENTITY b{n} "{f"&b{n - 1 or str()};" * 10}">' for n in range(1, 10))
    + "]>"
)


def edit_xml(path: Path, random: Any) -> None:
    """Insert entities that expand or that name files, or another encoding than the declared one."""
    text = path.read_text(errors="replace")
    file = '<!DOCTYPE a [<!ENTITY b9 SYSTEM "file:///etc/passwd">]>'
    head = random.choice(
        [_BOMB, file, "<!DOCTYPE a SYSTEM 'http://localhost/x'>", "<?xml version='1.0' encoding='x'?>"]
    )
    path.write_text(text.replace('<?xml version="1.0"?>', head).replace("silica", "&b9;").replace(">1<", ">&b9;<"))


def write_nexus(folder: Path) -> Path:
    """Write NXcanSAS with every column that is read."""
    path = folder / "curve.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("sasentry01/sasdata01")
        group.attrs.update(canSAS_class="SASdata", mask="Mask", signal="I", I_axes="Q")
        columns = {"Q": Q, "I": INTENSITY, "Idev": SIGMA, "Qdev": 0.01 * Q, "Mask": np.zeros(len(Q), int)}
        for name, values in columns.items():
            group[name] = values
            group[name].attrs["units"] = "1/cm" if name.startswith("I") else "1/nm"
        group["I"].attrs["uncertainties"], group["Q"].attrs["resolutions"] = "Idev", "Qdev"
        file["sasentry01/title"] = "silica"
    return path


def write_scan(folder: Path) -> Path:
    """Write a ptychographic scan of four frames."""
    path = folder / "scan.cxi"
    with h5py.File(path, "w") as file:
        file[f"{_DETECTOR}/data"] = COUNTS
        file[f"{_DETECTOR}/distance"] = np.float32(2.0)
        file[f"{_DETECTOR}/x_pixel_size"] = file[f"{_DETECTOR}/y_pixel_size"] = 75e-6
        file[f"{_DETECTOR}/mask"] = np.zeros((20, 24), np.uint32)
        file[f"{_DETECTOR}/basis_vectors"] = np.array([[0, -75e-6], [-75e-6, 0], [0, 0]])
        file["entry_1/instrument_1/source_1/energy"] = 8000 * JOULE_PER_EV
        positions = np.array([[0, 0, 0], [1, 0, 0], [1, 2, 0], [0, 2, 5.0]])
        file["entry_1/sample_1/geometry_1/translation"] = 1e-6 * positions
        file["entry_1/data_1/translation"] = h5py.SoftLink("/entry_1/sample_1/geometry_1/translation")
    return path


def write_shots(folder: Path) -> Path:
    """Write three images in one CXI file, with their masks and labels."""
    mask = np.ones((3, 20, 24), bool)
    mask[:, 5:8, 6] = False
    return write_cxi(folder / "shots.cxi", COUNTS[:3], mask, np.zeros((3, len(LABELS))))


def write_entries(folder: Path) -> Path:
    """Write two images, each in its own entry, one with its energy."""
    path = folder / "entries.h5"
    with h5py.File(path, "w") as file:
        file["number_of_entries"] = 2
        for number in (1, 2):
            file[f"entry_{number}/data_1/data"] = COUNTS[number].astype(np.uint16)
            file[f"entry_{number}/note_1/data"] = np.zeros(len(LABELS), np.uint8)
            file[f"entry_{number}/instrument_1/source_1/energy"] = 1000 * JOULE_PER_EV
    return path


def write_plain(folder: Path) -> Path:
    """Write one compressed dataset of images."""
    with h5py.File(folder / "plain.hdf5", "w") as file:
        file.create_dataset("images", data=COUNTS, compression="gzip", chunks=(1, 20, 24))
    return folder / "plain.hdf5"


def write_numpy(folder: Path) -> Path:
    """Write a stack of images."""
    np.save(folder / "stack.npy", COUNTS.astype(np.float32))
    return folder / "stack.npy"


def write_mask(folder: Path) -> Path:
    """Write a boolean mask beside images."""
    write_numpy(folder)
    np.save(folder / "mask.npy", np.random.default_rng(1).random((20, 24)) > 0.1)
    return folder / "mask.npy"


def write_tiff(options: dict[str, Any], folder: Path) -> Path:
    """Write a TIFF file of one kind."""
    values = COUNTS[:3].astype(np.uint16)
    tifffile.imwrite(folder / "good.tif", np.ascontiguousarray(values), **options)
    return folder / "good.tif"


def use_curve(path: Path) -> None:
    """Check that the columns are finite; the format .pdh names no unit."""
    curve = read_saxs(path, q_unit="1/nm" if path.suffix == ".pdh" else None)
    for values in (curve.q, curve.intensity, curve.sigma):
        assert np.isfinite(values).all()


def use_scan(path: Path) -> None:
    """Read the geometry, and the frames in two parts."""
    scan = open_ptychography(path)
    assert torch.isfinite(scan.positions).all()
    for part in (slice(0, 2), [len(scan) - 1]):
        assert torch.isfinite(scan.frames(part)).all()


def use_images(path: Path) -> None:
    """Read the first and last image, made square."""
    images = read_images(path, size=32)
    batch = images[[0, len(images) - 1]]
    assert torch.isfinite(batch.image[batch.mask]).all()
    images.energy_ev.sum()


def use_masked_images(path: Path) -> None:
    """Read images with the changed mask."""
    read_images(path.with_name("stack.npy"), size=32, mask=path)[[0]]


_TIFFS: dict[str, dict[str, Any]] = {
    "pages.tif": {"photometric": "minisblack"},
    "deflated.tif": {"photometric": "minisblack", "compression": "zlib", "predictor": True},
    "planar.tif": {"photometric": "rgb", "planarconfig": "separate"},
    "imagej.tif": {"imagej": True},
    "tiled.tif": {"photometric": "minisblack", "tile": (16, 16)},
    "bigendian.tif": {"photometric": "minisblack", "byteorder": ">"},
}
TARGETS = {
    **{name: Target(partial(write_text, name, text), use_curve) for name, text in CURVES.items()},
    "curve.xml": Target(partial(write_text, "curve.xml", CURVES["curve.xml"]), use_curve, (*TEXT_EDITS, edit_xml)),
    "NXcanSAS": Target(write_nexus, use_curve, HDF5_EDITS),
    "ptychography.cxi": Target(write_scan, use_scan, HDF5_EDITS),
    "images.cxi": Target(write_shots, use_images, HDF5_EDITS),
    "entries.h5": Target(write_entries, use_images, HDF5_EDITS),
    "plain.hdf5": Target(write_plain, use_images, HDF5_EDITS),
    "stack.npy": Target(write_numpy, use_images, NUMPY_EDITS),
    "mask.npy": Target(write_mask, use_masked_images, NUMPY_EDITS),
    **{name: Target(partial(write_tiff, options), use_images, TIFF_EDITS) for name, options in _TIFFS.items()},
}
