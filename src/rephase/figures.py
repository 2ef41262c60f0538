"""Draw any laboratory's figure from the saved results of a run."""

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from rephase.errors import ConfigError, nearest_name
from rephase.laboratories import all_figures
from rephase.plots import (
    STYLE,
    save_figure,
)
from rephase.runs import Run


def draw(run: Run, name: str) -> Figure:
    """Draw the named figure from the saved results of a run, and write it to ``figures/`` as PDF and PNG."""
    known = all_figures()
    if name not in known:
        raise ConfigError(f"no figure {name!r}; {nearest_name(name, known)}")
    with plt.style.context(STYLE):
        figure = known[name](run)
        save_figure(figure, run.folder / "figures", name)
    return figure


def draw_all(run: Run) -> dict[str, Path | str]:
    """Draw every figure whose data the run has; for the others, say which file is missing."""
    drawn: dict[str, Path | str] = {}
    for name in all_figures():
        try:
            draw(run, name)
            drawn[name] = run.folder / "figures" / f"{name}.png"
        except FileNotFoundError as error:
            drawn[name] = f"not drawn: {Path(error.filename).name} does not exist yet"
    return drawn
