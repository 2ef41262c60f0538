"""Ptychographic scans in CXI files: geometry, positions and mask at once, frames when they are asked for."""

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch

from rephase.datasets.cxi import JOULE_PER_EV, UNUSABLE, check_layout, reading
from rephase.errors import ImageError
from rephase.optics.detector import wavelength_nm

_DETECTOR = "entry_1/instrument_1/detector_1"
_ENERGY, _WAVELENGTH = "entry_1/instrument_1/source_1/energy", "entry_1/instrument_1/source_1/wavelength"
_POSITIONS = ("entry_1/sample_1/geometry_1/translation", "entry_1/data_1/translation", f"{_DETECTOR}/translation")
_NM = 1e9  # per m, the unit of CXI
_AXES = -np.eye(3)[[1, 0]]  # rows run down, columns to the right of who looks along the beam: -y and -x of CXI


@dataclass(frozen=True)
class PtychoFile:
    """A scan whose frames stay in their file.

    Attributes
    ----------
    path
        Of the file.
    shape
        Frames, rows and columns.
    wavelength, distance, pixel
        In nm; from sample to detector, and of the square pixels of the detector.
    positions
        [frame, 2] nm, float64: of the beam on the sample along the rows and columns of the detector, from the middle of
        their range.
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
        """Read counts, float32 [frame, row, column], of some frames or all; 0 where they are masked.

        Raises
        ------
        ImageError
            Frames that are damaged or no longer there, or counts that are negative or NaN although not masked.
        """
        numbers = np.arange(len(self))[chosen]
        order = np.unique(numbers)  # as HDF5 wants them
        with reading(str(self.path), "HDF5"), h5py.File(self.path, "r") as file:
            try:
                counts = _frames(file, self.path)[_as_slice(order)]
            except OSError as error:
                raise ImageError(f"{self.path}: frames cannot be read ({error}); copy the file again") from error
        counts = np.where(self.mask, counts, 0).astype(np.float32)[np.searchsorted(order, numbers)]
        if not (np.isfinite(counts).all() and (counts >= 0).all()):
            raise ImageError(f"{self.path}: measured counts are negative or NaN in places; mask or clip such pixels")
        return torch.as_tensor(counts)


def open_ptychography(path: Path) -> PtychoFile:
    """Read what a CXI file says of a scan; frames are left where they are.

    All is looked for in ``entry_1``: counts [frame, y, x] in ``instrument_1/detector_1/data`` (or ``data_1/data``),
    beside them ``distance`` and ``x_pixel_size`` in m, ``mask`` in the bits of CXI and ``basis_vectors`` [3, 2], the
    directions of rows and columns; ``energy`` in J or ``wavelength`` in m of ``source_1``; ``translation`` [frame, 3]
    of the sample in m (the beam goes over it the other way). Without basis vectors rows go along -y and columns
    along -x.

    Raises
    ------
    ImageError
        No HDF5 file; something of it is missing or makes no sense.
    """
    with reading(str(path), "HDF5"), h5py.File(path, "r") as file:
        frames = _frames(file, path)
        return PtychoFile(
            path=path,
            shape=frames.shape,
            wavelength=_wavelength(file, path),
            distance=_length(file, path, f"{_DETECTOR}/distance", what="distance"),
            pixel=_pixel(file, path),
            positions=_positions(file, path, len(frames)),
            mask=_mask(file, path, frames.shape[1:]),
        )


def _frames(file: h5py.File, path: Path) -> h5py.Dataset:
    found = file.get(f"{_DETECTOR}/data", file.get("entry_1/data_1/data"))
    if not isinstance(found, h5py.Dataset):
        raise ImageError(f"{path}: no frames; looked for {_DETECTOR}/data and entry_1/data_1/data")
    check_layout(found.shape, found.dtype)
    if found.ndim != 3:
        raise ImageError(f"{path}: frames of shape {found.shape}: expected a scan [frame, y, x]")
    return found


def _as_slice(rows: np.ndarray) -> slice | np.ndarray:
    """Neighbouring rows, which HDF5 reads much faster as such; others as they are."""
    first, last = int(rows[0]), int(rows[-1])
    return slice(first, last + 1) if last - first + 1 == len(rows) else rows


def _length(file: h5py.File, path: Path, name: str, *, what: str, unit: float = _NM) -> float:
    """The number above 0 that is called `name`, times `unit`: by default from m to nm."""
    noted = file.get(name)
    if not isinstance(noted, h5py.Dataset) or noted.size != 1:
        raise ImageError(f"{path}: no {what}; looked for one number in {name}")
    value = float(np.ravel(noted[()])[0]) * unit
    if not (np.isfinite(value) and value > 0):
        raise ImageError(f"{path}: {what} = {value:g}: expected a number above 0 in {name}")
    return value


def _wavelength(file: h5py.File, path: Path) -> float:
    if _ENERGY not in file:
        return _length(file, path, _WAVELENGTH, what="photon energy or wavelength")
    return wavelength_nm(_length(file, path, _ENERGY, what="photon energy", unit=1 / JOULE_PER_EV))


def _pixel(file: h5py.File, path: Path) -> float:
    x, y = (_length(file, path, f"{_DETECTOR}/{axis}_pixel_size", what="size of pixels") for axis in "xy")
    if abs(x - y) > 1e-3 * x:
        raise ImageError(f"{path}: pixels of {x:g} x {y:g} nm: expected square ones; resample the frames")
    return x


def _positions(file: h5py.File, path: Path, n: int) -> torch.Tensor:
    name = next((name for name in _POSITIONS if name in file), None)
    if name is None:
        raise ImageError(f"{path}: no positions; looked for {', '.join(_POSITIONS)}")
    sample = np.asarray(file[name], dtype=np.float64)
    if sample.shape != (n, 3):
        raise ImageError(f"{path}: positions of shape {sample.shape} for {n} frames: expected ({n}, 3) in {name}")
    if not np.isfinite(sample).all():
        raise ImageError(f"{path}: {int((~np.isfinite(sample)).any(1).sum())} positions are NaN or infinite in {name}")
    beam = -_NM * sample @ _directions(file, path).T
    return torch.as_tensor(beam - (beam.min(0) + beam.max(0)) / 2)


def _directions(file: h5py.File, path: Path) -> np.ndarray:
    """Unit vectors [2, 3] along the rows, downwards, and along the columns."""
    noted = file.get(f"{_DETECTOR}/basis_vectors")
    if noted is None:
        return _AXES
    vectors = np.asarray(noted, dtype=np.float64)
    if vectors.shape != (3, 2) or not (np.linalg.norm(vectors, axis=0) > 0).all():
        raise ImageError(f"{path}: basis vectors {vectors.tolist()}: expected [3, 2], neither of them 0")
    return (vectors / np.linalg.norm(vectors, axis=0)).T


def _mask(file: h5py.File, path: Path, shape: tuple[int, int]) -> torch.Tensor:
    noted = file.get(f"{_DETECTOR}/mask")
    if noted is None:
        return torch.ones(shape, dtype=torch.bool)
    if noted.shape != shape or noted.dtype.kind not in "bui":
        raise ImageError(f"{path}: a mask of shape {noted.shape}, {noted.dtype}: expected bits, of the shape {shape}")
    mask = (np.asarray(noted).astype(np.int64) & UNUSABLE) == 0
    if not mask.any():
        raise ImageError(f"{path}: every pixel is masked: nothing was measured")
    return torch.as_tensor(mask)
