"""A `Model` as CIF: cell, data, refinement, atoms and geometry with standard uncertainties, in the core dictionary."""

import math
from pathlib import Path

import gemmi
import numpy as np

from rephase.crystal.cif_head import block_name, bracketed, write_head
from rephase.crystal.formulas import mass
from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.statistics import unique_hkl
from rephase.files.writing import write_whole
from rephase.refinement.cif_loops import add_loops
from rephase.refinement.citations import CITATIONS, SOFTWARE
from rephase.refinement.model import Model
from rephase.refinement.moieties import absorption, moiety_text
from rephase.refinement.restraints import BONDED, ISOTROPIC_SD, SIMILAR_SD

_RADIATION = {"Mo K\\a": 0.71073, "Cu K\\a": 1.54184, "Ag K\\a": 0.56086}
_NEAR = 1e-3  # Å
_D_FULL = 1 / 1.2  # Å: sin θ/λ = 0.6, at θ = 25.24° for Mo and 67.68° for Cu, as SHELXL and IUCr journals require
_ASKED = "?"
_EXTINCTION = "Fc^*^=kFc[1+0.001xFc^2^\\l^3^/sin(2\\q)]^-1/4^"
_WEIGHTS = "w=1/[\\s^2^(Fo^2^)+({:.4f}P)^2^+{:.4f}P] where P=(Fo^2^+2Fc^2^)/3"
_UNIT_WEIGHTS = "w=1, because no standard uncertainties were measured"
_RESTRAINTS = (
    f"U~eq~ of atoms within {BONDED:g} \\%A were restrained to be similar (s.u. {SIMILAR_SD:g} \\%A^2^), and "
    f"anisotropic U~ij~ to those of an isotropic atom (s.u. {ISOTROPIC_SD:g} \\%A^2^)"
)
_QUOTIENTS = "Classical fit to {} quotients of Friedel pairs (Parsons, Flack & Wagner, 2013)"


def write_model_cif(
    path: Path,
    model: Model,
    *,
    measured: Reflections | None = None,
    r_int: float = math.nan,
    attached: dict[str, str] | None = None,
    title: str = "rephase",
) -> None:
    """Write a model as CIF.

    Parameters
    ----------
    measured
        The reflections before merging, in the setting of the model.
    r_int
        R_int of their merging; NaN if unknown.
    attached
        Texts of further files by tag: ``_shelx_res_file``, ``_shelx_hkl_file``.
    title
        Name of the data block.
    """
    document = gemmi.cif.Document()
    block = document.add_new_block(block_name(title))
    _set_pairs(block, {"_audit_creation_method": SOFTWARE})
    write_head(block, model.cell, model.symmetry)
    _set_pairs(block, _contents(model) | _data(model, measured or model.data, r_int) | _refinement(model))
    add_loops(block, model)
    for tag, text in (attached or {}).items():
        block.set_pair(tag, f";\n{text.rstrip()}\n;")
    write_whole(path, document.as_string())


def _set_pairs(block: gemmi.cif.Block, pairs: dict[str, str]) -> None:
    """Set the values that are known, and "?" where the user has to fill in; words are quoted where necessary."""
    for tag, value in pairs.items():
        if value:
            block.set_pair(tag, value if value == _ASKED else gemmi.cif.quote(value))


def _asked(prefix: str, names: str) -> dict[str, str]:
    """Items that only the user knows."""
    return {f"_{prefix}_{name}": _ASKED for name in names.split()}


def _fixed(value: float, decimals: int) -> str:
    """Write a number with fixed decimals; an empty text for NaN."""
    return f"{value:.{decimals}f}" if math.isfinite(value) else ""


def _contents(model: Model) -> dict[str, str]:
    """Items of the chemical formula and the crystal."""
    contents, n_units = model.contents(), model.n_units
    f000 = sum(n * gemmi.Element(element).atomic_number for element, n in contents.items())
    return {
        **_asked("chemical", "name_systematic name_common melting_point"),
        "_chemical_formula_moiety": moiety_text(model.moieties, n_units),
        "_chemical_formula_sum": model.formula,
        "_chemical_formula_weight": _fixed(mass(contents) / n_units, 2),
        **({} if model.symmetry.is_centrosymmetric else _asked("chemical", "absolute_configuration")),
        "_cell_formula_units_Z": str(n_units),
        "_cell_measurement_temperature": _temperature(model.data),
        **_asked("cell_measurement", "reflns_used theta_min theta_max"),
        **_asked("exptl_crystal", "description colour size_max size_mid size_min"),
        "_exptl_crystal_density_diffrn": _fixed(model.density, 3),
        "_exptl_crystal_F_000": _fixed(f000, 1),
        "_exptl_absorpt_coefficient_mu": _absorption(model),
        **_asked("exptl_absorpt", "correction_type correction_T_min correction_T_max process_details"),
    }


def _temperature(data: Reflections) -> str:
    return _ASKED if data.temperature is None else f"{data.temperature:.5g}"


def _absorption(model: Model) -> str:
    """μ in mm^-1 of X-rays of the wavelength of the data."""
    wavelength = model.data.wavelength
    if wavelength is None or model.data.radiation:
        return _ASKED
    return _fixed(absorption(model.contents(), model.cell, wavelength), 3) or _ASKED


def _data(model: Model, measured: Reflections, r_int: float) -> dict[str, str]:
    """Items of the measurement and of the merged reflections."""
    data, wavelength = model.data, model.data.wavelength
    limits = {
        f"_diffrn_reflns_limit_{axis}_{side}": str(extreme)
        for axis, column in zip("hkl", measured.hkl.T)
        for side, extreme in (("min", column.min()), ("max", column.max()))
    }
    known = {} if wavelength is None else _angles(data, wavelength)
    return {
        "_diffrn_ambient_temperature": _temperature(data),
        "_diffrn_radiation_probe": data.radiation or "x-ray",
        **_asked("diffrn", "source measurement_device_type measurement_method"),
        **known,
        "_diffrn_reflns_number": str(len(measured)),
        "_diffrn_reflns_av_R_equivalents": _fixed(r_int, 4),
        "_diffrn_reflns_av_unetI/netI": _fixed(data.sigma.sum() / np.abs(data.intensity).sum(), 4),
        **limits,
        "_reflns_number_total": str(len(data)),
        "_reflns_number_gt": str(model.statistics.n_observed),
        "_reflns_threshold_expression": "I > 2\\s(I)",
    }


def _completeness(data: Reflections, d_min: float) -> float:
    """Share of the unique reflections to d_min (Å) that were measured; Friedel mates count as one."""
    hkl = data.hkl[data.d_hkl >= d_min - 1e-9]
    n_unique = len(np.unique(data.group.representative(hkl), axis=0))
    return min(n_unique / max(len(unique_hkl(data.cell, data.group, d_min)), 1), 1.0)


def _angles(data: Reflections, wavelength: float) -> dict[str, str]:
    d_full = max(data.d_min, _D_FULL)
    names = [name for name, value in _RADIATION.items() if abs(value - wavelength) < _NEAR]
    return {
        "_diffrn_radiation_wavelength": _fixed(wavelength, 5),
        "_diffrn_radiation_type": names[0] if names and not data.radiation else "",
        "_diffrn_reflns_theta_min": _theta(wavelength, data.d_hkl.max()),
        "_diffrn_reflns_theta_max": _theta(wavelength, data.d_min),
        "_diffrn_reflns_theta_full": _theta(wavelength, d_full),
        "_diffrn_measured_fraction_theta_max": _fixed(_completeness(data, data.d_min), 3),
        "_diffrn_measured_fraction_theta_full": _fixed(_completeness(data, d_full), 3),
    }


def _theta(wavelength: float, d: float) -> str:
    """θ in degrees at d (Å); unknown where the wavelength is too long for it."""
    sine = wavelength / (2 * d)
    return _fixed(math.degrees(math.asin(sine)), 3) if sine <= 1 else _ASKED


def _refinement(model: Model) -> dict[str, str]:
    """Items of the refinement and the programs."""
    s, (a, b) = model.statistics, model.weighting
    rides = bool((model.sites.parent >= 0).any())
    hydrogens = ("geom" if rides else "difmap") if model.sites.is_hydrogen.any() else ""
    pairs: dict[str, str] = {
        "_refine_ls_structure_factor_coef": "Fsqd",
        "_refine_ls_matrix_type": "full",
        "_refine_ls_weighting_scheme": "calc" if model.data.has_sigma else "unit",
        "_refine_ls_weighting_details": _WEIGHTS.format(a, b) if model.data.has_sigma else _UNIT_WEIGHTS,
        "_atom_sites_solution_primary": "iterative",
        "_atom_sites_solution_secondary": "difmap",
        "_atom_sites_solution_hydrogens": hydrogens,
        "_refine_ls_hydrogen_treatment": "constr" if rides else "undef",
        "_refine_ls_extinction_method": "SHELXL" if model.extinction else "none",
        "_refine_ls_number_reflns": str(s.n_reflections),
        "_refine_ls_number_parameters": str(s.n_parameters),
        "_refine_ls_number_restraints": str(s.n_restraints),
        "_refine_ls_R_factor_all": _fixed(s.r1_all, 4),
        "_refine_ls_R_factor_gt": _fixed(s.r1, 4),
        "_refine_ls_wR_factor_gt": _fixed(model.wr2_observed, 4),
        "_refine_ls_wR_factor_ref": _fixed(s.wr2, 4),
        "_refine_ls_goodness_of_fit_ref": _fixed(s.goof, 3),
        "_refine_ls_restrained_S_all": _fixed(s.restrained_goof, 3),
        "_refine_ls_shift/su_max": _fixed(s.shift, 3),
        "_refine_diff_density_max": _fixed(s.peak, 3),
        "_refine_diff_density_min": _fixed(s.hole, 3),
        "_refine_diff_density_rms": _fixed(s.rms, 3),
        **_asked("computing", "data_collection cell_refinement data_reduction"),
        "_computing_structure_solution": f"{SOFTWARE} (structure solved by iterative projections in dual space)",
        "_computing_structure_refinement": f"{SOFTWARE} (full-matrix least squares on F^2^)",
        "_computing_publication_material": SOFTWARE,
        "_refine_special_details": _RESTRAINTS if model.is_restrained else _ASKED,
        "_publ_section_references": "\n".join(("", *CITATIONS, "")),
    }
    if model.flack:
        pairs["_refine_ls_abs_structure_Flack"] = bracketed(model.flack.x, model.flack.su)
        pairs["_refine_ls_abs_structure_details"] = _QUOTIENTS.format(model.flack.n_pairs)
    if model.extinction:
        pairs["_refine_ls_extinction_coef"] = bracketed(model.extinction, model.extinction_su)
        pairs["_refine_ls_extinction_expression"] = _EXTINCTION
    return pairs
