"""Real crystals: measured data, their solution, and the benchmark of the solvers."""
