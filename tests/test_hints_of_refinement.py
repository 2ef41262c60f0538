"""Hints about what was measured and refined: other radiation, no σ, few data, negative displacements, occupancies."""

from dataclasses import replace

import numpy as np
import pytest

from rephase.crystal.cell import Cell
from rephase.crystal.density import density_of
from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.statistics import unique_hkl
from rephase.crystal.symmetry import find_symmetry
from rephase.labs.solving.page import write_page
from rephase.refinement.build import build_model
from rephase.refinement.factors import SiteFactors
from rephase.refinement.refine import RefinementOptions, refine
from rephase.refinement.sites import Sites
from rephase.solvers.modelling import with_model
from rephase.solvers.solution import Solution

CELL, GROUP = Cell(7.1, 8.3, 9.4, 90, 99, 90), find_symmetry("P 1 21/c 1")
ELEMENTS = ("Cl", "O", "C", "C", "C", "C")
XYZ = np.array(
    [[0.2, 0.1, 0.3], [0.35, 0.3, 0.1], [0.3, 0.3, 0.3], [0.4, 0.45, 0.35], [0.15, 0.4, 0.4], [0.3, 0.6, 0.4]]
)
SITES = Sites.isotropic(ELEMENTS, ELEMENTS, XYZ, np.full(6, 0.03), CELL).relabelled(ELEMENTS)


def data_of(sites=SITES, *, d_min=0.8, **more) -> Reflections:
    """Calculated intensities with noise of about 2 %."""
    hkl = unique_hkl(CELL, GROUP, d_min)
    intensity = np.abs(SiteFactors(hkl, CELL, GROUP, sites.elements, None).F(sites)) ** 2
    sigma = 0.02 * intensity + 1e-3 * intensity.mean()
    measured = intensity + sigma * np.random.default_rng(0).normal(size=len(hkl))
    return Reflections(hkl, measured, sigma, CELL, GROUP, is_merged=True, **more)


def solution_of(data, model=None, **more) -> Solution:
    ones = np.ones(len(data))
    return Solution(
        data, np.sqrt(np.abs(data.intensity)), 0 * ones, ones, 0.1, 1.0, 5, 5, "solved", model=model, **more
    )


def said_about(data, model=None) -> dict[str, str]:
    return {hint.name: str(hint) for hint in solution_of(data, model).hints}


def refined(sites, data, **options):
    return refine(sites, data, options=RefinementOptions(refines_extinction=False, warns=False, **options))


@pytest.mark.parametrize("stated", ["neutron", "electron"])
def test_radiation_that_is_not_of_x_rays(stated):
    said = said_about(data_of(radiation=stated))["radiation"]
    assert f"The file states {stated} diffraction" in said
    assert {"neutron": "NEUT in SHELXL", "electron": "SFAC with their coefficients"}[stated] in said
    assert "radiation" not in said_about(data_of())


def test_a_wavelength_too_long_for_the_data():
    said = said_about(data_of(wavelength=2.5))["wavelength"]
    assert "wavelength of 2.5 Å cannot be right" in said
    assert "1.250 Å, but the list has reflections to 0.80" in said
    assert "--wavelength" in said
    assert "wavelength" not in said_about(data_of(wavelength=1.54184))


def test_a_list_without_sigma_is_on_the_page(tmp_path):
    data = data_of(has_sigma=False)
    assert "unit weights" in said_about(data)["no_sigma"]
    assert "no_sigma" not in said_about(data_of())
    write_page(solution_of(data, refined(SITES, data)), tmp_path)
    assert "(unit weights)" in (tmp_path / "solve.html").read_text(encoding="utf-8")


def test_a_list_without_sigma_has_no_mean_of_i_over_sigma():
    assert "coarse_limit" in said_about(data_of(d_min=1.3))
    assert set(said_about(data_of(d_min=1.3, has_sigma=False))) == {"no_sigma"}


@pytest.mark.parametrize(("d_min", "n"), [(0.8, 0), (1.5, 5), (1.75, 6)])
def test_few_data_leave_atoms_isotropic_and_that_is_said(d_min, n):
    """Six atoms need 4 * 54 reflections for all displacements, 4 * 29 for those of Cl."""
    data = data_of(d_min=d_min)
    F = SiteFactors(data.hkl, CELL, GROUP, ELEMENTS, None).F(SITES)
    model = build_model(data, np.abs(F), density_of(data.hkl, F, CELL, GROUP), formula="C4 O Cl")
    said = said_about(data, model).get("isotropic", "")
    assert (n > 0) == bool(said)
    if n:
        s = model.statistics
        assert said.startswith(f"{n} of 6 atoms, without hydrogen, were refined with isotropic displacements only: ")
        assert f"{s.n_observed} reflections above 2σ are {s.n_observed / 54:.1f} for each parameter" in said
        assert f"{s.n_observed / s.n_parameters:.1f} for each of the {s.n_parameters} that were refined" in said


def test_negative_displacements_are_a_hint():
    data = data_of()
    light = SITES.relabelled(("F", *ELEMENTS[1:]))
    assert "F1" in said_about(data, refined(light, data))["displacements"]
    assert "displacements" not in said_about(data, refined(SITES, data))


def test_a_refinement_that_still_moves_is_a_hint():
    data = data_of()
    model = refined(SITES, data)
    assert "unconverged" not in said_about(data, model)
    moving = replace(model, statistics=model.statistics._replace(shift=1.76))
    assert "by 1.8 su" in said_about(data, moving)["unconverged"]


def test_split_and_partly_occupied_atoms_are_named():
    parts = np.array([0, 0, 0, 0, 1, 2])
    sites = replace(SITES, occupancy=np.array([1, 0.5, 1, 1, 0.7, 0.3]), part=parts)
    data = data_of(sites)
    said = said_about(data, refined(sites, data, occupancies=np.array([0, 1, 0, 0, 2, -2])))["occupancies"]
    assert "partial occupancy of 3 site(s), of split atoms: C3 0.70" in said
    assert "of single atoms: O1 0.50" in said
    assert "occupancies" not in said_about(data, refined(SITES, data))


def test_a_model_that_falls_apart_leaves_the_phases(monkeypatch):
    def fails(*_, **__):
        raise np.linalg.LinAlgError("the normal matrix is singular")

    monkeypatch.setattr("rephase.solvers.modelling.build_model", fails)
    found = solution_of(data_of())
    kept = with_model(found, formula=None)
    assert kept.model is None
    assert kept.summary()["model"] == "no model: the normal matrix is singular; the phases are kept"
    assert (kept.phi is found.phi, kept.verdict) == (True, "solved")
