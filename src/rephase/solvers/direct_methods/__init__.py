"""Direct methods in dual space: phase relations of the strongest E in turn with the atoms of their maps."""
