"""The curves and patterns of ``benchmarks/saxs.py`` calculated by sasmodels, in its own environment.

    pip install sasmodels==1.1.0 tinycc
    python benchmarks/saxs.py --peer "PYTHON benchmarks/peers/saxs_sasmodels.py"

It is called as ``saxs_sasmodels.py IN.json OUT.npz``: IN lists calculations, OUT gets arrays ``i0, i1, ...`` and the
process time of each, ``seconds``, without compilation; ``n`` repeats a calculation without smearing.
"""

import json
import sys
import time

import numpy as np
from sasmodels.core import load_model
from sasmodels.direct_model import call_kernel
from sasmodels.resolution import Pinhole1D


def calculate(case: dict) -> tuple[np.ndarray, float]:
    """Calculate intensities in cm^-1; return them and the seconds."""
    model = load_model(case["shape"], dtype="double", platform="dll")
    q, parameters = [np.array(axis) for axis in case["q"]], {"background": 0.0, **case["parameters"]}
    if not case["dq"]:
        start = time.process_time()
        found = [call_kernel(model.make_kernel(q), parameters) for _ in range(case.get("n", 1))]
        return found[0], time.process_time() - start
    fine = np.linspace(0.8 * q[0][0], 1.2 * q[0][-1], case["n_calc"])
    start = time.process_time()
    smearing = Pinhole1D(q[0], np.array(case["dq"]), fine)
    found = smearing.apply(call_kernel(model.make_kernel([smearing.q_calc]), parameters))
    return found, time.process_time() - start


given, out = sys.argv[1:]
with open(given) as file:
    cases = json.load(file)
found, seconds = zip(*map(calculate, cases))
np.savez(out, seconds=seconds, **{f"i{number}": curve for number, curve in enumerate(found)})
