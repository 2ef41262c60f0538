"""Waves: posteriors of objects from ptychography and holography."""
