"""A recurrent network that finds phases from amplitudes, and the search with it."""
