"""The patterns of ``benchmarks/gisaxs.py`` calculated by BornAgain, in its own environment.

    pip install bornagain==25.0.0
    python benchmarks/gisaxs.py --peer "PYTHON benchmarks/peers/gisaxs_bornagain.py"

It is called as ``gisaxs_bornagain.py IN.json OUT.npz``: IN lists calculations, OUT gets the intensities of each,
``i0, i1, ...``, [row, column] or [angle], and the process time of each, ``seconds``; ``n`` repeats a calculation.
"""

import json
import math
import sys
import time

import bornagain as ba
import numpy as np

COLOUR = (0.5, 0.5, 0.5)  # for BornAgain's pictures; every material must have one


def formfactor(name: str, sizes: list[float]) -> ba.Formfactor:
    """Return BornAgain's body of the same form."""
    if name == "frustum":
        radius, height, top = sizes
        return ba.Cone(radius, height, math.atan2(height, radius - top))
    if name == "truncated_sphere":
        return ba.SphericalSegment(sizes[0], 0.0, 2 * sizes[0] - sizes[1])
    if name == "dome":
        return ba.SpheroidalSegment(sizes[0], sizes[1], 0.0, sizes[1])
    return {"sphere": ba.Sphere, "cylinder": ba.Cylinder}[name](*sizes)


def sample(case: dict) -> ba.Sample:
    """Return particles in vacuum on layers and a substrate."""
    vacuum = ba.Layer(ba.Vacuum())
    if "island" in case:
        particle = ba.Particle(
            ba.RefractiveMaterial("particle", COLOUR, *case["particle"]), formfactor(**case["island"])
        )
        vacuum.deposit2D(ba.Dilute2D(case["density"], particle))
    found = ba.Sample()
    found.addLayer(vacuum)
    for number, ((delta, beta), thickness) in enumerate(zip(case["layers"], [*case["thickness"], None])):
        material = ba.RefractiveMaterial(f"layer {number}", COLOUR, delta, beta)
        found.addLayer(ba.Layer(material) if thickness is None else ba.Layer(material, thickness))
    return found


def simulation(case: dict) -> ba.Simulation:
    """Return a detector in angles, or a scan of the reflectivity."""
    if "scan" in case:
        low, high, n = case["scan"]
        scan = ba.AlphaScan(n, math.radians(low), math.radians(high))
        scan.setWavelength(case["wavelength"])
        return ba.SpecularSimulation(scan, sample(case))
    (n_phi, *phi), (n_alpha, *alpha) = case["phi"], case["alpha"]
    detector = ba.SphericalDetector(n_phi, *np.radians(phi), n_alpha, *np.radians(alpha))
    beam = ba.Beam(1.0, case["wavelength"], math.radians(case["incidence"]))
    return ba.ScatteringSimulation(beam, sample(case), detector)


def calculate(case: dict) -> tuple[np.ndarray, float]:
    """Return the intensities and the seconds, on one thread."""
    start = time.process_time()
    for _ in range(case.get("n", 1)):
        made = simulation(case)
        made.options().setNumberOfThreads(1)
        found = np.array(made.simulate().intensities())
    return found, time.process_time() - start


given, out = sys.argv[1:]
with open(given) as file:
    cases = json.load(file)
found, seconds = zip(*map(calculate, cases))
np.savez(out, seconds=seconds, **{f"i{number}": pattern for number, pattern in enumerate(found)})
