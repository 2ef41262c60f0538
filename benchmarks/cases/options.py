"""Command-line options that choose crystals, the degradation of their reflections, and the search."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rephase.errors import RephaseError
from rephase.formats import cod
from rephase.paths import RUNS

SPOILING = ("noise", "leak", "missing", "strongest_missing", "missing_cone")


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Exit with the message of an error that a user can mend."""
    try:
        yield
    except RephaseError as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from None


def at_least_one(text: str) -> int:
    """Parse a number of things that must be there."""
    n = int(text)
    if n < 1:
        raise argparse.ArgumentTypeError(f"{n}: expected at least 1")
    return n


def case_parser(description: str, table: str) -> argparse.ArgumentParser:
    """Return a parser with these options; rows go to ``runs/bench/TABLE.csv`` by default."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--cod", action="store_true", help="the entries of the COD that benchmarks/cod_crystals.csv names"
    )
    source.add_argument("--folder", type=Path, help="folder of CIFs")
    source.add_argument(
        "--measured", type=Path, help="folder of structures NAME.cif, with X-ray reflections in them or in NAME.hkl"
    )
    source.add_argument("--random", type=at_least_one, help="number of random crystals to use instead")
    parser.add_argument("--url", default=cod.COD, help="with --cod: address of a folder of NUMBER.cif")
    parser.add_argument("--n-atoms", type=int, nargs=2, default=[5, 60], help="with --random: atoms of the molecule")
    parser.add_argument("--groups", nargs="+", default=[], help="with --random: make as many of each of these groups")
    parser.add_argument("--elements", nargs="+", default=[], help="with --random: elements besides H, among them C")
    parser.add_argument("--d-min", type=float, nargs="*", default=[0.8, 1.0, 1.2, 1.5, 2.0], help="limits (Å)")
    parser.add_argument("--every", type=at_least_one, default=1, help="take every n-th crystal")
    parser.add_argument("--noise", type=float, default=0.0, help="relative standard deviation of |F|")
    parser.add_argument("--leak", type=float, default=0.0, help="mean intensity of the absences relative to the others")
    parser.add_argument("--missing", type=float, default=0.0, help="fraction of the reflections that is missing")
    parser.add_argument("--strongest-missing", type=int, default=0, help="number of strongest reflections missing")
    parser.add_argument("--missing-cone", type=float, default=0.0, help="half-angle (degrees) of a missing cone at c*")
    parser.add_argument("--unknown-group", action="store_true", help="hide the space group")
    parser.add_argument("--effort", type=float, default=1.0, help="upper limit of the search effort")
    parser.add_argument("--seed", type=int, default=0, help="seed of the crystals, the data and the random starts")
    parser.add_argument("--out", type=Path, default=RUNS / "bench" / f"{table}.csv", help="table of results")
    return parser


def check_case(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Exit if measured data would be degraded."""
    if options.random is None and (options.groups or options.elements):
        parser.error("--groups and --elements choose random crystals; give --random as well, or leave them out")
    if options.measured and any(getattr(options, name) for name in SPOILING):
        parser.error("--measured takes the data as they are; leave noise and gaps out")


def limits_of(options: argparse.Namespace) -> list[float]:
    """Return the resolution limits in Å; 0, all data, comes first for measured ones."""
    return [0.0, *options.d_min] if options.measured else options.d_min


def data_kind(options: argparse.Namespace) -> str:
    """Describe the data and their degradation in words."""
    kinds = {
        "measured": "measured",
        "random": " ".join(
            ["random crystals of {} to {} atoms".format(*options.n_atoms), *options.elements, *options.groups]
        ),
        "noise": f"{100 * options.noise:g}% noise",
        "leak": f"{100 * options.leak:g}% leak into absences",
        "missing": f"{100 * options.missing:g}% missing",
        "strongest_missing": f"strongest {options.strongest_missing} missing",
        "missing_cone": f"cone of {options.missing_cone:g}° missing",
        "unknown_group": "group unknown",
    }
    return ", ".join(text for name, text in kinds.items() if getattr(options, name)) or "exact"
