"""Files that appear whole or not at all, folders that one process writes to, and what a disk refuses, in one line."""

import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from rephase.errors import ConfigError, DiskError

PARTIAL = ".partial"  # ends the name of a file that is being written
LOCK = ".lock"
_RECORD = ".rephase.json"
_STAGE = ".partial-"


@contextmanager
def disk_errors(path: str | Path) -> Iterator[None]:
    """What the disk refuses becomes a `DiskError` that names the path."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # the system did not raise it
            raise
        raise DiskError(
            f"{path}: cannot be written ({error.strerror or error}); "
            "free some space, or give a folder that can be written"
        ) from error


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all, whoever else writes it: a process that is killed leaves the old one.

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
    """Make a folder and write a file in it, so that one that cannot be written stops the work before it starts.

    Raises
    ------
    ConfigError
        It cannot be made or written; `name` says which option or key gave it.
    """
    folder = Path(folder)
    with _blamed_on(f"{name} {folder}: cannot be made", "give a folder"):
        folder.mkdir(parents=True, exist_ok=True)
    refused = _blamed_on(f"{name} {folder}: cannot be written", "give another folder")
    with refused, tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"\0")
    return folder


@contextmanager
def only_writer(folder: str | Path) -> Iterator[None]:
    """Hold the lock of a folder, which the system gives back when the process ends, however it ends.

    The same thread may take it again.

    Raises
    ------
    DiskError
        Another process writes there.
    """
    folder = Path(os.path.realpath(folder))
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK, timeout=0, is_singleton=True)
        try:
            lock.acquire()
        except Timeout:
            raise DiskError(
                f"{folder}: another process of rephase is writing there; wait until it has ended, or give "
                "another folder"
            ) from None
    try:
        yield
    finally:
        lock.release()


class ResultSet:
    """The files that a command leaves in a folder: all of the new ones appear, or all of the old ones stay.

    They are written to a folder inside, named in a record (the moment from which on the new ones count), and moved to
    their places. What a process that was killed in between has left is moved by the next one. The record holds the
    checksum of each file, so that a file which rephase did not write, or which was changed since, is never replaced.

    Parameters
    ----------
    folder
        Where; made when it is not there.
    names
        Of all files that may be written.
    inputs
        What the command reads: it is never replaced.
    name
        Option that gave the folder.

    Raises
    ------
    ConfigError
        The folder cannot be written; a result would replace an input, or a file that is not a result.
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
        """Give a folder to write into; what is there at the end becomes the results."""
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
                if self._record().get("stage") != stage.name:  # else the new ones count, and the next set moves them
                    shutil.rmtree(stage, ignore_errors=True)
                raise
            self._finish()

    def _finish(self) -> None:
        """Move files to their places that are named in the record and still in their stage."""
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
                f"{self.name} {self.folder}: {name} was changed after rephase wrote it, or rephase did not write it: "
                "work of yours or a refinement would be lost; give another folder, or move it away"
            )

    def _record(self) -> dict:
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

    def _write_record(self, record: dict) -> None:
        write_whole(self.folder / _RECORD, json.dumps(record, indent=1) + "\n")


def _is_record(record: dict) -> bool:
    """Whether every name in it is that of a file in its folder: a record of others must lead nowhere else."""
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
    """What the system refuses becomes a `ConfigError`; a `ValueError` is that of a path with a NUL in it."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise ConfigError(f"{what} ({getattr(error, 'strerror', None) or error}); {remedy}") from error


def _is_same(given: Path, target: Path) -> bool:
    """Whether two paths lead to the same file, through links of any kind."""
    if os.path.realpath(given) == os.path.realpath(target):
        return True
    return os.path.exists(given) and os.path.exists(target) and os.path.samefile(given, target)


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
