"""Hints from the atoms of a model: bond lengths, volume per atom, voids, absolute structure."""

from rephase.refinement.absolute_structure import absolute_structure
from rephase.refinement.bond_scale import bond_scale
from rephase.refinement.voids import find_voids
from rephase.solvers.hints.hint import Hint
from rephase.solvers.solution import Solution

_FACTOR, _GAIN = 0.025, 1.0  # deviation of the bond lengths' factor from 1, and gain of ln likelihood for each bond
_VOLUMES = 9.0, 30.0  # Å^3 per non-hydrogen atom
_VOID = 20.0, 5.0, 0.1  # Å^3 and electrons of disordered solvent; share of the cell of an empty void
_DECISIVE, _USELESS = 0.1, 0.3  # su of x


def bond_lengths(solution: Solution) -> Hint | None:
    """Bonds that are all too long or all too short."""
    model = solution.model
    found = None if model is None else bond_scale(model.sites, model.cell, model.symmetry)
    if found is None or abs(found.factor - 1) < _FACTOR or found.gain < _GAIN * found.n:
        return None
    return Hint(
        "bond_lengths",
        {"factor": found.factor, "n": found.n},
        f"The {found.n} C-C, C-N and C-O bonds are {abs(found.factor - 1):.1%} too "
        f"{'long' if found.factor > 1 else 'short'} on average.",
        f"Check the wavelength and the cell: axes divided by {found.factor:.3f} would give the usual lengths.",
    )


def volume_per_atom(solution: Solution) -> Hint | None:
    """A cell with too many or too few atoms."""
    if solution.model is None:
        return None
    n = sum(count for element, count in solution.model.contents().items() if element != "H")
    volume = solution.model.cell.volume / n if n else float("inf")
    if _VOLUMES[0] <= volume <= _VOLUMES[1]:
        return None
    few = volume > _VOLUMES[1]
    return Hint(
        "volume_per_atom",
        {"volume": volume},
        f"The model has {volume:.1f} Å³ per non-hydrogen atom; crystals have 12 to 25 Å³.",
        "Atoms or solvent are missing, or the cell is too large: look at the difference map, and check Z."
        if few
        else "There are too many atoms, or occupancies are too high, or the cell is too small: check Z and disorder.",
    )


def voids(solution: Solution) -> Hint | None:
    """Space without atoms, with or without electrons in it."""
    if solution.model is None or not len(solution.model.sites):
        return None
    found = find_voids(solution.model)
    smallest, electrons, large = _VOID
    has_solvent = found.volume >= smallest and found.electrons >= electrons
    if not has_solvent and found.share < large:
        return None
    return Hint(
        "voids",
        {"volume": found.volume, "share": found.share, "electrons": found.electrons},
        f"The atoms leave voids of {found.volume:.0f} Å³ in the cell ({found.share:.0%}); the difference map has about "
        f"{max(found.electrons, 0):.0f} electrons there.",
        "Look for solvent in the difference map; if it is too diffuse for atoms, use a solvent mask, and say so."
        if has_solvent
        else "Atoms may be missing; if the difference map stays flat, the crystal has lost its solvent.",
    )


def hand(solution: Solution) -> Hint | None:
    """An absolute structure that is inverted, mixed, or not determined."""
    model, measured = solution.model, solution.measured
    found = None if model is None or measured is None else absolute_structure(model, measured)
    if found is None or (found.su <= _USELESS and found.x < max(0.1, 3 * found.su)):
        return None
    figure = f"x = {found.x:.2f} ± {found.su:.2f} from the quotients of {found.n_pairs} Friedel pairs"
    if found.su > _USELESS:
        text, remedy = (
            f"The data cannot tell the absolute structure: {figure}.",
            "State it from the synthesis, or measure with a longer wavelength (Cu Kα) or a heavier atom.",
        )
    elif found.x > 1 - max(_DECISIVE, 3 * found.su):
        text, remedy = f"The absolute structure is inverted: {figure}.", "Invert the model and refine again."
    else:
        text, remedy = (
            f"Neither hand fits alone: {figure}.",
            f"Refine as an inversion twin: TWIN and BASF {min(max(found.x, 0), 1):.2f}.",
        )
    return Hint("hand", {"x": found.x, "su": found.su, "n_pairs": found.n_pairs}, text, remedy)
