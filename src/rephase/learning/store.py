"""One array store for every dataset: Zarr 3, chunked along samples, checksummed, resumable, written in parallel."""

import errno
import json
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import zarr
from tqdm import tqdm
from zarr.codecs import Crc32cCodec
from zarr.errors import GroupNotFoundError
from zarr.storage import MemoryStore

from rephase.deadlines import check_time
from rephase.errors import ConfigError, RephaseError, StoreError
from rephase.files.writing import disk_errors, only_writer, writer_of_part

Layout = dict[str, tuple[tuple[int, ...], str]]
"""Name → (shape of one sample, dtype) of the arrays that are written chunk by chunk."""

_SEALS = "seals"  # array of the store that identifies the content of each chunk file as written
_CHECKSUM = 4  # bytes at the end of a chunk file
_PATIENCE = 20.0  # seconds that another process may take to lay a store out


class Shard(NamedTuple):
    """A part of the chunks of a store, whatever is missing: number 1 of 4 has the chunks 0, 4, 8 and so on."""

    number: int
    total: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read a text such as ``2/4``; `ConfigError` if it is none."""
        number, _, total = text.partition("/")
        if not (number.isdecimal() and total.isdecimal() and 1 <= int(number) <= int(total)):
            raise ConfigError(f"shard {text!r}: expected NUMBER/TOTAL with 1 <= NUMBER <= TOTAL; give one such as 2/4")
        return cls(int(number), int(total))

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"

    def has(self, chunk: int) -> bool:
        """Whether a chunk belongs to this part."""
        return chunk % self.total == self.number - 1


class Store:
    """Arrays that share their first axis, the samples.

    A chunk of every array holds the same samples. A chunk file is written entirely or not at all and ends in a CRC-32C,
    so a killed run leaves only good chunks behind, and a flipped bit is detected when the file is read. The seals of a
    chunk, one for each array, are written last: checksums of the identity, the name, the number of the chunk and the
    CRC-32C, which detect a chunk from another place or another store.

    Parameters
    ----------
    path
        Folder of the store; created if it does not exist.
    layout
        Shape and dtype of the arrays.
    n_samples, chunk
        Length of the first axis, and number of samples in a chunk.
    identity
        Plain values that determine the content (configuration, seeds, parents); kept in the attributes.

    Raises
    ------
    StoreError
        The store at `path` was written with another identity or layout, or is damaged.
    DiskError
        The folder cannot be read or written.
    """

    def __init__(self, path: Path, layout: Layout, n_samples: int, chunk: int, identity: dict[str, Any]):
        self.path, self.n_samples, self.chunk = Path(path), n_samples, min(chunk, n_samples)
        self.names = tuple(layout)
        self._good: set[tuple[str, int]] = set()
        expected = zarr.create_group(MemoryStore())
        for name, (shape, dtype) in layout.items():
            _create(expected, name, (n_samples, *shape), dtype, (self.chunk, *shape))
        _create(expected, _SEALS, (self.n_chunks, len(layout)), "uint32", (1, len(layout)))
        with disk_errors(self.path), _damage_of_layout(self.path):
            if not _is_laid_out(self.path):
                with only_writer(self.path, patience=_PATIENCE):
                    self._lay_out(expected, identity)
            group = zarr.open_group(self.path, mode="r+")
            stored: Any = group.attrs["identity"]
            _check_identity(self.path, stored, identity)
            self._arrays = {name: _checked_array(self.path / name, group, array) for name, array in expected.arrays()}
            self._identity_sum = zlib.crc32(json.dumps(stored, sort_keys=True).encode())

    def _lay_out(self, expected: Any, identity: dict[str, Any]) -> None:
        if _is_laid_out(self.path):  # by another process, just now
            return
        if (self.path / _SEALS / "c").exists():
            raise StoreError(
                f"{self.path}: has chunks, but its zarr.json does not describe them; delete the folder, build it again"
            )
        group = zarr.open_group(self.path, mode="a")
        for name, array in expected.arrays():
            if name not in group:
                _create(group, name, array.shape, array.dtype, array.chunks)
        group.attrs["identity"] = identity  # last: a store without it has an incomplete layout

    @property
    def n_chunks(self) -> int:
        """Total number of chunks."""
        return -(-self.n_samples // self.chunk)

    def rows(self, index: int) -> slice:
        """Return the range of samples in chunk `index`."""
        return slice(index * self.chunk, min((index + 1) * self.chunk, self.n_samples))

    def missing(self) -> list[int]:
        """List the chunks that any of the arrays still lacks."""
        names = (*self.names, _SEALS)
        return [i for i in range(self.n_chunks) if not all(self._chunk_file(name, i).is_file() for name in names)]

    def fill(
        self,
        build: Callable[[slice], dict[str, np.ndarray]],
        *,
        workers: int = 1,
        label: str = "store",
        shard: Shard | None = None,
    ) -> None:
        """Write every missing chunk; `build` makes the arrays of a range of samples, regardless of the order of calls.

        With a `shard`, only its chunks are written, while other processes write theirs.

        Raises
        ------
        StoreError
            The disk is full or cannot be written; written chunks stay, and the next call continues from there.
        OutOfTime
            The time given to the command is over; as above, nothing is lost.
        DiskError
            Another process is filling this store, or this shard of it.
        """
        if not self._missing_in(shard):
            return
        with self._lock_of(shard):
            missing = self._missing_in(shard)  # another process may have filled it in between
            n_before = self.n_chunks - len(self.missing())
            # one torch thread per worker: the order of sums is then fixed, and the store has the same bits everywhere
            pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
            bar = tqdm(total=len(missing), desc=label, unit="chunk")
            with _single_threaded_torch(), self._progress_kept(), pool, bar:
                try:
                    for _ in pool.map(lambda index: self._write(index, build(self.rows(index))), missing):
                        bar.update()
                        check_time(f"chunk {n_before + bar.n} of {self.n_chunks} of {self.path.name}")
                finally:
                    pool.shutdown(cancel_futures=True)

    def _lock_of(self, shard: Shard | None) -> AbstractContextManager[None]:
        """Return the lock of the store, or of a shard; the writer of another shard may be laying out the store."""
        if shard is None:
            return only_writer(self.path)
        return writer_of_part(self.path, f"{shard.number}-of-{shard.total}", patience=_PATIENCE)

    def _missing_in(self, shard: Shard | None) -> list[int]:
        return [i for i in self.missing() if shard is None or shard.has(i)]

    @contextmanager
    def _progress_kept(self) -> Iterator[None]:
        """Turn errors of the disk into a `StoreError` that states how many chunks were written."""
        try:
            yield
        except OSError as error:
            is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            reason = "the disk is full" if is_full else f"cannot be written ({error.strerror or error})"
            written = self.n_chunks - len(self.missing())
            raise StoreError(
                f"{self.path}: {reason}; {written} of {self.n_chunks} chunks are written and good. "
                f"{'Free some space' if is_full else 'Correct that'} and run again: it continues from there"
            ) from error

    def read(self, name: str) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield (samples, array) chunk by chunk.

        Raises
        ------
        StoreError
            A chunk is missing, does not match its checksum, or belongs to another place.
        """
        for index in range(self.n_chunks):
            yield self.rows(index), self._read_chunk(name, index)

    def _read_chunk(self, name: str, index: int) -> np.ndarray:
        path = self._chunk_file(name, index)
        if not (path.is_file() and self._chunk_file(_SEALS, index).is_file()):
            raise StoreError(f"{path}: missing; build the data set again to write it")
        with _damage_of_chunk(path):
            array = self._arrays[name]
            size, expected = path.stat().st_size, array.dtype.itemsize * int(np.prod(array.chunks)) + _CHECKSUM
            if size != expected:
                raise ValueError(f"{size} bytes, expected {expected}")
            if self._seal(name, index) != self._arrays[_SEALS][index, self.names.index(name)]:
                raise ValueError("not the chunk that was written here")
            values = np.asarray(array[self.rows(index)])
        self._good.add((name, index))
        return values

    def load(self, name: str) -> torch.Tensor:
        """Read a whole array into one tensor, with one more chunk in memory at a time."""
        array = self._arrays[name]
        out = torch.empty(array.shape, dtype=torch.from_numpy(np.empty(0, array.dtype)).dtype)
        for rows, values in self.read(name):
            out[rows] = torch.from_numpy(values)
        return out

    def take(self, name: str, samples: np.ndarray) -> np.ndarray:
        """Read some samples of an array, in the given order, without keeping others in memory.

        Each chunk is checked as a whole when it is first used.

        Raises
        ------
        StoreError
            As in `read`.
        """
        array, chunk = self._arrays[name], samples // self.chunk
        taken = np.empty((len(samples), *array.shape[1:]), array.dtype)
        for index in np.unique(chunk).tolist():
            if (name, index) not in self._good:
                self._read_chunk(name, index)
            inside, path = chunk == index, self._chunk_file(name, index)
            with _damage_of_chunk(path):
                rows = np.memmap(path, array.dtype, "r", shape=(self.chunk, *array.shape[1:]))
            taken[inside] = rows[samples[inside] - index * self.chunk]
        return taken

    def check(self) -> None:
        """Read everything once, one chunk at a time.

        Raises
        ------
        StoreError
            As in `read`.
        """
        for name in self.names:
            for _ in self.read(name):
                pass

    def _write(self, index: int, arrays: dict[str, np.ndarray]) -> None:
        for name in self.names:
            self._arrays[name][self.rows(index)] = arrays[name]
        self._arrays[_SEALS][index] = [self._seal(name, index) for name in self.names]

    def _seal(self, name: str, index: int) -> int:
        """Compute a checksum of the last bytes of a chunk file and of the place where it belongs."""
        with self._chunk_file(name, index).open("rb") as file:
            file.seek(-_CHECKSUM, 2)
            return zlib.crc32(file.read() + f"{name}/{index}".encode(), self._identity_sum)

    def _chunk_file(self, name: str, index: int) -> Path:
        array = self._arrays[name]
        return self.path / name / array.metadata.encode_chunk_key((index, *(0,) * (array.ndim - 1)))


def _create(group: Any, name: str, shape: tuple[int, ...], dtype: Any, chunks: tuple[int, ...]) -> None:
    group.create_array(name, shape=shape, dtype=dtype, chunks=chunks, compressors=[Crc32cCodec()])


@contextmanager
def _damage_of_layout(path: Path) -> Iterator[None]:
    """Turn any error of zarr for an unreadable zarr.json into a `StoreError`."""
    try:
        yield
    except (RephaseError, OSError):
        raise
    except Exception as error:  # zarr checks little in advance, so nearly anything can be raised
        raise StoreError(f"{path}: its zarr.json is damaged ({error}); delete the folder and build it again") from error


@contextmanager
def _damage_of_chunk(path: Path) -> Iterator[None]:
    """Turn errors of a chunk file into a `StoreError`."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise StoreError(
            f"{path}: damaged ({error}); delete this file and build the data set again: only this chunk is made again"
        ) from error


class _single_threaded_torch:
    """Run torch with one intra-operation thread, and restore their number afterwards."""

    def __enter__(self) -> None:
        self.threads = torch.get_num_threads()
        torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self.threads)


def _is_laid_out(path: Path) -> bool:
    if not (path / "zarr.json").is_file():
        return False
    try:
        return "identity" in zarr.open_group(path, mode="r").attrs
    except GroupNotFoundError as error:
        raise StoreError(
            f"{path / 'zarr.json'}: damaged: it does not describe a store; delete the folder and build it again"
        ) from error


def _checked_array(path: Path, group: Any, expected: Any) -> Any:
    """Check the layout of an array and return it, set up so that chunks of zeros are written as files too."""
    if path.name not in group:
        raise StoreError(
            f"{path / 'zarr.json'}: missing, or the store is from an older version of rephase; delete the folder of "
            "the store and build it again"
        )
    array = group[path.name].with_config({"write_empty_chunks": True})
    stored, wanted = array.metadata.to_dict(), expected.metadata.to_dict()
    for key in sorted(stored.keys() | wanted.keys()):
        if stored.get(key) != wanted.get(key):
            raise StoreError(
                f"{path / 'zarr.json'}: damaged, or another layout: {key} is {stored.get(key)!r} there, "
                f"{wanted.get(key)!r} here; delete the folder of the store and build it again"
            )
    return array


def _check_identity(path: Path, stored: dict[str, Any], wanted: dict[str, Any], prefix: str = "") -> None:
    """Raise for the first value that differs, and name its path."""
    if not isinstance(stored, dict):
        raise StoreError(
            f"{path}: its zarr.json is damaged: identity is not a mapping; delete the folder and build it again"
        )
    for key in sorted(stored.keys() | wanted.keys()):
        old, new = stored.get(key), wanted.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            _check_identity(path, old, new, f"{prefix}{key}.")
        elif old != new:
            raise StoreError(
                f"{path}: written with another configuration: {prefix}{key} is {old!r} there, {new!r} here; "
                "choose another output folder, or delete this one"
            )
