"""Columns of a table of reflections by their names in its header: which is h, which I, which σ."""

import re

# What a column is, and how programs and people call it; without capitals, spaces, brackets, quotes and the like.
_NAMES = {
    "h": ("h", "indexh", "millerh", "hklh"),
    "k": ("k", "indexk", "millerk", "hklk"),
    "l": ("l", "indexl", "millerl", "hkll"),
    "m": ("m", "m1", "indexm", "indexm1"),
    "I": ("i", "int", "intensity", "intensities", "iobs", "imeas", "imean", "iavg", "intensitymeas", "intensityobs",
          "intensitynet", "f2", "fo2", "fobs2", "fsq", "fosq", "fobssq", "fsquared", "fosquared",
          "fobssquared", "fsquaredmeas", "fsquaredobs"),
    "F": ("f", "fo", "fobs", "fmeas", "fp", "fmeasau", "amplitude", "amplitudeobs"),
    "phi": ("phi", "phase", "phidegrees", "phideg", "phasedeg", "phasecalc", "phasemeas", "phic"),
    "fom": ("fom", "figureofmerit"),
    "batch": ("batch", "batchnumber"),
}  # fmt: skip
_SIGMA = re.compile(
    r"(sigma|sig|s|σ|esd|su|std|stddev|err|error|uncertainty|sd)(of)?(.*)|(.*)(sigma|esd|su|u|err|error)"
)
_ROLE = {name: role for role, names in _NAMES.items() for name in names}
COMMENTS = "#!%/"  # signs that begin a line of words
SEPARATORS = ";\t,"  # of fields, in the order in which they are looked for


def column_roles(header: str) -> dict[str, int] | None:
    """The place of each column that a line of names has; None where it does not name h, k, l and what was measured.

    ``h, k, l`` and one of ``I``, ``F`` and ``phi`` are there, ``sigma`` (of the value), ``m``, ``batch`` and ``fom``
    where they are named.

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
    """The fields of a line; between two separators is an empty one."""
    separator = next((sign for sign in SEPARATORS if sign in line), None)
    return line.replace('"', "").split(separator)


def names_indices(names: list[str]) -> bool:
    """Whether the first names of a header are those of h, k and l."""
    return [_ROLE.get(_plain(name)) for name in names[:3]] == ["h", "k", "l"]


def _plain(name: str) -> str:
    """A name without capitals, and with ``F^2`` and ``F²`` as ``f2``."""
    return re.sub(r"[^a-z0-9σ]", "", name.lower().replace("²", "2").replace("**", ""))


def _is_sigma_of(word: str, value: str) -> bool:
    """Whether a name says that it is the σ of a value, or of nothing in particular."""
    found = _SIGMA.fullmatch(word)
    of = (found[3] if found[1] else found[4]) if found else None
    return of is not None and (of == "" or _ROLE.get(of) == value)
