"""The report of a run: one page with every picture embedded."""

import json
import re
import warnings
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import plotly.io
from nbconvert.filters import markdown2html, strip_ansi
from nbconvert.preprocessors.sanitize import SanitizeHTML
from nbformat import NotebookNode

from rephase.config import dump_config
from rephase.errors import PipelineError
from rephase.files.checksums import is_as_written
from rephase.files.writing import write_whole
from rephase.laboratories import LABORATORIES
from rephase.pages import interactive, page, table, text
from rephase.runs import Run, environment
from rephase.runs.status import Outcome, read_notebook

_PLOTLY, _HTML, _PNG, _TEXT = "application/vnd.plotly.v1+json", "text/html", "image/png", "text/plain"
_TAGS = (
    "a abbr b blockquote br caption code dd del div dl dt em h1 h2 h3 h4 h5 h6 hr i li ol p pre s small span strong "
    "sub sup table tbody td tfoot th thead tr u ul"
)
_CLEANER = SanitizeHTML(
    tags=_TAGS.split(),
    attributes={"*": ["class"], "a": ["href", "title"], "td": ["colspan", "rowspan"], "th": ["colspan", "rowspan"]},
    strip=True,
)


def write_report(run: Run, status: dict[str, Outcome]) -> Path:
    """Write ``report.html`` from the executed notebooks of a run and the outcome of each.

    Returns
    -------
    Path
        Path of the report.
    """
    notebooks = sorted((run.folder / "notebooks").glob("*.ipynb"))
    sections = [_section(path, status.get(path.stem, Outcome())) for path in notebooks]
    links = " ".join(f'<a href="#{_text(path.stem)}">{_text(path.stem[:2])}</a>' for path in notebooks)
    made = environment()
    seconds = sum(outcome.seconds for outcome in status.values())
    parts = [
        f"<h1>rephase: {_text(run.folder.name)}</h1>",
        f"<p>Configuration {run.config.fingerprint()}, code {_text(made['commit'])}, "
        f"torch {_text(made['packages']['torch'])}; {seconds / 60:.1f} minutes.</p>",
        f"<nav>{links}</nav>",
        _headline(run),
        *sections,
        f"<h2>Configuration</h2><pre>{_text(dump_config(run.config))}</pre>",
    ]
    path = run.folder / "report.html"
    write_whole(path, page("".join(parts)).encode("utf-8", errors="backslashreplace"))
    return path


def _headline(run: Run) -> str:
    found = []
    for title, table_of in chain.from_iterable(each.headlines.items() for each in LABORATORIES.values()):
        with suppress(FileNotFoundError):  # no results yet
            found.append(f"<h2>{_text(title)}</h2>{table(table_of(run))}")
    return "".join(found)


def _section(path: Path, outcome: Outcome) -> str:
    """Render the prose and outputs of one notebook, without its code."""
    try:
        body = "".join(_cell(cell) for cell in read_notebook(path).cells)
    except PipelineError as error:
        body = _error(str(error))
    failure = _error(f"Failed in cell {outcome.cell}: {outcome.error}") if outcome.error else ""
    if not is_as_written(path):
        changed = f"{path}: changed after it was executed, or damaged; delete it and run the notebook again"
        warnings.warn(changed, stacklevel=2)
        failure += _error(changed)
    return f'<section id="{_text(path.stem)}">{body}{failure}<p>{outcome.seconds:.0f} s</p></section>'


def _cell(cell: NotebookNode) -> str:
    if cell.cell_type == "markdown":
        body = _clean(markdown2html(cell.source))
        return re.sub(r"<(/?)h([12])\b", lambda tag: f"<{tag[1]}h{int(tag[2]) + 1}", body)
    return "".join(_output(output) for output in cell.get("outputs", []))


def _output(output: NotebookNode) -> str:
    """Render an output that is a figure, a picture, a table or text; outputs of other kinds are dropped."""
    if output.output_type == "stream":
        return "" if output.name == "stderr" else f"<pre>{_text(output.text)}</pre>"
    if output.output_type == "error":
        return _error("\n".join(output.traceback))
    data = output.get("data", {})
    if _PLOTLY in data:
        return _figure(data[_PLOTLY])
    if _PNG in data:
        return f'<img alt="" src="data:{_PNG};base64,{re.sub("[^A-Za-z0-9+/=]", "", str(data[_PNG]))}">'
    if _HTML in data:
        return _clean(str(data[_HTML]))
    return f"<pre>{_text(data[_TEXT])}</pre>" if _TEXT in data else ""


def _figure(values: Any) -> str:
    """Render a plotly figure; plotly escapes its texts, except a few tags such as <b>, and writes its own script."""
    try:
        figure = plotly.io.from_json(json.dumps(values), skip_invalid=True)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        return _error(f"a figure that cannot be drawn: {error}")
    return interactive(figure)


def _clean(markup: str) -> str:
    """Remove scripts, styles, pictures and all attributes except those of tables and links."""
    return _CLEANER.sanitize_html_tags(
        re.sub(r"<(style|script)\b.*?</\1\s*>", "", markup, flags=re.DOTALL | re.IGNORECASE)
    )


def _error(message: str) -> str:
    return f'<pre class="error">{_text(message)}</pre>'


def _text(value: object) -> str:
    """Escape any value for use as text in a page, without the colours of a terminal."""
    return text(strip_ansi(str(value)))
