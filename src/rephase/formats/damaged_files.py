"""Conversion of the exceptions that libraries raise for damaged files into one error of the domain."""

import struct
import tokenize
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from rephase.errors import RephaseError

_DAMAGED = (  # exceptions of h5py, tifffile and NumPy
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    OSError,
    MemoryError,
    RuntimeError,
    SyntaxError,
    EOFError,
    struct.error,
    tokenize.TokenError,
    zlib.error,
)


@contextmanager
def damage_named(name: str, kind: str, error: type[RephaseError]) -> Iterator[None]:
    """Convert exceptions of a reader for `kind` files into an `error` that names the damaged item.

    Raises
    ------
    RephaseError
        As `error`; an existing error of the domain passes unchanged.
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
            f"{name} cannot be read: damaged, truncated, or not a valid {kind} file ({reason}); copy it again, "
            "or save it anew without compression"
        ) from cause


def check_claim(name: str, claimed: int, stored: int, error: type[RephaseError], *, is_packed: bool) -> None:
    """Raise if a header claims more bytes than the file can contain.

    Parameters
    ----------
    claimed
        Bytes of the array according to the header.
    stored
        Bytes of the array in the file.
    error
        Class of the error.
    is_packed
        Whether the bytes are compressed.
    """
    most = _MOST_PACKED * stored if is_packed else stored
    if claimed > max(most, _ANY):
        raise error(
            f"{name} cannot be read: damaged, truncated, or never filled: its header claims {claimed:,} bytes, of "
            f"which the file has {stored:,}; copy it again, or save its content anew"
        )


_MOST_PACKED = 1100  # highest ratio: deflate compresses at most 1,032 to 1
_ANY = 2**20  # bytes that are always allowed
