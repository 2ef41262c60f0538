"""Forward models of diffraction from single objects, and what is derived from their images."""
