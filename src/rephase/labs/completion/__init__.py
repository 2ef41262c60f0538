"""Completion: from the measured amplitudes of monoclinic crystals to complete structure factors."""
