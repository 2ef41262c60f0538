"""Labels of atoms: distinct, and at most four characters long, as SHELX requires."""

import re
from collections.abc import Iterator, Sequence
from itertools import count

import numpy as np

_SHORT = re.compile(r"[A-Z][A-Z]?|[A-Z][A-Z0-9']{0,2}[0-9][A-Z0-9']{0,2}", re.ASCII)  # no instruction has a digit
_LONGEST = 4


def numbered_labels(elements: Sequence[str]) -> list[str]:
    """Return distinct labels numbered within each element: C1, C2, ... C999, CA00, CA01, ..."""
    return short_labels([""] * len(elements), elements)


def short_labels(labels: Sequence[str], elements: Sequence[str]) -> list[str]:
    """Keep labels that SHELX accepts; others, and later ones of the same spelling, get the next free number.

    Examples
    --------
    >>> short_labels(["C1", "c1", "C1_sym"], ["C", "C", "C"])
    ['C1', 'C2', 'C3']
    """
    taken: set[str] = set()
    kept = []
    for label in labels:
        is_kept = len(label) <= _LONGEST and _SHORT.fullmatch(label.upper()) and label.upper() not in taken
        kept.append(label if is_kept else "")
        taken |= {label.upper()} if is_kept else set()
    free = {element: _free_labels(element, taken) for element in set(elements)}
    return [label or next(free[element]) for label, element in zip(kept, elements)]


def _free_labels(element: str, taken: set[str]) -> Iterator[str]:
    """Yield the labels of an element that are not taken."""
    labels = (element + _in_width(number, _LONGEST - len(element)) for number in count(1))
    return (label for label in labels if label.upper() not in taken)


def _in_width(number: int, width: int) -> str:
    """Write a number in decimal digits or, if too long, in base 36 from A0... on."""
    beyond = number - 10**width
    return str(number) if beyond < 0 else np.base_repr(beyond + 10 * 36 ** (width - 1), 36)
