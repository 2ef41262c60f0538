"""Detector and beam in HDF5 files: masks in either convention, energies and lengths with their units."""

import h5py
import numpy as np

from rephase.errors import ImageError
from rephase.formats.hdf5 import Hdf5File, attribute

JOULE_PER_EV = 1.602176634e-19  # exact, SI 2019
MASKS = ("mask", "pixel_mask")  # names of masks beside images, in CXI and in NeXus
MISSING = 0x200
UNUSABLE = 0x0FF | MISSING  # bits of a CXI mask: all up to "bad", and "missing" (Maia, Nat. Methods 9, 854, 2012)

_EV = {
    "j": 1 / JOULE_PER_EV,
    "joule": 1 / JOULE_PER_EV,
    "joules": 1 / JOULE_PER_EV,
    "ev": 1.0,
    "electronvolt": 1.0,
    "kev": 1e3,
    "mev": 1e6,
    "gev": 1e9,
}
_NM = {
    "m": 1e9,
    "meter": 1e9,
    "metre": 1e9,
    "meters": 1e9,
    "metres": 1e9,
    "cm": 1e7,
    "mm": 1e6,
    "millimeter": 1e6,
    "um": 1e3,
    "µm": 1e3,
    "μm": 1e3,
    "micron": 1e3,
    "microns": 1e3,
    "micrometer": 1e3,
    "nm": 1.0,
    "nanometer": 1.0,
    "a": 0.1,
    "å": 0.1,
    "angstrom": 0.1,
    "angstroms": 0.1,
    "pm": 1e-3,
}
_PHOTONS_EV = (1.0, 1e6)
_ENERGIES = {  # paths of the photon energy, and default units; the last may be the energy of a storage ring
    "instrument_1/beam_1/incident_beam_energy": "J",
    "beam_1/incident_beam_energy": "J",
    "sample_1/beam_1/incident_beam_energy": "J",
    "instrument_1/beam_1/energy": "J",
    "instrument/beam/incident_energy": "eV",
    "instrument/detector/detectorSpecific/photon_energy": "eV",
    "instrument_1/source_1/energy": "J",
}


def measured_by(mask: np.ndarray, name: str) -> np.ndarray:
    """Find the measured pixels of a mask: True in a boolean mask, or no disqualifying CXI bit in an integer mask.

    Only in a ``pixel_mask``, the convention of NeXus, measured pixels are exactly those with 0.
    """
    if name.endswith("pixel_mask"):
        return mask == 0
    return mask if mask.dtype == bool else (mask.astype(np.int64) & UNUSABLE) == 0


def check_mask_dataset(mask: h5py.Dataset, shape: tuple[int, ...]) -> None:
    """Raise `ImageError` unless a dataset can be the mask of images of this shape, one per image or one for all."""
    if mask.shape not in (shape, shape[-2:]) or mask.dtype.kind not in "bui":
        raise ImageError(
            f"a mask of shape {mask.shape}, {mask.dtype}: expected booleans, or bits, of the shape {shape}"
        )


def photon_energy_ev(file: Hdf5File, entry: h5py.Group) -> tuple[float, str]:
    """Return the photon energy in eV and "", or NaN and the reason why there is none.

    The energy of the beam takes precedence over the energy of the source, which may be that of the electrons in a
    storage ring. A value without a unit has the unit of the format; accepted are 1 eV to 1 MeV.
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
            f"photon energy = {value:g} {unit}: expected a number above 0, from 1 eV to 1 MeV, in J, eV or keV, at "
            f"{item.name}"
        )
    return float("nan"), "; ".join(reasons)


def length_nm(file: Hdf5File, item: h5py.Dataset) -> float:
    """Read the single number of a dataset as a length in nm; without a unit it is in m.

    Raises
    ------
    ImageError
        There are several numbers, or the unit is unknown.
    """
    if item.size != 1:
        raise ImageError(f"{file.path.name}: {item.name} has shape {item.shape}: expected one number")
    return file.number(item) * nm_per_unit(file, item)


def nm_per_unit(file: Hdf5File, item: h5py.Dataset) -> float:
    """The length unit of a dataset in nm; m if it names none."""
    unit = attribute(item, "units", "unit").strip()
    if unit and unit.lower() not in _NM:
        raise ImageError(f"{file.path.name}: {item.name} has the unit {unit!r}: expected m, mm, um or nm")
    return _NM[unit.lower() or "m"]
