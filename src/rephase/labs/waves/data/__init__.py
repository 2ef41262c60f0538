"""Simulated and measured patterns of ptychography and holography."""
