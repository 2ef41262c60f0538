"""The learned solver: a recurrent network finds phases from amplitudes alone, in any cell and space group."""
