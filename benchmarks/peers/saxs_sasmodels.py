"""The curves and patterns of ``benchmarks/saxs.py`` calculated by sasmodels, in its own environment.

    pip install sasmodels==1.1.0 tinycc
    python benchmarks/saxs.py --peer "PYTHON benchmarks/peers/saxs_sasmodels.py"

It is called as ``saxs_sasmodels.py IN.json OUT.npz``: IN lists calculations, OUT gets arrays ``i0, i1, ...``.
"""

import json
import sys

import numpy as np
from sasmodels.core import load_model
from sasmodels.direct_model import call_kernel
from sasmodels.resolution import Pinhole1D


def calculate(case: dict) -> np.ndarray:
    """Calculate intensities in cm^-1."""
    model = load_model(case["shape"], dtype="double", platform="dll")
    q, parameters = [np.array(axis) for axis in case["q"]], {"background": 0.0, **case["parameters"]}
    if not case["dq"]:
        return call_kernel(model.make_kernel(q), parameters)
    fine = np.linspace(0.8 * q[0][0], 1.2 * q[0][-1], case["n_calc"])
    smearing = Pinhole1D(q[0], np.array(case["dq"]), fine)
    return smearing.apply(call_kernel(model.make_kernel([smearing.q_calc]), parameters))


given, out = sys.argv[1:]
with open(given) as file:
    cases = json.load(file)
np.savez(out, **{f"i{number}": calculate(case) for number, case in enumerate(cases)})
