"""`solve.html` and its parts: one file without fetches, hostile names, every part there; molecules, solids, tables."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from rephase.crystal.cell import Cell
from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.absences import absence_table
from rephase.crystal.reflections.simulation import simulate_reflections
from rephase.crystal.symmetry import find_symmetry
from rephase.labs.solving.findings import cell_contents
from rephase.labs.solving.laboratory import LABORATORY
from rephase.labs.solving.model_tables import r1_by_resolution
from rephase.labs.solving.molecule import molecule_in_hand, sites_to_draw
from rephase.labs.solving.packing import pack
from rephase.labs.solving.page import write_page
from rephase.labs.solving.pictures import write_figures
from rephase.labs.solving.record import record, saved_molecule
from rephase.labs.solving.solids import HALF, cylinders, ellipsoids, sphere
from rephase.random_crystals.crystals import RandomCrystalOptions, random_crystals
from rephase.refinement.bonds import find_bonds
from rephase.refinement.model import Model, Statistics, Uncertainties
from rephase.refinement.sites import Sites, isotropic_u
from rephase.runs import open_run
from rephase.solvers.hints.hint import Hint
from rephase.solvers.solution import KeptTrials, Solution

HOSTILE = "<script>alert(1)</script>\"'&"
CUBE = Cell(10, 10, 10)
STATISTICS = Statistics(0.0312, 0.0456, 0.081, 1.04, 900, 1000, 60, 0, 0.21, -0.19, 0.04, 0.001, 1.04)


@pytest.fixture(scope="module")
def measured():
    """Reflections of a random crystal, its merged list, and the true F of that list."""
    options = RandomCrystalOptions(space_groups=("P 1 21/c 1",), n_atoms=(6, 7))
    crystal = random_crystals(1, generator=torch.Generator().manual_seed(0), options=options).crystal(0)
    data, truth = simulate_reflections(crystal, 1.0, noise=0.02, n_each=2)
    merged = data.merge().reflections
    F = dict(zip(map(tuple, truth.hkl.tolist()), truth.F))
    atoms = crystal.asymmetric_unit
    sites = Sites.isotropic(atoms.labels, atoms.elements, atoms.xyz_frac, atoms.u_iso, crystal.cell)
    return data, merged, np.array([F[tuple(hkl)] for hkl in merged.hkl.tolist()]), sites


def model_of(measured, sites=None):
    _, merged, F, known = measured
    sites = sites or known
    n = len(sites)
    unrefined = Uncertainties(np.zeros((n, 3)), np.zeros((n, 6)), np.zeros(n), np.zeros(n))
    return Model(sites, unrefined, merged, F, np.abs(F) ** 2, 1.0, 0.0, 0.0, (0.05, 0.1), STATISTICS)


@pytest.fixture
def solution(measured):
    data, merged, F, _ = measured
    return Solution(
        reflections=merged,
        amplitude=np.abs(F),
        phi=np.angle(F),
        fom=np.ones(len(F)),
        r_factor=0.19,
        rival_r_factor=0.42,
        n_agree=2,
        n_trials=3,
        verdict="solved",
        trials=KeptTrials(np.array([0.19, 0.2, 0.42]), np.array([True, True, False])),
        model=model_of(measured),
        measured=data,
    )


class Reader(HTMLParser):
    """Collect the tags, links and text of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.fetched, self.links, self.words = [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        named = dict(attrs)
        self.links += [named["href"]] if tag == "a" else []
        self.fetched += [named[key] for key in ("src", "href", "srcset", "data") if key in named and tag != "a"]

    def handle_data(self, data):
        self.words.append(data)


def read(folder):
    return (folder / "solve.html").read_text(encoding="utf-8")


def test_the_page_is_one_file_with_every_part(solution, tmp_path):
    solution.write_files(tmp_path)
    write_figures(solution, tmp_path, command=["rephase", "solve", "a file.hkl"])
    page = read(tmp_path)
    found = Reader(page)
    assert all(address.startswith("data:") for address in found.fetched)
    assert "default-src 'none'" in page
    assert len(page) < 6e6
    titles = re.findall("<h2>(.*?)</h2>", page)
    assert titles == [
        *("Molecule", "Cell and contents", "Fit", "Agreement of the trials", "Measurement", "Systematic absences"),
        *("Hints", "Files", "Citation", "Repeat"),
    ]
    words = " ".join(found.words)
    assert "Solved: R1 = 3.12 % for 900 reflections" in words
    assert "rephase solve 'a file.hkl'" in words
    assert set(found.links) == {path.name for path in tmp_path.iterdir()} - {"solve.html"}
    assert found.tags.count("img") == 5


def test_names_are_text(solution, measured, tmp_path):
    hostile = replace(solution.model.sites, labels=(HOSTILE,) * len(solution.model.sites))
    solution = replace(
        solution,
        reflections=replace(solution.reflections, name=HOSTILE),
        model=model_of(measured, hostile),
    )
    write_page(solution, tmp_path, command=["rephase", "solve", HOSTILE])
    page = read(tmp_path)
    assert "alert(1)" in page
    assert "<script>alert" not in page
    assert Reader(page).tags.count("script") == 3  # the data of the molecule, plotly packed, and what draws
    assert page.count("sha256-") == 2  # what draws, and plotly unpacked


@pytest.mark.parametrize(
    ("without", "verdict"),
    [({"model": None}, "solved"), ({"trials": None}, "possible"), ({"model": None, "trials": None}, "unsure")],
)
def test_what_is_unknown_is_left_out(solution, tmp_path, without, verdict):
    write_page(replace(solution, verdict=verdict, **without), tmp_path)
    page = read(tmp_path)
    assert ("<h2>Fit</h2>" in page) == ("model" not in without)
    assert f'class="verdict {verdict}"' in page
    assert "<h2>Repeat</h2>" not in page


def test_r1_of_shells_by_hand():
    hkl = np.array([[h, 0, 0] for h in range(1, 31)])
    data = Reflections(hkl, np.full(30, 100.0), np.full(30, 1.0), CUBE, find_symmetry("P 1"), is_merged=True)
    calculated = np.where(np.arange(30) < 27, 81.0, 121.0)  # |F| 9 and 11 against 10
    model = Model(None, None, data, np.ones(30), calculated, 1.0, 0.0, 0.0, (0.0, 0.0), STATISTICS)
    shells = r1_by_resolution(model, n_shells=3)
    assert np.allclose(shells["r1"], 0.1)
    assert shells["n"].sum() == 30
    assert np.allclose(model.weighted_residuals, np.where(np.arange(30) < 27, 19.0, -21.0))


def test_residuals_are_in_units_of_their_uncertainty(measured):
    """Noise of one σ, 3 in the units of the file, on data of any scale: with weights 1/σ² it is 1."""
    _, merged, F, _ = measured
    calculated = 9.0 * np.abs(F) ** 2
    data = replace(merged, intensity=calculated + 3.0, sigma=np.full(len(F), 3.0))
    model = replace(model_of(measured), data=data, intensity_calc=calculated, scale=3.0, weighting=(0.0, 0.0))
    assert np.allclose(model.weighted_residuals, 1)
    strong = data.intensity > 2 * 3.0
    assert model.wr2_observed == pytest.approx(3 * np.sqrt(strong.sum() / (data.intensity[strong] ** 2).sum()))
    with_b = replace(model, weighting=(0.0, 0.5))  # b P, with P in squared electrons, raises σ² of 1/9
    P = np.abs(F) ** 2 + 1 / 9
    assert np.allclose(with_b.weighted_residuals, 1 / np.sqrt(1 + 4.5 * P))


def test_a_run_keeps_the_molecule_of_a_solution(solution, tmp_path):
    run = open_run(tmp_path / "run", "test")
    record(run, solution)
    sites, cell, symmetry = saved_molecule(run)
    assert (sites.labels, sites.elements) == (solution.model.sites.labels, solution.model.sites.elements)
    assert np.array_equal(sites.U, solution.model.sites.U)
    assert (cell, symmetry) == (solution.reflections.cell, solution.reflections.group)


@pytest.mark.parametrize("name", ["r1", "amplitudes", "residuals", "trials", "molecule", "density", "wilson"])
def test_figures_of_a_run_say_what_is_unknown(solution, tmp_path, name):
    draw, run = LABORATORY.figures[f"solution_{name}"], open_run(tmp_path / "run", "test")
    record(run, solution)
    known = draw(run)
    record(run, replace(solution, model=None, trials=None, measured=None))
    unknown = draw(run)
    assert known.axes
    assert bool(unknown.axes) == (name in ("molecule", "density", "wilson"))
    plt.close(known)
    plt.close(unknown)


def test_absences_of_a_screw_axis():
    hkl = np.stack(np.meshgrid(*[np.arange(-3, 4)] * 3), -1).reshape(-1, 3)
    hkl = hkl[hkl.any(1)]
    group = find_symmetry("P 1 21 1")
    intensity = np.where(group.is_absent(hkl), 0.5, 10.0)
    table = absence_table(Reflections(hkl, intensity, np.ones(len(hkl)), CUBE, group)).set_index("cause")
    assert table.loc["2₁ along b", ["n", "i_over_sigma", "is_required"]].tolist() == [4, 0.5, True]
    assert table.loc["c ⊥ b", ["n", "is_required"]].tolist() == [28, False]
    assert table.loc["2₁ along b", "relative"] == pytest.approx(0.05, rel=0.02)


def test_cell_contents_have_uncertainties(solution):
    cell = replace(solution.reflections.cell, su=(0.001, 0.002, 0.003, 0.0, 0.02, 0.0))
    a, _, _, _, beta, _ = cell.parameters
    values = cell_contents(replace(solution, reflections=replace(solution.reflections, cell=cell)))
    assert str(values["a, b, c (Å)"]).startswith(f"{a:.4f}(10), ")
    assert str(values["α, β, γ (°)"]) == f"90.000, {beta:.2f}(2), 90.000"


def test_without_a_model_the_page_names_peaks_as_the_res_does(solution, tmp_path):
    bare = replace(solution, model=None)
    assert "--formula" in str(bare.summary()["next_step"])
    known = replace(bare, formula="C6")
    assert "--formula" not in str(known.summary()["next_step"])
    known.write_files(tmp_path)
    assert "SFAC C" in (tmp_path / "solution.res").read_text()
    assert sites_to_draw(known).labels[0] == "C1"


def test_titles_of_hints_are_words():
    assert Hint("missing_strong", {}, "", "").title == "Missing strong reflections"
    assert Hint("large_cell", {}, "", "").title == "Large cell"


@pytest.mark.parametrize(
    ("symbol", "own", "others"),
    [
        ("P -1", set(), {"A", "B", "C", "I"}),
        ("P 1 21/n 1", {"n ⊥ b", "2₁ along b"}, {"A", "C", "I", "a ⊥ b", "c ⊥ b"}),
        ("P n a 21", {"n ⊥ a", "a ⊥ b", "2₁ along c"}, {"c ⊥ b", "n ⊥ c", "A", "C", "I"}),
        ("I 41/a", {"I", "a ⊥ c", "b ⊥ c", "4₁ along c"}, set()),
        ("P 31 2 1", {"3₁ along c"}, {"R obverse", "c ⊥ a"}),
    ],
)
def test_absences_that_the_crystal_class_allows(symbol, own, others):
    """Conditions of the group (International Tables A), though its absences were left out of the list, and others."""
    group = find_symmetry(symbol)
    hkl = np.stack(np.meshgrid(*[np.arange(-4, 5)] * 3), -1).reshape(-1, 3)
    hkl = hkl[hkl.any(1) & ~group.is_absent(hkl)]
    ones = np.ones(len(hkl))
    cell = Cell(10, 10, 10, gamma=120) if symbol == "P 31 2 1" else CUBE
    table = absence_table(Reflections(hkl, ones, ones, cell, group)).set_index("cause")
    assert set(table.index[table["is_required"]]) == own
    assert (table["n"][table["is_required"]] == 0).all()
    assert set(table.index[~table["is_required"]]) >= others
    if symbol in ("P -1", "P 1 21/n 1"):
        forbidden = {"b ⊥ a", "n ⊥ c", "2₁ along a", "3₁ along c", "4₁ along c", "R obverse"}
        assert not forbidden & set(table.index)


def test_a_molecule_on_an_inversion_centre_is_completed():
    sites = Sites.isotropic(["C1", "O1"], ["C", "O"], np.array([[0.07, 0, 0], [0.07, 0.12, 0]]), np.full(2, 0.03), CUBE)
    molecule, contents = pack(sites, CUBE, find_symmetry("P -1"))
    assert len(molecule) == len(contents) == 4
    assert molecule.is_own.sum() == 2
    assert len(molecule.bonds) == 3
    assert sorted(np.linalg.norm(np.diff(molecule.xyz[molecule.bonds], axis=1)[:, 0], axis=1).round(3)) == [
        1.2,
        1.2,
        1.4,
    ]


def test_atoms_on_both_sides_of_a_face_are_one_molecule():
    sites = Sites.isotropic(["C1", "O1"], ["C", "O"], np.array([[0.96, 0, 0], [0.08, 0, 0]]), np.full(2, 0.03), CUBE)
    molecule, _ = pack(sites, CUBE, find_symmetry("P 1"))
    assert np.linalg.norm(molecule.xyz[0] - molecule.xyz[1]) == pytest.approx(1.2)


def test_a_network_stays_in_its_cell():
    chain = Sites.isotropic(["C1", "C2"], ["C", "C"], np.array([[0.2, 0, 0], [0.7, 0, 0]]), np.full(2, 0.03), CUBE)
    molecule, contents = pack(chain, Cell(3, 10, 10), find_symmetry("P 1"))
    assert np.allclose(np.sort(contents.xyz[:, 0]), [0.6, 2.1])
    assert len(molecule) == 2
    outside = replace(chain, xyz_frac=chain.xyz_frac - [0.25, 0, 0])
    assert pack(outside, Cell(3, 10, 10), find_symmetry("P 1"))[0].xyz[:, 0].min() > 0


def test_a_minor_disorder_part_is_pale_thin_and_without_names():
    xyz = np.array([[0.2, 0.2, 0.2], [0.34, 0.2, 0.2], [0.2, 0.34, 0.2]])
    sites = Sites.isotropic(["C1", "O1", "O2"], "COO", xyz, np.full(3, 0.03), CUBE)
    sites = replace(sites, part=np.array([0, 1, 2]), occupancy=np.array([1, 0.8, 0.2]))
    traces = molecule_in_hand(sites, CUBE, find_symmetry("P 1"), np.zeros((8, 8, 8)))["data"]
    atoms = [trace.get("opacity", 1) for trace in traces if trace["name"] == "atoms"]
    assert (len(atoms), sum(opacity < 1 for opacity in atoms)) == (3, 1)
    assert [trace["text"] for trace in traces if trace["name"] == "names"] == [["C1", "O1"]]


def test_special_positions_count_once():
    salt = Sites.isotropic(["Na", "Cl"], ["Na", "Cl"], np.array([[0, 0, 0], [0.5, 0.5, 0.5]]), np.full(2, 0.01), CUBE)
    assert len(pack(salt, Cell(5.64, 5.64, 5.64), find_symmetry("F m -3 m"))[1]) == 8


def test_an_image_turns_its_ellipsoid():
    U = np.array([[0.01, 0.02, 0.03, 0, 0, 0.0]])
    sites = replace(Sites.isotropic(["C1"], ["C"], np.array([[0.1, 0.2, 0.3]]), np.ones(1), CUBE), U=U)
    contents = pack(sites, CUBE, find_symmetry("P 4"))[1]
    assert len(contents) == 4
    shapes = {tuple(np.diag(tensor).round(6)) for tensor in contents.U}
    assert shapes == {(0.01, 0.02, 0.03), (0.02, 0.01, 0.03)}


def test_drawn_bonds_are_those_that_the_files_list():
    elements = ["P", "Se", "C", "C", "H", "O"]  # P-Se is longer than the radii by 0.35 Å
    xyz = np.array([[0, 0, 0], [2.62, 0, 0], [0, 1.85, 0], [0, 1.9, 0.4], [1, 4, 1], [2, 4, 1.0]])
    sites = Sites.isotropic(elements, elements, xyz @ np.linalg.inv(CUBE.orthogonalisation).T, np.full(6, 0.03), CUBE)
    sites.part[2:4] = 1, 2
    listed = find_bonds(sites, CUBE, find_symmetry("P 1"))
    molecule, contents = pack(sites, CUBE, find_symmetry("P 1"))
    for packing in (molecule, contents):
        drawn = {frozenset(pair) for pair in packing.site[packing.bonds].tolist()}
        assert drawn == {frozenset(pair) for pair in zip(listed.first.tolist(), listed.second.tolist())}
        assert frozenset((0, 1)) in drawn


def test_an_atom_is_its_own_whatever_the_order_of_the_operations():
    inverted = replace(find_symmetry("P -1"), triplets=("-x,-y,-z", "x,y,z"))
    sites = Sites.isotropic(["C1", "O1"], ["C", "O"], np.array([[0, 0, 0], [0, 0.12, 0]]), np.full(2, 0.03), CUBE)
    molecule, _ = pack(sites, CUBE, inverted)
    assert np.allclose(molecule.xyz[molecule.is_own], sites.xyz_frac @ CUBE.orthogonalisation.T)


@pytest.mark.parametrize(("level", "n_vertices", "n_faces"), [(0, 12, 20), (1, 42, 80), (2, 162, 320)])
def test_a_sphere_is_round_and_closed(level, n_vertices, n_faces):
    ball = sphere(level)
    assert (len(ball.vertices), len(ball.faces)) == (n_vertices, n_faces)
    assert np.allclose(np.linalg.norm(ball.vertices, axis=1), 1)
    volume = np.linalg.det(ball.vertices[ball.faces]).sum() / 6  # positive: every normal points outwards
    assert volume == pytest.approx(4 / 3 * np.pi, rel={0: 0.4, 1: 0.13, 2: 0.04}[level])
    assert (np.linalg.det(ball.vertices[ball.faces]) > 0).all()


def test_an_ellipsoid_encloses_half_of_the_probability():
    U = np.diag([0.01, 0.04, 0.09])
    solid = ellipsoids(np.ones((1, 3)), U[None], None, level=2)
    inside = np.einsum("ni,ij,nj->n", solid.vertices - 1, np.linalg.inv(U), solid.vertices - 1)
    assert np.allclose(inside, HALF**2)
    moves = np.random.default_rng(0).normal(size=(20_000, 3))
    assert ((moves**2).sum(1) < HALF**2).mean() == pytest.approx(0.5, abs=0.01)


def test_a_cylinder_surrounds_its_bond():
    stick = cylinders(np.array([[[0, 0, 0], [0, 0, 2.0]]]), 0.1)
    assert np.allclose(np.linalg.norm(stick.vertices[:, :2], axis=1), 0.1)
    assert set(stick.vertices[:, 2].tolist()) == {0.0, 2.0}


def test_isotropic_atoms_are_balls():
    cell = Cell(7, 8, 9, 80, 95, 110)
    sites = Sites.isotropic(["C1"], ["C"], np.zeros((1, 3)), np.array([0.05]), cell)
    assert np.allclose(sites.U, isotropic_u(np.array([0.05]), cell))
    assert np.allclose(pack(sites, cell, find_symmetry("P 1"))[0].U, 0.05 * np.eye(3), atol=1e-9)
