"""Files of a `Model`: SHELX instructions, CIF, MTZ and maps, read again by rephase and gemmi."""

from dataclasses import replace

import gemmi
import numpy as np

from rephase.crystal.cell import Cell
from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.statistics import unique_hkl
from rephase.crystal.scattering import dispersion, form_factor_coefficients
from rephase.crystal.symmetry import find_symmetry
from rephase.refinement.cif_file import write_model_cif
from rephase.refinement.model import Model, Statistics, Uncertainties
from rephase.refinement.shelx_file import instruction_text
from rephase.refinement.sites import Sites, multiplicity

CELL = Cell(7.1, 9.2, 11.3, 90, 101.5, 90, su=(0.0006, 0.0011, 0.0012, 0, 0.004, 0))
STATISTICS = Statistics(0.0321, 0.0411, 0.0876, 1.043, 900, 1000, 46, 0, 0.31, -0.28, 0.05, 0.001)


def structure_factors(sites: Sites, cell: Cell, symmetry, hkl: np.ndarray, wavelength=None) -> np.ndarray:
    """F [n] by direct summation over the operations."""
    coefficients = form_factor_coefficients(sites.elements)
    s_squared = 1 / (4 * cell.d_spacing(hkl) ** 2)
    f = (coefficients[:, 0:8:2, None] * np.exp(-coefficients[:, 1:8:2, None] * s_squared)).sum(1) + coefficients[:, 8:]
    f = f + dispersion(sites.elements, None if wavelength is None else 12.398419843320026 / wavelength)[:, None]
    u = sites.u_equivalent(cell)
    weight = sites.occupancy * multiplicity(sites.xyz_frac, cell, symmetry) / len(symmetry.triplets)
    images = np.einsum("oij,nj->noi", symmetry.rotations, sites.xyz_frac) + symmetry.translations
    waves = np.exp(2j * np.pi * images @ hkl.T).sum(1)
    return (weight[:, None] * f * np.exp(-8 * np.pi**2 * u[:, None] * s_squared) * waves).sum(0)


def model_of(sites: Sites, space_group: str = "P 21/c", *, cell: Cell = CELL, wavelength=0.71073, **changes) -> Model:
    symmetry = find_symmetry(space_group)
    hkl = unique_hkl(cell, symmetry, 0.9)
    F = structure_factors(sites, cell, symmetry, hkl, wavelength)
    intensity = 0.25 * np.abs(F) ** 2
    noise = np.random.default_rng(0).normal(size=len(F))
    sigma = 0.02 * intensity + 0.1
    data = Reflections(hkl, intensity + sigma * noise, sigma, cell, symmetry, wavelength=wavelength, is_merged=True)
    su = Uncertainties(
        np.full((len(sites), 3), 3e-4), np.full((len(sites), 6), 9e-4), np.full(len(sites), 7e-4), np.zeros(len(sites))
    )
    model = Model(sites, su, data, F, intensity, 0.5, 0.0, 0.0, (0.0412, 0.1234), STATISTICS, wavelength)
    return replace(model, **changes)


def molecule() -> Sites:
    """C-C-O with a methyl group and one anisotropic atom."""
    places = [[0.2, 0.3, 0.4], [0.3542, 0.3612, 0.3524], [0.5123, 0.2801, 0.3711]]
    places += [[0.1, 0.36, 0.37], [0.21, 0.2, 0.37], [0.2, 0.3, 0.49]]
    u = [0.03, 0.025, 0.04, 0.045, 0.045, 0.045]
    sites = Sites.isotropic(["C1", "C2", "O1", "H1A", "H1B", "H1C"], "CCOHHH", np.array(places), np.array(u), CELL)
    U = sites.U.copy()
    U[1] = 0.021, 0.032, 0.043, 0.001, 0.004, -0.002
    is_anisotropic = np.arange(6) == 1
    return replace(
        sites,
        U=U,
        is_anisotropic=is_anisotropic,
        parent=np.array([-1, -1, -1, 0, 0, 0]),
        afix=np.array([0, 0, 0, 137, 137, 137]),
    )


def test_instructions_of_a_molecule():
    lines = instruction_text(model_of(molecule()), title="ethanal")
    assert lines[:8] == [
        "TITL ethanal in P 1 21/c 1",
        "CELL 0.71073 7.10000 9.20000 11.30000 90.0000 101.5000 90.0000",
        "ZERR 4 0.00060 0.00110 0.00120 0.0000 0.0040 0.0000",
        "LATT 1",
        "SYMM -X,Y+1/2,-Z+1/2",
        "SFAC C H O",
        "UNIT 8 12 4",
        "L.S. 10",
    ]
    assert lines[lines.index("FVAR 0.500000") :] == [
        "FVAR 0.500000",
        "C1   1 0.200000 0.300000 0.400000 11.00000 0.03000",
        "AFIX 137",
        "H1A  2 0.100000 0.360000 0.370000 11.00000 -1.50000",
        "H1B  2 0.210000 0.200000 0.370000 11.00000 -1.50000",
        "H1C  2 0.200000 0.300000 0.490000 11.00000 -1.50000",
        "AFIX 0",
        "C2   1 0.354200 0.361200 0.352400 11.00000 0.02100 0.03200 0.04300 0.00100 =",
        "    0.00400 -0.00200",
        "O1   3 0.512300 0.280100 0.371100 11.00000 0.04000",
        "HKLF 4",
    ]
    assert {"BOND $H", "HTAB", "ACTA", "CONF", "FMAP 2", "PLAN 20", "WGHT 0.041200 0.123400"} < set(lines)
    assert not any(line.startswith(("DISP", "EXTI", "PART")) for line in lines)


def block_of(path):
    return gemmi.cif.read(str(path)).sole_block()


def test_cif_of_a_molecule(tmp_path):
    model = model_of(molecule())
    write_model_cif(tmp_path / "a.cif", model, measured=model.data, r_int=0.0345, title="ethanal")
    block = block_of(tmp_path / "a.cif")
    expected = {
        "_cell_length_a": "7.1000(6)",
        "_cell_length_b": "9.2000(11)",
        "_cell_angle_alpha": "90",
        "_cell_angle_beta": "101.500(4)",
        "_cell_formula_units_Z": "4",
        "_chemical_formula_sum": "'C2 H3 O'",
        "_chemical_formula_weight": "43.04",
        "_space_group_IT_number": "14",
        "_space_group_name_Hall": "'-P 2ybc'",
        "_exptl_crystal_F_000": "92.0",
        "_diffrn_radiation_type": r"'Mo K\a'",
        "_diffrn_reflns_av_R_equivalents": "0.0345",
        "_diffrn_measured_fraction_theta_max": "1.000",
        "_refine_ls_R_factor_gt": "0.0321",
        "_refine_ls_wR_factor_ref": "0.0876",
        "_refine_ls_extinction_method": "none",
    }
    assert {tag: block.find_value(tag) for tag in expected} == expected
    atoms = block.find("_atom_site_", ["label", "fract_x", "U_iso_or_equiv", "adp_type", "calc_flag"])
    assert [list(row) for row in atoms][:2] == [
        ["C1", "0.2000(3)", "0.0300(7)", "Uiso", "d"],
        ["H1A", "0.10000", "0.045", "Uiso", "calc"],
    ]
    assert list(block.find_values("_atom_site_aniso_U_11")) == ["0.0210(9)"]
