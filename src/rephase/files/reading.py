"""Bytes and text of users' files, gzipped or not, in any encoding, with any line endings; or a clear error."""

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

LARGEST = 500_000_000  # bytes; ten million reflections take 300 MB
_GZIP = b"\x1f\x8b"
_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


def file_bytes(path: str | Path, error: type[RephaseError]) -> bytes:
    """Read a whole file, decompressed if it is gzipped.

    Parameters
    ----------
    path
        Path of the file.
    error
        Class of the error.

    Raises
    ------
    RephaseError
        As `error`: the file is missing, a folder, unreadable, damaged, or larger than `LARGEST`.
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
    """Read a whole text file with `decoded`; parameters and errors as in `file_bytes`."""
    return decoded(file_bytes(path, error))


def cif_files(folder: str | Path) -> list[Path]:
    """List the CIFs of a folder in order, possibly gzipped, with suffixes in any case; none if there is no folder."""
    return sorted(path for path in Path(folder).glob("*") if path.name.lower().endswith((".cif", ".cif.gz")))


def decoded(content: bytes) -> str:
    r"""Decode UTF-8, UTF-16 with a byte order mark, or else Latin-1; remove the mark, and end each line in ``\n``."""
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
    """Give the path of a temporary copy, for readers that accept neither bytes nor paths outside UTF-8."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        yield file.name


def stem_of(path: Path) -> str:
    """The name of a file without its suffix, and without ``.gz``."""
    plain = path.name[:-3] if path.name.lower().endswith(".gz") else path.name
    return Path(plain).stem


def suffix_of(path: Path) -> str:
    """The suffix of a file in lower case, that of its content if it is gzipped."""
    plain = path.name[:-3] if path.name.lower().endswith(".gz") else path.name
    return Path(plain).suffix.lower()


def name_of(path: Path) -> str:
    """The name of a file without its suffix, as text that can be printed, plotted and written to any file.

    A name that is not UTF-8 is decoded as Latin-1, like the content of files.
    """
    name = decoded(os.fsencode(stem_of(path)))
    return "".join(letter if letter.isprintable() else "_" for letter in name)


def _unpacked(path: str | Path, content: bytes, error: type[RephaseError]) -> bytes:
    """Decompress gzip, but no more than allowed: a small file may expand without limit."""
    try:
        with gzip.open(io.BytesIO(content)) as packed:
            return packed.read(LARGEST + 1)
    except (OSError, EOFError, zlib.error) as cause:
        raise error(f"{path}: gzipped, and damaged ({cause}); get the file again") from cause
