"""Real crystals: quality of measured data, structure solution, and the benchmark of the solvers."""
