"""What decides how well the learned solver works: variants of its random crystals and of the size of its network.

    rephase bench phasing_variants -- --folder CIFS
    rephase bench phasing_variants -- --crystals 2048 --variants "as shipped" "no hydrogen" "width 48"

Each variant trains the network from scratch, on ``--crystals`` random crystals with data to about 2 Å; those that fit
no grid are left out. It is then judged on random crystals that are the same for all, and not changed, and with
``--folder`` also on the crystals of CIFs, as ``rephase bench learned_solver`` judges them. The table has the parameters
of the network, the crystals that it has ``seen``, the processor ``minutes`` of its training, the validation ``loss``,
the fractions of the crystals that are solved (map_cc at least 0.7) by the most confident list (``first``) and by any,
and well solved by the first (``first>=0.9``), and the mean map_cc of all lists and of random phases (``chance``).

Trainings are kept in the folder ``runs/bench/phasing_variants``, and continue after the last finished epoch. Rows are
appended to ``runs/bench/phasing_variants.csv``, and existing rows are not computed again.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from cases.changes import Change, at_random_places, of_fixed_volume, of_varied_volume, unchanged, without_hydrogen
from cases.crystals import chosen_crystals, crystal_files
from cases.options import at_least_one, errors_in_one_line
from cases.rows import Row, continued
from learned_solver import measure, parsed_options

from rephase.config.phasing import PhasingConfig, PhasingData, PhasingSearch, PhasingTraining
from rephase.config.sections import ModelConfig
from rephase.crystal.reflections.simulation import SOLVED, WELL_SOLVED
from rephase.crystal.structures import Crystal
from rephase.errors import ConfigError
from rephase.labs.phasing.data import PhasingBatch, PhasingCrystals, batch_of, kinds_of
from rephase.labs.phasing.models import TrainedNetwork
from rephase.labs.phasing.scores import SEEN, attempts
from rephase.labs.phasing.training import RecurrentModule
from rephase.learning.batches import on_device
from rephase.learning.training import fit, loss_curve
from rephase.paths import RUNS
from rephase.random_crystals.crystals import random_crystals


@dataclass(frozen=True)
class Variant:
    """What differs from the others: a change of the crystals, options of their generator, options of the network."""

    change: Change = unchanged
    data: dict[str, Any] = field(default_factory=dict)
    network: dict[str, Any] = field(default_factory=dict)


VARIANTS = {
    "as shipped": Variant(),
    "random atoms": Variant(at_random_places),
    "no hydrogen": Variant(without_hydrogen),
    "fixed volume": Variant(of_fixed_volume),
    "varied volume": Variant(of_varied_volume),
    "two molecules and special positions": Variant(data={"n_molecules": 2, "on_special": 0.2}),
    "width 12": Variant(network={"width": 12}),
    "width 48": Variant(network={"width": 48}),
    "one layer": Variant(network={"n_layers": 1}),
    "three layers": Variant(network={"n_layers": 3}),
}
DATA = PhasingData(d_min=(1.9, 2.1), missing=0.1, shapes=((12, 16, 20), (14, 20, 28), (18, 24, 32)))
TRAINING = PhasingTraining(
    epochs=4,
    batch_size=16,
    learning_rate=3e-3,
    patience=60,
    n_free=14,
    validation=PhasingSearch(n_starts=2, n_steps=20),  # only chooses the best epoch
)
JUDGED = PhasingSearch(n_starts=6, n_steps=20)
MINUTES = "processor_minutes"  # key of a checkpoint and column of the log of a training


class TimedModule(RecurrentModule):
    """Measure the processor time of all pieces of a training, with the validation of its epochs."""

    earlier, since = 0.0, 0.0

    def on_fit_start(self) -> None:
        """Start the clock."""
        self.since = time.process_time()

    @property
    def minutes(self) -> float:
        """Minutes so far."""
        return self.earlier + (time.process_time() - self.since) / 60

    def on_train_epoch_end(self) -> None:
        """Log the time as well."""
        super().on_train_epoch_end()
        self.log(MINUTES, self.minutes)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the time as well."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[MINUTES] = self.minutes

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Continue with the earlier time."""
        super().on_load_checkpoint(checkpoint)
        self.earlier = checkpoint[MINUTES]


class TimedNetwork(TrainedNetwork):
    """The network, whose training is timed."""

    def training_module(self, options: PhasingTraining, seed: int) -> TimedModule:
        """Make the module that trains the network."""
        return TimedModule(self, options, seed)


class ChangedCrystals(PhasingCrystals):
    """Random crystals of a training that are changed after they are made; those of its validation are given."""

    def __init__(self, config: PhasingData, change: Change, validation: PhasingBatch):
        super().__init__(config)
        self.change, self.validation = change, validation

    def __getitem__(self, samples: list[int] | np.ndarray | torch.Tensor) -> PhasingBatch:
        return self.validation.take(torch.as_tensor(samples))

    def draw(self, n: int, rng: np.random.Generator) -> PhasingBatch:
        """Make `n` crystals and change them; return those that fit a grid."""
        generator = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
        crystals = random_crystals(n, generator=generator, options=kinds_of(self.config))
        return batch_of(self.change(crystals, generator), self.config, generator)


def measured(
    name: str, validation: PhasingBatch, judge: Callable[[TrainedNetwork], Row], options: argparse.Namespace
) -> Row:
    """Train the network of a variant, unless that is finished, and judge it."""
    variant = VARIANTS[name]
    sizes = {"n_epoch": options.crystals // TRAINING.epochs, "n_validation": options.validation, "seed": options.seed}
    config = PhasingConfig(
        data=DATA.model_copy(update=sizes | variant.data),
        models={name: ModelConfig(options=variant.network)},
        training=TRAINING,
    )
    data = ChangedCrystals(config.data, variant.change, validation)
    folder = options.out.with_suffix("") / f"{options.crystals} crystals, seed {options.seed}" / name
    network = fit({name: TimedNetwork}, name, data, config, folder, seed=options.seed, device=options.device)
    last = loss_curve(folder, (SEEN, MINUTES)).iloc[-1]
    row: Row = {"parameters": sum(each.numel() for each in network.parameters())}
    return row | {"seen": int(last[SEEN]), "minutes": round(float(last[MINUTES]), 2)} | judge(network)


def on_random(network: TrainedNetwork, validation: PhasingBatch, seed: int) -> Row:
    """Judge a network on random crystals."""
    batch = on_device(validation, network.gain.device)
    found = attempts(network, batch, JUDGED, torch.Generator().manual_seed(seed))
    shares = {key: round(float(value), 3) for key, value in found.shares().items()}
    return {
        "n": len(validation.F),
        "loss": round(float(found.misfit.mean()), 4),
        "first": shares["solved_first"],
        "any": shares["solved_any"],
        "first>=0.9": shares["well_solved_first"],
        "mean": shares["mean_map_cc"],
        "chance": shares["chance_map_cc"],
    }


def on_real(network: TrainedNetwork, crystals: dict[str, Crystal], d_min: float, real: argparse.Namespace) -> Row:
    """Judge a network on the crystals of CIFs, with the options `real` of ``learned_solver``."""
    rows = [measure(name, crystal, d_min, network, real) for name, crystal in crystals.items()]
    table = pd.DataFrame(rows, columns=["first", "any", "mean", "chance"]).dropna()  # some have too few reflections
    return {
        "n": len(table),
        "first": round((table["first"] >= SOLVED).mean(), 3),
        "any": round((table["any"] >= SOLVED).mean(), 3),
        "first>=0.9": round((table["first"] >= WELL_SOLVED).mean(), 3),
        "mean": round(table["mean"].mean(), 3),
        "chance": round(table["chance"].mean(), 3),
    }


def judges_of(validation: PhasingBatch, options: argparse.Namespace) -> dict[str, Callable[[TrainedNetwork], Row]]:
    """Return what judges a network, by the name of the crystals."""
    on_given = partial(on_random, validation=validation, seed=options.seed)
    judges: dict[str, Callable[[TrainedNetwork], Row]] = {f"{options.validation} random crystals": on_given}
    if options.folder is None:
        return judges
    words = {"folder": options.folder, "d-min": options.d_min, "every": options.every, "seed": options.seed}
    real = parsed_options([word for key, value in words.items() for word in (f"--{key}", str(value))])
    crystals = chosen_crystals(real, crystal_files(real))
    if not crystals:
        raise ConfigError(f"--folder {options.folder}: no crystal could be read; give a folder of CIFs")
    name = f"{options.folder.name} to {options.d_min:g} Å, every {options.every}"
    return judges | {name: partial(on_real, crystals=crystals, d_min=options.d_min, real=real)}


def cases(options: argparse.Namespace) -> Iterator[tuple[Row, Callable[[], Row]]]:
    """List the variants with the crystals that judge them: the keys of a row, and what measures the rest of it."""
    data = DATA.model_copy(update={"n_validation": options.validation, "seed": options.seed})
    validation = PhasingCrystals(data)[np.arange(options.validation)]
    judges = judges_of(validation, options)
    for name in options.variants:
        for judged, judge in judges.items():
            keys = {"variant": name, "crystals": options.crystals, "seed": options.seed, "judged on": judged}
            yield keys, partial(measured, name, validation, judge, options)


def variant_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="names of variants")
    parser.add_argument("--crystals", type=int, default=8192, help="random crystals of each training")
    parser.add_argument("--validation", type=at_least_one, default=64, help="random crystals that judge each variant")
    parser.add_argument("--folder", type=Path, help="folder of CIFs whose crystals judge each variant as well")
    parser.add_argument("--d-min", type=float, default=2.0, help="with --folder: resolution limit (Å)")
    parser.add_argument("--every", type=at_least_one, default=1, help="with --folder: take every n-th crystal")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights, the crystals and the random starts")
    parser.add_argument("--out", type=Path, default=RUNS / "bench" / "phasing_variants.csv", help="table of results")
    return parser


def main() -> None:
    """Train and judge the requested variants, and print the table of all rows so far."""
    parser = variant_parser()
    options = parser.parse_args()
    step = TRAINING.epochs * TRAINING.batch_size
    if options.crystals < step or options.crystals % step:
        parser.error(f"--crystals {options.crystals}: expected a multiple of {step}, epochs of whole batches")
    warnings.simplefilter("ignore")  # e.g. a formula with more atoms than the file lists
    with errors_in_one_line():
        rows = continued(options.out, cases(options))
    print(pd.DataFrame(rows).sort_values("judged on", kind="stable").to_string(index=False, na_rep=""))


if __name__ == "__main__":
    main()
