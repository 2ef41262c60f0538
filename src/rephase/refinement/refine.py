"""`refine`: a structure refined against merged intensities, with its uncertainties and statistics."""

import warnings
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from rephase.crystal.peaks import highest_peak
from rephase.crystal.reflections import Reflections
from rephase.processes import one_blas_thread
from rephase.refinement.difference_map import difference_map
from rephase.refinement.factors import SiteFactors
from rephase.refinement.least_squares import LeastSquares, Refined, State, is_positive, refined
from rephase.refinement.model import OBSERVED, Model, Statistics, Uncertainties
from rephase.refinement.parameters import Parameters, free_parameters, on_special_positions, u_equivalent_row
from rephase.refinement.sites import Sites

_SIGNIFICANT = 4.0  # su of x; a smaller extinction is left out
_SCALING_CYCLES = 10  # if only scale and extinction are refined
_ROUNDS = 3  # of refinement and choice of weights
_LAST_CYCLES = 12  # with weights that are kept
_STATIONARY = 0.1  # shift over su; a model that still moves more wants restraints


class RefinementOptions(NamedTuple):
    """How a structure is refined.

    Parameters
    ----------
    n_cycles
        Largest number of cycles with the same weights; 0: only the scale (and the weights) are fitted.
    weighting
        a, b of the weights, kept as they are; None: fitted, so that the variance is even.
    extinction
        Starting value of x; with ``refines_extinction`` False it is kept.
    refines_extinction
        Whether x is refined; ``"auto"``: it is kept if it exceeds 4 of its standard uncertainties.
    occupancies
        [n_atoms], the variable that the occupancy of each atom is, see `free_parameters`; None: none is refined.
    warns
        Whether displacements that are not positive raise a warning.
    restrains
        Whether displacements are weakly restrained, see `displacement_rows`.
    idealises
        Whether riding hydrogen atoms are idealised in every cycle and not only before the first.
    """

    n_cycles: int = 10
    weighting: tuple[float, float] | None = None
    extinction: float = 0.0
    refines_extinction: bool | str = "auto"
    occupancies: np.ndarray | None = None
    warns: bool = True
    restrains: bool = True
    idealises: bool = False


_DEFAULT = RefinementOptions()


@one_blas_thread()
def refine(
    sites: Sites,
    data: Reflections,
    *,
    wavelength: float | None = None,
    options: RefinementOptions = _DEFAULT,
) -> Model:
    """Refine sites against merged intensities by full-matrix least squares on F^2, as SHELXL does.

    Positions, displacements, scale, chosen occupancies and extinction are refined, within the site symmetry; riding
    hydrogen atoms follow their parents; the origin is fixed along polar axes.

    Parameters
    ----------
    sites
        Starting model.
    data
        Merged reflections; its group is that of the sites.
    wavelength
        Wavelength in Å of the dispersion corrections; None: that of the data, and without it no corrections.

    Warns
    -----
    UserWarning
        A displacement is not positive; it is kept at a small value.
    """
    wavelength = wavelength or data.wavelength
    sites = on_special_positions(sites, data.cell, data.group)
    problem = LeastSquares(data, SiteFactors(data.hkl, data.cell, data.group, sites.elements, wavelength), wavelength)
    occupancies = np.zeros(len(sites), int) if options.occupancies is None else options.occupancies
    parameters = free_parameters(sites, data.cell, data.group, occupancies)
    if not options.n_cycles:
        parameters = parameters.take(0)
    result, weighting = _refined_with_weights(problem, sites, parameters, options)
    if options.n_cycles and options.warns:
        warn_of_displacements(result.state.sites, data)
    model = _model(problem, result, parameters, weighting, wavelength)
    return replace(model, occupancies=occupancies)


def finished(model: Model) -> Model:
    """Refine with the weights of the model until nothing moves, without restraints if that leaves it in order."""
    options = RefinementOptions(
        n_cycles=_LAST_CYCLES,
        weighting=model.weighting,
        extinction=model.extinction,
        refines_extinction=bool(model.extinction),
        occupancies=model.occupancies,
        warns=False,
        idealises=True,
    )

    def again(restrains: bool) -> Model:
        kept = options._replace(restrains=restrains)
        return replace(
            refine(model.sites, model.data, wavelength=model.wavelength, options=kept),
            stated_formula=model.stated_formula,
        )

    if is_positive(model.sites, model.cell).all():
        free = again(restrains=False)
        if is_positive(free.sites, free.cell).all() and free.statistics.shift < _STATIONARY:
            return free
    return again(restrains=True)


def _refined_with_weights(
    problem: LeastSquares, sites: Sites, parameters: Parameters, options: RefinementOptions
) -> tuple[Refined, tuple[float, float]]:
    """Refine and choose weights in turns, and leave extinction out where it is not significant.

    Without measured σ all weights are the same.
    """
    is_fitted = options.weighting is None and problem.data.has_sigma
    weighting = options.weighting or ((0.1, 0.0) if is_fitted else (0.0, 0.0))
    state = problem.scaled(State(sites, 1.0, options.extinction, bool(options.refines_extinction)), weighting)
    for number in range(_ROUNDS):
        n_cycles = options.n_cycles or _SCALING_CYCLES
        flags = {"restrains": options.restrains, "idealises": options.idealises}
        result = refined(problem, state, parameters, weighting, n_cycles, **flags)
        state = result.state
        if number == 0 and options.refines_extinction == "auto" and not _is_significant(result):
            state = replace(state, extinction=0.0, refines_extinction=False)
        elif not is_fitted:
            break
        if is_fitted and number < _ROUNDS - 1:
            weighting = problem.fitted_weighting(state, len(parameters))
    return result, weighting


def _is_significant(result: Refined) -> bool:
    return result.state.extinction > _SIGNIFICANT * _extinction_su(result)


def _extinction_su(result: Refined) -> float:
    return float(np.sqrt(result.covariance[1, 1])) * result.goof if result.state.refines_extinction else 0.0


def warn_of_displacements(sites: Sites, data: Reflections) -> None:
    """Warn of atoms whose displacements are at the smallest that is allowed."""
    low = np.flatnonzero(~is_positive(sites, data.cell))
    if len(low):
        names = ", ".join(sites.labels[atom] for atom in low[:5])
        warnings.warn(
            f"{data.name}: displacements of {len(low)} atoms would be negative and are kept at 0.001 Å² ({names}): "
            "the element may be too light, the atom wrong, or absorption uncorrected",
            stacklevel=3,
        )


def _model(
    problem: LeastSquares,
    result: Refined,
    parameters: Parameters,
    weighting: tuple[float, float],
    wavelength: float | None,
) -> Model:
    state, data = result.state, problem.data
    F, intensity_calc = problem.calculated(state)
    return Model(
        sites=state.sites,
        uncertainties=_uncertainties(result, parameters, problem),
        data=data,
        F=F,
        intensity_calc=intensity_calc,
        scale=float(np.sqrt(state.scale_squared)),
        extinction=state.extinction,
        extinction_su=_extinction_su(result),
        weighting=weighting,
        statistics=_statistics(problem, result, F, intensity_calc, weighting),
        wavelength=wavelength,
    )


def _uncertainties(result: Refined, parameters: Parameters, problem: LeastSquares) -> Uncertainties:
    """Return the standard uncertainties of slots; those of riding atoms, which were not refined, are 0."""
    sites, cell = result.state.sites, problem.data.cell
    n_own = len(result.covariance) - len(parameters)
    covariance = result.covariance[n_own:, n_own:] * result.goof**2
    free = (sites.parent < 0)[:, None]
    slots = np.sqrt(np.maximum(parameters.slot_variances(covariance), 0)) * free
    equivalent = parameters.variances_of(np.r_[np.zeros(3), u_equivalent_row(cell), 0.0], covariance)
    return Uncertainties(slots[:, :3], slots[:, 3:9], np.sqrt(np.maximum(equivalent, 0)) * free[:, 0], slots[:, 9])


def _statistics(
    problem: LeastSquares,
    result: Refined,
    F: np.ndarray,
    intensity_calc: np.ndarray,
    weighting: tuple[float, float],
) -> Statistics:
    data, state = problem.data, result.state
    observed, calculated = np.sqrt(np.maximum(data.intensity, 0)), np.sqrt(intensity_calc)
    strong = data.intensity > OBSERVED * data.sigma
    w = problem.weights(slice(None), intensity_calc, state.scale_squared, weighting)
    difference = difference_map(data, state.sites, F, intensity_calc)
    weighted = float((w * (data.intensity - intensity_calc) ** 2).sum())
    off = np.abs(observed - calculated)
    return Statistics(
        r1=float(off[strong].sum() / observed[strong].sum()) if strong.any() else float("nan"),
        r1_all=float(off.sum() / observed.sum()),
        wr2=float(np.sqrt(weighted / (w * data.intensity**2).sum())),
        goof=float(np.sqrt(weighted / max(len(data) - len(result.covariance), 1))),
        n_observed=int(strong.sum()),
        n_reflections=len(data),
        n_parameters=len(result.covariance),
        n_restraints=result.n_restraints,
        peak=highest_peak(difference),
        hole=-highest_peak(-difference),
        rms=float(difference.std()),
        shift=result.shift,
        restrained_goof=result.restrained_goof,
    )
