"""The texts of a figure as they are drawn: which of them overlap, and which leave the figure."""

from itertools import combinations

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from rephase.plots import TWO_COLUMNS

_TOLERANCE = 1.5  # pixels: boxes are a little larger than their letters


def faults(figure):
    """Name the texts that overlap another text or are cut by the edge of the figure."""
    boxes, (right, top) = _boxes(figure), figure.bbox.max
    assert figure.get_figwidth() <= TWO_COLUMNS, "wider than a page"
    found = [f"{a!r} overlaps {b!r}" for (a, box), (b, other) in combinations(boxes, 2) if _overlap(box, other)]
    for name, corners in boxes:
        (left, bottom), most = corners.min(0), corners.max(0)
        if min(left, bottom) < -_TOLERANCE or most[0] > right + _TOLERANCE or most[1] > top + _TOLERANCE:
            found.append(f"{name!r} leaves the figure")
    return found


def _boxes(figure):
    """Words and corners [4, 2] in pixels of every text that is drawn, turned as the text is."""
    found, draw = [], Text.draw

    def note(text, renderer, *arguments, **options):
        if text.get_visible() and text.get_text().strip():
            found.append((text.get_text(), _corners(text, renderer)))
        return draw(text, renderer, *arguments, **options)

    Text.draw = note
    try:
        FigureCanvasAgg(figure).draw()
    finally:
        Text.draw = draw
    return found


def _corners(text, renderer):
    middle, angle = np.mean(text.get_window_extent(renderer).get_points(), axis=0), text.get_rotation()
    text.set_rotation(0)
    width, height = text.get_window_extent(renderer).size
    text.set_rotation(angle)
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    half = np.array([[-width, -height], [width, -height], [width, height], [-width, height]]) / 2
    return middle + half @ [[c, s], [-s, c]]


def _overlap(one, other):
    """Whether two rectangles overlap by more than the tolerance along every direction of their sides."""
    for corners in (one, other):
        for side in (corners[1] - corners[0], corners[3] - corners[0]):
            axis = side / np.linalg.norm(side)
            a, b = one @ axis, other @ axis
            if min(a.max(), b.max()) - max(a.min(), b.min()) <= _TOLERANCE:
                return False
    return True
