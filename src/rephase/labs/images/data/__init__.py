"""Diffraction images: simulated and measured ones, their labels, noise and sizes."""
