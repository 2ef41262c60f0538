"""Classical solvers: shared projections, the iterations over them, and the strategy that chains them."""

from rephase.solvers.strategy import Recipe

RECIPES: dict[str, Recipe] = {
    "raar": Recipe(),
    "charge_flipping": Recipe("charge_flipping", sharpening=1.0, beta=1.0, weak_share=0.2),
    "difference_map": Recipe("difference_map", beta=0.8),
    "hio": Recipe("hio"),
    "low_density_elimination": Recipe("low_density_elimination"),
}
