"""What HDF5 files say of a detector and its beam: masks in either convention, energies and lengths by their units."""

import h5py
import numpy as np

from rephase.errors import ImageError
from rephase.formats.hdf5 import Hdf5File, attribute

JOULE_PER_EV = 1.602176634e-19  # exact, SI 2019
MASKS = ("mask", "pixel_mask")  # what they are called beside images: of CXI and of NeXus
MISSING = 0x200
UNUSABLE = 0x0FF | MISSING  # bits of a CXI mask: all up to "bad", and "missing" (Maia, Nat. Methods 9, 854, 2012)

_EV = {"j": 1 / JOULE_PER_EV, "joule": 1 / JOULE_PER_EV, "joules": 1 / JOULE_PER_EV,
       "ev": 1.0, "electronvolt": 1.0, "kev": 1e3, "mev": 1e6, "gev": 1e9}  # fmt: skip
_NM = {"m": 1e9, "meter": 1e9, "metre": 1e9, "meters": 1e9, "metres": 1e9, "cm": 1e7, "mm": 1e6, "millimeter": 1e6,
       "um": 1e3, "µm": 1e3, "μm": 1e3, "micron": 1e3, "microns": 1e3, "micrometer": 1e3, "nm": 1.0, "nanometer": 1.0,
       "a": 0.1, "å": 0.1, "angstrom": 0.1, "angstroms": 0.1, "pm": 1e-3}  # fmt: skip
_PHOTONS_EV = (1.0, 1e6)
_ENERGIES = {  # where the energy of the photons is told, and its unit where none is; the last may be that of the ring
    "instrument_1/beam_1/incident_beam_energy": "J", "beam_1/incident_beam_energy": "J",
    "sample_1/beam_1/incident_beam_energy": "J", "instrument_1/beam_1/energy": "J",
    "instrument/beam/incident_energy": "eV", "instrument/detector/detectorSpecific/photon_energy": "eV",
    "instrument_1/source_1/energy": "J",
}  # fmt: skip


def measured_by(mask: np.ndarray, name: str) -> np.ndarray:
    """What a mask shows as measured: True in booleans; in whole numbers, where no bit of CXI says otherwise.

    Only a ``pixel_mask``, as NeXus calls it, is 0 there, and something else everywhere else.
    """
    if name.endswith("pixel_mask"):
        return mask == 0
    return mask if mask.dtype == bool else (mask.astype(np.int64) & UNUSABLE) == 0


def check_mask_dataset(mask: h5py.Dataset, shape: tuple[int, ...]) -> None:
    """Raise `ImageError` unless a dataset can be the mask of images of a shape, one for each or for all."""
    if mask.shape not in (shape, shape[-2:]) or mask.dtype.kind not in "bui":
        raise ImageError(
            f"a mask of shape {mask.shape}, {mask.dtype}: expected booleans, or bits, of the shape {shape}"
        )


def photon_energy_ev(file: Hdf5File, entry: h5py.Group) -> tuple[float, str]:
    """Photon energy in eV by the unit that it has, and "", else NaN and why there is none, in words.

    The energy of the beam goes before that of the source, which may be that of the electrons of a storage ring. What
    has no unit is in that of the format; the photons have 1 eV to 1 MeV.
    """
    reasons = []
    for path, usual in _ENERGIES.items():
        item = file.find(path, entry)
        if not isinstance(item, h5py.Dataset):
            continue
        if item.shape is None or item.dtype.kind not in "iuf":
            reasons.append(f"photon energy: expected a number in {item.name}")
            continue
        unit, value = attribute(item, "units", "unit") or usual, file.number(item)
        energy = value * _EV.get(unit.strip().lower(), np.nan)
        if _PHOTONS_EV[0] <= energy <= _PHOTONS_EV[1]:
            return float(energy), ""
        reasons.append(
            f"photon energy = {value:g} {unit}: expected a number above 0, of 1 eV to 1 MeV in J, eV or keV, in "
            f"{item.name}"
        )
    return float("nan"), "; ".join(reasons)


def length_nm(file: Hdf5File, item: h5py.Dataset) -> float:
    """The one number of a dataset as a length in nm, by its unit; in m where it has none.

    Raises
    ------
    ImageError
        More numbers, an unknown unit.
    """
    if item.size != 1:
        raise ImageError(f"{file.path.name}: {item.name} has shape {item.shape}: expected one number")
    return file.number(item) * nm_per_unit(file, item)


def nm_per_unit(file: Hdf5File, item: h5py.Dataset) -> float:
    """The unit of lengths in nm; m where a dataset names none."""
    unit = attribute(item, "units", "unit").strip()
    if unit and unit.lower() not in _NM:
        raise ImageError(f"{file.path.name}: {item.name} has the unit {unit!r}: expected m, mm, um or nm")
    return _NM[unit.lower() or "m"]
