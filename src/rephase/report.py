"""The report of a run, one page with every picture embedded, and that of a sweep, one page with its results."""

import json
import re
import warnings
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
import plotly.io
from nbconvert.filters import markdown2html, strip_ansi
from nbconvert.preprocessors.sanitize import SanitizeHTML
from nbformat import NotebookNode

from rephase.config import dump_config
from rephase.errors import PipelineError, StoreError
from rephase.files.checksums import is_as_written
from rephase.files.writing import write_whole
from rephase.laboratories import LABORATORIES
from rephase.pages import interactive, page, table, text, webp
from rephase.runs import COLUMNS, Run, environment
from rephase.runs.status import Outcome, read_notebook

_PLOTLY, _HTML, _PNG, _TEXT = "application/vnd.plotly.v1+json", "text/html", "image/png", "text/plain"
_MARKDOWN = "text/markdown"
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
    pictures: dict[str, str] = {}
    sections = [_section(path, status.get(path.stem, Outcome()), pictures) for path in notebooks]
    headlines = _headlines(run)
    made = environment()
    seconds = sum(outcome.seconds for outcome in status.values())
    parts = [
        f"<h1>rephase: {_text(run.folder.name)}</h1>",
        f"<p>Configuration {run.config.fingerprint()}, code {_text(made['commit'])}, "
        f"torch {_text(made['packages']['torch'])}; {seconds / 60:.1f} minutes.</p>",
        _contents([*headlines], notebooks),
        *headlines.values(),
        _linked("".join(sections), {path.stem for path in notebooks}),
        f'<section id="configuration"><h2>Configuration</h2><pre>{_text(dump_config(run.config))}</pre></section>',
    ]
    path = run.folder / "report.html"
    write_whole(path, page("".join(parts)).encode("utf-8", errors="backslashreplace"))
    return path


def _contents(laboratories: list[str], notebooks: list[Path]) -> str:
    """Link the parts of the report: scores by laboratory, then notebooks by number and name."""
    names = {f"scores-{name}": f"scores: {name}" for name in laboratories}
    names |= {path.stem: path.stem.replace("_", " ") for path in notebooks} | {"configuration": "configuration"}
    links = "".join(f'<li><a href="#{_text(place)}">{_text(words)}</a></li>' for place, words in names.items())
    return f'<nav id="contents"><ul>{links}</ul></nav>'


def _linked(body: str, names: set[str]) -> str:
    """Let links to other notebooks lead to their sections; links to files that are not in the report become text."""

    def place(link: re.Match[str]) -> str:
        name = link["file"].removesuffix(".ipynb")
        return f'<a href="#{name}">{link["words"]}</a>' if name in names else link["words"]

    return re.sub(r'<a href="(?!#|https?:)(?P<file>[^"]*)"[^>]*>(?P<words>.*?)</a>', place, body, flags=re.DOTALL)


def _headlines(run: Run) -> dict[str, str]:
    """Render the first table of each laboratory that has results."""
    found = {}
    for laboratory, entry in LABORATORIES.items():
        if name := next(iter(entry.tables), None):
            with suppress(FileNotFoundError):  # no results yet
                title, body = f"{laboratory.capitalize()}: {name.replace('_', ' ')}", _scores(entry.tables[name], run)
                found[laboratory] = f'<section id="scores-{_text(laboratory)}"><h2>{_text(title)}</h2>{body}</section>'
    return found


def _scores(make: Callable[[Run], pd.DataFrame], run: Run) -> str:
    try:
        shown = make(run)
    except StoreError as error:
        return _error(str(error))
    return table(shown, index=not isinstance(shown.index, pd.RangeIndex), na_rep="–")


def _section(path: Path, outcome: Outcome, pictures: dict[str, str]) -> str:
    """Render the prose and outputs of one notebook, without its code; `pictures` gives the place of those so far."""
    name = _text(path.stem)
    try:
        cells = read_notebook(path).cells
        body = "".join(_cell(cell, f"{name}-{number}", pictures) for number, cell in enumerate(cells))
    except PipelineError as error:
        body = _error(str(error))
    failure = _error(f"Failed in cell {outcome.cell}: {outcome.error}") if outcome.error else ""
    if not is_as_written(path):
        changed = f"{path}: changed after it was executed, or damaged; delete it and run the notebook again"
        warnings.warn(changed, stacklevel=2)
        failure += _error(changed)
    end = f'<p>{outcome.seconds:.0f} s · <a href="#contents">contents</a></p>'
    return f'<section id="{name}">{body}{failure}{end}</section>'


def _cell(cell: NotebookNode, place: str, pictures: dict[str, str]) -> str:
    if cell.cell_type == "markdown":
        body = _clean(markdown2html(cell.source))
        return re.sub(r"<(/?)h([12])\b", lambda tag: f"<{tag[1]}h{int(tag[2]) + 1}", body)
    shown = "".join(_output(output, place, pictures) for output in cell.get("outputs", []))
    return f'<div id="{place}">{shown}</div>' if shown else ""


def _output(output: NotebookNode, place: str, pictures: dict[str, str]) -> str:
    """Render an output that is a figure, a picture, a table or text; outputs of other kinds are dropped."""
    if output.output_type == "stream":
        return "" if output.name == "stderr" else f"<pre>{_text(output.text)}</pre>"
    if output.output_type == "error":
        return _error("\n".join(output.traceback))
    data = output.get("data", {})
    if _PLOTLY in data:
        return _once(json.dumps(data[_PLOTLY], sort_keys=True), place, pictures) or _figure(data[_PLOTLY])
    if _PNG in data:
        return _once(str(data[_PNG]), place, pictures) or _picture(str(data[_PNG]))
    if _HTML in data:
        return _clean(str(data[_HTML]))
    if _MARKDOWN in data:
        return _clean(markdown2html(str(data[_MARKDOWN])))
    return f"<pre>{_text(data[_TEXT])}</pre>" if _TEXT in data else ""


def _once(content: str, place: str, pictures: dict[str, str]) -> str:
    """Return a link to the place where the same picture stands already; nothing, and note the place, if it is new."""
    if content in pictures:
        return f'<p><a href="#{pictures[content]}">The same picture as above</a></p>'
    pictures[content] = place
    return ""


def _picture(encoded: str) -> str:
    try:
        return webp(b64decode(encoded))
    except ValueError as error:
        return _error(f"a picture that cannot be shown: {error}")


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


def write_sweep_report(folder: Path, status: pd.DataFrame, results: pd.DataFrame) -> Path:
    """Write ``report.html`` of a sweep: results by its parameters, curves, failed runs, and links to every run.

    Parameters
    ----------
    folder
        Sweep folder, which holds a folder of each run.
    status
        A row for each run: its parameters, ``folder``, ``state``, and ``error``, empty if there was none.
    results
        The results of all runs, with the parameters of the status; may be empty.

    Returns
    -------
    Path
        Path of the report.
    """
    parameters = [name for name in status.columns if name not in ("folder", "state", "error")]
    status = status.fillna({"error": ""})
    failed = status[status["error"] != ""]
    curves = [_picture_of(path) for path in sorted((folder / "figures").glob("*_learning_curve.png"))]
    parts = [
        f"<h1>rephase sweep: {_text(folder.name)}</h1>",
        f"<p>{len(status)} runs, {len(failed)} failed.</p>",
        *([f"<h2>Learning curves</h2>{''.join(curves)}"] if curves else []),
        f"<h2>Runs</h2>{_runs(folder, status, parameters)}",
        *_by_parameters(results, [name for name in parameters if name != "seed"]),
    ]
    path = folder / "report.html"
    write_whole(path, page("".join(parts)).encode("utf-8", errors="backslashreplace"))
    return path


def _by_parameters(results: pd.DataFrame, parameters: list[str]) -> Iterator[str]:
    """Yield a table of each experiment: means over the seeds, a row per parameters, model and split."""
    if not {*COLUMNS} <= {*results.columns}:
        yield "<p>No run has scores.</p>"
        return
    rows = [*(name for name in parameters if name in results), "model", "split"]
    keys = results[rows].astype(object).where(results[rows].notna(), "")
    whole = results.assign(**keys)[~keys["split"].astype(str).str.contains(":")]
    for experiment, part in whole.groupby("experiment", sort=False):
        wide = part.pivot_table(index=rows, columns="metric", values="value", sort=False)
        yield f"<h2>Results: {_text(experiment)}</h2>{table(wide, na_rep='–')}"


def _runs(folder: Path, status: pd.DataFrame, parameters: list[str]) -> str:
    """Render a row for each run: a link to its report if there is one, its parameters and its error."""
    head = "".join(f"<th>{_text(name)}</th>" for name in ["run", *parameters, "error"])
    rows = []
    for _, one in status.iterrows():
        name, has_report = str(one["folder"]), (folder / str(one["folder"]) / "report.html").is_file()
        shown = f'<a href="{_text(quote(name))}/report.html">{_text(name)}</a>' if has_report else _text(name)
        error = f'<span class="error">{_text(one["error"])}</span>'
        cells = [shown, *(_text(one[key]) for key in parameters), error]
        rows.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    return f'<table class="settings"><tr>{head}</tr>{"".join(rows)}</table>'


def _picture_of(path: Path) -> str:
    try:
        return webp(path.read_bytes())
    except (OSError, ValueError) as error:
        return _error(f"{path.name}: cannot be shown: {error}")
