"""HTML pages in one file: they fetch nothing, run only the scripts that they were written with, and open offline."""

import gzip
import html
import io
import warnings
from base64 import b64encode
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image
from plotly.io.json import to_json_plotly
from plotly.offline import get_plotlyjs

from rephase.plots import STYLE

if TYPE_CHECKING:
    import plotly.graph_objects as go

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.6rem; } h2 { margin-top: 2.5rem; border-top: 1px solid #ccc; padding-top: 1rem; }
img { max-width: 100%; } pre { overflow-x: auto; background: #f6f6f6; padding: .5rem; font-size: 12px; }
table { border-collapse: collapse; font-size: 13px; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #ddd; } th { background: #f3f3f3; }
table.settings td, table.settings th { text-align: left; } .error { color: #a00; }
nav ul { columns: 16rem; list-style: none; padding: 0; }
.anchor-link { display: none; } .plotly-figure { height: 100%; min-height: 30rem; }
"""
_DATA = '<script type="application/json">'
# Unpacks plotly, which is a third as large packed, and draws each figure from the data that follow its box.
_DRAWING = """(async () => {
const figures = [...document.querySelectorAll('script[type="application/json"]')];
try {
const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (letter) => letter.charCodeAt(0));
const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
const library = document.createElement("script");
library.textContent = await new Response(stream).text();
document.head.append(library);
for (const figure of figures) {
const { data, layout, config } = JSON.parse(figure.textContent);
await Plotly.newPlot(figure.previousElementSibling, data, layout, config);
}
} catch (error) {
for (const figure of figures) {
if (!figure.previousElementSibling.hasChildNodes()) {
figure.previousElementSibling.textContent = `This browser cannot draw the figure: ${error}`;
} } } })();"""
_CONFIG = {  # nothing that leaves the page: one of plotly's buttons would send the data to its maker
    "responsive": True,
    "displaylogo": False,
    "modeBarButtonsToRemove": ["sendChartToCloud"],
}


def page(body: str, *, title: str = "rephase", style: str = "") -> str:
    """Return a page with a body of trusted markup, whose policy allows only the scripts that are in it.

    Parameters
    ----------
    body
        Markup: everything that a user gave was escaped by `text`, or comes from `table`, `picture` and `interactive`.
    title
        Title, escaped here.
    style
        Rules added to the style of every page.
    """
    drawing, allowed = _drawing() if _DATA in body else ("", "'none'")
    policy = f"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src {allowed}"
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{_STYLE}{style}</style>"
    )
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}{drawing}</body></html>'


@cache
def _drawing() -> tuple[str, str]:
    """Return the scripts that draw the figures of a page, and the sources of scripts that its policy allows."""
    library = get_plotlyjs()
    packed = b64encode(gzip.compress(library.encode(), mtime=0)).decode()
    checksums = [b64encode(sha256(script.encode()).digest()).decode() for script in (library, _DRAWING)]
    scripts = f'<script type="text/plain" id="plotly">{packed}</script><script>{_DRAWING}</script>'
    return scripts, " ".join(f"'sha256-{checksum}'" for checksum in checksums)


def text(value: object) -> str:
    """Escape any value for use as text, or as the value of an attribute, in a page."""
    return html.escape(str(value))


def table(rows: pd.DataFrame, **options: object) -> str:
    """Render a table with four significant digits; its texts are escaped."""
    return rows.to_html(**{"border": 0, "float_format": lambda x: f"{x:.4g}", **options})


def settings(values: Mapping[str, object]) -> str:
    """Render names and values as a table of two columns."""
    rows = "".join(f"<tr><th>{text(name)}</th><td>{text(value)}</td></tr>" for name, value in values.items())
    return f'<table class="settings">{rows}</table>'


def picture(figure: Figure, *, name: str) -> str:
    """Render a figure as vector graphics inside the page, and close it; `name` says in words what it shows."""
    drawn = io.BytesIO()
    with plt.style.context([STYLE, {"svg.fonttype": "path", "savefig.bbox": "standard"}]):
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    plt.close(figure)
    return f'<img alt="{text(name)}" src="data:image/svg+xml;base64,{b64encode(drawn.getvalue()).decode()}">'


def webp(picture: bytes) -> str:
    """Render a picture, packed without loss in about half the bytes of PNG.

    Raises
    ------
    ValueError
        The bytes are not a PNG of reasonable size.
    """
    packed = io.BytesIO()
    try:
        with warnings.catch_warnings(action="error"), Image.open(io.BytesIO(picture), formats=["PNG"]) as image:
            image.save(packed, "webp", lossless=True)
    except (OSError, SyntaxError, Warning, Image.DecompressionBombError) as error:
        raise ValueError(f"not a PNG: {error}") from error
    return f'<img alt="" src="data:image/webp;base64,{b64encode(packed.getvalue()).decode()}">'


def interactive(figure: "go.Figure | dict[str, Any]") -> str:
    """Render a figure, or its JSON, that fills its box; plotly escapes its texts except a few tags such as <b>."""
    values = figure if isinstance(figure, dict) else figure.to_dict()
    data = to_json_plotly({**values, "config": _CONFIG}).replace("<", "\\u003c")
    return f'<div class="plotly-figure"></div>{_DATA}{data}</script>'
