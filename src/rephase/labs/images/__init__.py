"""Diffraction images: classifiers of single shots."""
