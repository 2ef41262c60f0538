"""The files of a `Model` for other programs: instructions, reflections, CIF and maps."""

import math
from dataclasses import replace
from pathlib import Path

from rephase.crystal.density import density_of
from rephase.crystal.map_files import write_density
from rephase.crystal.peaks import find_peaks
from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.files import write_hklf4
from rephase.refinement.cif_file import write_model_cif
from rephase.refinement.difference_map import difference_map
from rephase.refinement.maps import MapCoefficients
from rephase.refinement.model import Model
from rephase.refinement.shelx_file import write_shelx
from rephase.refinement.twins import Twin
from rephase.refinement.weights import weighing_sigma

_N_PEAKS = 20


def write_model(
    folder: Path,
    name: str,
    model: Model,
    coefficients: MapCoefficients,
    *,
    measured: Reflections | None = None,
    r_int: float = math.nan,
    twin: Twin | None = None,
) -> None:
    """Write ``name.hkl .ins .res .cif``, ``density.ccp4`` (2F_o - F_c) and ``difference.ccp4`` (F_o - F_c).

    Parameters
    ----------
    measured
        The reflections before merging, in the setting of the model, for the `.hkl`; None: those of the model. Without
        measured σ, the `.hkl` has those of the model, all with the same σ, which make its unit weights with WGHT 0 0.
    r_int
        R_int of their merging; NaN if unknown.
    twin
        What the crystal probably is, for remarks in the `.ins` and `.res`.
    """
    listed, cell, group = measured or model.data, model.cell, model.symmetry
    density, difference = (density_of(coefficients.hkl, F, cell, group) for F in coefficients[2:])
    write_density(folder / "density.ccp4", density, cell, group)
    write_density(folder / "difference.ccp4", difference, cell, group)
    hkl_scale = write_hklf4(folder / f"{name}.hkl", listed if listed.has_sigma else _weighed_alike(model.data))
    residual = difference_map(model.data, model.sites, model.F, model.intensity_calc)  # that of the statistics
    peaks = find_peaks(residual, cell, group, _N_PEAKS)
    write_shelx(folder, name, model, peaks, hkl_scale=hkl_scale, title=model.data.name, twin=twin)
    beside = {f"_shelx_{kind}_file": folder / f"{name}.{kind}" for kind in ("res", "hkl")}
    attached = {tag: path.read_text(encoding="ascii") for tag, path in beside.items()}
    write_model_cif(
        folder / f"{name}.cif", model, measured=listed, r_int=r_int, attached=attached, title=model.data.name
    )


def _weighed_alike(data: Reflections) -> Reflections:
    """Return merged reflections with one σ; the merging of SHELXL would weigh those measured more often more."""
    return replace(data, sigma=weighing_sigma(data))
