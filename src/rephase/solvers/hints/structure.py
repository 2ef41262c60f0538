"""Hints from the atoms of a model: formula, chemistry, bond lengths, volume per atom, voids, absolute structure."""

import gemmi

from rephase.crystal.formulas import density, n_heavy, written
from rephase.refinement.bond_scale import bond_scale
from rephase.refinement.moieties import heavy_difference
from rephase.refinement.voids import find_voids
from rephase.solvers.hints.hint import Hint, good_model
from rephase.solvers.solution import Solution

# Relative difference between the atoms of the formula and of the model, and atoms that the model has more for each
# formula unit, without hydrogen
_COUNTS, _EXTRA = 0.1, 0.5
# Deviation of the bond lengths' factor from 1, gain of ln likelihood, and gain for each bond. The published atoms of 63
# crystals of the COD pass them in one case, whose bonds are 3 % long; with all axes 4 % too short or too long, 121 of
# 125 do, with 2.5 % 97 of 127.
_FACTOR, _GAIN, _GAIN_PER_BOND = 0.02, 4.0, 0.2
_VOLUMES = 9.0, 30.0  # Å^3 per non-hydrogen atom
_VOID = 20.0, 5.0, 0.1  # Å^3 and electrons of disordered solvent; share of the cell of an empty void
_DECISIVE, _USELESS = 0.1, 0.3  # su of x


def formula(solution: Solution) -> Hint | None:
    """A formula that the atoms of the model contradict."""
    model = solution.model
    if model is None or not model.stated_formula:
        return None
    contents, stated, z = model.contents(), model.stated_contents(), model.n_units
    difference, extra = heavy_difference(contents, stated), (n_heavy(contents) - n_heavy(stated)) / z
    if difference <= _COUNTS and extra <= _EXTRA:
        return None
    more = f", {extra:.2g} more non-hydrogen atom(s) for each formula unit" if extra > _EXTRA else ""
    return Hint(
        "formula",
        {"difference": difference, "extra": extra, "z": float(z), "density": density(contents, model.cell)},
        f"The formula {model.stated_formula} does not fit: with Z = {z} the cell would hold {written(stated)} and have "
        f"{density(stated, model.cell):.2f} g/cm³, but the model has {written(contents)} and "
        f"{density(contents, model.cell):.2f} g/cm³{more}.",
        "Check the formula and Z; look for solvent or ghosts among atoms of large displacement, and for missing atoms "
        "in the difference map, or solve with --formula none.",
    )


def missing_hydrogen(solution: Solution) -> Hint | None:
    """Hydrogen atoms of a formula that fits otherwise, which the model does not have."""
    model = solution.model
    if model is None or not model.stated_formula or formula(solution) is not None:
        return None
    present, expected = (atoms.get("H", 0.0) / model.n_units for atoms in (model.contents(), model.stated_contents()))
    if expected - present < _EXTRA:
        return None
    return Hint(
        "missing_hydrogen",
        {"n_missing": expected - present, "n_expected": expected},
        f"The model has {present:.3g} of the {expected:.3g} hydrogen atoms of the formula {model.stated_formula}; "
        f"formula, density and UNIT of the files are those of the model, {density(model.contents(), model.cell):.3f} "
        f"instead of {density(model.stated_contents(), model.cell):.3f} g/cm³.",
        "Look for them among the peaks Q1, Q2, ... of the .res, first at OH, NH and water, and correct UNIT.",
    )


def guessed_elements(solution: Solution) -> Hint | None:
    """Elements that no formula names, where electrons alone tell them apart: metals, and all without carbon."""
    model = solution.model
    if model is None or model.stated_formula:
        return None
    elements = sorted(set(model.sites.elements))
    guessed = [element for element in elements if "C" not in elements or gemmi.Element(element).is_metal]
    if not guessed:
        return None
    return Hint(
        "guessed_elements",
        {"n_elements": float(len(guessed))},
        f"Without a formula only electrons tell {', '.join(guessed)} from neighbours in the periodic table, which fit "
        f"nearly as well{'' if 'C' in elements else '; without carbon, the scale of the electrons is a guess too'}.",
        "Give the formula with --formula.",
    )


def chemistry(solution: Solution) -> Hint | None:
    """Atoms with odd distances, valences or angles."""
    found = solution.chemistry
    if found is None or not found.remarks:
        return None
    return Hint(
        "chemistry",
        {"sensible": found.sensible},
        f"Some atoms make no chemical sense: {'; '.join(found.remarks)}.",
        "Look there for disorder, wrong elements or ghosts of the map.",
    )


def bond_lengths(solution: Solution) -> Hint | None:
    """Bonds that are all too long or all too short."""
    model = good_model(solution)
    found = None if model is None else bond_scale(model.sites, model.cell, model.symmetry)
    if found is None or abs(found.factor - 1) < _FACTOR or found.gain < max(_GAIN, _GAIN_PER_BOND * found.n):
        return None
    return Hint(
        "bond_lengths",
        {"factor": found.factor, "n": found.n},
        f"The {found.n} C-C, C-N and C-O bonds are {abs(found.factor - 1):.1%} too "
        f"{'long' if found.factor > 1 else 'short'} on average.",
        f"Check the wavelength and the cell: axes divided by {found.factor:.3f} would give the usual lengths.",
    )


def volume_per_atom(solution: Solution) -> Hint | None:
    """A cell with too many or too few atoms, unless they are those of the formula."""
    if solution.model is None or (solution.model.stated_formula and formula(solution) is None):
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
    """An absolute structure that is mixed, not determined, or inverted because known phases held its hand."""
    found = None if solution.model is None else solution.model.flack
    if found is None or (found.su <= _USELESS and found.x < max(0.1, 3 * found.su)):
        return None
    figure = f"x = {found.x:.2f} ± {found.su:.2f} from the quotients of {found.n_pairs} Friedel pairs"
    if found.su > _USELESS:
        text, remedy = (
            f"The data do not determine the absolute structure: {figure}.",
            "State it from the synthesis, or measure with a longer wavelength (Cu Kα) or a heavier atom.",
        )
    elif found.x > 1 - max(_DECISIVE, 3 * found.su):
        text, remedy = f"The absolute structure is inverted: {figure}.", "Invert the model and refine again."
    elif solution.twin is not None:
        text, remedy = (
            f"Neither hand fits alone, but the twin by another law changes the Friedel pairs: {figure}.",
            "Take x from the refinement of that twin: it needs no second TWIN instruction.",
        )
    else:
        text, remedy = (
            f"Neither hand fits alone: {figure}.",
            f"Refine as an inversion twin: TWIN and BASF {min(max(found.x, 0), 1):.2f}.",
        )
    return Hint("hand", {"x": found.x, "su": found.su, "n_pairs": found.n_pairs}, text, remedy)
