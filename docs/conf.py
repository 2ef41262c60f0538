"""How Sphinx builds the pages: ``make docs`` writes them to docs/_build/html."""

import re
import sys
from importlib.metadata import version as installed
from pathlib import Path

import plotly.offline

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import generators  # noqa: E402  (beside this file)

project, author, copyright = "rephase", "The rephase authors", "The rephase authors"
version = release = installed("rephase")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build", "generated/*.md"]  # the latter are included by the pages of reference/
templates_path = ["templates"]

html_theme, html_title = "furo", "rephase"
html_static_path = [str(generators.STATIC)]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # outputs come from the last run; -D nb_execution_mode=force executes instead
nb_merge_streams = True

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
default_role, highlight_language = "py:obj", "none"
suppress_warnings = ["ref.python"]  # a parameter that a docstring quotes may be the name of several attributes
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True


def follow_links(app, docname, source):
    """Pages and notebooks link to each other where the repository has them; here all are pages."""
    for theirs, ours in {
        "../../notebooks/": "/generated/notebooks/",
        "../notebooks/": "/generated/notebooks/",
        "../docs/": "/",
    }.items():
        source[0] = source[0].replace(f"]({theirs}", f"]({ours}")


def keep_symbols(app, what, name, obj, options, lines):
    """Bars and stars in docstrings are those of |F| and [*, n], never marks of reStructuredText; literals stay."""
    for number, line in enumerate(lines):
        if not line.lstrip().startswith(">>>"):
            lines[number] = re.sub(r"(``.+?``)|([|*])", lambda found: found[1] or f"\\{found[2]}", line)


def setup(app):
    """Write what is generated, before Sphinx looks for pages."""
    generators.write_all(plotly.offline.get_plotlyjs())
    app.connect("source-read", follow_links)
    app.connect("autodoc-process-docstring", keep_symbols, priority=100)  # before napoleon, whose own stars stay
