"""`complete`: from the reflections that were measured to all of them, with how sure each is, and to files."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch

from rephase.crystal.cell import Cell
from rephase.crystal.map_files import write_density
from rephase.crystal.monoclinic_grids import MonoclinicGrid
from rephase.crystal.reflection_files import write_mtz_columns
from rephase.crystal.reflections import Reflections
from rephase.crystal.statistics import WILSON_D_MAX, extrapolated_intensity, unique_hkl, wilson
from rephase.crystal.symmetry import find_symmetry, rows_of
from rephase.datasets.monoclinic import CompletionBatch, Setting, beta_of, one_crystal, setting_on_grid
from rephase.devices import pick_device
from rephase.errors import ConfigError, ReflectionError, WeightsError, nearest_name
from rephase.solvers.atoms import expected_structure_factors, fit_atoms
from rephase.solvers.rice import amplitude_moments, figure_of_merit
from rephase.solvers.solution import Solution, density_of
from rephase.solvers.solve import solve
from rephase.weights import Card, load_weights, shipped_weights

ROUTES = ("atoms", "wilson")  # without weights
_FINEST = 0.4  # Å
_FEWEST = 20  # reflections that tell Wilson's line
_LARGER, _TOLERANCE = 1 + 1e-9, 0.03  # of a sphere; of what weights were trained on


Facts = Mapping[str, str | float | int]


class Estimate(NamedTuple):
    """What a route says of reflections: |F| and its standard deviation [n_refl], on the scale of the data.

    ``phi`` (radians) and ``fom`` (0–1) [n_refl] where the route knows phases. ``facts`` for the summary, ``outside``
    what the route was not made for.
    """

    amplitude: np.ndarray
    sigma: np.ndarray
    phi: np.ndarray | None = None
    fom: np.ndarray | None = None
    facts: Facts = MappingProxyType({})
    outside: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Completion:
    """Every reflection of a crystal to some d_min: measured ones as they were measured, the others as expected.

    Parameters
    ----------
    reflections
        What was measured, merged.
    model
        Name of the route.
    hkl
        [n_refl, 3], one of each class of equivalents, no systematic absences.
    is_observed
        [n_refl] boolean.
    amplitude, sigma
        [n_refl], |F| and its standard deviation on the scale of ``sqrt(intensity)`` of the data: of a measured
        reflection those of French & Wilson; of another the mean and the deviation of what it may be.
    phi, fom
        [n_refl], radians and figures of merit in 0–1; None where the route knows no phases.
    facts
        What the route found, for the summary.
    outside
        In words, where the data are outside what the model was trained on: then nobody knows how good it is.
    """

    reflections: Reflections
    model: str
    hkl: np.ndarray
    is_observed: np.ndarray
    amplitude: np.ndarray
    sigma: np.ndarray
    phi: np.ndarray | None
    fom: np.ndarray | None
    facts: Facts
    outside: tuple[str, ...]

    @cached_property
    def d_hkl(self) -> np.ndarray:
        """[n_refl], Å."""
        return self.reflections.cell.d_spacing(self.hkl)

    @property
    def kind_of_map(self) -> str:
        """``density``, or ``patterson`` where no phases are known."""
        return "patterson" if self.phi is None else "density"

    @cached_property
    def maps(self) -> tuple[np.ndarray, np.ndarray]:
        """Maps [x, y, z] of the measured reflections and of all, on one grid of about d_min/4, F(000) left out.

        In e/Å^3, each F weighted with its figure of merit; where no phases are known the Patterson maps in e^2/Å^3.
        The scale is Wilson's.
        """
        r, scale = self.reflections, wilson(self.reflections).scale
        if self.phi is None or self.fom is None:
            F = (self.amplitude**2 + self.sigma**2 * ~self.is_observed) / scale
        else:
            F = self.amplitude * self.fom * np.exp(1j * self.phi) / math.sqrt(scale)
        before, after = (density_of(self.hkl, values, r.cell, r.group) for values in (F * self.is_observed, F))
        return before, after

    def summary(self) -> dict[str, str | float | int]:
        """What a user wants to know first.

        ``relative_sigma`` is sum σ / sum |F| of the completed reflections; 0.8 of it is the R to expect of them, as far
        as their errors are normal.
        """
        r, completed = self.reflections, ~self.is_observed
        return {
            "name": r.name,
            "model": self.model,
            "space_group": r.group.symbol,
            "d_min_observed": round(r.d_min, 4),
            "d_min": round(float(self.d_hkl.min()), 4),
            "n_observed": int(self.is_observed.sum()),
            "n_completed": int(completed.sum()),
            "relative_sigma": round(float(self.sigma[completed].sum() / self.amplitude[completed].sum()), 4),
            **self.facts,
            "outside_training": "; ".join(self.outside) or "nothing",
        }

    def write(self, folder: str | Path) -> Path:
        """Write ``completed.mtz``, the map before and after, and ``completion.json`` into a folder; its path.

        The MTZ has H K L F SIGF FLAG (1: measured, 0: completed), and PHI FOM where phases are known.
        """
        folder, r = Path(folder), self.reflections
        folder.mkdir(parents=True, exist_ok=True)
        columns = {"F": ("F", self.amplitude), "SIGF": ("Q", self.sigma), "FLAG": ("I", self.is_observed)}
        if self.phi is not None and self.fom is not None:
            columns |= {"PHI": ("P", np.degrees(self.phi)), "FOM": ("W", self.fom)}
        write_mtz_columns(folder / "completed.mtz", self.hkl, columns, r.cell, r.group)
        symmetry = find_symmetry("P 1") if self.phi is None else r.group
        for name, values in zip(("before", "after"), self.maps):
            write_density(folder / f"{self.kind_of_map}_{name}.ccp4", values, r.cell, symmetry)
        (folder / "completion.json").write_text(json.dumps(self.summary(), indent=1, ensure_ascii=False) + "\n")
        return folder


class Sections(NamedTuple):
    """The same section of maps of one cell, ``values`` [n_maps, u, v], seen along the cell axis ``along`` (0, 1, 2)."""

    values: np.ndarray
    along: int


def sections_of(maps: Sequence[np.ndarray], cell: Cell) -> Sections:
    """Sections of maps [x, y, z] seen along the shortest axis, at the highest point of the last one."""
    along = int(np.argmin(cell.parameters[:3]))
    place = np.unravel_index(maps[-1].argmax(), maps[-1].shape)[along]
    return Sections(np.stack([values.take(place, axis=along) for values in maps]), along)


def complete(
    data: Reflections, *, model: str | Path = "atoms", d_min: float = 0.8, effort: float = 1.0, seed: int = 0,
    solution: Solution | None = None, device: str = "auto",
    report: Callable[[int, int, int], None] = lambda n_trials, n_agree, max_trials: None,
) -> Completion:  # fmt: skip
    """Complete a crystal: the amplitudes that were not measured, gaps and beyond, to a given resolution.

    Parameters
    ----------
    data
        As `read_reflections` gives it, merged or not, with its space group.
    model
        ``atoms`` solves the crystal, places atoms, and gives what they let expect: any space group, phases too, σ by
        the errors of the atoms. ``wilson`` gives the mean amplitude by Wilson's line, σ that of Wilson's statistics.
        Else the name of shipped weights of a network, or the path of such a file: monoclinic crystals, σ by the errors
        that the network had on crystals it was not trained on, at that resolution.
    d_min
        Å; measured reflections beyond are left out.
    effort, seed, report
        Of ``atoms``, as in `solve`.
    solution
        For ``atoms``: that of these data, where they are solved already.
    device
        ``auto``, ``cpu`` or ``cuda``.

    Raises
    ------
    ReflectionError
        No space group; too few reflections; nothing missing; a solution of other data.
    ConfigError
        An unknown model; a d_min below 0.4 Å, or an effort that is not positive.
    SymmetryError
        A network for a crystal that is not monoclinic.
    GridError
        A cell too large for the grid of a network; the one that would do is named.
    WeightsError
        Damaged weights, or a d_min finer than they know.
    """
    given, model = _checked(data, d_min).cut(d_min), str(model)
    measured = given.merge().reflections
    hkl = unique_hkl(measured.cell, measured.group, d_min)
    rows = rows_of(hkl, measured.hkl)
    is_observed = rows >= 0
    if is_observed.all():
        raise ReflectionError(
            f"{data.name}: all {len(hkl)} reflections to {d_min} Å were measured; give a smaller d_min"
        )
    if model == "atoms":
        found = solution or solve(given, effort=effort, seed=seed, device=device, report=report)
        estimate = _by_atoms(_checked_solution(found, measured), hkl, rows, effort=effort, seed=seed)
    elif model == "wilson":
        estimate = _by_wilson(measured, hkl)
    else:
        estimate = _by_network(measured, hkl, check_route(model), d_min=d_min, device=device)
    own = measured.amplitudes()
    return Completion(
        measured,
        Path(model).stem,
        hkl,
        is_observed,
        np.where(is_observed, own.amplitude[rows], estimate.amplitude),
        np.where(is_observed, own.sigma[rows], estimate.sigma),
        *estimate[2:],
    )


def _checked(data: Reflections, d_min: float) -> Reflections:
    if data.symmetry is None:
        raise ReflectionError(
            f"{data.name}: no space group; give space_group= (--space-group), `rephase solve` says which ones fit"
        )
    if not d_min >= _FINEST:
        raise ConfigError(f"d_min = {d_min}: expected at least {_FINEST} Å; give what is wanted, e.g. 0.8")
    return data


def _checked_solution(solution: Solution, measured: Reflections) -> Solution:
    if not np.array_equal(solution.hkl, measured.hkl):
        raise ReflectionError(
            f"{measured.name}: the solution has {len(solution.hkl)} reflections, the data {len(measured)} others; "
            "give the one that `solve` finds for these data"
        )
    return solution


def _by_atoms(solution: Solution, hkl: np.ndarray, rows: np.ndarray, *, effort: float, seed: int) -> Estimate:
    """Place atoms, and take what they let expect; `rows` [n_refl] in the merged data, -1 where not there."""
    model = fit_atoms(solution, effort=effort, seed=seed)
    expected = expected_structure_factors(model, solution.reflections, hkl)
    amplitude, sigma = expected.amplitudes()
    measured = solution.reflections.amplitudes().amplitude[rows]
    fom = np.where(
        rows >= 0,
        figure_of_merit(measured, expected.F, expected.variance, expected.is_centric),
        np.abs(expected.F) / np.maximum(amplitude, np.finfo(float).tiny),
    )
    facts: Facts = {
        "verdict": solution.verdict, "n_atoms": len(model.atoms),
        "r_factor": round(model.r_factor, 4), "r_free": round(model.r_free, 4),
    }  # fmt: skip
    return Estimate(amplitude, sigma, np.angle(expected.F), fom, facts)


def _by_wilson(data: Reflections, hkl: np.ndarray) -> Estimate:
    """Wilson's statistics about his line; the line has a normal error of its logarithm, half of it that of |F|."""
    intensity, variance = extrapolated_intensity(data, hkl)
    mean, _ = amplitude_moments(np.zeros(len(hkl)), intensity, data.group.is_centric(hkl))
    amplitude = mean * np.exp(variance / 8)
    return Estimate(amplitude, np.sqrt(intensity * np.exp(variance / 2) - amplitude**2))


def check_route(model: str) -> str:
    """The name of a route as it is, unless there is no such route, file or shipped weights: then `ConfigError`."""
    known = [*ROUTES, *shipped_weights()]
    if not Path(model).is_file() and model not in known:
        raise ConfigError(f"model {model!r}: no such route, weights or file; {nearest_name(model, known)}")
    return model


def _by_network(data: Reflections, hkl: np.ndarray, source: str, *, d_min: float, device: str) -> Estimate:
    network, card = load_weights(source, device=pick_device(device))
    if d_min < card.data.d_min / _LARGER:
        raise WeightsError(
            f"d_min = {d_min} Å: the weights {source!r} know reflections to {card.data.d_min} Å; "
            "give that (--d-min), or take the model 'atoms'"
        )
    if (data.d_hkl < WILSON_D_MAX).sum() < _FEWEST:
        raise ReflectionError(
            f"{data.name}: {(data.d_hkl < WILSON_D_MAX).sum()} reflections with d below {WILSON_D_MAX} Å: networks "
            f"expect at least {_FEWEST}, to know how amplitudes fall off; measure to a smaller d_min"
        )
    grid = MonoclinicGrid(card.data.shape)
    setting = setting_on_grid(data.cell, data.group, grid, card.data.d_min, preferred=_groups(card))
    everything = np.ones(len(data), bool)
    batch = one_crystal(data.hkl, data.amplitudes().amplitude, everything, setting, card.data)
    predicted = network.predict(CompletionBatch(*(field.to(pick_device(device)) for field in batch)))[0].cpu().numpy()
    number, is_there = grid.from_list(hkl @ setting.basis, np.arange(len(hkl), dtype=float), setting.symmetry)
    amplitude = np.zeros(len(hkl))
    amplitude[number[is_there].astype(int)] = predicted[is_there]
    sigma = amplitude * _relative_error(card, data.cell.d_spacing(hkl), data.group.is_centric(hkl))
    facts = {
        "axes": "as given" if (setting.basis == np.eye(3)).all() else f"for the network: {setting.symmetry.symbol}"
    }
    return Estimate(amplitude, sigma, facts=facts, outside=tuple(_outside(card, data, setting, batch)))


def _relative_error(card: Card, d_hkl: np.ndarray, is_centric: np.ndarray) -> np.ndarray:
    """σ/|F| [n_refl] that a network had on crystals it was not trained on."""
    table = np.array([card.relative_error.acentric, card.relative_error.centric])
    shell = (table.shape[1] * (card.data.d_min / d_hkl) ** 2).astype(int).clip(max=table.shape[1] - 1)
    return table[is_centric.astype(int), shell]


def _outside(card: Card, data: Reflections, setting: Setting, batch: CompletionBatch) -> list[str]:
    """What of a crystal is outside what a network was trained on, in words."""
    lattice, part = torch.as_tensor(setting.lattice), card.data.measured
    values = dict(zip("abc", lattice.norm(dim=0).tolist())) | {"β": float(beta_of(lattice)), "volume": data.cell.volume}
    units = dict.fromkeys("abc", "Å") | {"β": "°", "volume": "Å^3"}
    limits = card.trained_on | {"d_min of the data": part.d_min}
    values["d_min of the data"], units["d_min of the data"] = data.d_min, "Å"
    words = [
        f"{name} = {value:.4g} {units[name]} (trained on {limits[name][0]:.4g}–{limits[name][1]:.4g})"
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


def _groups(card: Card) -> list[str]:
    """Symbols of the space groups that a network was trained on."""
    return [find_symmetry(symbol).symbol for symbol in card.data.space_groups]
