"""Fraction of real crystals whose phases a trained network finds, judged by what it is most confident of.

    rephase bench learned_solver -- --network recurrent --folder CIFS --d-min 2.0
    rephase bench learned_solver -- --network RUN/checkpoints/phasing/recurrent --cod --d-min 2.0

``--network`` names shipped weights, a file of weights, or the folder of a training, finished or not.

Noise-free |F_calc| is computed from every CIF, as in ``rephase bench solve``, with the same options to degrade it. The
network improves, in the group, lists from ``--starts`` random starts of its own (``--from network``), or those of
smallest misfit among four to eight times as many trials of RAAR and direct methods, the most promising of which go on
in ``--rounds`` (``--from classical``, as does ``rephase solve --solver learned``). ``map_cc`` is the best over the
allowed origins and both hands. For each resolution, and for centric and acentric crystals, the table has the fraction
that is solved (map_cc at least 0.7) by the most confident list (``first``) and by any, the fraction that is well solved
by the first (``first>=0.9``), and the mean map_cc of all lists and of random phases (``chance``).

Rows are appended to ``runs/bench/learned_solver.csv``, and existing rows are not computed again.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from cases.crystals import chosen_crystals, crystal_files
from cases.options import at_least_one, case_parser, check_case, data_kind, errors_in_one_line, limits_of
from cases.reflections import case_of, chance
from cases.rows import Row, continued

from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.simulation import SOLVED, WELL_SOLVED, Truth
from rephase.crystal.structures import Crystal
from rephase.crystal.symmetry import find_symmetry
from rephase.devices import pick_device
from rephase.errors import ReflectionError
from rephase.labs.phasing.steps import trained_network
from rephase.learning.weights import load_weights
from rephase.solvers import proposals_for
from rephase.solvers.choice import SHIPPED
from rephase.solvers.learned.cards import PHASES
from rephase.solvers.learned.network import RecurrentNetwork
from rephase.solvers.learned.search import MOST_ROUNDS, LearnedSearch, NetworkSphere
from rephase.solvers.problem import PhaseProblem, working_problem
from rephase.solvers.trials import joined

KEYS = ["network", "data", "source", "n_starts", "n_steps", "n_rounds", "d_min"]


def measure(name: str, crystal: Crystal, d_min: float, network: RecurrentNetwork, options: argparse.Namespace) -> Row:
    """Search the phases of one crystal at one resolution; return what the table says of it."""
    symmetry = find_symmetry(crystal.space_group)
    row: Row = {"space_group": symmetry.symbol, "is_centric": symmetry.is_centrosymmetric}
    try:
        data, truth = case_of(name, crystal, d_min, options)
    except ReflectionError as error:  # too few reflections
        return row | {"error": str(error)}
    merged = data.merge().reflections
    amplitude = merged.amplitudes().amplitude
    problem = working_problem(merged, amplitude, device=network.gain.device)
    start = time.perf_counter()
    F, confidence = found_lists(problem, network, options)
    seconds = time.perf_counter() - start
    scores, first = scored(problem, F, merged, amplitude, truth), int(confidence.argmax())
    return row | {
        "n_voxels": problem.within_data.n_voxels,
        "confidence": round(float(confidence[first]), 4),
        "first": round(float(scores[first]), 4),
        "any": round(float(scores.max()), 4),
        "mean": round(float(scores.mean()), 4),
        "chance": round(chance(merged, truth, options.seed), 4),
        "seconds": round(seconds, 2),
    }


def found_lists(
    problem: PhaseProblem, network: RecurrentNetwork, options: argparse.Namespace
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return lists F [n, n_refl] that the network has improved, and its confidence in them [n]."""
    generator = torch.Generator().manual_seed(options.seed)
    if options.source == "network":
        sphere = NetworkSphere(problem, network)
        return sphere.in_group(sphere.from_random(options.starts, options.steps, generator))
    proposals = proposals_for(problem.d_min)
    shares = [len(part) for part in np.array_split(np.arange(options.starts), len(proposals))]
    searches = [(LearnedSearch(network, *each, options.rounds), n) for each, n in zip(proposals, shares) if n]
    proposed = [search.proposals(problem, n, generator) for search, n in searches]
    found = joined([search.improved(problem, each, n) for each, (search, n) in zip(proposed, searches)])
    return found.F, found.merit


def scored(
    problem: PhaseProblem, F: torch.Tensor, merged: Reflections, amplitude: np.ndarray, truth: Truth
) -> np.ndarray:
    """Return the map_cc of lists F [n, n_refl] of a problem."""
    phi = problem.phases_for(F, merged.hkl)
    return truth.score(amplitude * np.exp(1j * phi), merged).map_cc


def cases(
    crystals: dict[str, Crystal], network: RecurrentNetwork, options: argparse.Namespace
) -> Iterator[tuple[Row, Callable[[], Row]]]:
    """List the crystals at each resolution: the keys of a row, and what measures the rest of it."""
    for d_min in limits_of(options):
        for name, crystal in crystals.items():
            # classical trials take no steps before the group, and random starts one round in it
            n_steps, n_rounds = (options.steps, 1) if options.source == "network" else (0, options.rounds)
            values = str(options.network), data_kind(options), options.source, options.starts, n_steps, n_rounds, d_min
            keys = dict(zip(KEYS, values)) | {"seed": options.seed, "name": name}
            yield keys, partial(measure, name, crystal, d_min, network, options)


def shares(table: pd.DataFrame) -> pd.DataFrame:
    """Summarise the rows for each network, kind of data, source of lists and resolution, and for each kind of group."""
    rows = []
    for key, every in table.groupby(KEYS, sort=False):
        is_centric = every["is_centric"].astype(bool)
        for kind, part in (("all", every), ("centric", every[is_centric]), ("acentric", every[~is_centric])):
            part = part.dropna(subset="first")
            row = {"groups": kind, "n": len(part), "first": (part["first"] >= SOLVED).mean()}
            row |= {"any": (part["any"] >= SOLVED).mean(), "first>=0.9": (part["first"] >= WELL_SOLVED).mean()}
            row |= {name: part[name].mean() for name in ("mean", "chance", "seconds")}
            rows.append(dict(zip(KEYS, key)) | row)
    return pd.DataFrame(rows)


def network_of(options: argparse.Namespace) -> RecurrentNetwork:
    """Load the network of weights or of a training."""
    if Path(options.network).is_dir():
        return trained_network(Path(options.network), device=options.device)
    return load_weights(options.network, PHASES, device=pick_device(options.device)).model


def parsed_options(words: list[str] | None = None) -> argparse.Namespace:
    """Parse words, by default those of the command line; exit where options contradict each other."""
    parser = case_parser(__doc__, "learned_solver")
    parser.add_argument("--network", default=SHIPPED[0], help="shipped weights, a file, or the folder of a training")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    sources = ["network", "classical"]
    parser.add_argument("--from", dest="source", choices=sources, default=sources[0], help="where the lists come from")
    parser.add_argument("--starts", type=at_least_one, default=24, help="lists improved for each crystal")
    parser.add_argument("--steps", type=at_least_one, default=24, help="steps from each random start of --from network")
    parser.add_argument("--rounds", type=at_least_one, default=MOST_ROUNDS, help="most rounds of --from classical")
    options = parser.parse_args(words)
    check_case(options, parser)
    if options.unknown_group:
        parser.error("--unknown-group: the network improves lists in the group; leave it out")
    return options


def main() -> None:
    """Measure the requested cases and print the table of all rows so far."""
    options = parsed_options()
    warnings.simplefilter("ignore")  # e.g. a formula with more atoms than the file lists
    with errors_in_one_line():
        crystals = chosen_crystals(options, crystal_files(options))
        rows = continued(options.out, cases(crystals, network_of(options), options))
    if not rows:
        raise SystemExit("no crystal could be read, and there are no earlier rows: nothing to print")
    print(shares(pd.DataFrame(rows)).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
