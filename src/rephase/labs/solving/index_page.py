"""The page of many crystals: one table that links the page of each; it opens offline and has no scripts."""

import html
from collections import Counter
from collections.abc import Sequence
from urllib.parse import quote

from rephase.labs.solving.row import Row

_HEADINGS = {
    "name": "crystal",
    "verdict": "verdict",
    "space_group": "space group",
    "r1": "R1",
    "z": "Z",
    "formula": "formula",
    "seconds": "time (s)",
}
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
.table { overflow-x: auto; } table { border-collapse: collapse; font-size: 14px; }
th, td { padding: .3rem .7rem; text-align: left; border-bottom: 1px solid #ddd; } th { background: #f3f3f3; }
.solved { color: #00694b; } .possible { color: #8a5a00; } .unsure, .failed { color: #a00; }
"""


def index_page(title: str, rows: Sequence[Row]) -> str:
    """Return the page of a table; the reason of a failed crystal stands in its line."""
    verdicts = Counter(row.verdict for row in rows)
    said = ", ".join(f"{n} {verdict}" for verdict, n in verdicts.items())
    headings = "".join(f"<th>{heading}</th>" for heading in _HEADINGS.values())
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(title)}</title><style>{_STYLE}</style></head><body>"
        f'<h1>{_text(title)}</h1><p>{len(rows)} crystals: {said}.</p><div class="table">'
        f"<table><tr>{headings}</tr>{''.join(map(_line, rows))}</table></div></body></html>\n"
    )


def _line(row: Row) -> str:
    name = f'<a href="{quote(row.page)}">{_text(row.name)}</a>' if row.page else _text(row.name)
    cells = [name, f'<span class="{_text(row.verdict)}">{_text(row.verdict)}</span>']
    if row.reason:
        rest = f'<td colspan="{len(_HEADINGS) - len(cells)}">{_text(row.reason)}</td>'
    else:
        rest = "".join(f"<td>{_text(getattr(row, key)) or '–'}</td>" for key in list(_HEADINGS)[len(cells) :])
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}{rest}</tr>"


def _text(value: str) -> str:
    return html.escape(value.encode(errors="backslashreplace").decode())
