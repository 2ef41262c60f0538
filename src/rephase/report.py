"""The report of a run: one HTML file with every picture inside, which opens offline."""

import html
import json
import re
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
from nbconvert import HTMLExporter

from rephase.completing import summary as completion_summary
from rephase.experiments import summary
from rephase.runs import Run

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.6rem; } h2 { margin-top: 2.5rem; border-top: 1px solid #ccc; padding-top: 1rem; }
img { max-width: 100%; } pre { overflow-x: auto; background: #f6f6f6; padding: .5rem; font-size: 12px; }
table { border-collapse: collapse; font-size: 13px; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #ddd; } th { background: #f3f3f3; }
.error { color: #a00; } nav a { margin-right: 1rem; } .anchor-link { display: none; }
"""


def write_report(run: Run, status: dict[str, Any]) -> Path:
    """Write ``report.html`` from the executed notebooks of a run and what became of each.

    Returns
    -------
    Path
        The file.
    """
    notebooks = sorted((run.folder / "notebooks").glob("*.ipynb"))
    sections = [_section(path, status.get(path.stem, {})) for path in notebooks]
    links = " ".join(f'<a href="#{path.stem}">{path.stem[:2]}</a>' for path in notebooks)
    environment = json.loads((run.folder / "environment.json").read_text())
    seconds = sum(entry.get("seconds", 0) for entry in status.values())
    parts = [
        f"<h1>rephase: {html.escape(run.folder.name)}</h1>",
        f"<p>Configuration {run.config.fingerprint()}, code {environment['commit']}, "
        f"torch {environment['packages']['torch']}; {seconds / 60:.1f} minutes.</p>",
        f"<nav>{links}</nav>",
        _headline(run),
        *sections,
        f"<h2>Configuration</h2><pre>{html.escape((run.folder / 'config.yaml').read_text())}</pre>",
    ]
    path = run.folder / "report.html"
    head = f"<head><meta charset='utf-8'><title>rephase</title><style>{_STYLE}</style></head>"
    page = f"<!doctype html><html lang='en'>{head}<body>{''.join(parts)}</body></html>"
    path.write_text(page, encoding="utf-8")
    return path


def _headline(run: Run) -> str:
    found = ""
    if run.has_results():
        table = summary(run)[["phase_loss_aligned", "phase_loss_naive", "mean_phase_error", "map_cc", "ssim"]]
        found += f"<h2>Results</h2>{_table(table)}"
    if run.has_results("completion_results"):
        found += f"<h2>Completed amplitudes</h2>{_table(completion_summary(run))}"
    return found


def _table(table: pd.DataFrame) -> str:
    return table.to_html(border=0, float_format=lambda x: f"{x:.4g}")


def _section(path: Path, entry: dict[str, Any]) -> str:
    """Prose and outputs of one notebook; the code stays in the notebook."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    exporter = HTMLExporter(template_name="basic", exclude_input=True, exclude_output_prompt=True)
    body, _ = exporter.from_notebook_node(notebook)
    body = re.sub(r"<(/?)h([12])\b", lambda tag: f"<{tag[1]}h{int(tag[2]) + 1}", body)
    failure = (
        f"<p class='error'>Failed in cell {entry['cell']}: {html.escape(entry['error'])}</p>"
        if "error" in entry
        else ""
    )
    took = f"<p>{entry['seconds']:.0f} s</p>" if "seconds" in entry else ""
    return f"<section id='{path.stem}'>{body}{failure}{took}</section>"
