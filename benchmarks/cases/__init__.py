"""Crystals that benchmarks solve: where they come from, their reflections, tables of results, and true atoms."""
