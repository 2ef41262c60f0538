"""Steps of notebook 10: train networks that find phases, score them, and watch one of them solve a crystal."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch

from rephase.config import Config
from rephase.config.phasing import PhasingConfig
from rephase.config.sections import validate
from rephase.crystal.symmetry import cell_of
from rephase.devices import pick_device
from rephase.errors import ConfigError, TrainingError
from rephase.files.reading import file_text
from rephase.labs.phasing.data import PhasingBatch, PhasingCrystals, kinds_of
from rephase.labs.phasing.film import film
from rephase.labs.phasing.models import PHASING_MODELS
from rephase.labs.phasing.scores import SEEN, SHARES, attempts
from rephase.learning.batches import on_device
from rephase.learning.scoring import summarise
from rephase.learning.training import Training, train, trained_model
from rephase.learning.weights import load_weights
from rephase.random_crystals.crystals import RandomCrystalOptions
from rephase.runs import COLUMNS, Run
from rephase.runs.tables import left_out
from rephase.solvers.learned.cards import PHASES
from rephase.solvers.learned.network import RecurrentNetwork

_GIVEN, _CHANCE = "weights", "chance"  # names of results besides those of trained networks
_N_DRAWN = 16  # crystals of which the first that fits a grid is the example


def check_crystals(config: Config) -> None:
    """Raise `ConfigError` or `SymmetryError` if no such crystals can be generated, `WeightsError` without weights."""
    data, example = config.phasing.data, config.phasing.example
    kinds_of(data)
    RandomCrystalOptions((example.space_group,), example.n_atoms, data.u_range)
    if example.weights is not None:
        load_weights(example.weights, PHASES)
    elif not config.phasing.models:
        raise ConfigError("phasing.example.weights = None: expected weights, as phasing.models lists no network")


def trainings(run: Run) -> Iterator[Training[Any, PhasingBatch]]:
    """Yield the trainings of the configuration; their crystals are made on the fly."""
    config, folder = run.config.phasing, run.checkpoints("phasing")
    for name in config.models:
        yield Training(
            PHASING_MODELS,
            name,
            config,
            folder / name,
            lambda: PhasingCrystals(config.data),
            run.config.seed,
            curve=f"phasing_curve_{name}",
            logged=(*SHARES, SEEN),
        )


def train_networks(run: Run) -> pd.DataFrame:
    """Train the networks of the configuration, and return their `learning_curves`.

    If the configuration lists no network, the table says so.
    """
    if not run.config.phasing.models:
        return left_out("no network in phasing.models of this configuration")
    for training in trainings(run):
        train(run, training)
    return learning_curves(run)


def learning_curves(run: Run) -> pd.DataFrame:
    """Tabulate the saved learning curves: a row for each network and epoch, counted from 1."""
    curves = {name: curve.assign(epoch=curve["epoch"] + 1) for name, curve in run.tables("phasing_curve").items()}
    return pd.concat(curves, names=["model", None]).reset_index("model").set_index(["model", "epoch"])


def score_networks(run: Run) -> pd.DataFrame:
    """Score the trained networks and the given weights on the validation crystals, from the same starts.

    Returns
    -------
    pandas.DataFrame
        The scores in `SHARES` of each network: ``weights`` are the given ones, ``chance`` is random phases.
    """
    options = run.config.phasing
    chosen = PhasingCrystals(options.data)[np.arange(options.data.n_validation)]
    crystals = on_device(chosen, pick_device(run.device))
    for name, network in _networks(run).items():
        generator = torch.Generator().manual_seed(run.config.seed)
        shares = attempts(network, crystals, options.training.validation, generator).shares()
        chance = shares.pop("chance_map_cc")
        _save_scores(run, name, shares)
        _save_scores(run, _CHANCE, {"mean_map_cc": chance})
    return network_scores(run)


def _save_scores(run: Run, name: str, scores: dict[str, torch.Tensor]) -> None:
    rows = [{"model": name, "metric": metric, "value": round(float(value), 4)} for metric, value in scores.items()]
    common = {"experiment": "phasing", "split": "validation", "unit": "", "n": run.config.phasing.data.n_validation}
    run.save_table(f"phasing_results_{name}", pd.DataFrame(rows).assign(**common, seed=run.config.seed)[COLUMNS])


def network_scores(run: Run) -> pd.DataFrame:
    """Tabulate the saved scores of the networks."""
    return summarise(run.results("phasing_results"), list(SHARES[:-1]))


def watch_starts(run: Run) -> pd.DataFrame:
    """Run the starts of the example's network step by step.

    Saves the arrays ``phasing_film`` for the figures.

    Returns
    -------
    pandas.DataFrame
        The starts in the order of their confidence at the end, with the map_cc of each.
    """
    options = run.config.phasing.example
    crystal = on_device(example_crystal(run.config), pick_device(run.device))
    generator = torch.Generator().manual_seed(options.seed)
    seen = film(_network_to_watch(run), crystal, **options.search.model_dump(), generator=generator)
    cell = cell_of(crystal.lattice[0].double().cpu().numpy())
    arrays = {name: value.cpu().numpy() for name, value in seen._asdict().items()}
    run.save_arrays("phasing_film", **arrays, cell=np.array(cell.parameters))
    ends = pd.DataFrame({name: arrays[name][-1] for name in ("confidence", "map_cc")}).rename_axis("start")
    ranking = ends.reset_index().sort_values("confidence", ascending=False, ignore_index=True).round(3)
    run.save_table("phasing_ranking", ranking)
    return ranking


def example_crystal(config: Config) -> PhasingBatch:
    """Make the crystal of `PhasingExample`.

    Raises
    ------
    GridError
        It fits no grid.
    """
    options = config.phasing.example
    wanted = {
        "space_groups": (options.space_group,),
        "n_atoms": options.n_atoms,
        "d_min": (options.d_min, options.d_min),
    }
    crystals = PhasingCrystals(config.phasing.data.model_copy(update=wanted))
    return crystals.draw(_N_DRAWN, np.random.default_rng(options.seed)).take(torch.tensor([0]))


def _networks(run: Run) -> dict[str, RecurrentNetwork]:
    """Load the trained networks by name, and the given weights."""
    options = run.config.phasing
    data = PhasingCrystals(options.data)
    found: dict[str, RecurrentNetwork] = {
        each.name: trained_model(PHASING_MODELS, each.name, data, options, each.folder, device=run.device)
        for each in trainings(run)
    }
    if options.example.weights is not None:
        found[_GIVEN] = load_weights(options.example.weights, PHASES, device=pick_device(run.device)).model
    return found


def _network_to_watch(run: Run) -> RecurrentNetwork:
    """Load the given weights, or else the first trained network."""
    found = _networks(run)
    return found.get(_GIVEN) or next(iter(found.values()))


def trained_network(folder: Path, *, device: str = "auto") -> RecurrentNetwork:
    """Load the network of a training, finished or not, with the weights of its best epoch so far.

    Parameters
    ----------
    folder
        Folder of the training, ``RUN/checkpoints/phasing/NAME``.
    device
        ``auto``, ``cpu`` or ``cuda``.

    Raises
    ------
    TrainingError
        There is no training of this laboratory, or it has not finished an epoch, or a file is damaged.
    """
    path = folder / "identity.json"
    try:
        identity = json.loads(file_text(path, TrainingError))
        name, options = str(identity["model"]), identity["options"]
    except (ValueError, TypeError, KeyError) as error:
        if isinstance(error, TrainingError):
            raise
        raise TrainingError(f"{path}: damaged, should record a training; give RUN/checkpoints/phasing/NAME") from error
    config = validate(PhasingConfig, {"models": {name: {"options": options}}}, str(path))
    data = PhasingCrystals(config.data)
    return cast(RecurrentNetwork, trained_model(PHASING_MODELS, name, data, config, folder, device=device))
