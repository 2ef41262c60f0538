"""Errors of the domain, and the small checks that raise them at the boundary."""

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

_MOST_AT_ONCE = 1000
_LONGEST = 1500  # characters of a message; what it quotes may be a whole file


class RephaseError(ValueError):
    """Base of the errors that a user can mend; the message says how, in one line of printable text."""

    def __init__(self, message: str = ""):
        text = "".join(letter if letter.isprintable() else " " for letter in str(message))
        half = _LONGEST // 2
        super().__init__(text if len(text) <= _LONGEST else f"{text[:half]} ... {text[-half:]}")


class CifError(RephaseError):
    """A crystal structure cannot be read or makes no sense."""


class SymmetryError(RephaseError):
    """A space group that is unknown, or does not fit the cell or the data."""


class ReflectionError(RephaseError):
    """A list of reflections cannot be read or makes no sense."""


class GridError(RephaseError):
    """Reflections, grid and energy do not fit together."""


class OpticsError(RephaseError):
    """A beam, a detector or an object in the beam that cannot be."""


class DiskError(RephaseError):
    """A file or folder that the disk, its permissions or another process does not let us write."""


class ConfigError(RephaseError):
    """A configuration has an unknown key or a wrong value."""


class StoreError(RephaseError):
    """A data store is incomplete, damaged or belongs to another configuration."""


class WeightsError(RephaseError):
    """Weights of a model are damaged, do not fit their card, or were not trained for this request."""


class ImageError(RephaseError):
    """Diffraction images, their labels or a file of them cannot be read or make no sense."""


class CurveError(RephaseError):
    """A scattering curve cannot be read or makes no sense."""


class PosteriorError(RephaseError):
    """Samples of a posterior or their densities make no sense."""


class DeviceError(RephaseError):
    """A device was asked for that is not there."""


class TrainingError(RephaseError):
    """Training cannot go on."""


class PipelineError(RephaseError):
    """A notebook of a run failed."""


def check_positive(name: str, value: float, *, remedy: str, error: type[RephaseError] = RephaseError) -> None:
    """Raise `error` unless `value` is a finite number above zero."""
    if not (math.isfinite(value) and value > 0):
        raise error(f"{name} = {value}: expected a number above 0; {remedy}")


def check_count(name: str, value: int, *, remedy: str) -> None:
    """Raise `ConfigError` unless so many can work at the same time."""
    if not 1 <= value <= _MOST_AT_ONCE:
        raise ConfigError(f"{name} = {value}: expected 1 to {_MOST_AT_ONCE}; {remedy}")


def check_file(name: str, path: str | None, *, otherwise: str) -> None:
    """Raise `ConfigError` if a path that a configuration gives is no file; null is what `otherwise` says."""
    if path is not None and not os.path.isfile(path):
        raise ConfigError(f"{name} = {path}: no such file; give one, or null{otherwise}")


@contextmanager
def blamed_on(section: str) -> Iterator[None]:
    """Errors of the domain become a `ConfigError` that names the section of the configuration that they come from."""
    try:
        yield
    except RephaseError as error:
        raise ConfigError(f"{section}: {error}") from error


def nearest_name(name: str, known: Iterable[str]) -> str:
    """Return a hint that names the closest known words: ``did you mean 'x'?`` or the whole list."""
    import difflib  # here, as the command line imports this before all else

    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
