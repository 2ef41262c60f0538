"""Iterative engines of ptychography and holography."""
