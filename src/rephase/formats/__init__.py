"""Formats of strangers' files: detector images, scattering curves, labels, entries of databases."""
