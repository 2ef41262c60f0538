"""Forward models of diffraction and imaging: what is in the beam, how it scatters, and what a detector counts.

Lengths in nm, energies in eV, angles in degrees (``*_deg``). The beam goes along +z; x is to the right of an image and
y down its rows. Images ``[batch, row, column]``; ``mask`` is boolean: True = measured. Waves are exp(i k z), so that an
absorbing medium has a refractive index n = 1 - delta + i beta with beta > 0. Caller's dtype and device are kept.
Waves that propagate are complex fields [..., row, column].
"""
