"""Crystals and their diffraction: cells, structures, structure factors, phases, densities.

Array contract, used everywhere in rephase
------------------------------------------
- ``F(h) = sum_j occ_j f_j exp(-8 pi^2 U_j s^2) exp(+2 pi i h.x_j)``, complex, in electrons per cell; ``s = 1/(2d)``.
- ``hkl [n_refl, 3]`` integer Miller indices; grids ``[batch, channel, h, k, l]`` (or ``[batch, h, k, l]`` where a
  complex field has one channel) in FFT order: index 0 is 0, index -1 is -1.
- ``mask`` is boolean: True = inside the measured sphere. A zero amplitude never means missing.
- ``phi`` in radians, [-pi, pi). Degrees only as ``*_deg``, in tables, files and figures.
- Maps ``[batch, x, y, z]`` in e/Å^3: ``density = fftn(F)/V``, ``F = V ifftn(density)``.
- The dtype and device of the caller are kept.
"""
