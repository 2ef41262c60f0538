"""The laboratories: each answers one question, with the same names inside; none imports another."""
