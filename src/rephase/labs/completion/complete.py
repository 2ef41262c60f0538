"""`complete`: predict unmeasured reflections with their uncertainties, and write the completed data to files."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rephase.crystal.cell import Cell
from rephase.crystal.density import density_of
from rephase.crystal.map_files import write_density
from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.files import write_mtz_columns
from rephase.crystal.reflections.statistics import unique_hkl, wilson
from rephase.crystal.symmetry import find_symmetry, rows_of
from rephase.errors import ConfigError, ReflectionError, check_effort
from rephase.files.writing import ResultSet, write_whole
from rephase.labs.completion.routes import Facts, by_atoms, by_network, by_wilson, check_route
from rephase.solvers.solution import Solution
from rephase.solvers.solve import solve

RESULTS = (
    "completed.mtz",
    "density_before.ccp4",
    "density_after.ccp4",
    "patterson_before.ccp4",
    "patterson_after.ccp4",
    "completion.json",
    "completion.png",
    "completion.pdf",
)
_FINEST = 0.4  # Å


@dataclass(frozen=True, eq=False)
class Completion:
    """All reflections of a crystal to a resolution limit: measured amplitudes unchanged, the others predicted.

    Parameters
    ----------
    reflections
        Measured reflections, merged.
    model
        Name of the route.
    hkl
        Miller indices of the unique reflections without systematic absences, [n_refl, 3].
    is_observed
        True for measured reflections, [n_refl].
    amplitude, sigma
        |F| and its standard deviation on the scale of ``sqrt(intensity)`` of the data, [n_refl]: the estimates of
        French & Wilson for measured reflections, mean and standard deviation of the prediction for the others.
    phi, fom
        Phases in radians and figures of merit (0–1), [n_refl]; None if the route gives no phases.
    facts
        Results of the route for the summary.
    outside
        Properties of the data outside the training range of the model, in words; its accuracy is then unknown.
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
        """d-spacings in Å, [n_refl]."""
        return self.reflections.cell.d_spacing(self.hkl)

    @property
    def kind_of_map(self) -> str:
        """``density``, or ``patterson`` if the route gives no phases."""
        return "patterson" if self.phi is None else "density"

    @cached_property
    def maps(self) -> tuple[np.ndarray, np.ndarray]:
        """Maps [x, y, z] of the measured and of all reflections without F(000), on one grid of about d_min/4.

        Densities in e/Å^3 with figure-of-merit weights or, without phases, Patterson maps in e^2/Å^3, on the absolute
        scale of the Wilson plot.
        """
        r, scale = self.reflections, wilson(self.reflections).scale
        if self.phi is None or self.fom is None:
            F = (self.amplitude**2 + self.sigma**2 * ~self.is_observed) / scale
        else:
            F = self.amplitude * self.fom * np.exp(1j * self.phi) / math.sqrt(scale)
        before, after = (density_of(self.hkl, values, r.cell, r.group) for values in (F * self.is_observed, F))
        return before, after

    def summary(self) -> dict[str, str | float | int]:
        """Summarise the completion in one dictionary.

        ``relative_sigma`` is sum σ / sum |F| over the completed reflections; if their errors are normal, the expected R
        is 0.8 of it.
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
        """Write ``completed.mtz``, both maps and ``completion.json`` into a folder, all or none, and return its path.

        The MTZ file has H K L F SIGF FLAG (1: measured, 0: completed), and PHI FOM if the route gives phases. Earlier
        results in the folder and their pictures are replaced.

        Raises
        ------
        ConfigError
            The folder is not writable, or a file would be replaced that is not a result or was changed since.
        DiskError
            The disk is full, or another process writes there.
        """
        with ResultSet(folder, RESULTS).staged() as stage:
            self.write_files(stage)
        return Path(folder)

    def write_files(self, folder: Path) -> None:
        """Write the files of `write` one by one into the staging folder of a set of results."""
        r = self.reflections
        columns = {"F": ("F", self.amplitude), "SIGF": ("Q", self.sigma), "FLAG": ("I", self.is_observed)}
        if self.phi is not None and self.fom is not None:
            columns |= {"PHI": ("P", np.degrees(self.phi)), "FOM": ("W", self.fom)}
        write_mtz_columns(folder / "completed.mtz", self.hkl, columns, r.cell, r.group)
        symmetry = find_symmetry("P 1") if self.phi is None else r.group
        for name, values in zip(("before", "after"), self.maps):
            write_density(folder / f"{self.kind_of_map}_{name}.ccp4", values, r.cell, symmetry)
        write_whole(folder / "completion.json", json.dumps(self.summary(), indent=1, ensure_ascii=False) + "\n")


class Sections(NamedTuple):
    """The same section of maps of one cell, ``values`` [n_maps, u, v], seen along the cell axis ``along`` (0, 1, 2)."""

    values: np.ndarray
    along: int


def sections_of(maps: Sequence[np.ndarray], cell: Cell) -> Sections:
    """Take sections of maps [x, y, z], seen along the shortest axis, at the highest point of the last map."""
    along = int(np.argmin(cell.parameters[:3]))
    place = np.unravel_index(maps[-1].argmax(), maps[-1].shape)[along]
    return Sections(np.stack([values.take(place, axis=along) for values in maps]), along)


def complete(
    data: Reflections,
    *,
    model: str | Path = "atoms",
    d_min: float = 0.8,
    effort: float = 1.0,
    seed: int = 0,
    solution: Solution | None = None,
    device: str = "auto",
    report: Callable[[int, int, int], None] = lambda n_trials, n_agree, max_trials: None,
) -> Completion:
    """Predict the unmeasured amplitudes of a crystal, in gaps and at finer resolution, to a given d_min.

    Parameters
    ----------
    data
        Reflections as returned by `read_reflections`, merged or not, with their space group.
    model
        ``atoms`` solves the crystal, places and refines atoms, and computes the expected amplitudes and phases from
        them, in any space group; σ follows from the errors of the atoms. ``wilson`` predicts the mean amplitude of
        Wilson's line, with σ from Wilson's statistics. Any other value is the name of shipped weights of a network or
        the path of a weights file: it completes monoclinic crystals, with σ from the errors of the network, at this
        resolution, on crystals that it was not trained on.
    d_min
        Resolution limit in Å; finer measured reflections are ignored.
    effort, seed, report
        Options of ``atoms``, as in `solve`.
    solution
        Solution of these data for ``atoms``, if they are already solved.
    device
        ``auto``, ``cpu`` or ``cuda``.

    Raises
    ------
    ReflectionError
        The data have no space group, too few reflections, or no missing ones; the solution belongs to other data.
    ConfigError
        The model is unknown, d_min is below 0.4 Å, or the effort is not positive.
    SymmetryError
        A network is applied to a crystal that is not monoclinic.
    GridError
        The cell is too large for the grid of a network; the message gives a grid that is large enough.
    WeightsError
        The weights are damaged, or d_min is finer than they were trained for.
    """
    check_effort(effort)
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
        estimate = by_atoms(_checked_solution(found, measured), hkl, rows, effort=effort, seed=seed)
    elif model == "wilson":
        estimate = by_wilson(measured, hkl)
    else:
        estimate = by_network(measured, hkl, check_route(model), d_min=d_min, device=device)
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
            f"{data.name}: no space group; give space_group= (--space-group), `rephase solve` lists the compatible ones"
        )
    if not d_min >= _FINEST:
        raise ConfigError(f"d_min = {d_min}: expected at least {_FINEST} Å; give the wanted resolution limit, e.g. 0.8")
    return data


def _checked_solution(solution: Solution, measured: Reflections) -> Solution:
    if not np.array_equal(solution.hkl, measured.hkl):
        raise ReflectionError(
            f"{measured.name}: the solution has {len(solution.hkl)} reflections, the data {len(measured)} others; "
            "give the solution that `solve` returns for these data"
        )
    return solution
