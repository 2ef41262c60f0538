"""The multislice Fourier transform of pyMSFT for ellipsoids; see benchmarks/droplets.py.

    python droplets_pymsft.py IN.npz OUT.npz

It needs its own environment: ``pip install "scipy<1.17" pyfftw pillow tqdm``, then ``pip install
--ignore-requires-python --no-deps pymsft``. The environment variables NPIX_REAL and NPIX_FFT set the cells along a side
and the points of the transform.
"""

import os
import sys
import time

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["pyMSFT_FORCE_CPU"] = "True"  # noqa: SIM112  its own spelling

import numpy as np
from pyMSFT.shapes import Ellipsoid
from pyMSFT.simulation import MSFTSimulation
from scipy.interpolate import RectBivariateSpline

given = np.load(sys.argv[1])
n_real, n_fft = int(os.environ.get("NPIX_REAL", 96)), int(os.environ.get("NPIX_FFT", 512))
k = 2 * np.pi / float(given["wavelength"])
x = given["x"]
norm = np.sqrt(x[:, None] ** 2 + x**2 + 1)
k_x, k_y = k * x[None, :] / norm, k * x[:, None] / norm
images, seconds = [], 0.0
for axes, rotation in zip(given["semi_axes"].astype(float), given["rotation"].astype(float)):
    simulation = MSFTSimulation(
        npix_fft=n_fft, npix_real=n_real, k=k, box_size=2 * axes.max(), fftw_plan="FFTW_ESTIMATE"
    )
    shape = Ellipsoid(*axes, refractive_index=complex(given["index"]), npix=n_real, box_size=2 * axes.max())
    shape.apply_rotation = lambda *r, m=rotation: np.einsum("ij,i...->j...", m, np.stack(np.broadcast_arrays(*r)))
    simulation.get_diffraction_image(shape)  # plans the transforms
    start = time.process_time()
    image, (q_x, q_y) = simulation.get_diffraction_image(shape, output_axes=True)
    seconds += time.process_time() - start
    # the default detector has k/K_z and the norm of the transform; a flat one at distance 1 has k^2 cos^3
    cosine = np.sqrt(np.clip(1 - (q_x**2 + q_y**2) / k**2, 1e-9, None))
    image = np.nan_to_num(image) * cosine * k**2 * cosine**3
    line_x, line_y = q_x[:, 0], q_y[0, :]
    images.append(RectBivariateSpline(line_x, line_y, image).ev(k_x, k_y))
np.savez(sys.argv[2], images=np.array(images), seconds=seconds)
