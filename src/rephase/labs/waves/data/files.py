"""Ptychographic scans in CXI files: geometry, positions and mask are read at once, frames on request."""

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch

from rephase.errors import ImageError
from rephase.formats.hdf5 import Hdf5File, open_hdf5
from rephase.formats.hdf5_detectors import check_mask_dataset, length_nm, measured_by, nm_per_unit, photon_energy_ev
from rephase.formats.shots import check_layout, has_gap, hides_most, pixels_of, warn_of_masks
from rephase.optics.detector import wavelength_nm

_DETECTOR = "entry_1/instrument_1/detector_1"
_WAVELENGTHS = ("entry_1/instrument_1/beam_1/incident_wavelength", "entry_1/instrument_1/source_1/wavelength")
_POSITIONS = ("entry_1/sample_1/geometry_1/translation", "entry_1/data_1/translation", f"{_DETECTOR}/translation")
_SHORTEST, _LONGEST = wavelength_nm(1e6), wavelength_nm(1.0)
_AXES = -np.eye(3)[[1, 0]]  # seen along the beam, rows run down and columns to the right: -y and -x of CXI


@dataclass(frozen=True)
class PtychoFile:
    """A scan whose frames stay in their file.

    Attributes
    ----------
    path
        Path of the file.
    shape
        Numbers of frames, rows and columns.
    wavelength, distance, pixel
        Wavelength, distance from sample to detector, and side of the square detector pixels, all in nm.
    positions
        Positions of the beam on the sample, nm, [frame, 2], float64, along the rows and columns of the detector,
        relative to the middle of their range.
    mask
        Boolean [row, column], True = measured.
    """

    path: Path
    shape: tuple[int, int, int]
    wavelength: float
    distance: float
    pixel: float
    positions: torch.Tensor
    mask: torch.Tensor

    def __len__(self) -> int:
        return self.shape[0]

    def frames(self, chosen: slice | list[int] = slice(None)) -> torch.Tensor:
        """Read the counts of some or all frames, float32 [frame, row, column]; 0 where masked.

        Raises
        ------
        ImageError
            Frames are damaged or missing, or unmasked counts are negative or NaN.
        """
        numbers = np.arange(len(self))[chosen]
        order = np.unique(numbers)  # HDF5 needs rising indices
        with open_hdf5(self.path, ImageError) as file:
            counts = _frames(file)[_as_slice(order)]
        is_wrong = has_gap(counts) | (counts < 0) | ~np.isfinite(counts)
        if (is_wrong & self.mask.numpy()).any():
            raise ImageError(
                f"{self.path}: measured counts are negative or NaN in places, or the largest number of {counts.dtype}; "
                "mask or clip such pixels"
            )
        counts = np.where(self.mask, counts, 0).astype(np.float32)[np.searchsorted(order, numbers)]
        return torch.as_tensor(counts)


def open_ptychography(path: Path) -> PtychoFile:
    """Read geometry, positions and mask of a scan from a CXI file; frames stay in the file.

    The reader uses ``entry_1``: counts [frame, y, x] in ``instrument_1/detector_1/data`` (or ``data_1/data``); in the
    same group ``distance`` and ``x_pixel_size``, ``mask`` (booleans, True = measured, or the bits of CXI) and
    ``basis_vectors`` [3, 2], the directions of rows and columns; the photon energy in ``beam_1`` or ``source_1`` (see
    `photon_energy_ev`), or a wavelength; ``translation`` [frame, 3] of the sample (the beam moves over it in the
    opposite direction). Lengths are in their ``units``, or in m without. Without basis vectors rows run along -y and
    columns along -x. Pixels whose value in the first frame cannot be a count are masked.

    Raises
    ------
    ImageError
        The file is not HDF5, or something in it is missing or invalid.

    Warns
    -----
    UserWarning
        Pixels are masked because of their value, or the mask hides most of the counts.
    """
    with open_hdf5(path, ImageError) as file:
        frames = _frames(file)
        return PtychoFile(
            path=Path(path),
            shape=frames.shape,
            wavelength=_wavelength(file),
            distance=_length(file, f"{_DETECTOR}/distance", what="distance"),
            pixel=_pixel(file),
            positions=_positions(file, len(frames)),
            mask=_mask(file, frames),
        )


def _frames(file: Hdf5File) -> h5py.Dataset:
    names = (f"{_DETECTOR}/data", "entry_1/data_1/data")
    found = next((item for name in names if isinstance(item := file.find(name), h5py.Dataset)), None)
    if found is None:
        raise ImageError(f"{file.path}: no frames; looked for {' and '.join(names)}")
    check_layout(found.shape or (), found.dtype)
    if found.ndim != 3:
        raise ImageError(f"{file.path}: frames of shape {found.shape}: expected a scan [frame, y, x]")
    file.check_stored(found)
    return found


def _as_slice(rows: np.ndarray) -> slice | np.ndarray:
    """Turn adjacent rows into a slice, which HDF5 reads much faster; leave others unchanged."""
    first, last = int(rows[0]), int(rows[-1])
    return slice(first, last + 1) if last - first + 1 == len(rows) else rows


def _length(file: Hdf5File, *names: str, what: str) -> float:
    """Read the length above 0, in nm, from the first of `names` in the file."""
    noted = next((item for name in names if (item := file.dataset(name)) is not None), None)
    if noted is None or noted.size != 1:
        raise ImageError(f"{file.path}: no {what}; looked for one number in {' and '.join(names)}")
    value = length_nm(file, noted)
    if not (np.isfinite(value) and value > 0):
        raise ImageError(f"{file.path}: {what} = {value:g}: expected a number above 0 in {noted.name}")
    return value


def _wavelength(file: Hdf5File) -> float:
    """Read the wavelength in nm, from the photon energy if the file has one."""
    entry = file.group("entry_1")
    energy_ev, reason = (float("nan"), "") if entry is None else photon_energy_ev(file, entry)
    if np.isfinite(energy_ev):
        return wavelength_nm(energy_ev)
    if reason and not any(file.find(name) for name in _WAVELENGTHS):
        raise ImageError(f"{file.path}: {reason}")
    value = _length(file, *_WAVELENGTHS, what="photon energy or wavelength")
    if not _SHORTEST <= value <= _LONGEST:
        raise ImageError(
            f"{file.path}: wavelength = {value:g} nm: expected the wavelength of photons of 1 eV to 1 MeV, in m"
        )
    return value


def _pixel(file: Hdf5File) -> float:
    x, y = (_length(file, f"{_DETECTOR}/{axis}_pixel_size", what="size of pixels") for axis in "xy")
    if abs(x - y) > 1e-3 * x:
        raise ImageError(f"{file.path}: pixels of {x:g} x {y:g} nm: expected square pixels; resample the frames")
    return x


def _positions(file: Hdf5File, n: int) -> torch.Tensor:
    noted = next((item for name in _POSITIONS if (item := file.dataset(name)) is not None), None)
    if noted is None:
        raise ImageError(f"{file.path}: no positions; looked for {', '.join(_POSITIONS)}")
    if noted.shape != (n, 3):
        raise ImageError(
            f"{file.path}: positions of shape {noted.shape} for {n} frames: expected ({n}, 3) in {noted.name}"
        )
    sample = file.numbers(noted).astype(np.float64)
    if not np.isfinite(sample).all():
        n_bad = int((~np.isfinite(sample)).any(1).sum())
        raise ImageError(f"{file.path}: {n_bad} positions are NaN or infinite in {noted.name}")
    beam = -nm_per_unit(file, noted) * sample @ _directions(file).T
    return torch.as_tensor(beam - (beam.min(0) + beam.max(0)) / 2)


def _directions(file: Hdf5File) -> np.ndarray:
    """Unit vectors [2, 3] along the rows, downwards, and along the columns."""
    noted = file.dataset(f"{_DETECTOR}/basis_vectors")
    if noted is None:
        return _AXES
    if noted.shape != (3, 2):
        raise ImageError(f"{file.path}: basis vectors of shape {noted.shape}: expected [3, 2]")
    vectors = file.numbers(noted).astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=0)
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        raise ImageError(f"{file.path}: basis vectors {vectors.tolist()}: expected [3, 2], both different from 0")
    return (vectors / lengths).T


def _mask(file: Hdf5File, frames: h5py.Dataset) -> torch.Tensor:
    """Combine the mask of the file with that of the invalid pixels of the first frame."""
    noted, measured = file.dataset(f"{_DETECTOR}/mask"), np.ones(frames.shape[1:], dtype=bool)
    if noted is not None:
        if noted.ndim != 2:
            raise ImageError(f"{file.path}: a mask of shape {noted.shape}: expected one mask [y, x] for all frames")
        check_mask_dataset(noted, frames.shape)
        measured = measured_by(file.numbers(noted), "mask")
    if not measured.any():
        raise ImageError(f"{file.path}: every pixel is masked: nothing was measured; is the mask inverted?")
    first = pixels_of(frames[0], measured)
    warn_of_masks(file.path, {"frame 0": first.n_gaps}, ["frame 0"] if hides_most(first) else [])
    return torch.as_tensor(first.mask)
