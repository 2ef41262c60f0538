"""Figures and tables of all laboratories together, as for a paper."""
