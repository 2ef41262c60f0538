"""Models of atoms: built, refined and their errors, against amplitudes."""
