"""Pages that are written from the code: the command line, the configuration, the notebooks with their last outputs."""

import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import nbformat
import plotly.io
from nbformat import NotebookNode
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from rephase.config import Config
from rephase.paths import NOTEBOOKS, RUNS

GENERATED = Path(__file__).resolve().parent / "generated"
STATIC = GENERATED / "static"
_PLOTLY = "application/vnd.plotly.v1+json"
_KINDS = {"int": "integer", "float": "number", "str": "text", "bool": "true or false", "NoneType": "null"}
_OR_NULL = " or null"
_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def write_all(plotly_script: str) -> None:
    """Write every generated page, and the script that turns densities, once for all pages."""
    STATIC.mkdir(parents=True, exist_ok=True)
    (STATIC / "plotly.min.js").write_text(plotly_script, encoding="utf-8")
    (GENERATED / "command-line.md").write_text(command_line(), encoding="utf-8")
    (GENERATED / "configuration.md").write_text(configuration(), encoding="utf-8")
    (GENERATED / "notebooks.md").write_text(notebook_list(), encoding="utf-8")
    write_notebooks(GENERATED / "notebooks")


def command_line() -> str:
    """Every command with its options, in Markdown, by typer itself; the first heading is that of the page."""
    command = [sys.executable, "-m", "typer", "rephase.commands", "utils", "docs", "--name", "rephase"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return text.partition("\n")[2]


def configuration() -> str:
    """Every key of a configuration, in Markdown: a table for each section."""
    return "\n".join(_section(Config, FieldInfo(), "", level=1))


def _section(section: type[BaseModel], field: FieldInfo, path: str, *, level: int) -> Iterator[str]:
    """What is said of a section, a table of its own values, and the sections in it."""
    nested = {name: kind for name, field in section.model_fields.items() if (kind := _section_of(field.annotation))}
    values = {name: field for name, field in section.model_fields.items() if name not in nested}
    if path:
        yield f"{'#' * min(level, 6)} `{path}`\n"
    yield f"{inspect.getdoc(section)}{f' Here: {field.description}.' if field.description else ''}\n"
    if values:
        yield "| key | value | default | meaning |\n|---|---|---|---|"
        yield from (_row(f"{path}.{name}".lstrip("."), field) for name, field in values.items())
        yield ""
    for name, kind in nested.items():
        inner = section.model_fields[name]
        many = ".NAME" if get_origin(inner.annotation) is dict else ""
        yield from _section(kind, inner, f"{path}.{name}{many}".lstrip("."), level=level + 1)


def _section_of(annotation: Any) -> type[BaseModel] | None:
    """The section that a value is, where it is not null, or that each value of a mapping is."""
    kinds = (kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type))
    return next((kind for kind in kinds if issubclass(kind, BaseModel)), None)


def _row(key: str, field: FieldInfo) -> str:
    default = "required" if field.is_required() else f"`{_written(field.get_default(call_default_factory=True))}`"
    cells = (f"`{key}`", _values(field), default, field.description or "")
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _values(field: FieldInfo) -> str:
    """Which values a key takes: their kind, their bounds, and null where it may be."""
    bounds = ", ".join(
        f"{sign} {getattr(rule, name):g}"
        for name, sign in _BOUNDS.items()
        for rule in field.metadata
        if hasattr(rule, name)
    )
    kind = _kind(field.annotation)
    return f"{kind.removesuffix(_OR_NULL)} {bounds}".strip() + _OR_NULL * kind.endswith(_OR_NULL)


def _written(value: Any) -> str:
    """A default as YAML takes it, on one line."""
    return json.dumps(value, ensure_ascii=False, default=lambda part: part.model_dump(mode="json"))


def _kind(annotation: Any) -> str:
    """What a value is, in words."""
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(annotation))
    if get_origin(annotation) is tuple:
        parts = [_kind(part) for part in get_args(annotation) if part is not Ellipsis]
        return f"list of {parts[0]}" if Ellipsis in get_args(annotation) else f"[{', '.join(parts)}]"
    if get_origin(annotation) in (dict, list):
        return "mapping" if get_origin(annotation) is dict else "list"
    if hasattr(annotation, "__metadata__"):  # of `Annotated`
        return _kind(annotation.__origin__)
    if args := get_args(annotation):
        return " or ".join(_kind(part) for part in args)
    return _KINDS.get(getattr(annotation, "__name__", ""), "any")


def notebook_list() -> str:
    """The title of every notebook, with a link, and the question that it asks, in Markdown."""
    lines = ["| notebook | question |", "|---|---|"]
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        first = nbformat.read(path, as_version=4).cells[0].source
        title, question = first.splitlines()[0].removeprefix("# "), first.split("**Question.** ")[1].splitlines()[0]
        lines.append(f"| [{title}](/generated/notebooks/{path.name}) | {question.replace('|', chr(92) + '|')} |")
    return "\n".join(lines) + "\n"


def write_notebooks(folder: Path) -> None:
    """Write every notebook with the outputs of its last quick run; without outputs where it has not been run."""
    folder.mkdir(parents=True, exist_ok=True)
    for stored in sorted(NOTEBOOKS.glob("*.ipynb")):
        notebook = nbformat.read(_last_run(stored), as_version=4)
        for cell in notebook.cells:
            _prepare(cell)
        nbformat.write(notebook, folder / stored.name)


def _last_run(stored: Path) -> Path:
    """The newest executed copy of a notebook in the runs of `quick`; the stored notebook where there is none."""
    executed = RUNS.glob(f"quick-*/notebooks/{stored.name}")
    return max(executed, key=lambda path: path.stat().st_mtime, default=stored)


def _prepare(cell: NotebookNode) -> None:
    """Hide what papermill put in, which names folders of this machine; draw plotly's figures by the one script."""
    tags = cell.metadata.setdefault("tags", [])
    if "injected-parameters" in tags:
        tags.append("remove-cell")
    for output in cell.get("outputs", []):
        if _PLOTLY in output.get("data", {}):
            figure = plotly.io.from_json(json.dumps(output.data.pop(_PLOTLY)))
            script = "../../_static/plotly.min.js"
            output.data["text/html"] = figure.to_html(full_html=False, include_plotlyjs=script)
