"""Bytes and text of strangers' files, packed or not, in any encoding, with any line ends; or why there are none."""

import codecs
import gzip
import io
import os
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rephase.errors import RephaseError

LARGEST = 500_000_000  # bytes; ten million reflections have 300 MB
_GZIP = b"\x1f\x8b"
_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


def file_bytes(path: str | Path, error: type[RephaseError]) -> bytes:
    """All of a file, unpacked where it is packed by gzip.

    Parameters
    ----------
    path
        The file.
    error
        What is raised.

    Raises
    ------
    RephaseError
        As `error`: the file is missing, a folder, not readable, damaged, or larger than `LARGEST`.
    """
    try:
        if not os.path.isfile(path) and os.path.exists(path):
            raise error(f"{path}: not a file; give the path of a file")
        with open(path, "rb") as file:
            content = file.read(LARGEST + 1)
    except (OSError, ValueError) as cause:  # ValueError: a path with a NUL in it
        if isinstance(cause, RephaseError):
            raise
        reason = getattr(cause, "strerror", None) or cause
        raise error(f"{path}: cannot be read ({reason}); check the path and its permissions") from cause
    if content.startswith(_GZIP):
        content = _unpacked(path, content, error)
    if len(content) > LARGEST:
        raise error(f"{path}: expected at most {LARGEST:,} bytes; give a smaller file")
    return content


def file_text(path: str | Path, error: type[RephaseError]) -> str:
    """All of a text file by `decoded`; parameters and errors as in `file_bytes`."""
    return decoded(file_bytes(path, error))


def cif_files(folder: str | Path) -> list[Path]:
    """The CIFs of a folder in order, packed by gzip or not, in capitals or not; none where there is no folder."""
    return sorted(path for path in Path(folder).glob("*") if path.name.lower().endswith((".cif", ".cif.gz")))


def decoded(content: bytes) -> str:
    r"""Text in UTF-8, in UTF-16 with a byte order mark, else in Latin-1, without the mark; each line ends in ``\n``."""
    for mark, encoding in _MARKS.items():
        if content.startswith(mark):
            text = content[len(mark) :].decode(encoding, errors="replace")
            break
    else:
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:
            text = content.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n")


@contextmanager
def plain_copy(content: bytes) -> Iterator[str]:
    """The path of a copy of a file, for readers that take no bytes, and no name that is not UTF-8."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        yield file.name


def stem_of(path: Path) -> str:
    """The name of a file without its ending, and without that of gzip."""
    plain = path.name[:-3] if path.name.lower().endswith(".gz") else path.name
    return Path(plain).stem


def name_of(path: Path) -> str:
    """The name of a file without its ending as text that can be printed, plotted and written to any file.

    Bytes of it that are no UTF-8 are taken as Latin-1, as those of texts are.
    """
    name = decoded(os.fsencode(stem_of(path)))
    return "".join(letter if letter.isprintable() else "_" for letter in name)


def _unpacked(path: str | Path, content: bytes, error: type[RephaseError]) -> bytes:
    """What gzip packed, but not more of it than is allowed: a small file may claim to be an endless one."""
    try:
        with gzip.open(io.BytesIO(content)) as packed:
            return packed.read(LARGEST + 1)
    except (OSError, EOFError, zlib.error) as cause:
        raise error(f"{path}: packed by gzip, and damaged ({cause}); get the file again") from cause
