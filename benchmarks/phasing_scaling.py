"""What more starts and more steps of a trained network gain: the random crystals that it solves from random phases.

    rephase bench phasing_scaling
    rephase bench phasing_scaling -- --network FILE --d-min 1.5 1.5

The crystals are like those of the network's training, but none of them: the card of the weights describes them, and
``--d-min`` draws their resolution limits from another range (Å). Every start has no symmetry, and is judged at any
origin and in both hands. The table has, for each number of steps and each number of starts of a crystal, the fraction
of crystals whose most confident start is solved (map_cc at least 0.7; ``first``) and well solved (0.9), whose best
start is solved (``any``), the mean map_cc of all starts, and the processor time of a crystal.
"""

import argparse
import itertools
import time

import numpy as np
import pandas as pd
import torch
from cases.options import at_least_one, errors_in_one_line

from rephase.config.phasing import PhasingData
from rephase.config.sections import validate
from rephase.crystal.reflections.simulation import SOLVED, WELL_SOLVED
from rephase.devices import pick_device
from rephase.labs.phasing.data import Part, PhasingBatch, PhasingCrystals, joined, parts
from rephase.labs.phasing.scores import map_cc
from rephase.learning.batches import on_device
from rephase.learning.weights import load_weights
from rephase.solvers.choice import SHIPPED
from rephase.solvers.learned.cards import PHASES
from rephase.solvers.learned.network import RecurrentNetwork
from rephase.solvers.learned.starts import random_starts

_N_DRAWN = 64  # crystals made together; some fit no grid


def crystals_like(data: PhasingCrystals, n: int, seed: int) -> PhasingBatch:
    """Make `n` crystals that are in no training and no validation."""
    rng = np.random.default_rng(seed)
    found: list[PhasingBatch] = []
    while sum(len(each.F) for each in found) < n:
        found.append(data.draw(_N_DRAWN, rng))
    return joined(found).take(torch.arange(n))


@torch.no_grad()
def watched(
    network: RecurrentNetwork, part: Part, steps: list[int], generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return map_cc and confidence [len(steps), n] of one start of each crystal after several numbers of steps."""
    start = random_starts(part.data.spheres, part.without_group, generator)
    states = itertools.islice(network.states(part.data, start), max(steps) + 1)
    kept = [state.phasors for number, state in enumerate(states) if number in steps]
    agreement, confidence = ([judge(x) for x in kept] for judge in (lambda x: map_cc(part, x), part.data.confidence))
    return torch.stack(agreement), torch.stack(confidence)


def table_of(agreement: np.ndarray, confidence: np.ndarray, steps: list[int], starts: list[int]) -> pd.DataFrame:
    """Tabulate map_cc and confidence [start, steps, crystal] by the number of steps and of starts."""
    rows = []
    for row, n_steps in enumerate(steps):
        for n_starts in starts:
            scores, sure = agreement[:n_starts, row], confidence[:n_starts, row]
            first = np.take_along_axis(scores, sure.argmax(0)[None], axis=0)[0]
            shares = {"first": first >= SOLVED, "first>=0.9": first >= WELL_SOLVED, "any": scores.max(0) >= SOLVED}
            means = {name: float(share.mean()) for name, share in shares.items()}
            rows.append({"steps": n_steps, "starts": n_starts} | means | {"mean": float(scores.mean())})
    return pd.DataFrame(rows)


def parsed_options() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default=SHIPPED[0], help="name of shipped weights, or a file")
    parser.add_argument("--crystals", type=at_least_one, default=64, help="number of random crystals")
    parser.add_argument("--d-min", type=float, nargs=2, help="range of the resolution limits instead of the card's (Å)")
    parser.add_argument("--steps", type=at_least_one, nargs="+", default=[6, 12, 24, 48], help="numbers of steps")
    parser.add_argument("--starts", type=at_least_one, nargs="+", default=[1, 3, 6, 12, 24], help="numbers of starts")
    parser.add_argument("--seed", type=int, default=100, help="of the crystals and the starts")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    return parser.parse_args()


def main() -> None:
    """Print the table."""
    options = parsed_options()
    steps = sorted(set(options.steps))
    with errors_in_one_line():
        device = pick_device(options.device)
        network, card = load_weights(options.network, PHASES, device=device)
        chosen = {} if options.d_min is None else {"d_min": options.d_min}
        data = validate(PhasingData, card.data.model_dump() | chosen, "the crystals")
        made = crystals_like(PhasingCrystals(data), options.crystals, options.seed)
    batch = on_device(made, device)
    generator, start = torch.Generator().manual_seed(options.seed), time.process_time()
    runs = []
    for _ in range(max(options.starts)):
        found = [watched(network, part, steps, generator) for part in parts(batch)]
        runs.append([torch.cat(each, dim=1).cpu().numpy() for each in zip(*found)])
    seconds = (time.process_time() - start) / options.crystals
    agreement, confidence = (np.stack(each) for each in zip(*runs))
    table = table_of(agreement, confidence, steps, sorted(set(options.starts)))
    table["cpu_s"] = seconds * table["steps"] / max(steps) * table["starts"] / max(options.starts)
    print(f"{options.crystals} random crystals; {card.n_seen:,} crystals were seen in the training")
    print(table.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
