"""Fuzzing of every reader: good files, changes of them, and monitored processes that read the changed files."""
