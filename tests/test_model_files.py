"""Files of a `Model`: SHELX instructions, CIF, MTZ and maps, read again by rephase and gemmi."""

from dataclasses import replace

import gemmi
import numpy as np
import pytest

import rephase
from rephase.crystal.cell import Cell
from rephase.crystal.density import density_of
from rephase.crystal.labels import numbered_labels, short_labels
from rephase.crystal.map_files import read_density
from rephase.crystal.peaks import distances, find_peaks
from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.files import read_reflections
from rephase.crystal.reflections.statistics import unique_hkl
from rephase.crystal.scattering import dispersion, form_factor_coefficients
from rephase.crystal.shelx import read_instructions
from rephase.crystal.structures import read_crystal
from rephase.crystal.symmetry import find_symmetry, rows_of
from rephase.refinement.agreement import Share
from rephase.refinement.cif_file import write_model_cif
from rephase.refinement.maps import map_coefficients
from rephase.refinement.model import Flack, Model, Statistics, Uncertainties
from rephase.refinement.model_files import write_model
from rephase.refinement.refine import RefinementOptions, refine
from rephase.refinement.shelx_file import instruction_text
from rephase.refinement.sites import Sites, multiplicity
from rephase.refinement.twins import Twin
from rephase.solvers.solution import MODEL_RESULTS, Solution

CELL = Cell(7.1, 9.2, 11.3, 90, 101.5, 90, su=(0.0006, 0.0011, 0.0012, 0, 0.004, 0))
STATISTICS = Statistics(0.0321, 0.0411, 0.0876, 1.043, 900, 1000, 46, 0, 0.31, -0.28, 0.05, 0.001, 1.051)


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


def test_a_twin_is_a_remark_among_the_instructions():
    law = np.array([[-1, -1, 0], [0, 1, 0], [0, 0, -1]])
    twin = Twin(law, Share(0.287, 0.01, 0.1, 0.2))
    lines = instruction_text(model_of(molecule()), twin=twin)
    assert {"REM TWIN -1 -1 0 0 1 0 0 0 -1 2", "REM BASF 0.29"} < set(lines)
    assert not any("TWIN" in line for line in instruction_text(model_of(molecule())))


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
        "_refine_ls_wR_factor_gt": f"{model.wr2_observed:.4f}",
        "_audit_creation_method": f"'rephase {rephase.__version__}'",
        "_refine_ls_extinction_method": "none",
    }
    assert {tag: block.find_value(tag) for tag in expected} == expected
    operations = block.find("_space_group_symop_", ["id", "operation_xyz"])
    assert [(row[0], row.str(1)) for row in operations] == [
        (str(number), triplet) for number, triplet in enumerate(model.symmetry.triplets, start=1)
    ]
    atoms = block.find("_atom_site_", ["label", "fract_x", "U_iso_or_equiv", "adp_type", "calc_flag"])
    assert [list(row) for row in atoms][0::3] == [
        ["C1", "0.2000(3)", "0.0300(7)", "Uiso", "d"],
        ["H1A", "0.10000", "0.045", "Uiso", "calc"],
    ]
    assert list(block.find_values("_atom_site_aniso_U_11")) == ["0.0210(9)"]


def alcohol() -> Sites:
    """Methanol in P 21/c that donates to nitrogen, 2.8 Å away along a at 1 - x, y - 1/2, 3/2 - z."""
    oxygen, to_fractions = np.array([0.45, 0.05, 0.24]), np.linalg.inv(CELL.orthogonalisation).T
    steps = np.array([[0, 0, 0], [0.84, 0, 0], [-0.48, 1.33, 0], [2.8, 0, 0]])
    places = oxygen + steps @ to_fractions
    places[3] = [1, 0.5, 1.5] + places[3] * (-1, 1, -1)
    sites = Sites.isotropic(["O1", "H1", "C1", "N1"], ["O", "H", "C", "N"], places, np.full(4, 0.03), CELL)
    return replace(sites, parent=np.array([-1, 0, -1, -1]), afix=np.array([0, 147, 0, 0]))


def test_geometry_in_the_cif(tmp_path):
    model = model_of(alcohol())
    write_model_cif(tmp_path / "a.cif", model)
    block = block_of(tmp_path / "a.cif")
    bonds = block.find("_geom_bond_", ["atom_site_label_1", "atom_site_label_2", "distance", "site_symmetry_2"])
    assert [list(row) for row in bonds] == [["O1", "H1", "0.8400", "."], ["O1", "C1", "1.414(4)", "."]]
    angles = block.find("_geom_angle", ["_atom_site_label_2", "", "_site_symmetry_3"])
    assert [list(row) for row in angles] == [["O1", "109.8", "."]]
    ends = ["atom_site_label_D", "atom_site_label_A", "site_symmetry_A"]
    hydrogen_bonds = block.find("_geom_hbond_", [*ends, "distance_HA", "distance_DA", "angle_DHA"])
    assert [list(row) for row in hydrogen_bonds] == [["O1", "N1", "'2_646'", "1.96", "2.800(3)", "180.0"]]


@pytest.mark.parametrize(("wavelength", "full", "share"), [(0.71073, "23.255", "1.000"), (0.5, "17.458", "0.500")])
def test_completeness_to_the_full_angle(tmp_path, wavelength, full, share):
    """Data to 0.9 Å are full to their own limit; data to 0.7 Å to sin θ/λ = 0.6, as the journals require."""
    model = model_of(molecule(), wavelength=wavelength)
    if wavelength == 0.5:
        hkl = unique_hkl(CELL, model.symmetry, 0.7)
        kept = np.flatnonzero(CELL.d_spacing(hkl) >= 1 / 1.2)
        kept = np.r_[kept[: len(kept) // 2], np.flatnonzero(CELL.d_spacing(hkl) < 1 / 1.2)]
        ones = np.ones(len(kept))
        model = with_data(model, hkl=hkl[kept], intensity=ones, sigma=ones)
        model = replace(model, intensity_calc=ones)
    write_model_cif(tmp_path / "a.cif", model)
    block = block_of(tmp_path / "a.cif")
    assert block.find_value("_diffrn_reflns_theta_full") == full
    assert float(block.find_value("_diffrn_measured_fraction_theta_full")) == pytest.approx(float(share), abs=2e-3)


def test_angles_of_an_impossible_wavelength_are_unknown(tmp_path):
    write_model_cif(tmp_path / "a.cif", model_of(molecule(), wavelength=2.5))
    block = block_of(tmp_path / "a.cif")
    asked = [block.find_value(f"_diffrn_reflns_theta_{name}") for name in ("min", "max", "full")]
    d_max = CELL.d_spacing(unique_hkl(CELL, find_symmetry("P 21/c"), 0.9)).max()
    assert asked == [f"{np.degrees(np.arcsin(2.5 / 2 / d_max)):.3f}", "?", "?"]


@pytest.mark.parametrize(("wavelength", "real", "source"), [(0.71073, "0.0031", True), (None, ".", False)])
def test_only_an_applied_dispersion_has_a_source(tmp_path, wavelength, real, source):
    write_model_cif(tmp_path / "a.cif", model_of(molecule(), wavelength=wavelength))
    rows = block_of(tmp_path / "a.cif").find("_atom_type_", ["symbol", "scat_dispersion_real", "scat_source"])
    assert [row[1] for row in rows if row[0] == "C"] == [real]
    assert all(("Cromer" in row[2]) == source for row in rows)


def test_the_cif_names_what_to_cite_and_lists_torsions(tmp_path):
    write_model_cif(tmp_path / "a.cif", model_of(chain()))
    block = block_of(tmp_path / "a.cif")
    assert "10.1107/S2053229614024218" in gemmi.cif.as_string(block.find_value("_publ_section_references"))
    rows = block.find("_geom_torsion_", ["atom_site_label_1", "atom_site_label_4", "site_symmetry_4"])
    assert [list(row) for row in rows] == [["C1", "C4", "."]]
    assert gemmi.cif.as_string(block.find_values("_geom_torsion")[0]).startswith("60.0(")


def chain() -> Sites:
    """Four carbon atoms in the gauche form."""
    turn = np.radians(60)
    xyz = np.array([[0, 1.5, 0], [0, 0, 0], [1.5, 0, 0], [1.5, 1.5 * np.cos(turn), 1.5 * np.sin(turn)]])
    frac = 0.3 + xyz @ np.linalg.inv(CELL.orthogonalisation).T
    return Sites.isotropic(["C1", "C2", "C3", "C4"], "CCCC", frac, np.full(4, 0.03), CELL)


def test_what_only_the_user_knows_is_asked_for(tmp_path):
    write_model_cif(tmp_path / "a.cif", model_of(molecule()))
    block = block_of(tmp_path / "a.cif")
    for tag in ("_exptl_crystal_colour", "_exptl_crystal_size_max", "_diffrn_ambient_temperature", "_diffrn_source"):
        assert block.find_value(tag) == "?"
    assert block.find_value("_chemical_absolute_configuration") is None


def with_data(model: Model, **changes) -> Model:
    return replace(model, data=replace(model.data, **changes))


def test_a_temperature_that_was_stated_is_passed_on(tmp_path):
    model = with_data(model_of(molecule()), temperature=150.0)
    write_model(tmp_path, "a", model, map_coefficients(model))
    block = block_of(tmp_path / "a.cif")
    tags = "_cell_measurement_temperature", "_diffrn_ambient_temperature"
    assert [block.find_value(tag) for tag in tags] == ["150", "150"]
    assert "TEMP -123.15" in instruction_text(model)
    assert [read_reflections(tmp_path / f"a{suffix}").temperature for suffix in (".hkl", ".cif")] == [
        pytest.approx(150)
    ] * 2
    assert not lines_with(model_of(molecule()), "TEMP")


@pytest.mark.parametrize(
    ("card", "kelvin"), [("TEMP -173", 100.15), ("TEMP", None), ("TEMP cold", None), ("REM", None)]
)
def test_temperatures_of_instructions(card, kelvin):
    text = f"CELL 0.71073 7.1 9.2 11.3 90 101.5 90\n{card}\nHKLF 4\n"
    assert read_instructions(text, name="a").temperature == (kelvin and pytest.approx(kelvin))


def test_neutrons_of_instructions():
    head = "CELL 0.71073 7.1 9.2 11.3 90 101.5 90\n"
    assert read_instructions(f"{head}NEUT\nHKLF 4\n", name="a").radiation == "neutron"
    assert read_instructions(f"{head}HKLF 4\n", name="a").radiation == ""


@pytest.mark.parametrize(("radiation", "kind", "mu"), [("", r"'Mo K\a'", "0.032"), ("neutron", None, "?")])
def test_absorption_and_radiation_in_the_cif(tmp_path, radiation, kind, mu):
    """C8 H12 O4 in 723 Å^3 at Mo Kα (ITC C, 4.2.4.3): (96 * 0.576 + 12 * 0.373 + 64 * 1.22) / 723 / 6.02 = 0.032."""
    write_model_cif(tmp_path / "a.cif", with_data(model_of(molecule()), radiation=radiation))
    tags = "_diffrn_radiation_probe", "_diffrn_radiation_type", "_exptl_absorpt_coefficient_mu"
    block = block_of(tmp_path / "a.cif")
    assert [block.find_value(tag) for tag in tags] == [radiation or "x-ray", kind, mu]


def test_unit_weights_are_said_in_every_file(tmp_path):
    model = with_data(replace(model_of(molecule()), weighting=(0.0, 0.0)), has_sigma=False)
    write_model_cif(tmp_path / "a.cif", model)
    block = block_of(tmp_path / "a.cif")
    assert block.find_value("_refine_ls_weighting_scheme") == "unit"
    assert block.find_value("_refine_ls_weighting_details") == "'w=1, because no standard uncertainties were measured'"
    assert any("no sigma was measured" in line and "unit weights" in line for line in instruction_text(model))
    assert not lines_with(model_of(molecule()), "REM no sigma")
    assert block.find_value("_chemical_formula_moiety") == "'C2 H3 O'"


def test_the_reflection_file_has_the_weights_of_data_without_sigma(tmp_path):
    """WGHT 0 0 with the σ of the file gives the wR2 that was stated, though equivalents were measured unequally often.

    wR2 = (Σ w (Fo² - Fc²)² / Σ w Fo⁴)^½; the merging of SHELXL takes the mean with w = 1/σ².
    """
    model = with_data(replace(model_of(molecule()), weighting=(0.0, 0.0)), has_sigma=False)
    data, calculated = model.data, model.intensity_calc
    wr2 = np.sqrt(((data.intensity - calculated) ** 2).sum() / (data.intensity**2).sum())
    again = np.r_[np.arange(len(data)), np.arange(0, len(data), 3)]
    measured = replace(data, is_merged=False).take(again)
    write_model(tmp_path, "a", model, map_coefficients(model), measured=measured)
    read = read_reflections(tmp_path / "a.hkl")
    merged = read.merge().reflections
    weight = merged.sigma**-2.0
    row = rows_of(merged.hkl, data.hkl)
    scale = float((read.intensity.max() / data.intensity.max()).round(6))
    off = merged.intensity - scale * calculated[row]
    assert np.sqrt((weight * off**2).sum() / (weight * merged.intensity**2).sum()) == pytest.approx(wr2, rel=1e-3)
    assert lines_with(model, "WGHT") == ["WGHT 0.000000 0.000000"]


def test_absolute_structure_in_the_cif(tmp_path):
    write_model_cif(tmp_path / "a.cif", model_of(molecule(), "P 21", flack=Flack(0.013, 0.021, 312)))
    block = block_of(tmp_path / "a.cif")
    assert block.find_value("_refine_ls_abs_structure_Flack") == "0.01(2)"
    assert "312 quotients" in block.find_value("_refine_ls_abs_structure_details")


def test_hydrogen_bonds_in_the_instructions():
    lines = instruction_text(model_of(alcohol()))
    assert [line for line in lines if line.startswith(("HTAB", "EQIV"))] == [
        "HTAB",
        "EQIV $1 -x+1,y-1/2,-z+3/2",
        "HTAB O1 N1_$1",
    ]


def test_hydrogen_atoms_of_a_group_on_a_mirror_ride_along():
    """CH2 whose second hydrogen atom is an image: AFIX 23 needs both."""
    cell = Cell(7.0, 8.0, 9.0)
    length = np.array([7.0, 8.0, 9.0])
    chain = np.array([[1.0, 2.0, 4.0], [2.26, 2.0, 4.87], [3.52, 2.0, 4.0], [2.26, 2.79, 5.43]]) / length
    elements = ("C", "C", "C", "H")
    sites = replace(
        Sites.isotropic(("C1", "C2", "C3", "H2"), elements, chain, np.full(4, 0.02), cell),
        parent=np.array([-1, -1, -1, 1]),
        afix=np.array([0, 0, 0, 23]),
    )
    lines = instruction_text(model_of(sites, "P n m a", cell=cell))
    assert [line for line in lines if line.startswith("AFIX")] == ["AFIX 3", "AFIX 0"]


def test_hydrogen_at_an_atom_with_more_neighbours_rides_along():
    """A hydroxyl group at sodium has two neighbours: AFIX 147 needs one."""
    sites = alcohol()
    place = sites.xyz_frac[0] + np.linalg.inv(CELL.orthogonalisation) @ [0, 0, 2.3]
    sodium = Sites.isotropic(["NA1"], ["Na"], place[None], np.array([0.02]), CELL)
    assert "AFIX 147" in instruction_text(model_of(sites))
    assert "AFIX 3" in instruction_text(model_of(sites.joined(sodium)))


def test_maps_of_a_model_without_and_with_a_missing_atom():
    whole = model_of(molecule())
    exact = replace(whole, data=replace(whole.data, intensity=whole.intensity_calc))
    hkl, calculated, density, difference = map_coefficients(exact)
    assert np.abs(difference).max() < 1e-9
    np.testing.assert_allclose(density, calculated)
    np.testing.assert_array_equal(hkl, whole.symmetry.representative(hkl))
    part = structure_factors(molecule().take(np.arange(6) != 2), CELL, whole.symmetry, whole.data.hkl, 0.71073)
    lacking = replace(exact, F=part, intensity_calc=0.25 * np.abs(part) ** 2)
    peaks = find_peaks(
        density_of(hkl, map_coefficients(lacking).difference, CELL, whole.symmetry), CELL, whole.symmetry, 1
    )
    images = whole.symmetry.rotations @ molecule().xyz_frac[2] + whole.symmetry.translations
    assert distances(images - peaks.xyz_frac[0], CELL).min() < 0.1
    assert peaks.height[0] > 2


def test_friedel_mates_are_averaged_in_maps():
    one = model_of(molecule(), "P 21")
    hkl = np.concatenate([one.data.hkl, -one.data.hkl])
    F = structure_factors(one.sites, CELL, one.symmetry, hkl, 1.9)
    without = structure_factors(one.sites, CELL, one.symmetry, one.data.hkl)
    data = replace(one.data, hkl=hkl, intensity=np.abs(F) ** 2, sigma=np.ones(len(hkl)), is_merged=False)
    found = map_coefficients(replace(one, data=data, F=F, intensity_calc=np.abs(F) ** 2))
    assert len(found.hkl) == len(one.data)
    places = rows_of(one.symmetry.representative(one.data.hkl), found.hkl)
    phase = np.angle(found.calculated[places] / without)
    assert np.abs(phase[np.abs(without) > 5]).max() < 0.03


def test_model_files_are_read_again(tmp_path):
    model = model_of(molecule())
    write_model(tmp_path, "a", model, map_coefficients(model), r_int=0.03)
    crystals = [read_crystal(tmp_path / f"a{suffix}") for suffix in (".ins", ".cif")]
    for crystal in crystals:
        by_label = dict(zip(crystal.asymmetric_unit.labels, crystal.asymmetric_unit.xyz_frac))
        for label, xyz in zip(model.sites.labels, model.sites.xyz_frac):
            np.testing.assert_allclose(by_label[label], xyz, atol=6e-5)
        assert crystal.space_group == "P 1 21/c 1"
    for suffix in (".hkl", ".cif"):
        read = read_reflections(tmp_path / f"a{suffix}")
        scale = read.intensity.max() / model.data.intensity.max()
        np.testing.assert_allclose(read.intensity / scale, model.data.intensity, atol=0.02)
        assert read.cell.su == pytest.approx(CELL.su)
        assert read.wavelength == 0.71073


def lines_with(model: Model, *starts: str) -> list[str]:
    return [line for line in instruction_text(model) if line.startswith(starts)]


def test_special_positions_are_fixed_and_counted():
    cell = Cell(8.0, 8.0, 8.0)
    places = np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]])
    sites = Sites.isotropic(["NA1", "CL1", "K1"], ["Na", "Cl", "K"], places, np.full(3, 0.02), cell)
    model = model_of(sites, "F m -3 m", cell=cell)
    assert model.n_units == 4
    assert lines_with(model, "UNIT") == ["UNIT 4 8 4"]  # Cl, K, Na: International Tables, 4a, 8c, 4b
    assert lines_with(model, "NA1", "K1") == [
        "NA1  3 10.000000 10.000000 10.000000 10.02083 0.02000",  # 1/48 of the general position
        "K1   2 10.250000 10.250000 10.250000 10.04167 0.02000",
    ]


def test_an_atom_on_an_axis_keeps_its_free_coordinate():
    cell = Cell(8.0, 8.0, 9.0, 90, 90, 120)
    sites = Sites.isotropic(["N1"], ["N"], np.array([[0.33333, 0.66667, 0.21]]), np.array([0.02]), cell)
    assert lines_with(model_of(sites, "P 3", cell=cell), "N1") == [
        "N1   1 10.333333 10.666667 0.210000 10.33333 0.02000"
    ]


def test_a_disordered_pair_shares_a_free_variable():
    sites = replace(
        molecule(), occupancy=np.array([1, 0.7, 0.3, 1, 1, 1]), part=np.array([0, 1, 2, 0, 0, 0]), U=molecule().U
    )
    model = model_of(sites)
    refined = model.uncertainties._replace(occupancy=np.array([0, 0.01, 0.01, 0, 0, 0]))
    lines = instruction_text(replace(model, uncertainties=refined))
    assert "FVAR 0.500000 0.700000" in lines
    assert [line.split()[5] for line in lines if line.startswith(("C2", "O1"))] == ["21.00000", "-21.00000"]
    assert [line for line in lines if line.startswith("PART")] == ["PART 1", "PART 2", "PART 0"]
    assert [line.split()[5] for line in instruction_text(model) if line.startswith("C2")] == ["10.70000"]


def test_extinction_and_the_dispersion_of_an_unusual_wavelength():
    model = model_of(molecule(), wavelength=1.0, extinction=0.0123, extinction_su=0.0011)
    assert lines_with(model, "EXTI") == ["EXTI 0.012300"]
    assert [line.split()[:2] for line in lines_with(model, "DISP")] == [["DISP", "C"], ["DISP", "H"], ["DISP", "O"]]
    assert 0 < float(lines_with(model, "DISP")[2].split()[3]) < 0.05  # f'' of oxygen at 12.4 keV


def test_the_scale_follows_that_of_the_intensities_in_the_file():
    assert "FVAR 5.000000" in instruction_text(model_of(molecule()), hkl_scale=100.0)


def test_labels_are_short_and_distinct():
    assert short_labels(["C1", "H1A", "O1W1X", "C1", "END"], ["C", "H", "O", "C", "N"]) == [
        "C1",
        "H1A",
        "O1",
        "C2",
        "N1",
    ]
    many = numbered_labels(["C"] * 1001 + ["Cl"] * 101)
    assert many[998:1001] == ["C999", "CA00", "CA01"]
    assert len({label.upper() for label in many}) == len(many)
    assert max(map(len, many)) == 4


def test_the_uncertainty_of_the_volume():
    assert Cell(4.0, 4.0, 4.0, su=(0.01, 0.01, 0.01, 0, 0, 0)).volume_su == pytest.approx(3 * 16 * 0.01)
    assert Cell(4.0, 5.0, 6.0, su=(0.04, 0, 0, 0, 0, 0)).volume_su == pytest.approx(1.2)
    assert Cell(4.0, 5.0, 6.0, 90, 110, 90, su=(0, 0, 0, 0, 0.1, 0)).volume_su == pytest.approx(
        120 * abs(np.sin(np.radians(110.05)) - np.sin(np.radians(109.95))), rel=1e-4
    )
    assert Cell(4.0, 4.0, 4.0).volume_su == 0


@pytest.mark.parametrize("zerr", ["ZERR 4 0 0 0 0 0 0", "ZERR 4", "ZERR 4 a b c d e f", "REM"])
def test_unknown_uncertainties_of_the_cell(zerr):
    text = f"CELL 0.71073 7.1 9.2 11.3 90 101.5 90\n{zerr}\nLATT 1\nHKLF 4\n"
    assert read_instructions(text, name="a.ins").cell.su is None


def test_a_solution_with_a_model_writes_its_files(tmp_path):
    model = model_of(molecule())
    merged, n = model.data.merge().reflections, len(model.data)
    columns = np.abs(model.F), np.angle(model.F), np.ones(n)
    solution = Solution(merged, *columns, 0.1, np.inf, 5, 5, "solved", model=model, measured=merged)
    solution.write(tmp_path)
    written = {path.name for path in tmp_path.iterdir()}
    assert written >= {*MODEL_RESULTS, "solution.res", "solution.cif", "solution.hkl"}
    mtz = gemmi.read_mtz_file(str(tmp_path / "solution.mtz"))
    assert mtz.column_labels()[3:] == ["F", "PHI", "FOM", "FC", "PHIC", "FWT", "PHWT", "DELFWT", "PHDELWT"]
    np.testing.assert_allclose(read_density(tmp_path / "difference.ccp4").density.mean(), 0, atol=1e-4)
    n_grid = read_density(tmp_path / "difference.ccp4").density.shape
    of_mtz = np.array(mtz.transform_f_phi_to_map("DELFWT", "PHDELWT", exact_size=n_grid))
    np.testing.assert_allclose(of_mtz, read_density(tmp_path / "difference.ccp4").density, atol=2e-3)


def test_restraints_are_written_and_counted_in_s(tmp_path):
    free, held = model_of(molecule()), model_of(molecule())
    held = replace(held, statistics=STATISTICS._replace(n_restraints=12, goof=1.043, restrained_goof=1.031))
    assert not lines_with(free, "SIMU", "ISOR")
    assert lines_with(held, "SIMU", "ISOR") == ["SIMU 0.04 0.04 1.75", "ISOR 0.1 0.1"]
    write_model_cif(tmp_path / "held.cif", held)
    block = block_of(tmp_path / "held.cif")
    assert block.find_value("_refine_ls_restrained_S_all") == "1.031"
    assert "restrained to be similar" in block.find_value("_refine_special_details")


def test_the_first_peak_of_the_res_is_the_highest_of_the_statistics(tmp_path):
    whole = model_of(molecule())
    model = refine(
        whole.sites.take(np.arange(len(whole.sites)) > 0), whole.data, options=RefinementOptions(warns=False)
    )
    write_model(tmp_path, "a", model, map_coefficients(model))
    lines = (tmp_path / "a.res").read_text().splitlines()
    stated = next(line.split()[4].rstrip(",") for line in lines if line.startswith("REM Highest"))
    first = next(line.split()[-1] for line in lines if line.startswith("Q1 "))
    assert float(first) == pytest.approx(float(stated), abs=0.006)
