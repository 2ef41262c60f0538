"""What to cite for a solved and refined structure."""

from rephase import __version__

SOFTWARE = f"rephase {__version__}"
CITATIONS = (
    f"{SOFTWARE}, The rephase authors (2026)",
    "D. R. Luke, Inverse Problems 21, 37 (2005), doi:10.1088/0266-5611/21/1/004 (the search)",
    "G. M. Sheldrick, Acta Cryst. C71, 3 (2015), doi:10.1107/S2053229614024218 (weights and figures of the refinement)",
)
