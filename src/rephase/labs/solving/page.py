"""`solve.html`: a solution on one page that opens offline, to show to a colleague or a referee."""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from rephase.crystal.peaks import UNASSIGNED
from rephase.files.writing import write_whole
from rephase.labs.solving.evidence import fit, measurement, section, trials
from rephase.labs.solving.findings import atom_table, cell_contents, verdict_and_why
from rephase.labs.solving.molecule import molecule_in_hand, sites_to_draw
from rephase.labs.solving.solids import element_colour
from rephase.pages import interactive, page, settings, table, text
from rephase.refinement.citations import CITATIONS
from rephase.refinement.model import Model
from rephase.solvers.solution import Solution

_STYLE = """
.verdict { border-left: .5rem solid; padding: .6rem 1rem; background: #f6f6f6; font-size: 1.05rem; }
.solved { border-color: #009E73; } .possible { border-color: #E69F00; } .unsure { border-color: #D55E00; }
.molecule { height: min(38rem, 60vw + 8rem); max-width: 46rem; border: 1px solid #ddd; }
.molecule .plotly-figure { min-height: 0; }
.key span { margin-right: 1rem; white-space: nowrap; }
.key i { display: inline-block; width: .8rem; height: .8rem; border-radius: 50%; border: 1px solid #999; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 1rem; }
.pair img { width: 100%; } figure { margin: 0; } figcaption { font-size: 13px; color: #555; }
table.settings { display: table; } pre { white-space: pre-wrap; }
"""
_NAMES = {UNASSIGNED: "peak of the map"}
_FILES = {
    "solution.res": "model for SHELXL and the programs that read its files",
    "solution.ins": "the same, as instructions for the next refinement",
    "solution.hkl": "reflections, HKLF 4: as measured, or merged without a model or without σ",
    "solution.cif": "cell, atoms and refinement for a database or a journal",
    "solution.mtz": "amplitudes, phases and figures of merit",
    "density.ccp4": "map",
    "difference.ccp4": "difference map",
    "solution.json": "the summary that was printed",
    "density.png": "projections of the map",
    "density.pdf": "the same, for print",
    "molecule.png": "the molecule with ellipsoids",
    "molecule.pdf": "the same, for print",
}


def write_page(solution: Solution, folder: Path, *, command: Sequence[str] = ()) -> Path:
    """Write ``solve.html`` into a folder that holds the other results, and return its path.

    Parameters
    ----------
    solution
        The solution; without a model, the page shows the peaks of its map.
    command
        Words of the command that repeats the solution.
    """
    name = solution.reflections.name
    parts = [
        f"<h1>{text(name)}</h1>",
        _verdict(solution),
        *_molecule(solution),
        *_contents(solution),
        *fit(solution.model),
        *trials(solution),
        *measurement(solution),
        *_hints(solution),
        *_files(folder),
        section("Citation", "<ul>" + "".join(f"<li>{text(each)}</li>" for each in CITATIONS) + "</ul>"),
        *([section("Repeat", f"<pre>{text(shlex.join(command))}</pre>")] if command else []),
    ]
    path = folder / "solve.html"
    content = page("".join(parts), title=f"{name}: {solution.verdict}", style=_STYLE)
    write_whole(path, content.encode("utf-8", errors="backslashreplace"))
    return path


def _verdict(solution: Solution) -> str:
    head, why, advice = map(text, verdict_and_why(solution))
    return f'<div class="verdict {text(solution.verdict)}"><strong>{head}</strong><br>{why}<br>{advice}</div>'


def _molecule(solution: Solution) -> Iterator[str]:
    sites, r = sites_to_draw(solution), solution.reflections
    figure = molecule_in_hand(sites, r.cell, r.group, solution.density)
    key = "".join(
        f'<span><i style="background:{element_colour(element)}"></i> {_NAMES.get(element, element)}</span>'
        for element in sorted(set(sites.elements))
    )
    words = (
        "Turn with the mouse or a finger; touch an entry of the legend to show or hide it. Ellipsoids enclose half of "
    )
    words += "the probability." if solution.model else "the probability of an atom with U = 0.03 Å²; peaks have no U."
    box = f'<div class="molecule">{interactive(figure)}</div>'
    yield section("Molecule", box, f'<p class="key">{key}</p><p>{text(words)}</p>')


def _contents(solution: Solution) -> Iterator[str]:
    """List the crystal data, and the atoms in the cell."""
    values, model = settings(cell_contents(solution)), solution.model
    yield section("Cell and contents", values, *([] if model is None else [_atoms(model)]))


def _atoms(model: Model) -> str:
    rows = table(atom_table(model), index=False)
    return f"<details><summary>{len(model.sites)} atoms of the asymmetric unit</summary>{rows}</details>"


def _hints(solution: Solution) -> Iterator[str]:
    words = [f"<li><strong>{text(hint.title)}</strong>: {text(str(hint))}</li>" for hint in solution.hints]
    yield section("Hints", f"<ul>{''.join(words)}</ul>" if words else "<p>Nothing unusual was found.</p>")


def _files(folder: Path) -> Iterator[str]:
    """Link the files beside the page."""
    rows = [
        f'<tr><th><a href="{name}">{name}</a></th><td>{text(words)}</td></tr>'
        for name, words in _FILES.items()
        if (folder / name).exists()
    ]
    if rows:
        yield section("Files", f'<table class="settings">{"".join(rows)}</table>')
