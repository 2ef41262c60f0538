"""Atomic writing of files, folders with a single writer, and disk failures as one-line errors."""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from rephase.errors import ConfigError, DiskError

PARTIAL = ".partial"  # suffix of a file that is being written
LOCK = ".lock"
_POLL_S = 0.05  # between two attempts to acquire a shared lock
BUSY = "another process of rephase is writing there"  # in the error of `only_writer`
_RECORD = ".rephase.json"
_STAGE = ".partial-"


@contextmanager
def disk_errors(path: str | Path) -> Iterator[None]:
    """Convert failures of the disk into a `DiskError` that names the path."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # not raised by the system
            raise
        raise DiskError(
            f"{path}: cannot be written ({error.strerror or error}); "
            "free some space, or give a folder that can be written"
        ) from error


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file atomically, even beside other writers: a killed process leaves the old file.

    Raises
    ------
    DiskError
        The disk is full, the folder cannot be written, and so on.
    """
    data = content.encode(errors="backslashreplace") if isinstance(content, str) else content  # names in any bytes
    with disk_errors(path):
        partial = path.with_name(f".{uuid.uuid4().hex}{PARTIAL}")
        try:
            partial.write_bytes(data)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def writable_folder(folder: str | Path, *, name: str) -> Path:
    """Create a folder and test that it is writable, so that a failure stops the work before it starts.

    Raises
    ------
    ConfigError
        The folder cannot be created or written; `name` is the option or key that gave it.
    """
    folder = Path(folder)
    with _blamed_on(f"{name} {folder}: cannot be made", "give a folder that can be written"):
        folder.mkdir(parents=True, exist_ok=True)
    refused = _blamed_on(f"{name} {folder}: cannot be written", "give another folder")
    with refused, tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"\0")
    return folder


@contextmanager
def only_writer(folder: str | Path, *, name: str = LOCK, patience: float = 0.0) -> Iterator[None]:
    """Hold the lock of a folder; the system releases it when the process ends, even if it is killed.

    The same thread may acquire it again. Another process may have `patience` seconds to release it. With another
    `name`, it is the lock of a part of the folder.

    Raises
    ------
    DiskError
        Another process is writing to the folder.
    """
    folder = Path(os.path.realpath(folder))
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / name, is_singleton=True)
        try:
            lock.acquire(timeout=patience)
        except Timeout:
            raise _busy(folder) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def writer_of_part(folder: str | Path, part: str, *, patience: float = 0.0) -> Iterator[None]:
    """Hold the lock of a part of a folder, beside the writers of other parts, but never beside an `only_writer`.

    An `only_writer` may have `patience` seconds to release its lock.

    Raises
    ------
    DiskError
        Another process is writing to the whole folder or to this part.
    """
    folder = Path(os.path.realpath(folder))
    with disk_errors(folder):
        shared = (folder / LOCK).open("ab")
    with shared:
        deadline = time.monotonic() + patience
        while not _is_shared(shared):
            if time.monotonic() > deadline:
                raise _busy(folder)
            time.sleep(_POLL_S)
        with only_writer(folder, name=f"{LOCK}-{part}"):
            yield


def _is_shared(lock: BinaryIO) -> bool:
    """Whether a shared lock was acquired, without waiting."""
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _busy(folder: Path) -> DiskError:
    return DiskError(f"{folder}: {BUSY}; wait until it has ended, or give another folder")


class ResultSet:
    """The result files of a command in a folder: either all new files appear, or all old ones stay.

    Results are written to a subfolder, then named in a record (from this moment the new files count), and then moved to
    their places. If a process is killed in between, the next one completes the move. The record has the checksum of
    each file, so that a file that rephase did not write, or that was changed since, is never replaced.

    Parameters
    ----------
    folder
        Folder of the results; it is created if missing.
    names
        Names of all files that may be written.
    inputs
        Files that the command reads; they are never replaced.
    name
        Option that named the folder.

    Raises
    ------
    ConfigError
        The folder cannot be written, or a result would replace an input or a file that is not a result.
    """

    def __init__(
        self, folder: str | Path, names: Iterable[str], inputs: Iterable[str | Path | None] = (), *, name: str = "--out"
    ):
        self.folder, self.names, self.name = writable_folder(folder, name=name), tuple(names), name
        self.inputs = [Path(path) for path in inputs if path is not None]
        with only_writer(self.folder), disk_errors(self.folder):
            self._finish()
            self._check(self.names)

    @contextmanager
    def staged(self) -> Iterator[Path]:
        """Give a folder to write into; its files at the end become the results."""
        with only_writer(self.folder), disk_errors(self.folder):
            for left in self.folder.glob(f"{_STAGE}*"):
                shutil.rmtree(left)
            stage = Path(tempfile.mkdtemp(prefix=_STAGE, dir=self.folder))
            try:
                yield stage
                written = {path.name: _checksum(path) for path in sorted(stage.iterdir())}
                self._check(written)
                old = self._record()["files"]
                kept = {name: checksum for name, checksum in old.items() if name not in self.names}
                self._write_record({"files": kept | written, "before": old, "stage": stage.name})
            except BaseException:
                if self._record().get("stage") != stage.name:  # else the new files count, and the next set moves them
                    shutil.rmtree(stage, ignore_errors=True)
                raise
            self._finish()

    def _finish(self) -> None:
        """Move the files that the record names from their stage to their places."""
        record = self._record()
        if "stage" not in record:
            return
        stage, old, new = self.folder / record["stage"], record["before"], record["files"]
        for name in sorted(old.keys() | new.keys()):
            self._refuse_foreign(name, (old.get(name), new.get(name)))
            if (stage / name).is_file():
                (stage / name).replace(self.folder / name)
            elif name not in new:
                (self.folder / name).unlink(missing_ok=True)
        self._write_record({"files": record["files"]})
        shutil.rmtree(stage, ignore_errors=True)

    def _check(self, names: Iterable[str]) -> None:
        known = self._record()["files"]
        for name in names:
            target = self.folder / name
            for given in self.inputs:
                if _is_same(given, target):
                    raise ConfigError(
                        f"{self.name} {self.folder}: {given} would be replaced by the result {name}; "
                        "give another folder"
                    )
            self._refuse_foreign(name, (known.get(name),))

    def _refuse_foreign(self, name: str, checksums: tuple[str | None, ...]) -> None:
        target = self.folder / name
        if os.path.lexists(target) and (not target.is_file() or _checksum(target) not in checksums):
            raise ConfigError(
                f"{self.name} {self.folder}: {name} was changed after rephase wrote it, or rephase did not write it; "
                "your work or a refinement would be lost; give another folder, or move the file away"
            )

    def _record(self) -> dict[str, Any]:
        path = self.folder / _RECORD
        try:
            record = json.loads(path.read_text(encoding="utf-8")) if os.path.lexists(path) else {"files": {}}
        except (OSError, ValueError, RecursionError):
            record = None
        if isinstance(record, dict) and _is_record(record):
            return record
        raise ConfigError(
            f"{self.name} {self.folder}: its record of results, {_RECORD}, is damaged; give another folder"
        )

    def _write_record(self, record: dict[str, Any]) -> None:
        write_whole(self.folder / _RECORD, json.dumps(record, indent=1) + "\n")


def _is_record(record: dict[str, Any]) -> bool:
    """Whether every name is a file in the record's own folder, so that a foreign record cannot lead elsewhere."""
    stage, lists = record.get("stage", _STAGE), [record.get("files"), record.get("before", {})]
    return (
        all(isinstance(names, dict) and all(map(_is_name, names)) for names in lists)
        and isinstance(stage, str)
        and stage.startswith(_STAGE)
        and _is_name(stage)
        and ("stage" in record) == ("before" in record)
    )


def _is_name(text: str) -> bool:
    return os.path.basename(text) == text and text not in ("", ".", "..") and "\0" not in text


@contextmanager
def _blamed_on(what: str, remedy: str) -> Iterator[None]:
    """Convert failures of the system into a `ConfigError`; a path that contains NUL causes a `ValueError`."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise ConfigError(f"{what} ({getattr(error, 'strerror', None) or error}); {remedy}") from error


def _is_same(given: Path, target: Path) -> bool:
    """Whether two paths lead to the same file, also through links."""
    if os.path.realpath(given) == os.path.realpath(target):
        return True
    return os.path.exists(given) and os.path.exists(target) and os.path.samefile(given, target)


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
