"""Forward models of diffraction and imaging: objects in the beam, their scattering, and the counts on a detector.

Lengths are in nm, energies in eV, angles in degrees (``*_deg``). The beam travels along +z; x points to the right of an
image and y down its rows. Images are ``[batch, row, column]``; ``mask`` is boolean: True = measured. Waves are
exp(i k z), so that an absorbing medium has a refractive index n = 1 - delta + i beta with beta > 0. Propagating waves
are complex fields [..., row, column]. The caller's dtype and device are kept.
"""
