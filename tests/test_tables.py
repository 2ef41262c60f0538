"""Text from data is text: in tables of notebooks, in figures, in the report, which runs no script but plotly's."""

import gzip
import io
import json
import re
from base64 import b64decode, b64encode
from hashlib import sha256
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import nbformat
import pandas as pd
import plotly.graph_objects as go
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from rephase.plots import label, plain
from rephase.report import write_report
from rephase.runs import open_run
from rephase.runs.status import Outcome, seal
from rephase.runs.tables import styled

HOSTILE = "<img src=x onerror=alert(1)>"


class Elements(HTMLParser):
    """Every element of a page with its attributes, and the text of scripts."""

    def __init__(self, page):
        super().__init__()
        self.found, self.scripts = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.lasttag == "script" and self.scripts:
            self.scripts[-1] += data

    def handle_endtag(self, tag):
        self.lasttag = ""


def is_harmless(tag, attributes):
    source = attributes.get("src") or attributes.get("href") or ""
    return (
        tag not in ("iframe", "object", "embed", "svg", "link", "form", "base")
        and not any(name.startswith("on") or name == "srcdoc" for name in attributes)
        and re.match(r"data:image/webp;base64,|#|https?:|$", source) is not None
        and not (tag == "img" and not source.startswith("data:"))
    )


def test_nothing_in_a_table_is_markup():
    table = pd.DataFrame(
        {HOSTILE: [HOSTILE, [HOSTILE]], "n": [1.23456, 2.0]}, index=pd.Index([HOSTILE, "b"], name=HOSTILE)
    )
    page = styled(table.rename_axis(columns=HOSTILE), precision=2).to_html()
    assert "<img" not in page
    assert page.count("&lt;img src=x") >= 5
    assert "1.23<" in page
    assert "1.2346<" not in page


def test_numbers_take_a_pattern():
    assert "1.2e+03<" in styled(pd.DataFrame({"x": [1234.5]}), "{:.2g}").to_html()


@pytest.mark.parametrize("name", [r"$\frac{", "price $5 and $6_x^", r"\$a$b$", "$", "a\nb"])
def test_names_in_figures_are_never_mathematics(name):
    figure, ax = plt.subplots()
    ax.set_title(plain(name))
    with io.StringIO() as file, plt.rc_context({"svg.fonttype": "none"}):
        figure.savefig(file, format="svg")
        drawn = file.getvalue()
    plt.close(figure)
    assert f">{name}</text>".replace("\n", " ") in drawn
    assert label(name) == plain(name)


def test_a_long_name_is_shortened_in_the_middle():
    assert plain("a" * 500 + "z", longest=20) == "aaaaaaaaa … aaaaaaaz"


@pytest.fixture
def run(tmp_path):
    made = open_run(tmp_path / HOSTILE.replace("/", ""), "test", device="cpu")
    (made.folder / "notebooks").mkdir()
    return made


def written(run, *cells, name="01_structure_factors", status=None):
    nbformat.write(new_notebook(cells=list(cells)), run.folder / "notebooks" / f"{name}.ipynb")
    return write_report(run, status or {}).read_text(encoding="utf-8")


def shown(**data):
    kinds = {
        "html": "text/html",
        "png": "image/png",
        "svg": "image/svg+xml",
        "js": "application/javascript",
        "text": "text/plain",
        "plotly": "application/vnd.plotly.v1+json",
        "latex": "text/latex",
    }
    return new_output("display_data", {kinds[name]: value for name, value in data.items()})


@pytest.mark.parametrize(
    "output",
    [
        shown(html=f"<table><tr><td>kept{HOSTILE}</td></tr></table><script>alert(2)</script>"),
        shown(html="kept<a href='javascript:alert(1)'>x</a><a href='&#106;avascript:alert(1)'>x</a>"),
        shown(html="kept<iframe src='https://example.org' srcdoc='<script>alert(1)</script>'></iframe>"),
        shown(html="kept<svg onload=alert(1)><script>alert(1)</script></svg><math><style><img src=x onerror=alert(1)>"),
        shown(html="kept<style>@import url(https://example.org)</style><img src='https://example.org/x.png'>"),
        shown(html="kept<form action=https://example.org><input autofocus onfocus=alert(1)></form><base href=//x>"),
        shown(html="<scr<script>ipt>alert(1)</scr</script>ipt>kept"),
        shown(svg="<svg onload=alert(1)>", text=f"kept {HOSTILE}"),
        shown(js="alert(1)", text="kept"),
        shown(png='"><script>alert(1)</script>', text="x"),
        new_output("stream", name="stdout", text=f"kept {HOSTILE}"),
        new_output("error", ename="E", evalue=HOSTILE, traceback=[f"kept {HOSTILE}"]),
    ],
)
def test_the_report_shows_outputs_without_what_runs_in_them(run, output):
    page = written(
        run, new_code_cell("1", outputs=[output]), new_markdown_cell(f"prose {HOSTILE} <script>alert(1)</script>")
    )
    elements = Elements(page)
    assert elements.scripts == []
    assert "script-src 'none'" in page
    assert [element for element in elements.found if not is_harmless(*element)] == []
    assert "prose" in page
    assert "kept" in page or output.get("data", {}).get("image/png")


def test_names_of_folders_files_and_errors_are_text(run):
    status = {HOSTILE: Outcome(error=HOSTILE, cell=1)}
    page = written(run, name=HOSTILE, status=status)
    assert [element for element in Elements(page).found if not is_harmless(*element)] == []
    assert page.count("&lt;img src=x onerror=alert(1)&gt;") >= 3


def test_a_figure_turns_by_scripts_that_the_page_names(run):
    figure = go.Figure(go.Scatter3d(x=[0], y=[0], z=[0]))
    figure.update_layout(title=f"</script>{HOSTILE}")
    page = written(run, new_code_cell("1", outputs=[shown(plotly=figure.to_plotly_json())] * 2))
    elements = Elements(page)
    kinds = [attributes.get("type") for tag, attributes in elements.found if tag == "script"]
    assert kinds == ["application/json", "text/plain", None]  # the equal figure once, plotly packed, and what draws
    library = gzip.decompress(b64decode(elements.scripts[1])).decode()
    for script in (library, elements.scripts[2]):
        assert f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" in page
    assert HOSTILE in json.loads(elements.scripts[0])["layout"]["title"]["text"]
    assert "The same picture as above" in page
    assert "'unsafe-inline'; script-src 'sha256-" in page
    assert "unsafe-eval" not in page


@pytest.mark.parametrize("content", [b"", b'{"cells": [{"cell_ty', b"[]", b"null", b"\xff\x00", b"{}", b"[" * 5000])
def test_a_damaged_notebook_is_named_in_the_report(run, content):
    (run.folder / "notebooks" / "02_x.ipynb").write_bytes(content)
    page = written(run, new_markdown_cell("prose"))
    assert "prose" in page
    assert "02_x.ipynb: a damaged notebook; run it again" in page


def test_a_notebook_that_was_changed_is_named_in_the_report(run):
    written(run, new_markdown_cell("prose"), name="03_y")
    path = run.folder / "notebooks" / "03_y.ipynb"
    seal(path)
    assert "changed after" not in written(run)
    path.write_bytes(path.read_bytes().replace(b"prose", b"prosa"))
    with pytest.warns(UserWarning, match=r"03_y\.ipynb: changed after it was executed"):
        assert "03_y.ipynb: changed after it was executed" in written(run)
