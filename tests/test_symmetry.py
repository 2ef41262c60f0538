"""Space groups: known origins, phases of structures in all 230 groups, alignment that no shift or hand changes."""

import gemmi
import numpy as np
import pytest
import torch

from rephase.crystal.cell import Cell
from rephase.crystal.phase_scores import score_phases
from rephase.crystal.phases import align_list
from rephase.crystal.symmetry import find_symmetry, reduced_cell
from rephase.errors import SymmetryError

GROUPS = [gemmi.find_spacegroup_by_number(number).xhm() for number in range(1, 231)]
SETTINGS = ["P 21/n", "P 21/a", "A -1", "P 2 1 1", "I 1 2/a 1", "R 3:R", "F d -3 m:2", "P c m n", "I 1 2 1"]
HKL = np.array([[h, k, l] for h in range(-4, 5) for k in range(-4, 5) for l in range(-4, 5) if (h, k, l) != (0, 0, 0)])


def random_structure(group, rng):
    """Positions of five atoms in general positions, repeated by the group: [5 n_ops, 3], and their weights."""
    xyz = rng.random((5, 3))
    images = np.einsum("oij,aj->aoi", group.rotations, xyz) + group.translations
    return images.reshape(-1, 3), np.repeat(rng.uniform(1, 3, 5), len(group.triplets))


def summed(hkl, xyz, weight):
    return np.exp(2j * np.pi * hkl @ xyz.T) @ weight


@pytest.mark.parametrize("symbol", GROUPS)
def test_the_order_of_the_operations_does_not_matter(symbol):
    group = find_symmetry(symbol)
    for triplets in (group.triplets[::-1], sorted(group.triplets)):  # a file may list them in any
        again = find_symmetry(triplets)
        assert again.symbol == group.symbol
        for name in ("is_absent", "is_centric", "epsilon"):
            assert (getattr(again, name)(HKL) == getattr(group, name)(HKL)).all(), name


@pytest.mark.parametrize("symbol", GROUPS + SETTINGS)
def test_structure_factors_obey_their_group(symbol):
    group, rng = find_symmetry(symbol), np.random.default_rng(3)
    F = summed(HKL, *random_structure(group, rng))
    absent, size = group.is_absent(HKL), np.abs(F).max()
    assert np.abs(F[absent]).max(initial=0) < 1e-9 * size
    assert np.abs(F[~absent]).min() > 1e-9 * size
    images, shifts = group.equivalents(HKL)
    value = {tuple(h): f for h, f in zip(HKL.tolist(), F)}
    inside = (np.abs(images) <= 4).all(-1)
    found = np.array([value[tuple(h)] for h in images[inside].tolist()])
    expected = (F * np.exp(1j * shifts))[inside]
    assert np.allclose(found, expected, atol=1e-8 * size)
    allowed = group.centric_phase(HKL)
    assert np.array_equal(np.isfinite(allowed), group.is_centric(HKL))
    centric = np.isfinite(allowed) & ~absent
    assert np.allclose((F * np.exp(-1j * allowed))[centric].imag, 0, atol=1e-8 * size)


@pytest.mark.parametrize("symbol", GROUPS + SETTINGS)
def test_expansion_gives_the_whole_sphere_back(symbol):
    group, rng = find_symmetry(symbol), np.random.default_rng(4)
    xyz, weight = random_structure(group, rng)
    one_each = np.unique(group.representative(HKL), axis=0)
    everything, F = group.expand(one_each, summed(one_each, xyz, weight))
    assert np.allclose(F, summed(everything, xyz, weight), atol=1e-7 * np.abs(F).max())
    present = ~group.is_absent(one_each)
    assert len(everything) == group.multiplicity(one_each[present]).sum()
    assert {tuple(h) for h in HKL[~group.is_absent(HKL)].tolist()} <= {tuple(h) for h in everything.tolist()}


@pytest.mark.parametrize("symbol", GROUPS + SETTINGS)
def test_alignment_undoes_every_allowed_shift_and_the_hand(symbol):
    group, rng = find_symmetry(symbol), np.random.default_rng(5)
    origins, (xyz, weight) = group.origins, random_structure(group, rng)
    shift = origins.shifts[-1] + rng.random(len(origins.polar)) @ origins.polar
    hand_shift = np.zeros(3) if origins.other_hand is None else origins.other_hand
    hkl = np.unique(group.representative(HKL), axis=0)
    hkl = hkl[~group.is_absent(hkl)]
    F = summed(hkl, xyz, weight)
    moved = np.stack([summed(hkl, xyz + shift, weight), summed(hkl, hand_shift + shift - xyz, weight)])
    counts = group.multiplicity(hkl) * np.abs(F) ** 2
    aligned = align_list(*map(torch.as_tensor, (moved, F, hkl)), origins, torch.as_tensor(counts))
    agreement = (aligned.F * torch.as_tensor(F).conj()).real @ torch.as_tensor(counts / np.abs(F) ** 2)
    assert (agreement / counts.sum()).tolist() == pytest.approx([1, 1], abs=1e-5)


@pytest.mark.parametrize(
    ("symbol", "n_shifts", "n_polar"),
    # International Tables A, 3.5.3: the Euclidean normalisers
    [
        ("P 1", 1, 3),
        ("P -1", 8, 0),
        ("P 1 21 1", 4, 1),
        ("P 1 21/c 1", 8, 0),
        ("P m", 2, 2),
        ("P 21 21 21", 8, 0),
        ("C 1 2 1", 2, 1),
        ("R -3:H", 2, 0),
        ("P 3", 3, 1),
        ("F 2 2 2", 4, 0),
        ("I m -3 m", 1, 0),
        ("F d d 2", 1, 1),
    ],
)
def test_allowed_origins_are_those_of_the_tables(symbol, n_shifts, n_polar):
    origins = find_symmetry(symbol).origins
    assert (len(origins.shifts), len(origins.polar)) == (n_shifts, n_polar)


def test_only_the_eleven_pairs_change_group_with_the_hand():
    changing = {symbol for symbol in GROUPS if find_symmetry(symbol).origins.other_hand is None}
    assert len(changing) == 22
    assert {"P 41", "P 43", "P 61 2 2", "P 65 2 2", "P 43 3 2", "P 41 3 2"} <= changing


@pytest.mark.parametrize("symbol", GROUPS[::7] + SETTINGS)
def test_reduced_cell_is_primitive_and_keeps_d(symbol):
    group = gemmi.find_spacegroup_by_name(symbol)
    cell = {
        "cubic": Cell(9, 9, 9),
        "tetragonal": Cell(9, 9, 13),
        "orthorhombic": Cell(7, 9, 13),
        "hexagonal": Cell(8, 8, 11, 90, 90, 120),
        "trigonal": Cell(8, 8, 11, 90, 90, 120),
    }.get(group.crystal_system_str(), Cell(7, 9, 30))
    if symbol == "R 3:R":
        cell = Cell(8, 8, 8, 80, 80, 80)
    symmetry = find_symmetry(symbol)
    reduced = reduced_cell(cell, symmetry)
    n_centring = len(symmetry.triplets) // len(symmetry.point_group)
    assert reduced.cell.volume == pytest.approx(cell.volume / n_centring)
    hkl = HKL[~symmetry.is_absent(HKL)]
    assert np.allclose(reduced.cell.d_spacing(reduced.hkl(hkl)), cell.d_spacing(hkl))
    assert np.array_equal(reduced.hkl_back(reduced.hkl(hkl)), hkl)
    inside = symmetry.in_basis(reduced.basis)
    assert len(inside.triplets) == len(symmetry.point_group)
    F = summed(hkl, *random_structure(symmetry, np.random.default_rng(6)))
    images, shifts = inside.equivalents(reduced.hkl(hkl))
    value = {tuple(h): f for h, f in zip(reduced.hkl(hkl).tolist(), F)}
    for image, shift in zip(images, shifts):
        known = [i for i, h in enumerate(image.tolist()) if tuple(h) in value]
        found = np.array([value[tuple(image[i].tolist())] for i in known])
        assert np.allclose(found, (F * np.exp(1j * shift))[known], atol=1e-7 * np.abs(F).max())


@pytest.mark.parametrize(
    "source",
    [
        "P 21/q",
        231,
        1e20,
        10**400,
        "P \ud800",
        "-P 2\0",
        14.5,
        "14.5",
        "1e20",
        float("nan"),
        float("inf"),
        None,
        [None],
        "P" + " " * 5000,
        "-P 2ybq",
        ["x,y,z", "x,y,z+1/7"],
        ["x,y,z", "x,y,z,+1"],
        0,
        -1,
        1014,
        np.int64(0),
        "0",
        "1014",
        "",
        [],
        ["-x,-y,-z"],
        ["-x,y,-z", "-x,-y,-z"],
        ["x,y,z", "x,y"],
        ["x,y,z", "0,y,z"],
        ["x,y,z", "-y,x,z"],
        ["x,y,z", "x+y,y,z"],
    ],
)
def test_unknown_group_is_an_error(source):
    with pytest.raises(SymmetryError, match=r"not in the tables|expected"):
        find_symmetry(source)


def test_the_score_of_a_trial_does_not_depend_on_the_others():
    group, rng, cell = find_symmetry("P 1 21/c 1"), np.random.default_rng(0), Cell(7, 8, 9, 90, 100, 90)
    hkl = np.unique(group.representative(HKL[~group.is_absent(HKL)]), axis=0)
    true = summed(hkl, *random_structure(group, rng))
    pred = np.abs(true) * rng.exponential(size=(6, len(hkl))) * np.exp(1j * np.pi * rng.integers(0, 2, (6, len(hkl))))
    together = score_phases(pred, true, hkl=hkl, cell=cell, symmetry=group).map_cc
    alone = [score_phases(one, true, hkl=hkl, cell=cell, symmetry=group).map_cc[0] for one in pred]
    assert together == pytest.approx(alone, abs=1e-12)


@pytest.mark.parametrize("source", [14, np.int64(14), "14", 14.0, np.float32(14), "14.0", "+14", " 14 "])
def test_a_number_of_any_kind_is_a_group(source):
    assert find_symmetry(source).symbol == "P 1 21/c 1"


@pytest.mark.parametrize(
    ("written", "symbol"),
    [
        ("P2(1)/c", "P 1 21/c 1"),
        ("P2(1)2(1)2(1)", "P 21 21 21"),
        ("P 4(1)", "P 41"),
        ("P 6(3)/m m c", "P 63/m m c"),
        ("F d -3 m S", "F d -3 m:1"),
        ("F d -3 m Z", "F d -3 m:2"),
        ("Fd-3mZ", "F d -3 m:2"),
        ("I 41/a :2", "I 41/a:2"),
        ("R -3 R", "R -3:R"),
        ("R -3 m :h", "R -3 m:H"),
    ],
)
def test_symbols_are_known_as_programs_write_them(written, symbol):
    assert find_symmetry(written).symbol == symbol


@pytest.mark.parametrize(
    ("cell", "symbol", "operation"),
    [
        (Cell(7, 9, 11, 90, 100, 90), "P 21/c", None),
        (Cell(7, 7.02, 20), "P 4", None),
        (Cell(5, 5.1, 40), "P 4", "-y,x,z"),
        (Cell(7, 9, 11, 89, 100, 90), "P 21/c", "-x,y+1/2,-z+1/2"),
    ],
)
def test_the_first_operation_that_does_not_fit_a_cell_is_named(cell, symbol, operation):
    assert find_symmetry(symbol).misfit(cell) == operation
