"""Atomic models: building and refinement against amplitudes, and the errors of the atoms."""
