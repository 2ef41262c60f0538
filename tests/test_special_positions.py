"""Random crystals with several molecules, and with molecules on special positions, against gemmi and by their bonds."""

import gemmi
import numpy as np
import pytest
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from rephase.crystal.structure_factors import structure_factors
from rephase.crystal.symmetry import find_symmetry
from rephase.errors import ConfigError
from rephase.labs.solving.structure_statistics import nearest_contacts, volume_per_atom
from rephase.random_crystals.contacts import CONTACT_SLACK
from rephase.random_crystals.cores import cores
from rephase.random_crystals.crystals import ELEMENTS, SPACE_GROUPS, RandomCrystalOptions, random_crystals
from rephase.random_crystals.fragments import POLAR_HYDROGEN_RADIUS, VDW_RADII
from rephase.random_crystals.sites import KINDS, sites_of
from rephase.random_crystals.structure_factors import many_structure_factors, unique_reflections

GROUPS = ("P -1", "P 1 21/c 1", "C 1 2/c 1", "P n m a", "P m m n", "P 21 21 2")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def make(n, groups, seed=0, *, dtype=torch.float32, **options):
    options = RandomCrystalOptions(groups, **{"n_atoms": (6, 14), **options})
    return random_crystals(n, generator=seeded(seed), options=options, dtype=dtype)


@pytest.fixture(scope="module")
def special():
    """Two crystals of each group, on special positions."""
    return {group: make(2, (group,), 3, on_special=1.0, dtype=torch.float64) for group in GROUPS}


@pytest.fixture(scope="module")
def several():
    return make(16, ("P -1", "P 1 21/c 1", "P 21 21 21"), 1, n_molecules=2)


@pytest.fixture(scope="module")
def both():
    return make(12, ("P -1", "C 1 2/c 1", "P 1 21/m 1"), 2, n_molecules=2, on_special=1.0)


def molecules_of(crystal):
    """Number of non-hydrogen atoms of each molecule of the cell, found from bonds across cell boundaries."""
    elements = [gemmi.Element(name) for name in crystal.atoms.elements]
    is_heavy = np.array(crystal.atoms.elements) != "H"
    radii = np.array([element.covalent_r for element in elements])
    xyz, lattice = crystal.atoms.xyz_frac, crystal.cell.orthogonalisation
    steps = np.indices((3, 3, 3)).reshape(3, -1).T - 1
    distance = np.linalg.norm((xyz[:, None, None] - xyz[None, :, None] - steps) @ lattice.T, axis=-1).min(-1)
    bonded = (distance < radii[:, None] + radii + 0.3) & (is_heavy[:, None] | is_heavy)
    number = connected_components(coo_matrix(bonded), directed=False)[1]
    return np.bincount(number, is_heavy).astype(int).tolist()


def all_made(special, several, both):
    yield from ((made, i) for made in (*special.values(), several, both) for i in range(len(made)))


def test_structure_factors_are_those_of_gemmi(special, both):
    """gemmi expands the atoms that crystals list once, and finds by itself which are on special positions."""
    for made in (*special.values(), both):
        lists = unique_reflections(made, 1.6)
        F = many_structure_factors(made, lists.hkl, energy_kev=None).numpy()
        for i in range(min(4, len(made))):
            crystal = made.crystal(i)
            structure = gemmi.SmallStructure()
            structure.cell = gemmi.UnitCell(*crystal.cell.parameters)
            structure.spacegroup = gemmi.SpaceGroup(crystal.space_group)
            unit = crystal.asymmetric_unit
            for element, xyz, u_iso in zip(unit.elements, unit.xyz_frac, unit.u_iso):
                site = gemmi.SmallStructure.Site()
                site.element, site.fract, site.u_iso = gemmi.Element(element), gemmi.Fractional(*xyz), u_iso
                site.occ = 1.0
                structure.add_site(site)
            structure.setup_cell_images()
            structure.change_occupancies_to_crystallographic()
            occupancy = [site.occ for site in structure.sites]
            assert np.allclose(occupancy, made.occupancy[i][made.numbers[i] > 0])
            calculator = gemmi.StructureFactorCalculatorX(structure.cell)
            hkl = lists.hkl[i][lists.mask[i]].numpy()
            expected = np.array([calculator.calculate_sf_from_small_structure(structure, h) for h in hkl.tolist()])
            assert np.abs(F[i][lists.mask[i]] - expected).max() < 0.02 * np.abs(expected).max()


def test_structure_factors_are_those_of_the_expanded_cell(special, several, both):
    for made in (*special.values(), several, both):
        lists = unique_reflections(made, 1.6)
        F = many_structure_factors(made, lists.hkl).numpy()
        for i in range(min(4, len(made))):
            crystal, hkl = made.crystal(i), lists.hkl[i][lists.mask[i]].numpy()
            expected = structure_factors(crystal, hkl)
            assert np.abs(F[i][lists.mask[i]] - expected).max() < 1e-4 * np.abs(expected).max()
            n_ops = len(find_symmetry(crystal.space_group).triplets)
            assert len(crystal.atoms) == round(n_ops * float(made.occupancy[i].sum()))


def test_a_special_crystal_has_fewer_molecules_than_operations(special):
    for group, made in special.items():
        for i in range(len(made)):
            sizes = molecules_of(made.crystal(i))
            assert len(sizes) == len(find_symmetry(group).triplets) / 2
            assert len(set(sizes)) == 1
            assert sizes[0] == round(2 * float(made.occupancy[i][made.numbers[i] > 1].sum()))


def test_some_atoms_are_on_the_symmetry_elements(special):
    occupancy = torch.cat([made.occupancy.flatten() for made in special.values()])
    assert set(occupancy.tolist()) == {0.0, 0.5, 1.0}
    assert (special["P -1"].occupancy == 1).any()


def test_several_molecules_are_independent(several, both):
    counts = []
    for i in range(len(several)):
        sizes = molecules_of(several.crystal(i))
        n_ops = len(find_symmetry(several.crystal(i).space_group).triplets)
        counts.append(len(sizes) / n_ops)
    assert set(counts) == {1.0, 2.0}
    per_operation = {
        len(molecules_of(both.crystal(i))) / len(find_symmetry(both.crystal(i).space_group).triplets)
        for i in range(len(both))
    }
    assert per_operation == {0.5, 1.5}


def test_no_atoms_are_close_after_expansion(special, several, both):
    polar = VDW_RADII[1] - POLAR_HYDROGEN_RADIUS  # each polar hydrogen may come this much closer
    for made, i in all_made(special, several, both):
        contact = nearest_contacts(made.crystal(i))
        assert contact.gap > -CONTACT_SLACK - 2 * polar - 1e-3
        assert not contact.heavy <= 2.5  # none: all are beyond 4 Å
        assert contact.hydrogen > 1.4


def test_bonds_are_kept(special, several, both):
    """Each bond is one of those of the fragments, or to a metal, or across an inversion centre."""
    heavy_bonds = {
        ("C", "C"): (1.28, 1.62),
        ("C", "N"): (1.12, 1.52),
        ("C", "O"): (1.18, 1.48),
        ("C", "S"): (1.6, 1.87),
    }
    for made, i in all_made(special, several, both):
        crystal = made.crystal(i)
        xyz = crystal.asymmetric_unit.xyz_frac
        steps = np.indices((3, 3, 3)).reshape(3, -1).T - 1
        apart = xyz[:, None, None] - crystal.atoms.xyz_frac[None, :, None] - steps - np.floor(xyz)[:, None, None]
        distance = np.linalg.norm(apart @ crystal.cell.orthogonalisation.T, axis=-1).min(-1)
        names = np.array(crystal.asymmetric_unit.elements), np.array(crystal.atoms.elements)
        assert (np.sort(distance, 1)[:, 1] > 0.7).all()
        for pair, (low, high) in heavy_bonds.items():
            chosen = (names[0][:, None] == pair[0]) & (names[1] == pair[1]) & (distance > 0.1) & (distance < 1.9)
            assert (distance[chosen] > low).all()
            assert (distance[chosen] < high).all()
        to_metal = np.isin(names[0], ("Ni", "Cu", "Zn"))
        nearest = np.sort(distance[to_metal][:, ~np.isin(names[1], ("H",))], 1)
        assert ((nearest[:, 1:5] > 1.95) & (nearest[:, 1:5] < 2.3)).all()
        assert 13 < volume_per_atom(crystal) < 25


def test_sizes_are_those_of_the_asymmetric_unit(special, several, both):
    for made in (*special.values(), several, both):
        size = (made.occupancy * (made.numbers > 1)).sum(1)
        assert size.min() >= 5.5  # half an atom less, if the last does not fit
        assert size.max() <= 14


def test_sites_have_the_points_of_one_operation():
    symmetries = tuple(find_symmetry(symbol) for symbol in (*SPACE_GROUPS, "P m m n", "R 3"))
    sites, shares = sites_of(symmetries)
    points = sites.nearest(torch.rand(len(sites.kind), 3, generator=seeded(), dtype=torch.float64))
    moved = (sites.rotations @ points[..., None])[..., 0] + sites.translations
    assert torch.allclose(moved, points)
    kinds = {
        symmetry.symbol: {list(KINDS.values())[kind] for kind in sites.kind[row > 0].tolist()}
        for symmetry, row in zip(symmetries, shares)
    }
    assert kinds["P -1"] == kinds["P 1 21/c 1"] == {"-1"}
    assert kinds["C 1 2/c 1"] == {"-1", "2"}
    assert kinds["P n m a"] == kinds["P m m n:2"] == kinds["P 1 21/m 1"] == {"-1", "m"}
    assert kinds["C 1 2/m 1"] == {"-1", "2", "m"}
    assert kinds["P 21 21 21"] == kinds["P 1 21 1"] == kinds["P 1"] == kinds["R 3:H"] == set()
    # International Tables A: 8 inversion centres in a primitive cell
    assert (sites.kind[shares[list(SPACE_GROUPS).index("P -1")] > 0] == 0).sum() == 8


def test_a_share_of_the_crystals_is_special_where_the_group_allows_it():
    made = make(24, ("P -1", "P 21 21 21"), 5, on_special=0.5, n_atoms=(5, 8))
    n_molecules = [len(molecules_of(made.crystal(i))) for i in range(24)]
    of = {symmetry.symbol: (made.group == number).tolist() for number, symmetry in enumerate(made.symmetries)}
    assert {n for n, chosen in zip(n_molecules, of["P -1"]) if chosen} == {1, 2}
    assert {n for n, chosen in zip(n_molecules, of["P 21 21 21"]) if chosen} <= {4}


def test_cores_have_their_symmetry():
    seeds = cores(ELEMENTS)
    assert seeds.weights.sum(1).tolist() == pytest.approx([1, 1, 1])
    assert ((seeds.carriers >= 0).any(1)).all()
    for row, turn in enumerate(np.array([[-1, -1, -1], [-1, -1, 1], [1, 1, -1]])):
        for i in (seeds.weights[row] > 0).nonzero()[:, 0].tolist():
            there = seeds.numbers[i] > 0
            numbers, xyz = seeds.numbers[i][there].numpy(), seeds.xyz[i][there].numpy()
            apart = np.linalg.norm(xyz * turn - xyz, axis=1)
            assert ((apart < 1e-9) | (apart > 0.7)).all()
            assert seeds.sizes[i] == np.where(apart < 1e-9, 1, 2)[numbers > 1].sum()
            assert (seeds.carriers[i][there][apart < 1e-9] == -1).all()


def test_the_elements_of_cores_are_chosen():
    assert set(cores(("C", "O")).numbers.unique().tolist()) == {0, 1, 6, 8}
    made = make(2, ("P -1",), 4, on_special=1.0, elements=("C", "O"))
    assert set(made.numbers.unique().tolist()) <= {0, 1, 6, 8}


def test_defaults_draw_the_same_crystals():
    plain, spelled = (make(5, tuple(SPACE_GROUPS), 7, **more) for more in ({}, {"n_molecules": 1, "on_special": 0.0}))
    assert torch.equal(plain.xyz_frac, spelled.xyz_frac)
    assert torch.equal(plain.occupancy, (plain.numbers > 0).float())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"n_molecules": 0}, "n_molecules = 0: expected"), ({"on_special": 1.5}, "on_special = 1.5: expected a share")],
)
def test_bad_options_are_errors(wrong, message):
    with pytest.raises(ConfigError, match=message):
        RandomCrystalOptions(**wrong)
