"""Steps of notebook 14: truncate a crystal, complete it by every route, compare with the removed reflections."""

import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from rephase.config import Config
from rephase.config.completion import MonoclinicConfig
from rephase.crystal.density import density_of
from rephase.crystal.phase_scores import score_phases
from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.files import read_reflections
from rephase.crystal.reflections.simulation import simulate_reflections
from rephase.crystal.shells import shell_index, shell_limits
from rephase.crystal.symmetry import rows_of
from rephase.errors import ConfigError, GridError, RephaseError, SymmetryError, check_file
from rephase.labs.completion.cards import AMPLITUDES
from rephase.labs.completion.complete import Completion, complete, sections_of
from rephase.labs.completion.data import one_crystal, setting_on_grid
from rephase.labs.completion.grids import MonoclinicGrid
from rephase.labs.completion.routes import ROUTES, check_route
from rephase.labs.completion.scores import MAP_SCORE, filled_in, score_completed
from rephase.learning.weights import load_weights, shipped_weights
from rephase.random_crystals.crystals import RandomCrystalOptions, random_crystals
from rephase.runs import COLUMNS, Run

_N_SHELLS = 10
_SCORES = [
    "r_factor",
    "r_factor_missing",
    "mse",
    "ssim",
    MAP_SCORE,
    "map_cc",
    "within_sigma",
    "relative_sigma",
    "seconds",
]


class Example(NamedTuple):
    """The given data, and the truth: ``hkl`` [n, 3] and F [n], complex, or amplitudes if phases are unknown."""

    data: Reflections
    hkl: np.ndarray
    F: np.ndarray


def check_comparison(config: Config) -> None:
    """Raise an error if the file, a route, its weights or an option of the random crystal is missing or invalid."""
    options = config.completion.comparison
    check_file("completion.comparison.file", options.file, otherwise=" for a random crystal")
    RandomCrystalOptions(space_groups=(options.simulated.space_group,), n_atoms=options.simulated.n_atoms)
    for route in routes(config):
        if check_route(route) not in ROUTES:
            load_weights(route, AMPLITUDES)


def routes(config: Config) -> tuple[str, ...]:
    """Routes of a configuration: the listed ones or, if it lists none, all that are available."""
    return config.completion.comparison.models or (*ROUTES, *shipped_weights(AMPLITUDES))


def example_data(run: Run) -> Example:
    """Read or simulate the reflections of the run; those to ``d_cut`` are given, all of them are the truth."""
    check_comparison(run.config)
    options = run.config.completion.comparison
    if options.file is not None:
        found = read_reflections(options.file, cell=options.cell, space_group=options.space_group)
        measured = found.cut(options.d_min).merge().reflections
        if measured.d_min > options.d_cut * (1 - 1e-9):
            raise ConfigError(
                f"completion.comparison.d_cut = {options.d_cut} Å: {measured.name} reaches {measured.d_min:.3g} Å "
                "only, so no reflections are removed to compare with; give a larger value, or use `rephase complete`"
            )
        return Example(measured.cut(options.d_cut), measured.hkl, measured.amplitudes().amplitude)
    simulated = options.simulated
    kinds = RandomCrystalOptions(space_groups=(simulated.space_group,), n_atoms=simulated.n_atoms)
    generator = torch.Generator().manual_seed(simulated.seed)
    crystal = random_crystals(1, generator=generator, options=kinds, dtype=torch.float64).crystal(0)
    everything, truth = simulate_reflections(crystal, options.d_min)
    return Example(everything.cut(options.d_cut), truth.hkl, truth.F)


def complete_example(run: Run) -> pd.DataFrame:
    """Complete the example by every route, and save files, scores, shells and sections of the maps in the run.

    Returns
    -------
    pandas.DataFrame
        One row per route: its scores, or the reason why it cannot be applied to this crystal.
    """
    example, options = example_data(run), run.config.completion.comparison
    rows: list[dict[str, str | float]] = []
    made: list[Completion] = []
    for route in routes(run.config):
        start = time.perf_counter()
        try:
            completion = complete(
                example.data,
                model=route,
                d_min=options.d_min,
                effort=options.effort,
                seed=run.config.seed,
                device=run.device,
            )
        except RephaseError as error:
            rows.append({"model": Path(route).stem, "left out": str(error)})
            continue
        seconds = time.perf_counter() - start
        completion.write(run.folder / "completed" / completion.model)
        rows.append({"model": completion.model, **score_completion(completion, example), "seconds": seconds})
        made.append(completion)
    if not made:
        raise ConfigError(
            f"completion.comparison.models: none of them can complete {example.data.name}; {rows[-1]['left out']}"
        )
    table = pd.DataFrame(rows).reindex(columns=["model", *_SCORES, "left out"])
    run.save_table("inference", table)
    run.save_table("inference_shells", pd.concat([_shells(completion, example) for completion in made]))
    _save_sections(run, example, made)
    long = table.melt("model", _SCORES, "metric").dropna()
    tidy = long.assign(
        experiment="inference",
        split=example.data.name,
        n=len(example.hkl),
        seed=run.config.seed,
        unit=np.where(long["metric"] == "seconds", "s", ""),
    )
    run.save_table("inference_scores_example", tidy[COLUMNS])
    return table


def score_completion(completion: Completion, example: Example) -> dict[str, float]:
    """Score a completion against the truth, as far as it is known.

    ``r_factor`` is over all unique reflections, ``r_factor_missing`` over those that were not given; ``within_sigma``
    is the fraction of the latter within one σ, ideally 0.68; ``relative_sigma`` is the error that the route itself
    expects. ``map_cc`` of the completed map is added if the true phases are known and the route gives phases. For
    monoclinic crystals that fit the grid of the reference work, its scores ``mse`` and ``ssim`` are added, and
    ``map_ssim`` with the true phases.
    """
    amplitude, true, is_missing = _beside(completion, example)
    difference, sigma = np.abs(amplitude - np.abs(true)), completion.sigma[rows_of(example.hkl, completion.hkl)]
    scores = {
        "r_factor": difference[is_missing].sum() / np.abs(true).sum(),
        "r_factor_missing": difference[is_missing].sum() / np.abs(true)[is_missing].sum(),
        "within_sigma": (difference <= sigma)[is_missing].mean(),
        "relative_sigma": completion.summary()["relative_sigma"],
    }
    if np.iscomplexobj(true) and completion.phi is not None:
        r, rows = completion.reflections, rows_of(example.hkl, completion.hkl)
        F = (completion.amplitude * completion.fom * np.exp(1j * completion.phi))[rows]
        scores["map_cc"] = score_phases(F, true, hkl=example.hkl, cell=r.cell, symmetry=r.group).map_cc[0]
    return {name: float(value) for name, value in (scores | _grid_scores(completion, example)).items()}


def _beside(completion: Completion, example: Example) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Completed |F|, the truth, and whether it was missing, [n] each, for the reflections of the example."""
    rows = rows_of(example.hkl, completion.hkl)
    return completion.amplitude[rows], example.F, ~completion.is_observed[rows]


def _grid_scores(completion: Completion, example: Example) -> dict[str, float]:
    """Scores as defined in the reference work, on its grid; none for a crystal that does not fit the grid."""
    amplitude, true, is_missing = _beside(completion, example)
    r, d_min = completion.reflections, float(completion.reflections.cell.d_spacing(example.hkl).min())
    config = MonoclinicConfig(d_min=d_min, measured={"d_min": (2 * d_min, 2 * d_min)})
    grid = MonoclinicGrid(config.shape)
    try:
        setting = setting_on_grid(r.cell, r.group, grid, d_min)
    except (SymmetryError, GridError):
        return {}
    batch = one_crystal(example.hkl, true, ~is_missing, setting, config)
    pred, _ = grid.from_list(example.hkl @ setting.basis, amplitude, setting.symmetry)
    found = score_completed(filled_in(torch.as_tensor(pred)[None].float(), batch), batch)
    kept = ["mse", "mse_missing", "ssim", *([MAP_SCORE] if np.iscomplexobj(true) else [])]
    return {name: float(found[name][0]) for name in kept}


def _shells(completion: Completion, example: Example) -> pd.DataFrame:
    """R over the missing reflections, in shells of equal volume."""
    amplitude, true, is_missing = _beside(completion, example)
    d_hkl = completion.reflections.cell.d_spacing(example.hkl)[is_missing]
    limits = shell_limits(float(d_hkl.max()), float(d_hkl.min()), _N_SHELLS)
    index = shell_index(d_hkl, limits)

    def sums(values: np.ndarray) -> np.ndarray:
        return np.bincount(index, values[is_missing], _N_SHELLS)

    table = pd.DataFrame({"model": completion.model, "d_max": limits[:-1], "d_min": limits[1:]})
    table["n"], total = np.bincount(index, minlength=_N_SHELLS), sums(np.abs(true))
    table["r_factor"] = sums(np.abs(amplitude - np.abs(true))) / np.where(total > 0, total, np.nan)
    return table[table["n"] > 0]


def _save_sections(run: Run, example: Example, made: list[Completion]) -> None:
    """Save sections of the maps of the given data, of every route and of the truth as ``inference_sections``.

    All maps use the true phases; if these are unknown, Patterson maps are saved.
    """
    r, is_missing = made[0].reflections, _beside(made[0], example)[2]
    phasor = np.exp(1j * np.angle(example.F)) if np.iscomplexobj(example.F) else None
    amplitudes = [np.abs(example.F) * ~is_missing, *(_beside(one, example)[0] for one in made), np.abs(example.F)]
    maps = [density_of(example.hkl, A**2 if phasor is None else A * phasor, r.cell, r.group) for A in amplitudes]
    sections, kind = sections_of(maps, r.cell), "Patterson maps" if phasor is None else "maps with the true phases"
    run.save_arrays(
        "inference_sections",
        values=sections.values,
        along=np.array(sections.along),
        cell=np.array(r.cell.parameters),
        titles=np.array(["given", *(one.model for one in made), "truth"]),
        title=np.array(f"{r.name}, {r.group.symbol}, {kind}"),
        unit=np.array("Patterson map (scale of the data)" if phasor is None else "ρ − ⟨ρ⟩ (e/Å³)"),
    )
