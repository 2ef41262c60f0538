"""`Solution`: phases of the measured reflections, their reliability, map and peaks, and the files that hold them."""

import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rephase.crystal.cif_head import bracketed
from rephase.crystal.density import density_of
from rephase.crystal.map_files import write_cif, write_density, write_res
from rephase.crystal.peaks import VOLUME_PER_ATOM, Peaks, assign_elements, find_peaks, without_noise
from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.files import write_hklf4, write_mtz
from rephase.crystal.reflections.pseudo_translations import PseudoTranslations
from rephase.crystal.reflections.twinning import twin_laws
from rephase.crystal.symmetry import rows_of
from rephase.files.writing import ResultSet, write_whole
from rephase.refinement.chemistry import Chemistry
from rephase.refinement.maps import map_coefficients
from rephase.refinement.model import Model
from rephase.refinement.model_files import write_model
from rephase.refinement.twins import Twin, find_twin
from rephase.solvers.space_groups import GroupFit

if TYPE_CHECKING:
    from rephase.solvers.hints import Hint

MODEL_RESULTS = ("solution.ins", "difference.ccp4")  # written only with a model
RESULTS = (
    "solution.mtz",
    "density.ccp4",
    "solution.res",
    "solution.hkl",
    "solution.cif",
    "solution.json",
    "density.png",
    "density.pdf",
    "molecule.png",
    "molecule.pdf",
    "solve.html",
    *MODEL_RESULTS,
)
_MAP_LABELS = ("FC", "PHIC"), ("FWT", "PHWT"), ("DELFWT", "PHDELWT")  # F_c, 2F_o - F_c, F_o - F_c; known to Coot
NEXT_STEP = {  # with a model
    "solved": "check the elements and hydrogen atoms of solution.res, and finish the refinement",
    "possible": "look at the molecule: if it makes sense, refine it; otherwise raise --effort, or give more data",
    "formula": "correct the formula, which the atoms do not fit (see the hints), then check the elements",
    "rivals": "refine solution.res, and a model from each of the columns PHI_RIVAL1, ... of solution.mtz, which fit "
    "equally well: keep the one that refines to the lowest R over the weak reflections",
    "unsure": "do not trust this map: measure to a smaller d_min, check the space group, or raise --effort",
}
NEXT_STEP_WITHOUT_MODEL = {
    **NEXT_STEP,
    "solved": "open solution.res and refine",
    "possible": "look at the map: if the peaks form a molecule, refine it; otherwise raise --effort, or give more data",
}


class KeptTrials(NamedTuple):
    """The best trials of a search: ``misfit`` [n], see `Solution.r_factor`; ``agrees`` [n] with the best of them."""

    misfit: np.ndarray
    agrees: np.ndarray


@dataclass(frozen=True, eq=False)
class Solution:
    """The phases found for a crystal, in the setting of its reflections.

    Parameters
    ----------
    reflections
        Merged reflections with their space group.
    amplitude
        [n_refl], |F| in electrons per cell, on the absolute scale of the Wilson plot.
    phi
        [n_refl], radians, [-π, π): those of the model if it is right, otherwise those of the search.
    fom
        [n_refl], figure of merit in 0–1: how well independent trials agree on the phase; 0 if no other trial agrees.
    r_factor
        sum ||G| - |F|| / sum |F|, where |G| are the amplitudes of the density above its own σ.
    rival_r_factor
        R factor of the best trial that disagrees; infinite if none was kept.
    n_agree, n_trials
        Number of trials that reached this solution (only the best few are compared), and number of trials run.
    verdict
        ``solved``, ``possible`` or ``unsure``.
    lead
        By how much a network is more confident of this solution, from 0 to 1, than of the best trial that disagrees;
        infinite if none was kept, None if no network was asked.
    probability
        That the solution is right, by lead, agreement and misfit; None without a network that was calibrated for such
        data, or after too few trials.
    r_int, n_absent, absent_i_over_sigma
        Statistics of merging, see `Merged`; NaN if nothing was measured twice, or if there are no absences.
    space_groups
        Space groups that fit, the likeliest first, if the data had none.
    better_group, group_doubt
        Group that fits better than the one stated with the data, and why, in words; None and empty if there is none.
    pseudo_translations
        Fractions of the cell that nearly repeat the structure; None if there are none.
    rival_phi
        [n_rivals, n_refl], radians: phases of other solutions that fit equally well, because only reflections weakened
        by a pseudo-translation could distinguish them. None if phases were given, because no search was made then.
    trials
        The trials that were compared; None if they are unknown.
    model
        The refined structure; None if no atoms were refined.
    model_note
        Why there is no model; "" if there is one, or if none was asked for.
    chemistry
        Check of the model; None without a model.
    measured
        The reflections before merging, in the same setting; None: they are not kept.
    formula
        Formula unit that was known, from which the peaks get their elements; "" if none was.
    """

    reflections: Reflections
    amplitude: np.ndarray
    phi: np.ndarray
    fom: np.ndarray
    r_factor: float
    rival_r_factor: float
    n_agree: int
    n_trials: int
    verdict: str
    lead: float | None = None
    probability: float | None = None
    r_int: float = math.nan
    n_absent: int = 0
    absent_i_over_sigma: float = math.nan
    space_groups: tuple[GroupFit, ...] = ()
    better_group: GroupFit | None = None
    group_doubt: str = ""
    pseudo_translations: PseudoTranslations | None = None
    rival_phi: np.ndarray | None = None
    trials: KeptTrials | None = None
    model: Model | None = None
    model_note: str = ""
    chemistry: Chemistry | None = None
    measured: Reflections | None = None
    formula: str = ""

    @property
    def n_rivals(self) -> int:
        """Number of other solutions that fit equally well, see `rival_phi`."""
        return 0 if self.rival_phi is None else len(self.rival_phi)

    @property
    def hkl(self) -> np.ndarray:
        """Miller indices [n_refl, 3]."""
        return self.reflections.hkl

    @property
    def F(self) -> np.ndarray:
        """Structure factors, complex [n_refl], in electrons per cell."""
        return self.amplitude * np.exp(1j * self.phi)

    @cached_property
    def density(self) -> np.ndarray:
        """Map [x, y, z] of the cell in e/Å^3 without F(000), on a grid with a spacing of about d_min/4."""
        return density_of(self.hkl, self.F, self.reflections.cell, self.reflections.group)

    def peaks(self, formula: str | None = None) -> Peaks:
        """Find the map's peaks above its noise, at most a third more than the expected atoms.

        Parameters
        ----------
        formula
            Formula unit, such as ``C20 H22 N2 O3``, that names the peaks; None: that of the solution.
        """
        r, peaks, formula = self.reflections, self._peaks, formula or self.formula
        return peaks if not formula else assign_elements(peaks, formula, r.group, r.cell)

    @cached_property
    def _peaks(self) -> Peaks:
        """Peaks without elements."""
        r = self.reflections
        n = math.ceil(1.3 * r.cell.volume / VOLUME_PER_ATOM / len(r.group.triplets)) + 2
        return without_noise(find_peaks(self.density, r.cell, r.group, n), self.density)

    @cached_property
    def twin_laws(self) -> np.ndarray:
        """Rotations [n, 3, 3] of the lattice that may be twin laws: those that a better group has are its symmetry."""
        better = None if self.better_group is None else self.better_group.symmetry
        laws = twin_laws(self.reflections)
        return laws if better is None else laws[[not better.has_in_laue_group(law) for law in laws]]

    @cached_property
    def twin(self) -> Twin | None:
        """The twin law that explains the intensities of the model; None without one, or without a model."""
        return None if self.model is None else find_twin(self.model, self.twin_laws)

    @cached_property
    def hints(self) -> "tuple[Hint, ...]":
        """What is unusual about the data or the model, see `hints_of`."""
        from rephase.solvers.hints import hints_of  # they read solutions

        return hints_of(self)

    def summary(self) -> dict[str, str | float | int]:
        """Return what a user wants to know first, by name."""
        r = self.reflections
        return {
            "name": r.name,
            "verdict": self.verdict,
            "next_step": self._next_step(),
            "space_group": r.group.symbol,
            "d_min": round(r.d_min, 4),
            "n_reflections": len(r.hkl),
            "r_int": _rounded(self.r_int),
            "n_absent": self.n_absent,
            "absent_i_over_sigma": _rounded(self.absent_i_over_sigma),
            "r_factor": round(self.r_factor, 4),
            "rival_r_factor": _rounded(self.rival_r_factor),
            "mean_fom": round(float(self.fom.mean()), 4),
            "n_agree": self.n_agree,
            "n_trials": self.n_trials,
            **self._network_summary(),
            **self._model_summary(),
            **({"pseudo_translation": said} if (said := self._pseudo_translation()) else {}),
            **({"space_groups_that_fit": ", ".join(fits)} if (fits := self._named_fits()) else {}),
            "hints": ", ".join(hint.name for hint in self.hints) or "none",
        }

    def _network_summary(self) -> dict[str, str | float | int]:
        """What the network says of the solution, if one ranked it."""
        if self.lead is None or self.probability is None:
            return {}
        return {"lead": _rounded(self.lead), "probability": round(self.probability, 3)}

    def _model_summary(self) -> dict[str, str | float | int]:
        """Figures of the model, or why there is none."""
        if self.model is None:
            return {"model": self.model_note} if self.model_note else {}
        figures = self.model.statistics
        return {
            "formula": self.model.formula,
            "z": self.model.n_units,
            "density": round(self.model.density, 3),
            "r1": round(figures.r1, 4),
            "wr2": round(figures.wr2, 4),
            "goof": round(figures.goof, 3),
            "n_parameters": figures.n_parameters,
            "highest_peak": round(figures.peak, 2),
            "deepest_hole": round(figures.hole, 2),
            **({"flack": bracketed(flack.x, flack.su)} if (flack := self.model.flack) else {}),
        }

    def _next_step(self) -> str:
        """Advise on the next step: the space group first if it is in doubt, then a twin, the rivals, the verdict."""
        if self.group_doubt:
            return self.group_doubt
        if self.twin is not None and self.verdict != "unsure" and not self.n_rivals:
            return f"the crystal is probably a twin: refine solution.res with {' and '.join(self.twin.instructions)}"
        advice = NEXT_STEP_WITHOUT_MODEL if self.model is None else NEXT_STEP
        is_open = self.n_rivals and self.verdict != "unsure"
        misfits = self.verdict == "solved" and "formula" in {hint.name for hint in self.hints}
        step = advice["rivals" if is_open else "formula" if misfits else self.verdict]
        has_names = bool(self.formula) or step != NEXT_STEP_WITHOUT_MODEL["solved"]
        return step if has_names else f"{step} (--formula turns its peaks into atoms)"

    def _pseudo_translation(self) -> str:
        """Describe the pseudo-translations and how certain the superstructure's signs are; empty if there are none."""
        if self.pseudo_translations is None:
            return ""
        doubt = ""
        if self.rival_phi is None:
            doubt = "; their signs as a class were not tested, because phases were given"
        elif self.n_rivals:
            doubt = f"; their signs as a class are uncertain: {self.n_rivals} other solution(s) fit equally well"
        return f"{self.pseudo_translations}{doubt}"

    def _named_fits(self) -> list[str]:
        """List the groups: agreement of the worst operation, R1 if known, e.g. ``P 1 21/c 1 (0.93, R1 0.045)``."""
        r1s = ["" if math.isnan(fit.r1) else f", R1 {fit.r1:.3f}" for fit in self.space_groups]
        return [f"{fit.name} ({fit.agreement:.2f}{r1})" for fit, r1 in zip(self.space_groups[:5], r1s)]

    def write(self, folder: str | Path, *, formula: str | None = None) -> Path:
        """Write ``solution.mtz .res .hkl .cif .json`` and ``density.ccp4`` to a folder, all or none; return its path.

        With a model they are its files, and ``solution.ins`` and ``difference.ccp4`` are added. Without one, the peaks
        of the density are written. Existing results are replaced, including their pictures.

        Raises
        ------
        ConfigError
            The folder cannot be written, or a file that is not a result, or was changed since, would be replaced.
        DiskError
            The disk is full, or another process is writing there.
        """
        with ResultSet(folder, RESULTS).staged() as stage:
            self.write_files(stage, formula=formula)
        return Path(folder)

    def write_files(self, folder: Path, *, formula: str | None = None) -> None:
        """Write the same files as `write`, one by one, into the staging folder of a set of results."""
        r, columns = self.reflections, (self.hkl, self.amplitude, self.phi, self.fom)
        rivals = () if self.rival_phi is None else self.rival_phi
        maps = {} if self.model is None else self._write_model(folder, self.model)
        if self.model is None:
            self._write_peaks(folder, formula)
        write_mtz(folder / "solution.mtz", *columns, r.cell, r.group, rivals=rivals, maps=maps)
        write_whole(folder / "solution.json", json.dumps(self.summary(), indent=1, ensure_ascii=False) + "\n")

    def _write_model(self, folder: Path, model: Model) -> dict[tuple[str, str], np.ndarray]:
        """Write the files of the model; return the coefficients of its maps for the reflections, NaN where unknown."""
        found = map_coefficients(model)
        write_model(folder, "solution", model, found, measured=self.measured, r_int=self.r_int, twin=self.twin)
        row = rows_of(self.hkl, found.hkl)
        return {labels: np.where(row >= 0, column[row], np.nan) for labels, column in zip(_MAP_LABELS, found[1:])}

    def _write_peaks(self, folder: Path, formula: str | None) -> None:
        """Write the density, its peaks and the merged reflections."""
        r, peaks, res = self.reflections, self.peaks(formula), folder / "solution.res"
        write_density(folder / "density.ccp4", self.density, r.cell, r.group)
        write_res(
            res, r.cell, r.group, peaks, wavelength=r.wavelength, formula=formula or self.formula or None, title=r.name
        )
        write_hklf4(folder / "solution.hkl", r)
        write_cif(folder / "solution.cif", r.cell, r.group, peaks, title=r.name)


def _rounded(value: float) -> float | str:
    return round(value, 4) if math.isfinite(value) else "none"
