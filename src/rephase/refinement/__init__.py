"""Structures: atoms placed in a map, named, refined against intensities, with hydrogen atoms and statistics."""
