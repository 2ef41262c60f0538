"""The routes of `complete`: predictions of unmeasured reflections by atoms, by Wilson's line or by a network."""

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch

from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.statistics import WILSON_D_MAX, extrapolated_intensity
from rephase.crystal.symmetry import find_symmetry
from rephase.devices import pick_device
from rephase.errors import ConfigError, ReflectionError, WeightsError, nearest_name
from rephase.labs.completion.cards import AMPLITUDES, AmplitudeCard
from rephase.labs.completion.data import CompletionBatch, Setting, beta_of, one_crystal, setting_on_grid
from rephase.labs.completion.grids import MonoclinicGrid
from rephase.learning.batches import on_device
from rephase.learning.weights import load_weights, shipped_weights
from rephase.refinement.atoms.fit import expected_structure_factors, fit_atoms
from rephase.refinement.atoms.rice import amplitude_moments, figure_of_merit
from rephase.solvers.solution import Solution

ROUTES = ("atoms", "wilson")  # these need no weights
_UNITS = {"beta": "°", "volume": "Å^3"}  # the others are in Å
_FEWEST = 20  # reflections that determine Wilson's line
_LARGER, _TOLERANCE = 1 + 1e-9, 0.03  # margins: of a sphere; of the training range of weights


Facts = Mapping[str, str | float | int]


class Estimate(NamedTuple):
    """Prediction of a route: |F| and its standard deviation, [n_refl], on the scale of the data.

    ``phi`` (radians) and ``fom`` (0–1), [n_refl], are None if the route gives no phases. ``facts`` are results for the
    summary, ``outside`` lists properties of the data outside the training range.
    """

    amplitude: np.ndarray
    sigma: np.ndarray
    phi: np.ndarray | None = None
    fom: np.ndarray | None = None
    facts: Facts = MappingProxyType({})
    outside: tuple[str, ...] = ()


def check_route(model: str) -> str:
    """Return the name of a route unchanged; raise `ConfigError` if no such route, file or shipped weights exist."""
    known = [*ROUTES, *shipped_weights(AMPLITUDES)]
    if not os.path.isfile(model) and model not in known:
        raise ConfigError(f"model {model!r}: no such route, weights or file; {nearest_name(model, known)}")
    return model


def by_atoms(solution: Solution, hkl: np.ndarray, rows: np.ndarray, *, effort: float, seed: int) -> Estimate:
    """Predict F from fitted atoms; `rows` [n_refl] are indices in the data of the solution, -1 if not measured."""
    model = fit_atoms(solution.reflections, solution.amplitude, solution.density, effort=effort, seed=seed)
    expected = expected_structure_factors(model, solution.reflections, hkl)
    amplitude, sigma = expected.amplitudes()
    measured = solution.reflections.amplitudes().amplitude[rows]
    fom = np.where(
        rows >= 0,
        figure_of_merit(measured, expected.F, expected.variance, expected.is_centric),
        np.minimum(np.abs(expected.F) / np.maximum(amplitude, np.finfo(float).tiny), 1.0),  # above 1 only by rounding
    )
    facts: Facts = {
        "verdict": solution.verdict,
        "n_atoms": len(model.atoms),
        "r_factor": round(model.r_factor, 4),
        "r_free": round(model.r_free, 4),
    }
    return Estimate(amplitude, sigma, np.angle(expected.F), fom, facts)


def by_wilson(data: Reflections, hkl: np.ndarray) -> Estimate:
    """Predict mean and σ from Wilson statistics; the logarithm of his line has a normal error, that of |F| is half."""
    intensity, variance = extrapolated_intensity(data, hkl)
    mean, _ = amplitude_moments(np.zeros(len(hkl)), intensity, data.group.is_centric(hkl))
    amplitude = mean * np.exp(variance / 8)
    return Estimate(amplitude, np.sqrt(intensity * np.exp(variance / 2) - amplitude**2))


def by_network(data: Reflections, hkl: np.ndarray, source: str, *, d_min: float, device: str) -> Estimate:
    """Predict amplitudes by a network; parameters and errors as in `rephase.labs.completion.complete.complete`."""
    network, card = load_weights(source, AMPLITUDES, device=pick_device(device))
    if d_min < card.data.d_min / _LARGER:
        raise WeightsError(
            f"d_min = {d_min} Å: the weights {source!r} were trained to {card.data.d_min} Å; "
            "use that limit (--d-min), or the model 'atoms'"
        )
    if (data.d_hkl < WILSON_D_MAX).sum() < _FEWEST:
        raise ReflectionError(
            f"{data.name}: {(data.d_hkl < WILSON_D_MAX).sum()} reflections with d below {WILSON_D_MAX} Å: networks "
            f"need at least {_FEWEST} for the fall-off of the amplitudes; measure to a smaller d_min"
        )
    grid = MonoclinicGrid(card.data.shape)
    setting = setting_on_grid(data.cell, data.group, grid, card.data.d_min, preferred=_groups(card))
    everything = np.ones(len(data), bool)
    batch = one_crystal(data.hkl, data.amplitudes().amplitude, everything, setting, card.data)
    predicted = network.predict(on_device(batch, pick_device(device)))[0].cpu().numpy()
    number, is_there = grid.from_list(hkl @ setting.basis, np.arange(len(hkl), dtype=float), setting.symmetry)
    amplitude = np.zeros(len(hkl))
    amplitude[number[is_there].astype(int)] = predicted[is_there]
    if not np.isfinite(amplitude).all():
        raise WeightsError(
            f"{source}: the network predicts amplitudes of {data.name} that are not finite; use the model 'atoms'"
        )
    sigma = amplitude * _relative_error(card, data.cell.d_spacing(hkl), data.group.is_centric(hkl))
    facts = {
        "axes": "as given" if (setting.basis == np.eye(3)).all() else f"for the network: {setting.symmetry.symbol}"
    }
    return Estimate(amplitude, sigma, facts=facts, outside=tuple(_outside(card, data, setting, batch)))


def _relative_error(card: AmplitudeCard, d_hkl: np.ndarray, is_centric: np.ndarray) -> np.ndarray:
    """σ/|F| [n_refl] of a network on crystals that it was not trained on."""
    table = np.array([card.relative_error.acentric, card.relative_error.centric])
    shell = (table.shape[1] * (card.data.d_min / d_hkl) ** 2).astype(int).clip(max=table.shape[1] - 1)
    return table[is_centric.astype(int), shell]


def _outside(card: AmplitudeCard, data: Reflections, setting: Setting, batch: CompletionBatch) -> list[str]:
    """Describe in words which properties of a crystal are outside the training range of a network."""
    lattice, part = torch.as_tensor(setting.lattice), card.data.measured
    limits = {**card.trained_on.model_dump(), "d_min of the data": part.d_min}
    values = dict(zip("abc", lattice.norm(dim=0).tolist())) | {
        "beta": float(beta_of(lattice)),
        "volume": data.cell.volume,
        "d_min of the data": data.d_min,
    }
    words = [
        f"{name} = {value:.4g} {_UNITS.get(name, 'Å')} (trained on {limits[name][0]:.4g}–{limits[name][1]:.4g})"
        for name, value in values.items()
        if not limits[name][0] * (1 - _TOLERANCE) <= value <= limits[name][1] * (1 + _TOLERANCE)
    ]
    inside = batch.mask & (batch.s_squared <= 1 / (4 * data.d_min**2) * (1 + 1e-6))
    missing = 1 - float(batch.observed.sum() / inside.sum())
    if missing > part.missing + _TOLERANCE:
        words.append(f"{missing:.0%} of the reflections to {data.d_min:.2f} Å missing (trained on {part.missing:.0%})")
    if setting.symmetry.symbol not in _groups(card):
        words.append(f"space group {setting.symmetry.symbol} (trained on {', '.join(_groups(card))})")
    return words


def _groups(card: AmplitudeCard) -> list[str]:
    """Symbols of the space groups on which a network was trained."""
    return [find_symmetry(symbol).symbol for symbol in card.data.space_groups]
