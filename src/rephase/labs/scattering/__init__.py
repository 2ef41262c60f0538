"""Scattering: posteriors of parameters from small-angle and grazing-incidence patterns."""
