"""Safe reading of untrusted HDF5 files: links and sizes are checked before they cost memory or time."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import h5py
import numpy as np

from rephase.errors import RephaseError
from rephase.formats.damaged_files import check_claim, damage_named

Item: TypeAlias = h5py.Group | h5py.Dataset
_MOST_BYTES = 2**29  # read at once from a dataset or a chunk
_MOST_ITEMS = 20_000  # groups and datasets that are searched
_MOST_LINKS = 8  # in succession
_KINDS = {"O": "words or references", "S": "words", "U": "words", "V": "records", "c": "complex numbers"}


@dataclass(frozen=True)
class Hdf5File:
    """An open file, whose methods raise `error` for every defect.

    Links to other files are followed only within the same folder.
    """

    path: Path
    root: h5py.File
    error: type[RephaseError]

    def find(self, name: str, group: h5py.Group | None = None) -> Item | None:
        """Find a group or dataset by its path from `group` or the root; None if nothing has this name.

        Raises
        ------
        RephaseError
            A link on the path is broken, circular, or leads to another folder.
        """
        return self._find(name, self.root if group is None else group, _MOST_LINKS)

    def group(self, name: str, group: h5py.Group | None = None) -> h5py.Group | None:
        """Find a group by its path; None if nothing, or a dataset, has this name."""
        found = self.find(name, group)
        return found if isinstance(found, h5py.Group) else None

    def dataset(self, name: str, group: h5py.Group | None = None) -> h5py.Dataset | None:
        """Find a dataset of numbers by its path; None if nothing has this name, an error if something else has."""
        found = self.find(name, group)
        if found is None:
            return None
        if not isinstance(found, h5py.Dataset) or found.shape is None:
            raise self.error(f"{self.path.name}: {found.name} is a group, or empty: expected a dataset of numbers")
        if found.dtype.kind not in "biuf":
            held = _KINDS.get(found.dtype.kind, str(found.dtype))
            raise self.error(f"{self.path.name}: {found.name} holds {held}: expected numbers")
        return found

    def items(self) -> list[Item]:
        """List all groups and datasets of this file, without links.

        Raises
        ------
        RephaseError
            There are too many to search.
        """
        items: list[Item] = []

        def visit(_: str, item: Item) -> bool | None:
            items.append(item)
            return True if len(items) > _MOST_ITEMS else None

        if self.root.visititems(visit):
            raise self.error(f"{self.path.name}: more than {_MOST_ITEMS:,} groups and datasets; split the file")
        return items

    def check_stored(self, dataset: h5py.Dataset) -> None:
        """Raise unless the file can contain the numbers that a dataset claims, and they can be decompressed here."""
        name = f"{self.path.name}: {dataset.name} of shape {dataset.shape}"
        if dataset.external:
            files = ", ".join(sorted({str(file) for file, *_ in dataset.external}))
            raise self.error(f"{name} keeps its numbers in other files, {files}: expected one file; copy them into it")
        self._check_filters(name, dataset)
        stored = self._stored_bytes(dataset)
        if not stored and dataset.size:
            raise self.error(f"{name} is empty: nothing was ever written to it")
        self._check_chunk(dataset)
        claimed = int(dataset.size) * dataset.dtype.itemsize
        check_claim(name, claimed, stored, self.error, is_packed=dataset.chunks is not None or dataset.is_virtual)

    def numbers(self, dataset: h5py.Dataset) -> np.ndarray:
        """Read all numbers of a dataset, after checking its claims."""
        self.check_stored(dataset)
        self._check_bytes(f"{self.path.name}: {dataset.name}", int(dataset.size) * dataset.dtype.itemsize)
        return np.asarray(dataset[()])

    def number(self, dataset: h5py.Dataset) -> float:
        """Read the first number of a dataset; NaN if it is empty."""
        self._check_chunk(dataset)
        return float(dataset[(0,) * dataset.ndim]) if dataset.size else float("nan")

    def _find(self, name: str, group: h5py.Group, links: int) -> Item | None:
        item: Item = group.file if name.startswith("/") else group
        for part in filter(None, name.split("/")):
            if not isinstance(item, h5py.Group):
                return None
            link = item.get(part, getlink=True)
            if link is None:
                return None
            found = item[part] if isinstance(link, h5py.HardLink) else self._follow(link, item, part, links)
            if not isinstance(found, h5py.Group | h5py.Dataset):
                return None
            item = found
        return item

    def _follow(self, link: h5py.SoftLink | h5py.ExternalLink, group: h5py.Group, part: str, links: int) -> Item:
        name = f"{group.name}/{part}"
        if links == 0:
            raise self.error(f"{self.path.name}: {name} is a circular link; give a file without it")
        if isinstance(link, h5py.ExternalLink):
            self._check_beside(name, link.filename)
            with damage_named(f"{self.path.name}: {name}, a link to {link.filename}", "HDF5", self.error):
                found = group[part]
        else:
            found = self._find(link.path, group, links - 1)
        if found is None:
            raise self.error(f"{self.path.name}: {name} is a link to {link.path}, which does not exist; copy it again")
        return found

    def _check_filters(self, name: str, dataset: h5py.Dataset) -> None:
        layout = dataset.id.get_create_plist()
        for code, _, _, called in map(layout.get_filter, range(layout.get_nfilters())):
            if not h5py.h5z.filter_avail(code):
                told = called.decode(errors="replace") or code
                raise self.error(f"{name} is packed by {told}, which is not installed; unpack it with h5repack -f NONE")

    def _check_beside(self, name: str, file: str) -> None:
        """Raise unless a linked file is in the folder of this one."""
        is_plain = file not in ("", ".", "..") and os.path.basename(file) == file and "\\" not in file
        if not is_plain or not os.path.isfile(self.path.parent / file):
            raise self.error(
                f"{self.path.name}: {name} is a link to the file {file}, which is not in the same folder; copy it there"
            )

    def _stored_bytes(self, dataset: h5py.Dataset) -> int:
        """Bytes stored for a dataset in this file, or in all source files of a virtual dataset."""
        if not dataset.is_virtual:
            return min(dataset.id.get_storage_size(), os.path.getsize(dataset.file.filename))
        sources = {source.file_name for source in dataset.virtual_sources()}
        for source in sources - {"."}:
            self._check_beside(str(dataset.name), source)
        own = Path(dataset.file.filename)
        return sum(os.path.getsize(own if source == "." else self.path.parent / source) for source in sources)

    def _check_chunk(self, dataset: h5py.Dataset) -> None:
        if dataset.chunks is not None:
            n = math.prod(dataset.chunks) * dataset.dtype.itemsize
            self._check_bytes(f"{self.path.name}: {dataset.name}: a chunk", n)

    def _check_bytes(self, name: str, n: int) -> None:
        if n > _MOST_BYTES:
            raise self.error(f"{name} has {n:,} bytes: expected at most {_MOST_BYTES:,} to read at once; split it")


@contextmanager
def open_hdf5(path: str | Path, error: type[RephaseError]) -> Iterator[Hdf5File]:
    """Open a file for reading; exceptions of h5py become an `error`.

    Raises
    ------
    RephaseError
        As `error`: the file does not exist, or is damaged.
    """
    if not os.path.isfile(path):
        raise error(f"{path}: no such file")
    with damage_named(str(path), "HDF5", error), h5py.File(path, "r") as root:
        yield Hdf5File(Path(path), root, error)


def is_hdf5(path: str | Path) -> bool:
    """Whether a file begins as HDF5, possibly after a user block."""
    return os.path.isfile(path) and bool(h5py.is_hdf5(path))


def attribute(item: Item, *names: str) -> str:
    """The text of the first existing attribute, or of the first of its values; "" if there is none."""
    value = next((item.attrs[name] for name in names if name in item.attrs), "")
    if isinstance(value, np.ndarray):
        value = value.flat[0] if value.size else ""
    if isinstance(value, h5py.Empty):
        return ""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
