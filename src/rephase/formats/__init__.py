"""Readers for other programs' files: detector images, scattering curves, labels, database entries."""
