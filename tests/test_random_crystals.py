"""Random crystals: their groups, bonds, contacts and densities, and structure factors against the single kernel."""

import gemmi
import numpy as np
import pytest
import torch

from rephase.crystal.structure_factors import structure_factors
from rephase.crystal.structures import read_crystal
from rephase.crystal.symmetry import find_symmetry
from rephase.errors import ConfigError, GridError, SymmetryError
from rephase.labs.solving.figures import random_crystals as draw
from rephase.labs.solving.structure_statistics import compare_structures, intensities, nearest_contacts, volume_per_atom
from rephase.random_crystals.contacts import CONTACT_SLACK, others, surroundings
from rephase.random_crystals.crystals import ELEMENTS, SPACE_GROUPS, RandomCrystalOptions, random_crystals
from rephase.random_crystals.fragments import POLAR_HYDROGEN_RADIUS, VDW_RADII, fragment_library
from rephase.random_crystals.growth import _best_trial
from rephase.random_crystals.structure_factors import many_structure_factors, unique_reflections

SMALL = RandomCrystalOptions(n_atoms=(5, 18))
# shortest and longest bonds of Allen et al. (1987), any order, and X-ray distances to hydrogen, Å
BONDS = {
    ("C", "C"): (1.28, 1.62),
    ("C", "N"): (1.12, 1.52),
    ("C", "O"): (1.18, 1.48),
    ("C", "F"): (1.30, 1.42),
    ("C", "S"): (1.60, 1.87),
    ("C", "Cl"): (1.69, 1.83),
    ("Br", "C"): (1.84, 1.98),
    ("N", "O"): (1.19, 1.42),
    ("C", "H"): (0.90, 1.02),
    ("H", "N"): (0.82, 0.95),
    ("H", "O"): (0.78, 0.92),
    ("H", "S"): (1.15, 1.38),
}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def made():
    """A few crystals of every group."""
    return random_crystals(66, generator=seeded(), options=SMALL)


@pytest.fixture(scope="module")
def every_group():
    one_each = [
        random_crystals(1, generator=seeded(3), options=RandomCrystalOptions(space_groups=(symbol,), n_atoms=(5, 9)))
        for symbol in SPACE_GROUPS
    ]
    return dict(zip(SPACE_GROUPS, one_each))


def test_every_group_comes_out_and_its_structure_factors_obey_it(every_group):
    for symbol, crystals in every_group.items():
        group = find_symmetry(symbol)
        crystal = crystals.crystal(0)
        assert find_symmetry(crystal.space_group).triplets == group.triplets
        hkl = np.stack(np.meshgrid(*[np.arange(-3, 4)] * 3, indexing="ij"), -1).reshape(-1, 3)
        F = many_structure_factors(crystals, torch.as_tensor(hkl)[None])[0].numpy()
        size = np.abs(F).max()
        assert np.abs(F[group.is_absent(hkl)]).max(initial=0) < 1e-4 * size
        images, shifts = group.equivalents(hkl)
        value = {tuple(h): f for h, f in zip(hkl.tolist(), F)}
        inside = (np.abs(images) <= 3).all(-1)
        found = np.array([value[tuple(h)] for h in images[inside].tolist()])
        assert np.abs(found - (F * np.exp(1j * shifts))[inside]).max() < 1e-4 * size, symbol
        # positions are general: no atom is on a symmetry element
        assert len(crystal.atoms) == len(group.triplets) * len(crystal.asymmetric_unit)


def test_agrees_with_the_kernel_for_one_crystal(made, every_group):
    for crystals in (made, *every_group.values()):
        lists = unique_reflections(crystals, 1.5)
        F = many_structure_factors(crystals, lists.hkl).numpy()
        for i in range(min(len(crystals), 12)):
            hkl = lists.hkl[i][lists.mask[i]].numpy()
            expected = structure_factors(crystals.crystal(i), hkl)
            assert np.abs(F[i][lists.mask[i]] - expected).max() < 1e-4 * np.abs(expected).max()


def test_lists_hold_every_laue_class_once(every_group):
    for symbol, crystals in every_group.items():
        group, cell = find_symmetry(symbol), crystals.crystal(0).cell
        hkl = unique_reflections(crystals, 1.6).hkl[0].numpy()
        box = np.stack(np.meshgrid(*(np.arange(-m, m + 1) for m in (20, 20, 20)), indexing="ij"), -1).reshape(-1, 3)
        box = box[(cell.d_spacing(box) >= 1.6) & box.any(1)]
        wanted = np.unique(group.representative(box[~group.is_absent(box)]), axis=0)
        found = group.representative(hkl)
        assert {tuple(h) for h in wanted.tolist()} <= {tuple(h) for h in found.tolist()}
        assert len(hkl) <= 1.35 * len(np.unique(found, axis=0))


def test_seeds_reproduce_and_differ():
    first, again, other = (random_crystals(6, generator=seeded(s), options=SMALL) for s in (1, 1, 2))
    assert torch.equal(first.xyz_frac, again.xyz_frac)
    assert torch.equal(first.numbers, again.numbers)
    assert not torch.equal(first.lattice, other.lattice)
    hkl = torch.tensor([[1, 0, 2], [0, 2, 0], [1, 1, 1], [2, 1, 1]]).expand(6, -1, -1)
    amplitudes = many_structure_factors(first, hkl).abs()
    assert torch.cdist(amplitudes, amplitudes).add(torch.eye(6) * 9).min() > 0.1


def test_bonds_are_those_of_real_molecules(made):
    for i in range(len(made)):
        unit, cell = made.crystal(i).asymmetric_unit, made.crystal(i).cell
        xyz = unit.xyz_frac @ cell.orthogonalisation.T
        distance = np.linalg.norm(xyz[:, None] - xyz, axis=-1) + 9 * np.eye(len(xyz))
        radius = np.array([gemmi.Element(e).covalent_r for e in unit.elements])
        for a, b in zip(*np.nonzero(np.triu(distance < radius[:, None] + radius + 0.25))):
            pair = tuple(sorted((unit.elements[a], unit.elements[b])))
            assert pair in BONDS, f"{pair} at {distance[a, b]:.2f} Å"
            assert BONDS[pair][0] <= distance[a, b] <= BONDS[pair][1], f"{pair} at {distance[a, b]:.3f} Å"
        is_hydrogen = np.array(unit.elements) == "H"
        assert (distance[is_hydrogen].min(1) < 1.4).all()


def test_no_short_contacts_over_all_images(made):
    difference = VDW_RADII[1] - POLAR_HYDROGEN_RADIUS  # each polar hydrogen may come this much closer
    shortest = [nearest_contacts(made.crystal(i)) for i in range(len(made))]
    assert min(contact.gap for contact in shortest) > -CONTACT_SLACK - 2 * difference - 1e-3
    assert min(contact.heavy for contact in shortest) > 2.5
    assert min(contact.hydrogen for contact in shortest) > 1.4


def test_volumes_sizes_and_displacements(made):
    volume = np.array([volume_per_atom(made.crystal(i)) for i in range(len(made))])
    assert volume.min() > 14
    assert volume.max() < 25
    assert 16.5 < np.median(volume) < 19.5
    heavy = made.numbers > 1
    assert heavy.sum(1).min() >= 5
    assert heavy.sum(1).max() <= 18
    assert made.u_iso[heavy].min() >= 0.01
    assert made.u_iso[heavy].max() <= 0.10
    assert made.u_iso[made.numbers == 1].max() <= 0.12 + 1e-6


def test_float64_and_chosen_elements():
    options = RandomCrystalOptions(space_groups=("P 1 21/n 1", "P b c a"), n_atoms=(6, 10), elements=("C", "O"))
    crystals = random_crystals(4, generator=seeded(5), options=options, dtype=torch.float64)
    assert crystals.lattice.dtype == torch.float64
    assert set(crystals.numbers.unique().tolist()) <= {0, 1, 6, 8}
    lists = unique_reflections(crystals, 1.5)
    F = many_structure_factors(crystals, lists.hkl)
    assert F.dtype == torch.complex128
    for i in range(4):
        expected = structure_factors(crystals.crystal(i), lists.hkl[i].numpy())
        assert np.abs(F[i].numpy() - expected)[lists.mask[i].numpy()].max() < 1e-7 * np.abs(expected).max()


@pytest.mark.parametrize("symbol", ["P 2 1 1", "P 1 1 21", "P 41", "R 3", "P 61", "P 21 3"])
def test_cells_of_every_system_are_kept_by_the_group(symbol):
    options = RandomCrystalOptions(space_groups=(symbol,), n_atoms=(8, 16))
    made = random_crystals(3, generator=seeded(4), options=options, dtype=torch.float64)
    for crystal in (made.crystal(i) for i in range(3)):
        assert find_symmetry(symbol).misfit(crystal.cell) is None
        assert 14 < volume_per_atom(crystal) < 24
        assert nearest_contacts(crystal).heavy > 2.5


def test_cells_keep_to_the_longest_axes_where_they_can():
    def share_inside(seed, **bounds):
        options = RandomCrystalOptions(space_groups=("P 1 21/c 1",), n_atoms=(5, 12), **bounds)
        axes = random_crystals(32, generator=seeded(seed), options=options).lattice.norm(dim=1)
        return (axes < 1.05 * torch.tensor([9.0, 11.0, 14.0])).all(1).float().mean()  # a settled cell may have grown

    assert share_inside(8, longest=(9.0, 11.0, 14.0)) > 0.9
    assert share_inside(8) < 0.85


def test_images_near_the_centre_are_those_of_all_images():
    symmetry, generator = find_symmetry("P 1 21/c 1"), seeded(2)
    lattice = torch.eye(3, dtype=torch.float64) * torch.tensor([7.0, 8.0, 9.0])
    rotations, translations = torch.as_tensor(symmetry.rotations).double(), torch.as_tensor(symmetry.translations)
    table = (lattice.expand(3, 3, 3), rotations.expand(3, -1, 3, 3), translations.expand(3, -1, 3))
    is_there, radius = torch.ones(3, len(rotations), dtype=torch.bool), torch.full((3,), 4.0, dtype=torch.float64)
    around = surroundings(*table, is_there, radius, torch.rand(3, 3, generator=generator, dtype=torch.float64))
    around = around.scaled(torch.tensor([1.0, 0.98, 1.1], dtype=torch.float64))
    xyz, rows = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64), torch.tensor([2, 0])
    reach = torch.tensor([6.0, 8.0], dtype=torch.float64)
    row, motion, point, images = around.near_centre(rows, xyz, reach)
    every = around.take(rows).images(xyz).unflatten(2, (-1, 4))
    assert torch.allclose(images, every[row, :, motion, point], atol=1e-12)
    assert len(row) == (every.norm(dim=1) < reach[:, None, None]).sum() > 20


def test_the_preferred_trial_that_fits_is_found():
    """Twenty sites with 16 trials of two atoms, the second of which may lie on an obstacle."""
    generator = seeded(1)
    preference = torch.rand(20, 16, generator=generator) - 0.2  # below 0: it does not fit in any case
    is_free = torch.rand(20, 16, generator=generator) < 0.1
    xyz = torch.zeros(20, 16, 2, 3)
    xyz[:, :, 1, 0] = 4.0 * is_free
    obstacle = others(torch.zeros(20, 3, 1), torch.ones(20, 1))
    found, best = _best_trial(preference, xyz, torch.ones(20, 16, 2), obstacle)
    allowed = torch.where(is_free, preference, -1)
    assert 0 < len(found) < 20
    assert found.tolist() == (allowed >= 0).any(1).nonzero()[:, 0].tolist()
    assert best.tolist() == allowed[found].argmax(1).tolist()


def test_a_seed_gives_the_same_crystals():
    first, second = (random_crystals(5, generator=seeded(7), options=SMALL) for _ in range(2))
    assert torch.equal(first.xyz_frac, second.xyz_frac)
    assert torch.equal(first.lattice, second.lattice)


def test_fragments_lose_their_hydrogen_along_the_axis():
    library = fragment_library(ELEMENTS)
    assert torch.allclose(library.lost[:, :2], torch.zeros(len(library.lost), 2, dtype=torch.float64), atol=1e-9)
    assert (library.lost[:, 2] < -0.8).all()
    assert (library.xyz[:, 0] == 0).all()
    assert (library.carriers[library.numbers == 1] >= 0).all()
    assert (library.carriers[library.numbers != 1] == -1).all()


def test_table_and_figure_compare_sets(cod_table, cod_file, made):
    real = [read_crystal(cod_file(f"{number}.cif")) for number in cod_table.index[:6]]
    tables = compare_structures({"random": [made.crystal(i) for i in range(6)], "real": real}, d_min=1.8)
    assert set(tables["crystals"]["source"]) == {"random", "real"}
    assert tables["crystals"]["volume_per_atom"].gt(5).all()
    assert len(draw(tables).axes) == 6


def test_normalised_amplitudes_follow_wilson(made):
    of_kind = {True: [], False: []}
    for i in range(30):
        measured = intensities(made.crystal(i), 1.2)
        for kind, values in of_kind.items():
            values.append(np.abs(measured.E[measured.is_centric == kind] ** 2 - 1))
    # Wilson (1949): 0.968 for centric, 0.736 for acentric reflections
    assert np.concatenate(of_kind[True]).mean() == pytest.approx(0.968, abs=0.12)
    assert np.concatenate(of_kind[False]).mean() == pytest.approx(0.736, abs=0.10)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_atoms": (10, 5)}, "n_atoms"),
        ({"n_atoms": (1, 5)}, "n_atoms"),
        ({"u_range": (0.1, 0.01)}, "u_range"),
        ({"elements": ("C", "Xx")}, "no fragment contains it"),
        ({"elements": ("N",)}, "need carbon"),
        ({"space_groups": ()}, "space_groups is empty"),
        ({"longest": (9.0, 0.0, 9.0)}, "longest"),
    ],
)
def test_bad_options_are_errors(wrong, message):
    with pytest.raises(ConfigError, match=message):
        RandomCrystalOptions(**wrong)


def test_bad_arguments_are_errors(made):
    with pytest.raises(SymmetryError):
        RandomCrystalOptions(space_groups=("P 21/q",))
    with pytest.raises(ConfigError, match="at least one"):
        random_crystals(0, generator=seeded())
    with pytest.raises(GridError, match="d_min"):
        unique_reflections(made, 0.0)
    with pytest.raises(GridError, match="a list per crystal"):
        many_structure_factors(made, torch.zeros(3, 3))
    with pytest.raises(GridError, match="limiting sphere"):
        many_structure_factors(made, torch.full((len(made), 1, 3), 60))
