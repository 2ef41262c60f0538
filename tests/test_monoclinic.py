"""Monoclinic crystals on a grid: what lies where, equivalents, what was measured, folders of CIFs, bad input."""

import gzip
import re

import numpy as np
import pytest
import torch

from rephase.config import Config, load_config
from rephase.config.completion import MeasuredPart, MonoclinicConfig
from rephase.crystal.cell import Cell
from rephase.crystal.map_files import write_cif
from rephase.crystal.peaks import Peaks
from rephase.crystal.reflections.statistics import unique_hkl
from rephase.crystal.structure_factors import structure_factors
from rephase.crystal.structures import read_crystal
from rephase.crystal.symmetry import find_symmetry
from rephase.errors import CifError, ConfigError, GridError, StoreError, SymmetryError
from rephase.labs.completion.data import monoclinic_group, open_monoclinic, read_monoclinic_folder
from rephase.labs.completion.grid_phases import monoclinic_operations, whole_sphere
from rephase.labs.completion.grids import MonoclinicGrid
from rephase.random_crystals.crystals import RandomCrystalOptions, random_crystals
from rephase.random_crystals.structure_factors import many_structure_factors

SMALL = MonoclinicConfig(
    space_groups=("P 1 21/c 1", "C 1 2 1", "P 1 21 1"),
    n_atoms=(5, 8),
    shape=(16, 12, 14),
    d_min=1.2,
    n_samples=24,
    chunk=9,
    measured=MeasuredPart(d_min=(1.6, 2.0), missing=0.15),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return open_monoclinic(tmp_path_factory.mktemp("monoclinic") / "data.zarr", SMALL)


def crystal_of(group, seed=0):
    options = RandomCrystalOptions(space_groups=(group,), n_atoms=(5, 8))
    return random_crystals(1, generator=torch.Generator().manual_seed(seed), options=options, dtype=torch.float64)


def test_the_grid_holds_each_class_of_equivalents_once_and_twice_where_l_is_zero():
    grid, crystal = MonoclinicGrid((26, 18, 23)), crystal_of("P 1 21/c 1").crystal(0)
    symmetry = find_symmetry("P 1 21/c 1")
    hkl = unique_hkl(crystal.cell, symmetry, 1.0)
    values, mask = grid.from_list(hkl, np.arange(1.0, len(hkl) + 1), symmetry)
    found, counts = np.unique(values[mask], return_counts=True)
    assert (found == np.arange(1.0, len(hkl) + 1)).all()
    in_plane = (hkl[:, 2] == 0) & (hkl[:, 0] != 0)
    assert (counts[in_plane] == 2).all()
    assert (counts[~in_plane] == 1).all()


@pytest.mark.parametrize("shape", [(26, 18, 23), (9, 5, 7)])
def test_hkl_is_in_fft_order_and_the_partner_is_the_equivalent(shape):
    grid = MonoclinicGrid(shape)
    h, k, l = np.moveaxis(grid.hkl, -1, 0)
    assert (h[:, 0, 0] == np.fft.fftfreq(shape[0], 1 / shape[0])).all()
    assert (h.min(), k.min(), l.min()) == (-(shape[0] // 2), 0, 0)
    partner = grid.partner(torch.as_tensor(h)).numpy()
    inside = np.abs(h) <= grid.largest[0]
    assert (partner[inside & (l == 0)] == -h[inside & (l == 0)]).all()
    assert (partner[l > 0] == h[l > 0]).all()


def test_a_sum_without_dispersion_is_that_of_the_crystal():
    crystals = crystal_of("C 1 2 1", seed=3)
    hkl = unique_hkl(crystals.crystal(0).cell, find_symmetry("C 1 2 1"), 0.6)  # beyond the limiting sphere at 10 keV
    summed = many_structure_factors(crystals, torch.as_tensor(hkl)[None], energy_kev=None)[0].numpy()
    expected = structure_factors(crystals.crystal(0), hkl, energy_kev=None)
    assert np.abs(summed - expected).max() < 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize("symbol", ["P 1 21/n 1", "C 1 2 1", "P 1 21 1", "C 1 c 1", "P 1 2/c 1"])
@pytest.mark.parametrize("shape", [(10, 6, 7), (9, 7, 5)])
def test_the_whole_sphere_follows_from_the_grid(symbol, shape):
    crystal, grid = crystal_of(symbol).crystal(0), MonoclinicGrid(shape)
    axes = [np.fft.fftfreq(2 * n + 1, 1 / (2 * n + 1)).astype(int) for n in grid.largest]
    hkl = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)

    def of(index):
        F = structure_factors(crystal, index.reshape(-1, 3), energy_kev=None)
        return torch.as_tensor(F.reshape(index.shape[:3]))

    F, operations = of(grid.hkl), torch.as_tensor(monoclinic_operations(find_symmetry(symbol)))
    found = whole_sphere(F[None], operations[None], grid)[0]
    assert torch.allclose(found, of(hkl), atol=1e-4 * float(F.abs().max()))


def test_a_map_has_its_peaks_at_the_atoms(data):
    batch = data[[0]]
    density = batch.density(batch.F * batch.mask)
    assert density.shape == (1, 15, 23, 27)
    assert abs(float(density.mean())) < 1e-4
    assert float(density.max() / density.std()) > 5


def test_masks_know_the_sphere_absences_and_the_cut_off(data):
    batch = data[list(range(24))]
    assert batch.F.dtype == torch.complex64
    assert not (batch.F.abs() * ~batch.mask).any()
    assert ((batch.F.abs() > 0) | ~batch.mask).float().mean() > 0.999
    d_hkl = (4 * batch.s_squared) ** -0.5
    assert d_hkl[batch.mask].min() >= 1.2 - 1e-5
    assert not (batch.observed & ~batch.mask).any()
    for sample in range(24):
        inside = batch.observed[sample]
        cut_off = d_hkl[sample][inside].min()
        assert 1.6 - 1e-5 <= cut_off <= 2.1
        possible = batch.mask[sample] & (d_hkl[sample] >= cut_off)
        assert 0.75 < inside.sum() / possible.sum() <= 1
    for sample, symmetry in enumerate(data.symmetries[g] for g in batch.group.tolist()):
        assert not symmetry.is_absent(data.grid.hkl[batch.mask[sample].numpy()]).any()


def test_equivalents_are_missing_together_and_have_one_amplitude(data):
    batch = data[list(range(24))]
    for values in (batch.observed, batch.mask):
        assert torch.equal(data.grid.partner(values), values)
    amplitude = batch.F.abs()
    assert torch.allclose(data.grid.partner(amplitude), amplitude, atol=1e-4 * amplitude.max())
    assert (~batch.observed & batch.mask).sum() > batch.observed.sum()


def test_the_largest_observed_amplitude_is_the_scale(data):
    batch = data[[0, 5]]
    scaled = batch.F.abs() / batch.scale
    assert torch.allclose((scaled * batch.observed).amax((1, 2, 3)), torch.ones(2))


def test_groups_take_turns_and_splits_share_no_crystal(data):
    assert torch.bincount(data.group).tolist() == [8, 8, 8]
    every = np.concatenate(list(data.splits.values()))
    assert sorted(every) == list(range(24))
    assert set(data.splits) == {"train", "validation", "test"}


def test_the_same_configuration_gives_the_same_bits(data, tmp_path):
    again = open_monoclinic(tmp_path / "again.zarr", SMALL, workers=2)
    assert torch.equal(again.F, data.F)
    assert torch.equal(again[[3]].observed, data[[3]].observed)
    assert not torch.equal(data.F[0], data.F[3])
    with pytest.raises(StoreError, match="again"):
        open_monoclinic(tmp_path / "again.zarr", SMALL.model_copy(update={"seed": 1}))


def test_molecules_too_large_for_the_grid_are_reported_with_a_grid_that_would_do(tmp_path):
    small = SMALL.model_copy(update={"shape": (6, 5, 6), "space_groups": ("P 1 21 1",), "chunk": 24})
    with pytest.raises(GridError, match=r"n_atoms = \(5, 8\).* below 3.6, 6.0, 7.2 Å.*fewer atoms") as told:
        open_monoclinic(tmp_path / "small.zarr", small)
    shape = tuple(map(int, re.search(r"completion\.data\.shape = \((.*)\)", str(told.value))[1].split(",")))
    assert len(open_monoclinic(tmp_path / "large.zarr", small.model_copy(update={"shape": shape}))) == 24


def test_drawn_crystals_repeat_and_are_like_the_stored_ones(data):
    drawn, again, other = (data.draw(24, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert torch.equal(drawn.F, again.F)
    assert torch.equal(drawn.observed, again.observed)
    assert not torch.equal(drawn.F, other.F)
    stored = data[list(range(24))]
    assert torch.equal(drawn.group, stored.group)
    for share in ("mask", "observed"):
        assert getattr(drawn, share).float().mean() == pytest.approx(getattr(stored, share).float().mean(), rel=0.25)
    assert drawn.F.abs().mean() == pytest.approx(stored.F.abs().mean(), rel=0.25)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three random crystals as CIFs, one that is not monoclinic, and a file that is no CIF."""
    folder = tmp_path_factory.mktemp("cifs")
    for number, symbol in enumerate(["P 1 21/c 1", "C 1 2 1", "P 1 21/n 1", "P -1"]):
        crystal = crystal_of(symbol, seed=7).crystal(0)
        unit = crystal.asymmetric_unit
        peaks = Peaks(unit.xyz_frac, np.ones(len(unit.elements)), unit.elements)
        write_cif(folder / f"{number}.cif", crystal.cell, find_symmetry(symbol), peaks)
    (folder / "broken.cif").write_text("data_x\nloop_\n_cell_length_a 1")
    return folder


def test_a_folder_of_cifs_is_a_test_set_and_what_is_left_out_has_its_reason(folder):
    found = read_monoclinic_folder(folder, SMALL.model_copy(update={"shape": (40, 40, 40)}))
    assert found.names == ["0", "1", "2"]
    assert found.data.splits["real"].tolist() == [0, 1, 2]
    assert [found.data.symmetries[g].symbol for g in found.data.group] == ["P 1 21/c 1", "C 1 2 1", "P 1 21/n 1"]
    assert set(found.left_out["file"]) == {"3.cif", "broken.cif"}
    reason = found.left_out.set_index("file")["reason"]
    assert "b unique" in reason["3.cif"]
    crystal, batch = read_crystal(folder / "1.cif"), found.data[[1]]
    hkl = found.data.grid.hkl[batch.mask[0].numpy()]
    expected = structure_factors(crystal, hkl, energy_kev=None)
    assert np.abs(batch.F[0][batch.mask[0]].numpy() - expected).max() < 1e-5 * np.abs(expected).max()


def test_files_of_a_folder_may_be_packed_or_in_capitals(folder, tmp_path):
    (tmp_path / "ONE.CIF").write_bytes((folder / "0.cif").read_bytes())
    (tmp_path / "two.cif.gz").write_bytes(gzip.compress((folder / "1.cif").read_bytes()))
    found = read_monoclinic_folder(tmp_path, SMALL.model_copy(update={"shape": (40, 40, 40)}))
    assert len(found.names) == 2


def test_axes_are_swapped_where_only_that_fits(folder):
    crystal = read_crystal(folder / "0.cif")
    a, b, c = crystal.cell.parameters[:3]
    assert int(a / 1.2) != int(c / 1.2)
    shape = (2 * int(c / 1.2) + 1, int(b / 1.2) + 1, int(a / 1.2) + 1)
    found = read_monoclinic_folder(folder, SMALL.model_copy(update={"shape": shape}))
    place = found.names.index("0")
    batch, symmetry = found.data[[place]], found.data.symmetries[found.data.group[place]]
    assert symmetry.symbol == "P 1 21/a 1"
    assert batch.lattice[0].norm(dim=0).tolist() == pytest.approx([c, b, a])
    new = found.data.grid.hkl[batch.mask[0].numpy()]
    old = np.stack([new[:, 2], -new[:, 1], new[:, 0]], axis=1)
    expected = structure_factors(crystal, old, energy_kev=None)
    assert np.abs(batch.F[0][batch.mask[0]].numpy() - expected).max() < 1e-5 * np.abs(expected).max()


def test_a_folder_without_a_crystal_that_fits_says_why(folder, tmp_path):
    with pytest.raises(CifError, match="would do"):
        read_monoclinic_folder(folder, SMALL.model_copy(update={"shape": (5, 5, 5)}))
    with pytest.raises(CifError, match=r"no \*\.cif"):
        read_monoclinic_folder(tmp_path, SMALL)


@pytest.mark.filterwarnings("ignore:.*the formula")  # names more than the file lists
@pytest.mark.filterwarnings("ignore:.*which it also states, is used instead")  # one list of operations is no group
def test_real_monoclinic_crystals_are_read(cod_table, cod_file, tmp_path):
    for number in cod_table.index:
        (tmp_path / f"{number}.cif").symlink_to(cod_file(f"{number}.cif"))
    found = read_monoclinic_folder(tmp_path, MonoclinicConfig())
    assert len(found.names) + len(found.left_out) == len(cod_table)
    assert {"2008119", "2204271", "4000000"} <= set(found.names)
    batch = found.data[[found.names.index("4000000")]]
    assert ((batch.F.abs() > 0) | ~batch.mask).all()


def test_a_config_that_leaves_nothing_to_complete_is_refused():
    with pytest.raises(ConfigError, match=r"coarser than d_min = 1\.2"):
        load_config("test", ["completion.data.measured.d_min=[0.7, 1.0]"])
    with pytest.raises(ConfigError, match="rising order"):
        load_config("test", ["completion.data.measured.d_min=[1.6, 1.5]"])
    assert isinstance(load_config("test", ["completion.data.measured.missing=0.1"]), Config)


@pytest.mark.parametrize("symbol", ["P -1", "P 21 21 21", "P 1 1 21", "P 2 1 1", "P 1"])
def test_a_group_that_is_not_monoclinic_with_b_unique_is_named(symbol):
    with pytest.raises(SymmetryError, match="b unique"):
        monoclinic_group(symbol)


@pytest.mark.parametrize(
    "symbol", ["P 1 21/c 1", "C 1 2 1", "P 1 21 1", "C 1 2/c 1", "P 1 21/n 1", "C 1 c 1", "P 1 c 1"]
)
def test_monoclinic_groups_are_taken(symbol):
    assert monoclinic_group(symbol).symbol == symbol


def test_a_cell_that_is_too_large_names_the_grid_that_would_do():
    with pytest.raises(GridError, match=r"\(41, 13, 18\) would do"):
        MonoclinicGrid((26, 18, 23)).check(Cell(16.3, 10.0, 14.0, 90.0, 100.0, 90.0), 0.8)
    with pytest.raises(GridError, match="b unique"):
        MonoclinicGrid((26, 18, 23)).check(Cell(6.3, 10.0, 14.0, 80.0, 100.0, 90.0), 0.8)
    MonoclinicGrid((41, 13, 18)).check(Cell(16.3, 10.0, 14.0, 90.0, 100.0, 90.0), 0.8)
    with pytest.raises(GridError, match="at least 3"):
        MonoclinicGrid((2, 18, 23))
    with pytest.raises(GridError, match=r"10,764,000,000 points, expected at most 10,000,000"):
        MonoclinicGrid((26, 18, 23_000_000))


def test_the_longest_axes_are_those_of_the_grid():
    grid = MonoclinicGrid((26, 18, 23))
    longest = torch.diag(torch.tensor(grid.longest_axes(0.8), dtype=torch.float64))
    assert bool(grid.holds(0.999 * longest[None], 0.8))
    for axis in range(3):
        stretched = longest * (0.999 + 0.002 * torch.eye(3)[axis])
        assert not bool(grid.holds(stretched[None], 0.8))
