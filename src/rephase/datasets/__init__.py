"""Data sets: generate → store → torch `Dataset`, one file each."""
