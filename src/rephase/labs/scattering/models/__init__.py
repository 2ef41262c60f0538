"""Flows of parameters: one table."""

from rephase.labs.scattering.models.flows import ParameterFlow

POSTERIOR_MODELS: dict[str, type[ParameterFlow]] = {"nsf": ParameterFlow}
