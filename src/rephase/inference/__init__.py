"""What every posterior shares: patterns and their simulators, priors, calibration, fits, cards of weights."""
