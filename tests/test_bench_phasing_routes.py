"""``rephase bench phasing_routes``: every route is trained and judged, rows and weights are kept, scores are right."""

import sys

import numpy as np
import pandas as pd
import pytest
import torch

from rephase.labs.phasing.data import PhasingCrystals, parts
from rephase.paths import BENCHMARKS

sys.path.insert(0, str(BENCHMARKS))  # as for a script of this folder

import phasing_routes
from phasing_routes import ROUTES, judged, scored
from routes.patterson_unet import from_maps, to_maps
from routes.reciprocal_grid import shifts
from routes.route import data_of
from routes.standard import SHAPE, place_of, quadrant


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Make few crystals at once, which takes a tenth of the time."""
    monkeypatch.setattr("rephase.labs.phasing.data._MADE_AT_ONCE", 16)
    monkeypatch.setattr(phasing_routes, "BATCH", 2)


@pytest.fixture
def some():
    """Crystals by grid."""
    return list(parts(PhasingCrystals(data_of(6, 0))[np.arange(6)]))


def test_every_route_is_trained_and_judged_once(tmp_path, monkeypatch, capsys):
    out = tmp_path / "rows.csv"
    given = ["--minutes", "1e-4", "--crystals", "2", "--starts", "2", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["phasing_routes.py", *given])
    phasing_routes.main()
    rows = pd.read_csv(out).set_index("route")
    assert list(rows.index) == list(ROUTES)
    assert (rows["any"] >= rows["first"]).all()
    assert rows["mean"].between(-1, 1).all()
    assert (rows["seen"] == [0, *(len(rows) - 1) * [2]]).all()
    assert rows.loc["inside RAAR", "parameters"] == rows.loc["recurrent", "parameters"]
    assert len(list((tmp_path / "rows").iterdir())) == len(ROUTES) - 2
    table = capsys.readouterr().out.splitlines()[-len(ROUTES) - 1 :]
    phasing_routes.main()
    assert capsys.readouterr().out.splitlines() == table


def test_perfect_phases_score_one_and_the_merit_ranks(some):
    for part in some:
        wrong = torch.ones_like(part.true) * part.data.spheres.inside
        scores = scored(part, torch.stack([wrong, part.true.conj()]))
        torch.testing.assert_close(scores[1], torch.ones(len(part)))
        right, other = torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0])
        ones = torch.ones(len(part))
        perfect = {"first": 1.0, "any": 1.0, "first>=0.9": 1.0}
        assert perfect.items() <= judged(scores, right[:, None] * ones).items()
        assert judged(scores, other[:, None] * ones)["first>=0.9"] < 1


def test_the_standard_grid_has_the_true_signs_of_every_equivalent(some):
    for part in some:
        where, size = quadrant(part), part.data.weight(0.4)
        back = where.unfold(where.fold(part.true.real * where.sign)) * where.sign
        assert float((size * (back - part.true.real).abs()).sum(dim=(1, 2, 3)).max()) < 0.02  # a few are outside
        moved = where.fold(part.true.real * where.sign) * shifts()[3]
        there = (where.unfold(moved) * where.sign).to(torch.complex64)
        assert scored(part, there[None]).min() > 0.98


def test_maps_have_the_coefficients_of_the_grid():
    h, k, l = torch.meshgrid(*(torch.arange(n) - first for n, first in zip(SHAPE, (10, 0, 0))), indexing="ij")
    is_own = place_of(torch.stack([h, k, l], dim=-1))[0].flatten() == torch.arange(h.numel())
    grid = torch.randn(2, h.numel(), generator=torch.Generator().manual_seed(0)) * is_own
    grid = (grid * ((k + l) % 2 == 0).flatten()).unflatten(1, SHAPE)  # those that a Patterson map may also have
    grid[:, 10, 0, 0] = 0
    torch.testing.assert_close(from_maps(to_maps(grid)), grid, atol=1e-5, rtol=0)
