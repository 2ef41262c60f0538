"""Files with checksums beside them, so that reading detects bits flipped on the disk."""

import hashlib
from pathlib import Path

from rephase.errors import RephaseError
from rephase.files.writing import disk_errors, write_whole


def write_checked(path: Path, content: bytes) -> None:
    """Write a file atomically, with its checksum beside it in ``.NAME.sha256``.

    The checksum is written first, together with the checksum of the old file, so that the file stays valid if the
    process is killed in between.

    Raises
    ------
    DiskError
        The disk is full, the folder cannot be written, and so on.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        known = _known(path)
        old = [_checksum(path.read_bytes())] if path.is_file() else []
    kept = [checksum for checksum in old if known is None or checksum in known]
    write_whole(beside(path), "\n".join([_checksum(content), *kept, ""]))
    write_whole(path, content)


def checked_bytes(path: Path, error: type[RephaseError], *, remedy: str) -> bytes:
    """Read a file and verify its checksum; a file without one, from an earlier version, is accepted.

    Raises
    ------
    FileNotFoundError
        The file does not exist.
    RephaseError
        As `error`: the file cannot be read, or differs from what was written; `remedy` ends the message.
    """
    try:
        content, known = path.read_bytes(), _known(path)
    except FileNotFoundError:
        raise
    except OSError as cause:
        raise error(f"{path}: cannot be read ({cause.strerror or cause}); {remedy}") from cause
    if known is not None and _checksum(content) not in known:
        raise error(f"{path}: damaged, or changed after it was written (its checksum differs); {remedy}")
    return content


def is_as_written(path: Path) -> bool:
    """Whether a file is unchanged since it was written, as far as there is a record of its checksum."""
    known = _known(path)
    return known is None or _checksum(path.read_bytes()) in known


def _known(path: Path) -> list[str] | None:
    """The checksums that the file may have; None if there is no record."""
    record = beside(path)
    return record.read_text(encoding="ascii", errors="replace").split() if record.is_file() else None


def beside(path: Path) -> Path:
    """Path of the checksum of a file."""
    return path.with_name(f".{path.name}.sha256")


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
