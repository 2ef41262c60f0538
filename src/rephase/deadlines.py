"""The time at which a command pauses, to be continued later; its notebooks and children see it too."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rephase.errors import ConfigError, OutOfTime, check_positive

_PAUSE_AT = "REPHASE_PAUSE_AT"  # environment variable: the time in seconds since 1970, and the minutes given


@contextmanager
def pause_after(minutes: float | None) -> Iterator[None]:
    """Let the work inside pause after so many minutes, or earlier if a limit is already set; None sets no limit.

    Raises
    ------
    ConfigError
        The number of minutes is not above zero.
    """
    if minutes is None:
        yield
        return
    remedy = "give the minutes after which the command pauses"
    check_positive("minutes", minutes, remedy=remedy, error=ConfigError)
    before = os.environ.get(_PAUSE_AT)
    at = time.time() + 60 * minutes
    if before is None or at < _limit(before)[0]:
        os.environ[_PAUSE_AT] = f"{at!r} {minutes:g}"
    try:
        yield
    finally:
        os.environ.pop(_PAUSE_AT)
        if before is not None:
            os.environ[_PAUSE_AT] = before


def is_time_over() -> bool:
    """Whether the given time is over."""
    limit = os.environ.get(_PAUSE_AT)
    return limit is not None and time.time() >= _limit(limit)[0]


def pause(where: str) -> OutOfTime:
    """Return the error that ends a command whose time is over at a place from where it can be continued."""
    minutes = _limit(os.environ.get(_PAUSE_AT, "0 0"))[1]
    return OutOfTime(f"paused after {minutes:g} minutes at {where}; run the same command again to continue")


def check_time(where: str) -> None:
    """Raise `OutOfTime` if the given time is over; the work must continue from here when it is started again."""
    if is_time_over():
        raise pause(where)


def _limit(text: str) -> tuple[float, float]:
    """Split the variable into the time and the minutes."""
    at, minutes = text.split()
    return float(at), float(minutes)
