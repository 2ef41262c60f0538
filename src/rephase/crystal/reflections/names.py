"""Columns of a reflection table by their header names: recognition of h, k, l, I, σ and others."""

import re

# Roles of columns, and the names in use for each; in lower case, without spaces, brackets, quotes and the like.
_NAMES = {
    "h": ("h", "indexh", "millerh", "hklh"),
    "k": ("k", "indexk", "millerk", "hklk"),
    "l": ("l", "indexl", "millerl", "hkll"),
    "m": ("m", "m1", "indexm", "indexm1"),
    "I": (
        "i",
        "int",
        "intensity",
        "intensities",
        "iobs",
        "imeas",
        "imean",
        "iavg",
        "intensitymeas",
        "intensityobs",
        "intensitynet",
        "f2",
        "fo2",
        "fobs2",
        "fsq",
        "fosq",
        "fobssq",
        "fsquared",
        "fosquared",
        "fobssquared",
        "fsquaredmeas",
        "fsquaredobs",
    ),
    "F": ("f", "fo", "fobs", "fmeas", "fp", "fmeasau", "amplitude", "amplitudeobs"),
    "phi": ("phi", "phase", "phidegrees", "phideg", "phasedeg", "phasecalc", "phasemeas", "phic"),
    "fom": ("fom", "figureofmerit"),
    "batch": ("batch", "batchnumber"),
}
_SIGMA = re.compile(
    r"(sigma|sig|s|σ|esd|su|std|stddev|err|error|uncertainty|sd)(of)?(.*)|(.*)(sigma|esd|su|u|err|error)"
)
_ROLE = {name: role for role, names in _NAMES.items() for name in names}
COMMENTS = "#!%/"  # signs that begin a line of words
SEPARATORS = ";\t,"  # between fields, in the order of search


def column_roles(header: str) -> dict[str, int] | None:
    """Find the position of each role in a line of column names; None unless it names h, k, l and a measured value.

    The result has h, k, l and one of ``I``, ``F`` and ``phi``; also ``sigma`` (of the value), ``m``, ``batch`` and
    ``fom`` if the line names them.

    Examples
    --------
    >>> column_roles("h;k;l;Fo;Fc;sig(Fo)")
    {'h': 0, 'k': 1, 'l': 2, 'F': 3, 'sigma': 5}
    """
    words = [_plain(word) for word in fields_of(header.lstrip(f"{COMMENTS} "))]
    roles: dict[str, int] = {}
    for place, word in enumerate(words):
        if word in _ROLE:
            roles.setdefault(_ROLE[word], place)
    value = next((role for role in ("I", "F", "phi") if role in roles), None)
    if value is None or not {"h", "k", "l"} <= roles.keys():
        return None
    for place, word in enumerate(words):
        if place not in roles.values() and _is_sigma_of(word, value):
            roles.setdefault("sigma", place)
    return roles


def fields_of(line: str) -> list[str]:
    """Split a line into fields; two adjacent separators enclose an empty one."""
    separator = next((sign for sign in SEPARATORS if sign in line), None)
    return line.replace('"', "").split(separator)


def names_indices(names: list[str]) -> bool:
    """Whether the first three names of a header mean h, k and l."""
    return [_ROLE.get(_plain(name)) for name in names[:3]] == ["h", "k", "l"]


def _plain(name: str) -> str:
    """Normalise a name to lower case, with ``F^2`` and ``F²`` as ``f2``."""
    return re.sub(r"[^a-z0-9σ]", "", name.lower().replace("²", "2").replace("**", ""))


def _is_sigma_of(word: str, value: str) -> bool:
    """Whether a name means the σ of a given value, or a σ without a value."""
    found = _SIGMA.fullmatch(word)
    of = (found[3] if found[1] else found[4]) if found else None
    return of is not None and (of == "" or _ROLE.get(of) == value)
