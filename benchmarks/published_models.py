"""Published models scaled against their own reflections without refining, and refined, beside the published R1.

    rephase bench published_models -- FOLDER

FOLDER holds CIFs of structures with anisotropic displacements, and their reflections in the CIF or in a `.hkl` of the
same name. Reflections beyond the published θ_max are left out. Where the published refinement used fewer reflections
than the file has, ``R1 cut`` leaves out as many, those with the largest ||Fo| - |Fc||: omissions are seldom stated.
"""

import argparse
import warnings
from collections.abc import Iterator
from pathlib import Path

import gemmi
import numpy as np
import pandas as pd

from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.files import read_reflections
from rephase.crystal.structures import read_crystal
from rephase.errors import RephaseError
from rephase.refinement.model import Model
from rephase.refinement.published_sites import sites_of
from rephase.refinement.refine import RefinementOptions, refine
from rephase.refinement.sites import Sites

SCALE_ONLY = RefinementOptions(n_cycles=0, refines_extinction=False)
_EDGE = 0.999  # of d_min, which is rounded


def published(path: Path) -> tuple[Sites, Reflections, dict[str, float]]:
    """Read sites, merged reflections to the published θ_max, and the published values; NaN where there is none."""
    crystal, block = read_crystal(path), gemmi.cif.read(str(path)).sole_block()
    tags = {
        "wavelength": "_diffrn_radiation_wavelength",
        "theta_max": "_diffrn_reflns_theta_max",
        "r1": "_refine_ls_R_factor_gt",
        "n": "_reflns_number_total",
    }
    values = {name: gemmi.cif.as_number(block.find_value(tag) or "?") for name, tag in tags.items()}
    wavelength = values["wavelength"] if np.isfinite(values["wavelength"]) else None
    beside = path.with_suffix(".hkl")
    data = read_reflections(
        beside if beside.is_file() else path,
        cell=crystal.cell,
        space_group=crystal.space_group,
        wavelength=wavelength,
    )
    merged = data.merge(friedel=False).reflections
    if wavelength and np.isfinite(values["theta_max"]):
        d_min = wavelength / (2 * np.sin(np.radians(values["theta_max"])))
        merged = merged.take(merged.d_hkl > _EDGE * d_min)
    return sites_of(crystal), merged, values


def without_omitted(model: Model, n: float) -> Reflections:
    """Return the `n` reflections that agree best with a model; all if `n` is NaN or larger."""
    data = model.data
    off = np.abs(np.sqrt(np.maximum(data.intensity, 0)) - np.sqrt(model.intensity_calc))
    return data.take(np.sort(np.argsort(off)[: int(n)])) if n < len(data) else data


def rows(folder: Path) -> Iterator[dict[str, object]]:
    """Measure every structure of a folder."""
    for path in sorted(folder.glob("*.cif")):
        try:
            sites, data, values = published(path)
            scaled = refine(sites, data, options=SCALE_ONLY)
            cut = refine(sites, without_omitted(scaled, values["n"]), options=SCALE_ONLY)
            refined = refine(sites, data)
        except RephaseError as error:
            yield {"name": path.stem, "note": str(error)[:60]}
            continue
        yield {
            "name": path.stem,
            "reflections": len(data),
            "published": values["n"],
            "R1 published": values["r1"],
            "R1": round(scaled.r1, 4),
            "R1 cut": round(cut.r1, 4),
            "R1 refined": round(refined.r1, 4),
            "wR2": round(refined.statistics.wr2, 4),
            "GooF": round(refined.statistics.goof, 2),
            "parameters": refined.statistics.n_parameters,
            "note": "" if sites.is_anisotropic.any() else "isotropic model",
        }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="CIFs of structures and their reflections")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    print(pd.DataFrame(rows(options.folder)).to_string(index=False))


if __name__ == "__main__":
    main()
