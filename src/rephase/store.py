"""One array store for every data set: Zarr 3, chunked along samples, checksummed, resumable, written in parallel."""

import errno
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from tqdm import tqdm
from zarr.codecs import Crc32cCodec

from rephase.errors import StoreError

Layout = dict[str, tuple[tuple[int, ...], str]]
"""Name → (shape of one sample, dtype) of the arrays that are written chunk by chunk."""


class Store:
    """Arrays that share their first axis, the samples.

    A chunk of every array holds the same samples. A chunk file is written whole or not at all and carries a CRC-32C,
    so a run that is killed leaves only good chunks behind and a flipped bit is seen when it is read.

    Parameters
    ----------
    path
        Folder of the store; made when it is not there.
    layout
        The arrays.
    n_samples, chunk
        Length of the first axis, and how many samples one chunk holds.
    identity
        Plain values that fix the content (configuration, seeds, parents); kept in the attributes.

    Raises
    ------
    StoreError
        There is a store at `path` that was written with another identity.
    """

    def __init__(self, path: Path, layout: Layout, n_samples: int, chunk: int, identity: dict[str, Any]):
        self.path, self.n_samples, self.chunk = Path(path), n_samples, min(chunk, n_samples)
        self.names = tuple(layout)
        self.group: Any = _open_group(self.path)
        if "identity" in self.group.attrs:
            stored: Any = self.group.attrs["identity"]
            _check_identity(self.path, stored, identity)
        for name, (shape, dtype) in layout.items():
            if name not in self.group:
                self.group.create_array(
                    name, shape=(n_samples, *shape), dtype=dtype, chunks=(self.chunk, *shape),
                    compressors=[Crc32cCodec()],
                )  # fmt: skip
        self.group.attrs["identity"] = identity  # last: a store without it was never finished being laid out

    @property
    def n_chunks(self) -> int:
        """How many chunks there are in all."""
        return -(-self.n_samples // self.chunk)

    def rows(self, index: int) -> slice:
        """The samples that chunk `index` holds."""
        return slice(index * self.chunk, min((index + 1) * self.chunk, self.n_samples))

    def missing(self) -> list[int]:
        """Chunks that are not written yet, in any of the arrays."""
        return [i for i in range(self.n_chunks) if not all(self._chunk_file(name, i).is_file() for name in self.names)]

    def fill(self, build: Callable[[slice], dict[str, np.ndarray]], *, workers: int = 1, label: str = "store") -> None:
        """Write every missing chunk; `build` makes the arrays of a range of samples, whatever the order of calls.

        Raises
        ------
        StoreError
            The disk is full; what is written stays and the next call goes on from there.
        """
        missing = self.missing()
        if not missing:
            return
        write = lambda index: self._write(index, build(self.rows(index)))  # noqa: E731
        done = self.n_chunks - len(missing)
        # one torch thread per worker: sums then have one order, and the store the same bits on any machine
        pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
        with _single_threaded_torch(), pool, tqdm(total=self.n_chunks, initial=done, desc=label, unit="chunk") as bar:
            try:
                for _ in pool.map(write, missing):
                    bar.update()
            except OSError as error:
                pool.shutdown(cancel_futures=True)
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                written = self.n_chunks - len(self.missing())
                raise StoreError(
                    f"{self.path}: the disk is full; {written} of {self.n_chunks} chunks are written and good. "
                    "Free some space and run again: it goes on from there"
                ) from error

    def read(self, name: str) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield (samples, array) chunk by chunk.

        Raises
        ------
        StoreError
            A chunk is missing or does not match its checksum.
        """
        array = self._array(name)
        for index in range(self.n_chunks):
            if not self._chunk_file(name, index).is_file():
                raise StoreError(f"{self._chunk_file(name, index)}: missing; build the data set again to write it")
            try:
                yield self.rows(index), np.asarray(array[self.rows(index)])
            except ValueError as error:
                raise StoreError(
                    f"{self._chunk_file(name, index)}: damaged ({error}); delete this file and build the data set "
                    "again: only this chunk is made anew"
                ) from error

    def load(self, name: str) -> torch.Tensor:
        """Read a whole array into one tensor, holding one chunk beside it."""
        array = self._array(name)
        out = torch.empty(array.shape, dtype=torch.from_numpy(np.empty(0, array.dtype)).dtype)
        for rows, values in self.read(name):
            out[rows] = torch.from_numpy(values)
        return out

    def take(self, name: str, samples: np.ndarray) -> np.ndarray:
        """Some samples of an array, in the order given; nothing else of it comes into memory.

        Checksums are not looked at: `check` does that for all.
        """
        array, chunk = self._array(name), samples // self.chunk
        taken = np.empty((len(samples), *array.shape[1:]), array.dtype)
        for index in np.unique(chunk):
            inside = chunk == index
            rows = np.memmap(self._chunk_file(name, index), array.dtype, "r", shape=(self.chunk, *array.shape[1:]))
            taken[inside] = rows[samples[inside] - index * self.chunk]
        return taken

    def check(self) -> None:
        """Read everything once, a chunk at a time.

        Raises
        ------
        StoreError
            A chunk is missing or does not match its checksum.
        """
        for name in self.names:
            for _ in self.read(name):
                pass

    def _write(self, index: int, arrays: dict[str, np.ndarray]) -> None:
        for name in self.names:
            self._array(name)[self.rows(index)] = arrays[name]

    def _array(self, name: str) -> Any:
        return self.group[name].with_config({"write_empty_chunks": True})  # a chunk of zeros is a file like any other

    def _chunk_file(self, name: str, index: int) -> Path:
        array = self._array(name)
        return self.path / name / array.metadata.encode_chunk_key((index, *(0,) * (array.ndim - 1)))


def _open_group(path: Path) -> Any:
    try:
        group = zarr.open_group(path, mode="a")
        dict(group.arrays())
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: its zarr.json is damaged ({error}); delete the folder and build it again") from error
    return group


class _single_threaded_torch:
    """Give torch's intra-operation threads back as they were."""

    def __enter__(self) -> None:
        self.threads = torch.get_num_threads()
        torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self.threads)


def _check_identity(path: Path, stored: dict[str, Any], wanted: dict[str, Any], prefix: str = "") -> None:
    """Raise for the first value that differs, by its path."""
    for key in sorted(stored.keys() | wanted.keys()):
        old, new = stored.get(key), wanted.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            _check_identity(path, old, new, f"{prefix}{key}.")
        elif old != new:
            raise StoreError(
                f"{path}: written with another configuration: {prefix}{key} is {old!r} there, {new!r} here; "
                "choose another output folder, or delete this one"
            )
