"""Files with checksums beside them: a bit that flipped on the disk is found when they are read."""

import hashlib
from pathlib import Path

from rephase.errors import RephaseError
from rephase.files.writing import disk_errors, write_whole


def write_checked(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, and its checksum beside it, in ``.NAME.sha256``.

    The checksum is written first and that of the old file kept with it, so that a process which is killed in between
    leaves a file that is right.

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
    """All of a file; one without a checksum, as earlier versions wrote them, is taken as it is.

    Raises
    ------
    FileNotFoundError
        It is not there.
    RephaseError
        As `error`: it cannot be read, or is not what was written; `remedy` ends the message.
    """
    try:
        content, known = path.read_bytes(), _known(path)
    except FileNotFoundError:
        raise
    except OSError as cause:
        raise error(f"{path}: cannot be read ({cause.strerror or cause}); {remedy}") from cause
    if known is not None and _checksum(content) not in known:
        raise error(f"{path}: damaged, or changed after it was written (its checksum is another); {remedy}")
    return content


def is_as_written(path: Path) -> bool:
    """Whether a file is what was written, as far as there is a record of its checksum."""
    known = _known(path)
    return known is None or _checksum(path.read_bytes()) in known


def _known(path: Path) -> list[str] | None:
    """The checksums that the file may have; None where there is no record of them."""
    record = beside(path)
    return record.read_text(encoding="ascii", errors="replace").split() if record.is_file() else None


def beside(path: Path) -> Path:
    """Where the checksum of a file is."""
    return path.with_name(f".{path.name}.sha256")


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
