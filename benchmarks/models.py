"""Refined models of real crystals against the true structures, and the claims that they are solved.

    rephase bench models -- --cod --d-min 1.0
    rephase bench models -- --cod --d-min 1.0 --formula --noise 0.05 --missing 0.1
    rephase bench models -- --measured FOLDER --d-min 1.2 1.5 --unknown-group
    rephase bench models -- --random 150 --d-min 1.0 1.2 --effort 0.3

The options that choose crystals and degrade their reflections are those of ``rephase bench solve``. The whole of
`rephase.solve` runs: phases, space group, atoms, elements, hydrogen, refinement. ``--formula`` gives it the contents of
the cell (the formula that the file states for measured data). The model is moved to the allowed origin and hand that
agree best with the true structure; a true atom other than hydrogen is found if an atom of the model lies within 0.1 Å,
a hydrogen atom if one lies within 0.3 Å; sites that are less than half occupied do not count. A claim, the verdict
``solved``, is right if map_cc is at least 0.7 and, with a model, at least 80 % of the atoms are found. For measured
data, ``r1_above_published`` is the median difference from the R1 that the CIF publishes. ``cpu_s`` is process time.

Rows are appended to ``runs/bench/models.csv``, and existing rows are not computed again. At the end, shares, medians
and claims of all rows are printed, and R1 of each measured set beside the published one. If the program fails on a
crystal, the row has the verdict ``failed`` and the error.
"""

import argparse
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import gemmi
import numpy as np
import pandas as pd
from cases.atoms import counted_sites, score_atoms
from cases.crystals import chosen_crystals, crystal_files
from cases.options import case_parser, check_case, data_kind, errors_in_one_line, limits_of
from cases.reflections import case_of, is_same_group
from cases.rows import Row, continued

from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.simulation import SOLVED
from rephase.crystal.structures import Crystal
from rephase.crystal.symmetry import find_symmetry
from rephase.errors import ReflectionError
from rephase.solvers.solution import Solution
from rephase.solvers.solve import solve

KEYS = ["data", "formula", "effort", "d_min"]
_COUNTS = ["n_atoms", "n_found", "n_named", "n_hydrogen", "n_hydrogen_found"]
_FIGURES = ["r1", "wr2", "goof"]
_FOUND = 0.8  # share of the atoms in a model that is right
_ATOMIC = 1.2  # Å; claims to this limit are counted by themselves


def measure(name: str, crystal: Crystal, d_min: float, options: argparse.Namespace) -> Row:
    """Solve and refine one crystal at one resolution; return what the table says of it."""
    row: Row = {"space_group": find_symmetry(crystal.space_group).symbol, "map_cc": 0.0, **nothing_found(crystal)}
    start = time.process_time()
    try:
        data, truth = case_of(name, crystal, d_min, options)
        formula = formula_of(crystal, data) if options.formula else None
        solution = solve(data, effort=options.effort, seed=options.seed, formula=formula)
    except ReflectionError:  # too few reflections
        return row | {"verdict": "refused"}
    except Exception as error:  # a fault of the program: the others are measured nevertheless
        traceback.print_exc()
        return row | {"verdict": "failed", "note": f"{type(error).__name__}: {error}"}
    row |= {"verdict": solution.verdict, "cpu_s": round(time.process_time() - start, 2), "note": solution.model_note}
    row["map_cc"] = round(float(truth.score(solution.F, solution.reflections).map_cc[0]), 4)
    if options.unknown_group:
        row["named_first"] = is_same_group(solution.reflections.group, find_symmetry(crystal.space_group))
    if options.measured:
        row["r1_published"] = published_r1(options.measured / f"{name}.cif")
    if solution.model is not None:
        row |= score_atoms(solution.model, crystal, truth, solution.reflections)._asdict() | figures(solution)
    return row


def nothing_found(crystal: Crystal) -> Row:
    """Return the counts of `AtomScores` without a model."""
    n_hydrogen, n_atoms = (int(sites.sum()) for sites in counted_sites(crystal))
    return dict(zip(_COUNTS, (n_atoms, 0, 0, n_hydrogen, 0)))


def figures(solution: Solution) -> Row:
    """Return the figures of the refinement."""
    names = "r1", "wr2", "goof", "n_observed", "n_parameters", "peak", "hole"
    return {name: round(getattr(solution.model.statistics, name), 4) for name in names}


def formula_of(crystal: Crystal, data: Reflections) -> str:
    """Return the formula that comes with the data, or else the contents of the cell in whole atoms."""
    counts = {element: round(n) for element, n in crystal.atoms.counts.items()}
    return data.formula or " ".join(f"{element}{n}" for element, n in counts.items() if n)


def published_r1(path: Path) -> float:
    """Read R1 over the observed reflections from a CIF; NaN if it states none."""
    return float(gemmi.cif.as_number(gemmi.cif.read(str(path))[0].find_value("_refine_ls_R_factor_gt") or "?"))


def cases(crystals: dict[str, Crystal], options: argparse.Namespace) -> Iterator[tuple[Row, Callable[[], Row]]]:
    """List the crystals at each resolution: the keys of a row, and what measures the rest of it."""
    for d_min in limits_of(options):
        for name, crystal in crystals.items():
            values = data_kind(options), options.formula, options.effort, d_min, options.seed, name
            yield dict(zip([*KEYS, "seed", "name"], values)), partial(measure, name, crystal, d_min, options)


def table_of(rows: list[Row]) -> pd.DataFrame:
    """Put rows into a table that has the columns of a refinement even where there is none."""
    table = pd.DataFrame(rows)
    return table.reindex(columns=dict.fromkeys([*table, *_FIGURES, "cpu_s"]))


def shares(table: pd.DataFrame) -> pd.DataFrame:
    """Summarise the rows of each kind of data: shares of all true atoms, medians over the right solutions."""

    def row(part: pd.DataFrame) -> dict[str, float]:
        right = part[part["map_cc"] >= SOLVED]
        return {
            "n": len(part),
            "solved": len(right) / len(part),
            "models": int(part["r1"].notna().sum()),
            "atoms": ratio(part, "n_found", "n_atoms"),
            "elements": ratio(part, "n_named", "n_found"),
            "H": ratio(part, "n_hydrogen_found", "n_hydrogen"),
            **{name: right[name].median() for name in _FIGURES},
            "r1_max": right["r1"].max(),
            "cpu_s": part["cpu_s"].median(),
            "cpu_s_max": part["cpu_s"].max(),
            "claims": int((part["verdict"] == "solved").sum()),
            "false": int(is_false(part).sum()),
            **(
                {"r1_above_published": (right["r1"] - right["r1_published"]).median()} if "r1_published" in part else {}
            ),
            **({"named_first": part["named_first"].astype(float).mean()} if "named_first" in part else {}),
        }

    groups = table.groupby(KEYS, sort=False)
    return pd.DataFrame([{**dict(zip(KEYS, key)), **row(part)} for key, part in groups])


def ratio(table: pd.DataFrame, count: str, of: str) -> float:
    """Return the sum of a column over that of another; NaN if that is zero."""
    return float(table[count].sum() / (table[of].sum() or np.nan))


def is_false(table: pd.DataFrame) -> pd.Series:
    """Find the rows with a claim that is not right."""
    has_atoms = table["r1"].isna() | (table["n_found"] >= _FOUND * table["n_atoms"])
    return (table["verdict"] == "solved") & ~((table["map_cc"] >= SOLVED) & has_atoms)


def claims(table: pd.DataFrame) -> str:
    """Count the claims at atomic resolution, on how many crystals, and name those that are false."""
    claimed = table[(table["verdict"] == "solved") & (table["d_min"] <= _ATOMIC)]
    false = claimed[is_false(claimed)]
    count = f"{len(claimed)} on {claimed['name'].nunique()} crystals, {len(false)} false"
    return f"claims to {_ATOMIC} Å: {count}" + "".join(f"\n  false: {name}" for name in false["name"])


def published(table: pd.DataFrame) -> str:
    """List R1 of each model of measured data beside that of the publication, NaN where the CIF has none."""
    rows = table[table["data"].str.startswith("measured")]
    if rows.empty:
        return ""
    return rows[[*KEYS, "name", "verdict", "r1", "r1_published"]].round(4).to_string(index=False)


def parsed_options() -> argparse.Namespace:
    """Parse the command line; exit where options contradict each other."""
    parser = case_parser(__doc__, "models")
    parser.add_argument("--formula", action="store_true", help="give the formula to the program")
    options = parser.parse_args()
    check_case(options, parser)
    return options


def main() -> None:
    """Measure the requested cases, and print the tables of all rows so far."""
    options = parsed_options()
    warnings.simplefilter("ignore")  # e.g. a formula with more atoms than the file lists
    with errors_in_one_line():
        crystals = chosen_crystals(options, crystal_files(options))
    rows = continued(options.out, cases(crystals, options))
    if not rows:
        raise SystemExit("no crystal could be read, and there are no earlier rows: nothing to print")
    table = table_of(rows)
    print(shares(table.sort_values(KEYS)).round(3).to_string(index=False))
    print(claims(table))
    if listed := published(table):
        print(listed)


if __name__ == "__main__":
    main()
