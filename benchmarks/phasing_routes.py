"""Learned routes to phases at 2 Å, trained for the same time on the same random crystals, and judged on others.

    rephase bench phasing_routes -- --minutes 10
    rephase bench phasing_routes -- --minutes 1 --crystals 8 --routes recurrent "reciprocal grid"

Every route in `ROUTES` is trained for ``--minutes`` of processor time on one core, from the same stream of random
crystals of P 1 21/c 1 and with one cycle of the learning rate over that time; whatever it needs for its training, such
as classical trials, counts as well. ``classical`` learns nothing, and ``inside RAAR`` has the weights of ``recurrent``.

All are judged on the same crystals with ``--starts`` starts each. ``map_cc`` is the best over all origins and both
hands. The table has the fraction that is solved (map_cc at least 0.7) by the answer of largest merit (``first``) and by
``any``, the fraction that is well solved by the first (``first>=0.9``), the mean map_cc of all answers (``mean``) and
of random phases (``chance``), how many crystals the training has ``seen``, the number of ``parameters``, and the
``seconds`` of processor time that the answers for one crystal take.

Rows are appended to ``runs/bench/phasing_routes.csv``, and existing rows are not computed again. The weights are kept
in the folder beside it, so a finished training is not repeated either.
"""

import argparse
import itertools
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from cases.rows import Row, continued
from routes.classical import Classical
from routes.figure_of_merit import FigureOfMerit
from routes.flow_matching import FlowMatching
from routes.patterson_unet import PattersonUNet
from routes.reciprocal_grid import ReciprocalGrid
from routes.recurrent import InsideRaar, Recurrent
from routes.route import TRAINING, Route, data_of
from torch.optim.swa_utils import AveragedModel

from rephase.crystal.reflections.simulation import SOLVED, WELL_SOLVED
from rephase.labs.phasing.data import Part, PhasingBatch, PhasingCrystals, parts
from rephase.labs.phasing.scores import map_cc
from rephase.labs.phasing.training import decay_of_mean
from rephase.paths import RUNS
from rephase.solvers.learned.starts import random_starts

ROUTES: dict[str, type[Route]] = {
    "classical": Classical,
    "recurrent": Recurrent,
    "figure of merit": FigureOfMerit,
    "inside RAAR": InsideRaar,
    "flow matching": FlowMatching,
    "reciprocal grid": ReciprocalGrid,
    "U-Net on the Patterson map": PattersonUNet,
}
BATCH = 8  # crystals in a step: of few minutes, many small steps make more than few large ones
WARM_UP, N_REPORTS = 0.1, 10  # share of the time in which the learning rate rises; lines of progress
TABLE = ["first", "any", "first>=0.9", "mean", "chance", "seen", "parameters", "seconds"]


def trained(name: str, data: PhasingCrystals, options: argparse.Namespace) -> tuple[Route, int]:
    """Return a route that was trained, now or earlier, and the number of crystals that it has seen."""
    torch.manual_seed(options.seed)
    source, route = ROUTES[name].weights_of or name, ROUTES[name]()
    if not list(route.parameters()):
        return route, 0
    path = options.out.with_suffix("") / f"{source} {options.minutes:g} min seed {options.seed}.pt"
    if not path.is_file():
        weights, n_seen = train(ROUTES[source](), data, options)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"weights": weights, "n_seen": n_seen}, path)
    kept = torch.load(path, weights_only=True)
    route.load_state_dict(kept["weights"])
    return route, kept["n_seen"]


def train(route: Route, data: PhasingCrystals, options: argparse.Namespace) -> tuple[dict[str, torch.Tensor], int]:
    """Train a route until its time is over; return the running mean of its weights, and the crystals seen."""
    stream = endless(data, options.seed)
    average = AveragedModel(route, avg_fn=running_mean)
    optimiser = torch.optim.AdamW(route.parameters(), lr=route.learning_rate, weight_decay=TRAINING.weight_decay)
    n_steps, n_seen, reported, start = 0, 0, 0.0, time.process_time()
    losses: list[float] = []
    while (share := (time.process_time() - start) / (60 * options.minutes)) < 1:
        optimiser.param_groups[0]["lr"] = route.learning_rate * cycle(share)
        batch = next(stream)
        losses.append(step(route, optimiser, list(parts(batch)), len(batch.F)))
        average.update_parameters(route)
        n_steps, n_seen = n_steps + 1, n_seen + len(batch.F)
        if share >= reported + 1 / N_REPORTS:
            reported = share
            print(f"  {share:.0%} of the time, {n_seen} crystals, loss {np.mean(losses):.3f}", flush=True)
            losses.clear()
    return average.module.state_dict(), n_seen


def endless(data: PhasingCrystals, seed: int) -> Iterator[PhasingBatch]:
    """Yield the batches of a training, epoch after epoch."""
    loader = data.loader("train", BATCH, seed=seed)
    for epoch in itertools.count():
        loader.sampler.set_epoch(epoch)
        yield from loader


def step(route: Route, optimiser: torch.optim.Optimizer, several: list[Part], n: int) -> float:
    """Take a step with `n` crystals, part after part; return the mean loss."""
    optimiser.zero_grad()
    total = 0.0
    for part in several:
        loss = route.loss(part) * (len(part) / n)
        loss.backward()
        total += float(loss.detach())
    torch.nn.utils.clip_grad_norm_(route.parameters(), TRAINING.gradient_norm)
    optimiser.step()
    return total


def cycle(share: float) -> float:
    """Return the learning rate, relative to the largest, at a share of the time: a linear rise, then half a cosine."""
    return share / WARM_UP if share < WARM_UP else (1 + math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP))) / 2


def running_mean(mean: torch.Tensor, value: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
    """Move the mean of weights after `n` steps towards the latest, faster in the first steps, as in the product."""
    return mean.lerp(value, 1 - decay_of_mean(TRAINING.averaging, int(n)))


def measure(name: str, data: PhasingCrystals, options: argparse.Namespace) -> Row:
    """Train a route if it was not trained yet, and judge it; return what the table says of it."""
    print(f"{name}:", flush=True)
    route, n_seen = trained(name, data, options)
    with torch.no_grad():
        return tested(route, data[np.arange(options.crystals)], options) | {"seen": n_seen}


def tested(route: Route, crystals: PhasingBatch, options: argparse.Namespace) -> Row:
    """Judge a route on crystals that it has not seen; return what the table says of it."""
    generator = torch.Generator().manual_seed(options.seed)
    several, start = list(parts(crystals)), time.process_time()
    found = [route.answers(part, options.starts, generator) for part in several]
    seconds = (time.process_time() - start) / len(crystals.F)
    scores = torch.cat([scored(part, phasors) for part, (phasors, _) in zip(several, found)], dim=1)
    merit = torch.cat([merit for _, merit in found], dim=1)
    chance = torch.cat([scored(part, by_chance(part, options.starts, options.seed)) for part in several], dim=1)
    n_parameters = sum(each.numel() for each in route.parameters())
    of_route = {"chance": round(float(chance.mean()), 4), "parameters": n_parameters, "seconds": round(seconds, 3)}
    return judged(scores, merit) | of_route


def judged(scores: torch.Tensor, merit: torch.Tensor) -> Row:
    """Return the shares and the mean of map_cc [n_starts, n], where the merit [n_starts, n] ranks the answers."""
    first = scores.gather(0, merit.argmax(0)[None])[0]
    columns = {"first": first >= SOLVED, "any": scores.amax(0) >= SOLVED, "first>=0.9": first >= WELL_SOLVED}
    return {name: round(float(each.float().mean()), 4) for name, each in (columns | {"mean": scores}).items()}


def scored(part: Part, phasors: torch.Tensor) -> torch.Tensor:
    """Return the map_cc [m, n] of phasors [m, n, h, k, l]."""
    return torch.stack([map_cc(part, each) for each in phasors])


def by_chance(part: Part, n: int, seed: int) -> torch.Tensor:
    """Return random starts [n, n_crystals, h, k, l]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([random_starts(part.data.spheres, part.without_group, generator) for _ in range(n)])


def cases(options: argparse.Namespace) -> Iterator[tuple[Row, Callable[[], Row]]]:
    """List the routes: the keys of a row, and what measures the rest of it."""
    data = PhasingCrystals(data_of(options.crystals, options.seed))
    for name in options.routes:
        keys = {"route": name} | {key: getattr(options, key) for key in ("minutes", "crystals", "starts", "seed")}
        yield keys, partial(measure, name, data, options)


def main() -> None:
    """Train and judge the routes, and print the table of all rows so far."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--routes", nargs="+", choices=ROUTES, default=[*ROUTES], help="routes to compare")
    parser.add_argument("--minutes", type=float, default=10.0, help="processor time of each training")
    parser.add_argument("--crystals", type=int, default=64, help="crystals that judge the routes")
    parser.add_argument("--starts", type=int, default=6, help="answers of a route for each crystal")
    parser.add_argument("--seed", type=int, default=0, help="seed of the crystals, the weights and the starts")
    parser.add_argument("--out", type=Path, default=RUNS / "bench" / "phasing_routes.csv", help="table of results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = continued(options.out, cases(options))
    table = pd.DataFrame(rows)[["route", "minutes", "crystals", *TABLE]]
    print(table.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
