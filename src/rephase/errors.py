"""Domain errors, and the small checks that raise them at the boundary."""

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

_MOST_AT_ONCE = 1000
_MOST_EFFORT = 1e6
_LONGEST = 1500  # characters of a message, which may quote a whole file


class RephaseError(ValueError):
    """Base of the errors that a user can fix; the message says how, in one line of printable text."""

    def __init__(self, message: str = ""):
        text = "".join(letter if letter.isprintable() else " " for letter in str(message))
        half = _LONGEST // 2
        super().__init__(text if len(text) <= _LONGEST else f"{text[:half]} ... {text[-half:]}")


class CifError(RephaseError):
    """A crystal structure cannot be read or makes no sense."""


class SymmetryError(RephaseError):
    """A space group is unknown, or does not fit the cell or the data."""


class ReflectionError(RephaseError):
    """A list of reflections cannot be read or makes no sense."""


class GridError(RephaseError):
    """Reflections, grid and energy do not fit together."""


class OpticsError(RephaseError):
    """A beam, a detector or an object in the beam is physically impossible."""


class DiskError(RephaseError):
    """A file or folder cannot be written because of the disk, its permissions or another process."""


class ConfigError(RephaseError):
    """A configuration has an unknown key or a wrong value."""


class StoreError(RephaseError):
    """A data store is incomplete, damaged or belongs to another configuration."""


class WeightsError(RephaseError):
    """Weights of a model are damaged, do not fit their card, or were not trained for this request."""


class ImageError(RephaseError):
    """Diffraction images, their labels or an image file cannot be read or make no sense."""


class CurveError(RephaseError):
    """A scattering curve cannot be read or makes no sense."""


class PosteriorError(RephaseError):
    """Posterior samples or their densities make no sense."""


class DeviceError(RephaseError):
    """The requested device is not available."""


class TrainingError(RephaseError):
    """Training cannot continue."""


class OutOfTime(RephaseError):
    """The time given to a command is over: not a failure, because the same command continues from here."""


class PipelineError(RephaseError):
    """A notebook of a run failed."""


class ExtraError(RephaseError):
    """A package is not installed that comes with an extra of rephase."""


def check_positive(name: str, value: float, *, remedy: str, error: type[RephaseError] = RephaseError) -> None:
    """Raise `error` unless `value` is a finite number above zero."""
    if not (math.isfinite(value) and value > 0):
        raise error(f"{name} = {value}: expected a number above 0; {remedy}")


def check_count(name: str, value: int, *, remedy: str) -> None:
    """Raise `ConfigError` unless `value` is a reasonable number of simultaneous processes."""
    if not 1 <= value <= _MOST_AT_ONCE:
        raise ConfigError(f"{name} = {value}: expected 1 to {_MOST_AT_ONCE}; {remedy}")


def check_file(name: str, path: str | None, *, otherwise: str) -> None:
    """Raise `ConfigError` if a configured path is not a file; `otherwise` says what null would mean."""
    if path is not None and not os.path.isfile(path):
        raise ConfigError(f"{name} = {path}: no such file; give one, or null{otherwise}")


@contextmanager
def blamed_on(section: str) -> Iterator[None]:
    """Turn domain errors into a `ConfigError` that names the section of the configuration that caused them."""
    try:
        yield
    except RephaseError as error:
        raise ConfigError(f"{section}: {error}") from error


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Import the packages of an extra inside; where one is not installed, the error says how to install it.

    Raises
    ------
    ExtraError
        A package was not found.

    Examples
    --------
    >>> with extra("posteriors"):
    ...     import zuko_of_the_past
    Traceback (most recent call last):
    rephase.errors.ExtraError: zuko_of_the_past is not installed; in a checkout: pip install '.[posteriors]'
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        raise ExtraError(f"{package} is not installed; in a checkout: pip install '.[{name}]'") from error


def nearest_name(name: str, known: Iterable[str]) -> str:
    """Return a hint: the closest known word, else the only one that begins so, else all of them.

    >>> nearest_name("unet", ["saxs", "unet_training"])
    "did you mean 'unet_training'?"
    >>> nearest_name("x", ["saxs", "gisaxs"])
    'known: gisaxs, saxs'
    """
    import difflib  # here, because the command line imports this module before all others

    known = sorted(known)
    begun = [word for word in known if name and word.startswith(name)]
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5) or (begun if len(begun) == 1 else [])
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"


def check_effort(effort: float) -> None:
    """Raise `ConfigError` for an effort that is not a number above zero, or that would take years."""
    remedy = "1 is the usual effort, 10 searches up to ten times as long"
    check_positive("effort", effort, remedy=remedy, error=ConfigError)
    if effort > _MOST_EFFORT:
        raise ConfigError(f"effort = {effort}: expected at most {_MOST_EFFORT:g}; {remedy}")
