"""Hints on simulated faults: each fires on its own fault, and none on good data; the statistics have known values."""

from dataclasses import replace

import numpy as np
import pytest

from rephase.crystal.cell import Cell
from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.pseudo_translations import find_pseudo_translations
from rephase.crystal.reflections.statistics import unique_hkl
from rephase.crystal.reflections.twinning import l_test, law_test, twin_laws
from rephase.crystal.structure_factors import structure_factors
from rephase.crystal.structures import Atoms, Crystal
from rephase.crystal.symmetry import find_symmetry, rows_of
from rephase.refinement.absolute_structure import absolute_structure, flack_from_quotients, friedel_pairs
from rephase.refinement.agreement import half_wavelength_share, twin_fraction
from rephase.refinement.bond_scale import bond_scale
from rephase.refinement.chemistry import check_chemistry
from rephase.refinement.model import Flack, Model, Statistics, Uncertainties
from rephase.refinement.sites import Sites
from rephase.refinement.voids import find_voids, void_mask
from rephase.solvers.claims import judged_by_model
from rephase.solvers.hints import hints_of
from rephase.solvers.solution import Solution
from rephase.solvers.space_groups import GroupFit

TETRAGONAL = Cell(11.0, 11.0, 14.0)
LAW = np.array([[0, 1, 0], [1, 0, 0], [0, 0, -1]])


def crystal_of(symbol, cell, elements, sites, u_iso=0.02):
    """A crystal of sites [n, 3] in general positions."""
    group = find_symmetry(symbol)
    xyz = ((np.einsum("oij,aj->aoi", group.rotations, sites) + group.translations) % 1.0).reshape(-1, 3)
    columns = []
    for names, positions in ((elements, sites), (np.repeat(elements, len(group.triplets)), xyz)):
        n = len(names)
        columns.append(Atoms(tuple(names), tuple(names), (0,) * n, positions, np.ones(n), np.full(n, u_iso)))
    return Crystal("simulated", cell, symbol, *columns)


def random_crystal(symbol="P 4", cell=TETRAGONAL, heavy="O", seed=1):
    """Carbon atoms and a few others, 18 Å^3 each, at random but far from each other, so that no voids are left."""
    group, rng = find_symmetry(symbol), np.random.default_rng(seed)
    n = round(cell.volume / 18 / len(group.triplets))
    sites, images = rng.random((1, 3)), np.zeros((0, 3))
    for _ in range(n - 1):
        latest = group.rotations @ sites[-1] + group.translations
        images, candidates = np.concatenate([images, latest]), rng.random((300, 3))
        own = np.einsum("oij,aj->aoi", group.rotations[1:], candidates) + group.translations[1:]
        near = distances(candidates, images, cell).min(1)
        apart = (candidates[:, None] - own + 0.5) % 1.0 - 0.5
        near = np.minimum(near, np.linalg.norm(apart @ cell.orthogonalisation.T, axis=-1).min(1, initial=np.inf))
        sites = np.concatenate([sites, candidates[[near.argmax()]]])
    elements = np.array(["C"] * (n - n // 6) + [heavy] * (n // 6))
    return crystal_of(symbol, cell, elements, sites)


def distances(one, other, cell):
    """Shortest distances [n, m] in Å between positions of an orthogonal lattice."""
    apart = (one[:, None] - other + 0.5) % 1.0 - 0.5
    return np.linalg.norm(apart @ cell.orthogonalisation.T, axis=-1)


def model_of(crystal, intensity=None, *, d_min=0.9, noise=0.02, hkl=None, wavelength=None, energy_kev=None):
    """The right model of a crystal, and data that are its own intensities with 2 % of noise, or the given ones."""
    group = find_symmetry(crystal.space_group)
    hkl = unique_hkl(crystal.cell, group, d_min) if hkl is None else hkl
    F = structure_factors(crystal, hkl, energy_kev=energy_kev)
    calculated = np.abs(F) ** 2
    intensity = calculated if intensity is None else intensity
    sigma = noise * intensity + 1e-4 * intensity.mean()
    measured = intensity + sigma * np.random.default_rng(0).normal(size=len(hkl))
    data = Reflections(hkl, measured, sigma, crystal.cell, group, is_merged=wavelength is None)
    asymmetric = crystal.asymmetric_unit
    sites = Sites.isotropic(asymmetric.labels, asymmetric.elements, asymmetric.xyz_frac, asymmetric.u_iso, crystal.cell)
    zeros = Uncertainties(*(np.zeros_like(values) for values in (sites.xyz_frac, sites.U, sites.part, sites.part)))
    statistics = Statistics(0.03, 0.03, 0.08, 1.0, len(hkl), len(hkl), 100, 0, 0.1, -0.1, 0.05, 0.0, 1.0)
    return Model(sites, zeros, data, F, calculated, 1.0, 0.0, 0.0, (0.05, 0.0), statistics, wavelength)


def solution_of(data, model=None, measured=None, **more):
    zeros = np.zeros(len(data))
    pseudo = find_pseudo_translations(data)
    more |= {"pseudo_translations": pseudo, "model": model, "measured": measured}
    return Solution(data, zeros, zeros, zeros, 0.1, 1.0, 5, 10, "solved", **more)


def hints_by_name(data, model=None, measured=None):
    return {hint.name: hint for hint in hints_of(solution_of(data, model, measured))}


def hints_with(model, intensity):
    """Hints of a model against other intensities than its own."""
    data = replace(model.data, intensity=intensity)
    return hints_by_name(data, replace(model, data=data))


def twinned(model, fraction, law=LAW):
    group, hkl = model.data.group, model.data.hkl
    other = rows_of(group.representative(hkl @ law.T), hkl)
    return (1 - fraction) * model.data.intensity + fraction * model.data.intensity[other]


def wilson_data(symbol, n_domains, seed=0):
    """Intensities by Wilson's statistics without a structure; a perfect twin is the mean of two."""
    group, rng = find_symmetry(symbol), np.random.default_rng(seed)
    hkl = unique_hkl(Cell(11.0, 12.0, 13.0), group, 0.8)
    degrees = 1 if group.is_centrosymmetric else 2
    intensity = rng.chisquare(degrees, (n_domains, len(hkl))).mean(0)
    return Reflections(hkl, intensity, np.full(len(hkl), 0.01), Cell(11.0, 12.0, 13.0), group, is_merged=True)


@pytest.fixture(scope="module")
def model():
    return model_of(random_crystal())


@pytest.mark.parametrize(
    ("symbol", "n_domains", "mean_l", "mean_l_squared", "mean_e_squared"),
    [
        ("P 1", 1, 1 / 2, 1 / 3, 0.736),
        ("P 1", 2, 3 / 8, 1 / 5, 0.541),
        ("P -1", 1, 2 / np.pi, 1 / 2, 0.968),
        ("P -1", 2, 1 / 2, 1 / 3, 0.736),
    ],
)
def test_l_test_has_the_values_of_padilla_and_yeates(symbol, n_domains, mean_l, mean_l_squared, mean_e_squared):
    found = l_test(wilson_data(symbol, n_domains))
    assert found.mean_l == pytest.approx(mean_l, abs=4 * found.su)
    assert found.mean_l_squared == pytest.approx(mean_l_squared, abs=0.02)
    assert found.mean_e_squared == pytest.approx(mean_e_squared, abs=0.03)
    assert found.su < 0.01
    expected = (found.single, found.twin)[n_domains - 1]
    assert expected == pytest.approx((mean_l, mean_l_squared, mean_e_squared), abs=1e-3)


def test_l_test_without_strong_reflections_says_nothing():
    data = wilson_data("P 1", 1)
    assert l_test(replace(data, sigma=np.full(len(data), 10.0))) is None


@pytest.mark.parametrize(
    ("symbol", "cell", "n_laws"),
    [
        ("P 4", TETRAGONAL, 1),
        ("P 4/m m m", TETRAGONAL, 0),
        ("P 3", Cell(9, 9, 12, 90, 90, 120), 3),
        ("R -3:H", Cell(9, 9, 30, 90, 90, 120), 1),
        ("P 1 21/c 1", Cell(8, 10, 12, 90, 90.2, 90), 1),
        ("P 1 21/c 1", Cell(8, 10, 12, 90, 97, 90), 0),
    ],
)
def test_twin_laws_of_lattices(symbol, cell, n_laws):
    group = find_symmetry(symbol)
    hkl = unique_hkl(cell, group, 1.2)
    data = Reflections(hkl, np.ones(len(hkl)), np.ones(len(hkl)), cell, group)
    laws = twin_laws(data)
    assert len(laws) == n_laws
    assert cell.d_spacing(hkl @ laws.transpose(0, 2, 1)) == pytest.approx(
        np.broadcast_to(data.d_hkl, (n_laws, len(hkl))), rel=0.01
    )


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.3])
def test_twin_fraction_of_the_h_test_and_of_the_model(model, fraction):
    data = replace(model.data, intensity=twinned(model, fraction))
    assert law_test(data, LAW).fraction == pytest.approx(fraction, abs=0.03)
    share = twin_fraction(replace(model, data=data), LAW)
    assert share.fraction == pytest.approx(fraction, abs=max(4 * share.su, 0.002))
    assert share.su < 0.01


def test_no_hint_on_good_data(model):
    assert hints_of(solution_of(model.data)) == ()
    assert hints_of(solution_of(model.data, model)) == ()


def test_twin_with_and_without_a_model(model):
    intensity = twinned(model, 0.3)
    with_model = hints_with(model, intensity)["twinning"]
    assert with_model.values["fraction"] == pytest.approx(0.3, abs=0.01)
    assert "BASF 0.30" in with_model.remedy
    without = hints_by_name(replace(model.data, intensity=intensity))
    assert list(without) == ["twinning"]
    assert without["twinning"].values["fraction"] == pytest.approx(0.3, abs=0.04)
    assert "<|L|>" in without["twinning"].text


def test_a_wrong_model_does_not_show_a_twin(model):
    """Amplitudes that are off by half: a fraction is significant, but explains little."""
    errors = np.exp(np.random.default_rng(0).normal(size=len(model.data)))
    wrong = replace(model, data=replace(model.data, intensity=errors * twinned(model, 0.4)))
    share = twin_fraction(wrong, LAW)
    assert share.fraction > 6 * share.su
    assert share.r1 > 0.3
    assert "twinning" not in hints_with(model, wrong.data.intensity)


def test_equal_intensities_mean_a_higher_laue_class(model):
    assert hints_by_name(replace(model.data, intensity=twinned(model, 0.5)))["higher_symmetry"].values["r"] < 0.01


def test_the_symmetry_of_a_better_group_is_no_twin(model):
    equal = replace(model, data=replace(model.data, intensity=twinned(model, 0.5)))
    assert {"twinning", "higher_symmetry"} <= set(hints_by_name(equal.data, equal))
    better = GroupFit(find_symmetry("P 4 2 2"), 0.01, 0.0, 0.95, 10.0)
    for known in (equal, None):
        found = {hint.name for hint in hints_of(solution_of(equal.data, known, better_group=better))}
        assert not {"twinning", "higher_symmetry"} & found


@pytest.mark.parametrize(("odd", "name"), [(0.0, "large_cell"), (0.05, "pseudo_translation")])
def test_weak_classes(model, odd, name):
    """Layers with odd l weakened or without any intensity: half the cell, nearly or fully."""
    is_odd, data = model.data.hkl[:, 2] % 2 == 1, model.data
    noise = data.sigma.mean() * np.random.default_rng(2).normal(size=len(data))
    intensity = np.where(is_odd, odd * data.intensity + noise * (odd == 0), data.intensity)
    sigma = np.where(is_odd, data.sigma.mean() if odd == 0 else data.sigma * odd, data.sigma)
    hint = hints_by_name(replace(data, intensity=intensity, sigma=sigma))[name]
    assert hint.values["relative_intensity"] == pytest.approx(odd, abs=0.03)
    assert "1/2" in hint.text


def test_weak_outer_shells(model):
    data = model.data
    sigma = np.where(data.d_hkl < 1.1, 2.0 * data.intensity.mean(), data.sigma)
    hint = hints_by_name(replace(data, sigma=sigma))["weak_limit"]
    assert hint.values["d_min_supported"] == pytest.approx(1.1, abs=0.03)
    assert "--d-min 1.1" in hint.remedy


def test_strong_data_that_end_early(model):
    assert "1.30 Å" in hints_by_name(model.data.cut(1.3))["coarse_limit"].text


def test_few_reflections(model):
    data = model.data
    d = np.sort(np.unique(data.d_hkl.round(6)))
    few, enough = (data.cut(next(limit for limit in d if len(data.cut(limit)) <= n)) for n in (90, 200))
    assert hints_by_name(few)["few_reflections"].values["n_reflections"] == len(few) < 100
    assert len(enough) > 100
    assert "few_reflections" not in hints_by_name(enough)


def test_missing_reflections(model):
    kept = np.random.default_rng(3).random(len(model.data)) < 0.7
    assert hints_by_name(model.data.take(kept))["gaps"].values["completeness"] == pytest.approx(0.7, abs=0.05)
    lowest = np.argsort(-model.data.d_hkl)[:30]
    hints = hints_by_name(model.data.take(np.setdiff1d(np.arange(len(model.data)), lowest)))
    assert list(hints) == ["low_angles"]
    assert hints["low_angles"].values["n_missing"] == 30


def test_intensities_that_rise_with_the_angle(model):
    rising = np.exp(20.0 / (2 * model.data.d_hkl**2))
    data = replace(model.data, intensity=model.data.intensity * rising, sigma=model.data.sigma * rising)
    assert "rise" in hints_by_name(data)["falloff"].text


def rings(scale, cell):
    """Two toluene-like molecules: rings of 1.384 Å with one bond of 1.52 Å, all times a scale."""
    angles = np.radians(60 * np.arange(6))
    ring = 1.384 * np.column_stack([np.cos(angles), np.sin(angles), np.zeros(6)])
    molecule = scale * np.concatenate([ring, [[1.384 + 1.520, 0, 0]]])
    return np.concatenate([molecule + 4.0, molecule[:, [2, 0, 1]] + 8.0]) @ np.linalg.inv(cell.orthogonalisation).T


@pytest.mark.parametrize("scale", [0.96, 0.97, 1.0, 1.025, 1.04])
def test_bond_lengths_find_the_error_of_a_wavelength(scale):
    cell = Cell(13.0, 13.0, 13.0)
    model = model_of(crystal_of("P 1", cell, np.array(["C"] * 14), rings(scale, cell)))
    assert bond_scale(model.sites, cell, model.symmetry).factor == pytest.approx(scale, abs=0.002)
    assert bond_scale(model.sites, cell, model.symmetry).n == 14
    assert ("bond_lengths" in hints_by_name(model.data, model)) == (scale != 1.0)


def test_voids_around_one_atom():
    """All but a van der Waals sphere of carbon (1.7 Å) is empty."""
    sites = Sites.isotropic(["C1"], ["C"], np.full((1, 3), 0.5), np.array([0.03]), Cell(10.0, 10.0, 10.0))
    grid = np.indices((30, 30, 30)).reshape(3, -1).T / 30
    mask = void_mask(sites, Cell(10.0, 10.0, 10.0), find_symmetry("P 1"), grid)
    assert 1000 * mask.mean() == pytest.approx(1000 - 4 / 3 * np.pi * 1.7**3, rel=0.005)


def test_a_missing_molecule_leaves_its_electrons_in_a_void():
    """A row of atoms along the body of the cell, and oxygen in the space left: 2 x 8 electrons in the cell."""
    cell, rng = Cell(9.0, 10.0, 11.0), np.random.default_rng(0)
    framework = rng.random((24, 3)) * (0.5, 0.5, 0.5) * (2, 2, 0.55)
    sites = np.concatenate([framework, [[0.5, 0.5, 0.5 - 0.12]]])
    whole = crystal_of("P -1", cell, np.array(["C"] * 24 + ["O"]), sites)
    part = crystal_of("P -1", cell, np.array(["C"] * 24), framework)
    intensity = np.abs(structure_factors(whole, unique_hkl(cell, find_symmetry("P -1"), 0.9))) ** 2
    model = model_of(part, intensity)
    found = find_voids(model)
    assert 5 < found.electrons < 20
    assert "solvent" in hints_by_name(model.data, model)["voids"].remedy
    assert find_voids(model_of(part)).electrons == pytest.approx(0, abs=1)


def test_too_few_atoms(model):
    few = replace(model, sites=model.sites.take(np.arange(8)))
    assert hints_by_name(model.data, few)["volume_per_atom"].values["volume"] == pytest.approx(11 * 11 * 14 / 32)


def test_a_metal_of_its_formula_has_no_atoms_missing():
    corners = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    model = model_of(crystal_of("P 1", Cell(6.085, 6.085, 6.085), np.array(["Sr"] * 4), corners))
    unknown = hints_by_name(model.data, model)
    assert unknown["volume_per_atom"].values["volume"] == pytest.approx(6.085**3 / 4)
    assert "tell Sr from" in unknown["guessed_elements"].text
    assert not {"volume_per_atom", "guessed_elements"} & set(
        hints_by_name(model.data, replace(model, stated_formula="Sr"))
    )


def test_a_formula_that_does_not_fit(model):
    contents = model.contents()
    z = model.n_units
    right = " ".join(f"{element}{n / z:g}" for element, n in contents.items())
    assert "formula" not in hints_by_name(model.data, replace(model, stated_formula=right))
    found = hints_by_name(model.data, replace(model, stated_formula=right.replace("O", "S")))["formula"]
    assert found.values["difference"] == pytest.approx(2 * contents["O"] / (contents["C"] + contents["O"]))
    assert f"Z = {z}" in found.text
    assert "g/cm³" in found.text
    assert "--formula none" in found.remedy


def test_one_atom_more_than_the_formula_has_is_said(model):
    z, contents = model.n_units, model.contents()
    fewer = " ".join(f"{element}{n / z - (element == 'C'):g}" for element, n in contents.items())
    found = hints_by_name(model.data, replace(model, stated_formula=fewer))["formula"]
    assert found.values["difference"] < 0.1
    assert found.values["extra"] == pytest.approx(1)
    assert "1 more non-hydrogen atom(s) for each formula unit" in found.text


def test_odd_chemistry_is_a_hint(model):
    odd = check_chemistry(model.sites, model.cell, model.symmetry)  # atoms at random
    assert odd.remarks
    solution = solution_of(model.data, model, chemistry=odd)
    assert odd.remarks[0] in {hint.name: hint for hint in hints_of(solution)}["chemistry"].text
    assert "chemistry" in solution.summary()["hints"].split(", ")
    assert judged_by_model("possible", model, odd, d_min=0.9, is_open=False) == "possible"
    sensible = odd._replace(sensible=1.0)
    assert judged_by_model("possible", model, sensible, d_min=0.9, is_open=False) == "solved"


@pytest.mark.parametrize(("r1", "expected"), [(0.12, "solved"), (0.19, "possible")])
def test_a_model_that_does_not_fit_lowers_a_claim(model, r1, expected):
    sensible = check_chemistry(model.sites, model.cell, model.symmetry)._replace(sensible=1.0)
    poor = replace(model, statistics=model.statistics._replace(r1=r1))
    assert judged_by_model("solved", poor, sensible, d_min=0.9, is_open=False) == expected


@pytest.mark.parametrize(
    ("d_min", "share", "expected"), [(1.5, 0.7, "possible"), (1.5, 0.85, "solved"), (1.0, 0.7, "solved")]
)
def test_odd_chemistry_lowers_a_claim_from_coarse_data(model, d_min, share, expected):
    odd = check_chemistry(model.sites, model.cell, model.symmetry)._replace(sensible=share)
    assert judged_by_model("solved", model, odd, d_min=d_min, is_open=False) == expected


@pytest.mark.parametrize(("d_min", "expected"), [(1.0, "unsure"), (1.5, "possible")])
def test_a_model_that_explains_nothing_is_not_possible(model, d_min, expected):
    sensible = check_chemistry(model.sites, model.cell, model.symmetry)._replace(sensible=1.0)
    hopeless = replace(model, statistics=model.statistics._replace(r1=0.45))
    assert judged_by_model("possible", hopeless, sensible, d_min=d_min, is_open=False) == expected


def test_hydrogen_that_a_formula_has_more_is_said(model):
    z, contents = model.n_units, model.contents()
    more = " ".join(f"{element}{n / z:g}" for element, n in {**contents, "H": 3.0 * z}.items())
    found = hints_by_name(model.data, replace(model, stated_formula=more))
    assert "formula" not in found
    assert found["missing_hydrogen"].values == {"n_missing": 3.0, "n_expected": 3.0}


def test_metals_without_a_formula_are_guesses(model):
    elements = ("Ca", *model.sites.elements[1:])
    found = hints_by_name(model.data, replace(model, sites=model.sites.relabelled(elements)))
    assert "tell Ca from" in found["guessed_elements"].text


def test_the_flack_parameter_of_a_twin_by_another_law_is_left_to_its_refinement(model):
    mixed = replace(model, flack=Flack(0.34, 0.04, 126))
    twin = replace(mixed, data=replace(model.data, intensity=twinned(model, 0.3)))
    assert "inversion twin" in hints_by_name(mixed.data, mixed)["hand"].remedy
    hint = hints_by_name(twin.data, twin)["hand"]
    assert "TWIN and BASF" not in hint.remedy
    assert "refinement of that twin" in hint.remedy


@pytest.mark.parametrize("x", [0.0, 0.3, 1.0])
def test_flack_parameter_of_mixed_intensities(x):
    rng = np.random.default_rng(5)
    calculated = rng.chisquare(2, (2000, 1)) * 100 * (1 + 0.05 * rng.normal(size=(2000, 2))) ** 2
    true = 7.0 * ((1 - x) * calculated + x * calculated[:, ::-1])
    sigma = 0.02 * true + 1.0
    found = flack_from_quotients(true + sigma * rng.normal(size=true.shape), sigma, calculated)
    assert found.x == pytest.approx(x, abs=4 * found.su)
    assert 0.002 < found.su < 0.02


def test_flack_parameter_needs_differences_and_pairs():
    same = np.full((50, 2), 100.0)
    assert flack_from_quotients(same, same / 50, same) is None
    assert flack_from_quotients(same[:5], same[:5] / 50, same[:5] + (1, 2)) is None


def test_friedel_pairs_by_hand():
    """In P 2 1 1 the operation keeps h and turns k, l; h 0 0 has no distinct mate by rotation except -h 0 0."""
    hkl = np.array([[1, 2, 3], [-1, 2, 3], [0, 1, 2], [2, 0, 0], [-2, 0, 0], [3, 1, 1]])
    pairs = friedel_pairs(hkl, find_symmetry("P 2 1 1"))
    assert sorted(map(sorted, pairs.tolist())) == [[0, 1], [3, 4]]


@pytest.mark.parametrize(
    ("heavy", "part", "said"), [("Br", 1.0, "inverted"), ("Br", 0.5, "Neither"), ("O", 0.0, "do not determine")]
)
def test_absolute_structure(heavy, part, said):
    cell = Cell(9.0, 10.0, 11.0)
    crystal = random_crystal("P 1", cell, heavy)
    unique = unique_hkl(cell, find_symmetry("P 1"), 1.0)
    hkl = np.concatenate([unique, -unique])
    own = np.abs(structure_factors(crystal, hkl, energy_kev=17.44)) ** 2
    mates = np.roll(own, len(unique))
    noise = 0.02 if heavy == "Br" else 0.2
    options = {"hkl": hkl, "wavelength": 0.7109, "energy_kev": 17.44, "noise": noise}
    model = model_of(crystal, (1 - part) * own + part * mates, **options)
    found = absolute_structure(model, model.data)
    assert found.n_pairs > 0.8 * len(unique)
    assert found.x == pytest.approx(part, abs=max(4 * found.su, 0.03))  # two tables of dispersion
    half = replace(model.data.take(np.arange(len(unique))), is_merged=True)
    assert said in hints_by_name(half, replace(model, flack=found))["hand"].text
    right = model_of(crystal, own, **options)
    right = replace(right, flack=absolute_structure(right, right.data))
    assert ("hand" in hints_by_name(half, right)) == (heavy == "O")


def test_absolute_structure_needs_dispersion(model):
    assert absolute_structure(model, model.data) is None


def test_reflections_that_fit_badly(model):
    intensity, calculated = model.data.intensity, model.intensity_calc
    order = np.argsort(-calculated)
    lost = intensity / (1 + calculated / calculated[order[20]])
    assert hints_with(model, lost)["strongest"].values["ratio"] < 0.6
    spoilt = intensity.copy()
    spoilt[order[50]] *= 3
    hints = hints_with(model, spoilt)
    assert list(hints) == ["misfits"]
    assert " ".join(map(str, model.data.hkl[order[50]])) in hints["misfits"].text


def test_strong_reflections_that_are_missing(model):
    """Scattered over all angles, so that the completeness at low angles does not show it."""
    kept = np.sort(np.argsort(-model.intensity_calc)[6:])
    data = model.data.take(kept)
    without = replace(model, data=data, F=model.F[kept], intensity_calc=model.intensity_calc[kept])
    hint = hints_by_name(data, without)["missing_strong"]
    assert hint.values == {"n": 6, "n_missing": 6}
    by_chance = np.sort(np.random.default_rng(0).permutation(len(model.data))[100:])
    data = model.data.take(by_chance)
    without = replace(model, data=data, F=model.F[by_chance], intensity_calc=model.intensity_calc[by_chance])
    assert hints_by_name(data, without) == {}


def test_weak_reflections_with_too_much_intensity(model):
    weakest = hints_with(model, model.data.intensity + 0.05 * model.data.intensity.mean())["weakest"]
    assert weakest.values["excess"] == pytest.approx(0.05, abs=0.01)


def test_half_wavelength(model):
    group, hkl = model.data.group, model.data.hkl
    rows = rows_of(group.representative(2 * hkl), hkl)
    added = model.data.intensity + np.where(rows >= 0, 0.01 * model.intensity_calc[rows], 0)
    assert hints_with(model, added)["half_wavelength"].values["share"] == pytest.approx(0.01, abs=0.003)
    assert half_wavelength_share(model).fraction == pytest.approx(0, abs=0.001)


def test_a_general_misfit_is_no_half_wavelength(model):
    """A background in all reflections, or one reflection alone that gains 4 % of the intensity of 2h."""
    background = 0.03 * model.data.intensity.mean()
    assert "half_wavelength" not in hints_with(model, model.data.intensity + background)
    group, hkl = model.data.group, model.data.hkl
    rows = rows_of(group.representative(2 * hkl), hkl)
    gain = np.where(rows >= 0, model.intensity_calc[rows], 0)
    single = model.data.intensity.copy()
    row = np.argmax(gain / np.hypot(model.data.sigma, 0.05 * model.intensity_calc))
    single[row] += 0.04 * gain[row]
    assert "half_wavelength" not in hints_with(model, single)
