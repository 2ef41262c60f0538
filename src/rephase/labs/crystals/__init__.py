"""Perturbed crystals: models that predict the phases of structure factors."""
