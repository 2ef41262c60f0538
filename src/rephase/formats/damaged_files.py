"""What libraries raise of files whose bytes are lost or changed, as one error of the domain."""

import struct
import tokenize
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from rephase.errors import RephaseError

_DAMAGED = (  # what h5py, tifffile and NumPy raise
    ValueError, TypeError, LookupError, ArithmeticError, AttributeError, AssertionError, OSError, MemoryError,
    RuntimeError, SyntaxError, EOFError, struct.error, tokenize.TokenError, zlib.error,
)  # fmt: skip


@contextmanager
def damage_named(name: str, kind: str, error: type[RephaseError]) -> Iterator[None]:
    """What a reader of `kind` raises of a damaged file is an `error` that names what was read.

    Raises
    ------
    RephaseError
        As `error`, unless it is an error of the domain already.
    """
    try:
        yield
    except RephaseError:
        raise
    except FileNotFoundError as cause:
        raise error(f"{name}: no such file") from cause
    except _DAMAGED as cause:
        reason = str(cause) or type(cause).__name__
        raise error(
            f"{name} cannot be read: damaged, truncated, or no {kind} file ({reason}); copy it again, or save it anew "
            "without compression"
        ) from cause


def check_claim(name: str, claimed: int, stored: int, error: type[RephaseError], *, is_packed: bool) -> None:
    """Raise where a header tells of more bytes than those that are in the file can be.

    Parameters
    ----------
    claimed
        Bytes of the array.
    stored
        Bytes of it in the file.
    error
        What is raised.
    is_packed
        Whether they are compressed.
    """
    most = _MOST_PACKED * stored if is_packed else stored
    if claimed > max(most, _ANY):
        raise error(
            f"{name} cannot be read: damaged, truncated, or never filled: its header tells of {claimed:,} bytes, of "
            f"which the file has {stored:,}; copy it again, or save what is there anew"
        )


_MOST_PACKED = 1100  # times: deflate packs at most 1,032 to 1
_ANY = 2**20  # bytes that are never too many
