"""Shared parts of all posteriors: patterns and their simulators, priors, calibration, fits, cards of weights."""
