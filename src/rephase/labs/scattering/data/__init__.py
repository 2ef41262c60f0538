"""Simulated and measured patterns of small-angle and grazing-incidence scattering."""
