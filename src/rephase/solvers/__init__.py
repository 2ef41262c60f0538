"""Solvers: shared projections, the iterations that use them, and the strategy that combines these."""

from rephase.crystal.symmetry import Symmetry
from rephase.solvers.strategy import Recipe

_QUICK = Recipe(
    sharpening=0.4, threshold=(1.5, 1.0), damping=0.5, n_search=150, n_settle=30, settle_damping=0.5, beyond=False
)
_OF_ATOMS = _QUICK._replace(of_atoms=True)
_DIRECT = _OF_ATOMS._replace(n_direct=60, n_search=60)
# By `rephase bench solver_ideas` (docs/results.md) a right trial at 1.2 Å costs the same time with both, and long runs
# find one crystal more; on small crystals short ones are sooner done.
_LONG_DIRECT = _DIRECT._replace(n_direct=240, n_starts=4)
_RAAR = (
    _QUICK,
    Recipe(sharpening=0.8, threshold=(1.0, 0.4), damping=1.0, n_search=200, n_settle=100, settle_damping=0.8),
    Recipe(sharpening=0.7, threshold=(2.0, 1.3), damping=1.0, n_search=100, n_settle=0, beta=0.8, beyond=False),
)
# At atomic resolution a higher threshold pays off, free reflections are less useful, and peaks are separate.
_ATOMIC_RAAR = (
    _QUICK,
    _OF_ATOMS,
    Recipe(sharpening=0.4, threshold=(1.5, 1.0), damping=0.7, n_search=250, n_settle=30, settle_damping=0.7),
    _OF_ATOMS._replace(n_search=400),
    Recipe(sharpening=0.7, threshold=(2.0, 1.0), damping=0.5, n_search=250, n_settle=30, settle_damping=0.5),
)
# Each batch of trials takes the next recipe of its solver, because no single recipe solves every crystal.
RECIPES: dict[str, tuple[Recipe, ...]] = {
    "classical": _RAAR,
    "raar": _RAAR,
    "direct_methods": (_DIRECT, _LONG_DIRECT),
    "charge_flipping": (Recipe("charge_flipping", sharpening=1.0, beta=1.0, weak_share=0.2),),
    "difference_map": (Recipe("difference_map", beta=0.8),),
    "hio": (Recipe("hio"),),
    "low_density_elimination": (Recipe("low_density_elimination"),),
}
ATOMIC_RECIPES: dict[str, tuple[Recipe, ...]] = {"classical": _ATOMIC_RAAR, "raar": _ATOMIC_RAAR}
# Many equal atoms without a centre of symmetry need direct methods; centric crystals are solved sooner without them.
ACENTRIC_RECIPES: dict[str, tuple[Recipe, ...]] = {
    "classical": (_QUICK, _DIRECT, _OF_ATOMS, _LONG_DIRECT, *_ATOMIC_RAAR[2:]),
}
_ATOMIC_D_MIN = 1.35  # Å
# Recipes whose trials a network takes on, and how many for each that it does: both parts take about the same time.
# Direct methods solve few crystals at 1.5 Å, but a network completes trials of theirs where it completes none of RAAR.
# At 2 Å they take most of the time without a visible gain (docs/results.md).
_FEW_STARTS = _DIRECT._replace(n_starts=4)
_COARSE_PROPOSALS = tuple((recipe, 8) for recipe in _RAAR)
_PROPOSALS = tuple(each for proposal in _COARSE_PROPOSALS for each in (proposal, (_FEW_STARTS, 4)))
_COARSE_D_MIN = 1.9  # Å


def recipes_for(solver: str, d_min: float, symmetry: Symmetry) -> tuple[Recipe, ...]:
    """Return the recipes of a solver in `RECIPES` for a space group and the resolution limit `d_min` in Å."""
    recipes = RECIPES[solver]
    if d_min > _ATOMIC_D_MIN:
        return recipes
    recipes = ATOMIC_RECIPES.get(solver, recipes)
    return recipes if symmetry.is_centrosymmetric else ACENTRIC_RECIPES.get(solver, recipes)


def proposals_for(d_min: float) -> tuple[tuple[Recipe, int], ...]:
    """Return the recipes whose trials a network improves at a resolution limit in Å, and from how many it chooses."""
    return _PROPOSALS if d_min <= _COARSE_D_MIN else _COARSE_PROPOSALS
