"""The laboratory that computes nothing: its notebook shows the figures and tables of all others."""

from rephase.labs.laboratory import Laboratory

LABORATORY = Laboratory(package="rephase.labs.paper", notebooks=("90",), shows_all=True)
