"""Mutated files for every reader: good files, what is changed in them, and processes that read them under watch."""
