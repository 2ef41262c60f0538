"""Which columns of a table are q, I, σ and dq: by the names above them, or by their place."""

import re
from collections.abc import Iterator

import numpy as np

from rephase.datasets.curve_units import COMMENT, Columns, plain, without_units
from rephase.errors import CurveError

Found = tuple[Columns, tuple[str, ...]]
"""Columns, and what is left out, in sentences."""
SPACES = r"\s*[,;|]\s*|\s+"
"""Pattern of what separates the fields of a line."""
_ROLES = {
    "q": "q s h x qvec qvector qval qvalue qvalues qmean qbin qbins qexp sexp qabs qmod qavg qaxis modq "
    "scatteringvector momentumtransfer",
    "intensity": "i int intensity intensities iq iexp jexp expintensity experimentalintensity intensityexp iobs isub "
    "icorr iabs iavg imean icor y counts signal dsdo dσdω exptint exptintensity",
    "sigma": "s sigma sig σ σi err error errors esd std stdev stddev standarddeviation sd dev idev di δi deltai erri "
    "ierr ierror interr intensityerror errorintensity isigma sigmai sigi uncertainty uncertainties unc experror experr "
    "expterror yerr yerror erry dy e errorbar errorbars + ± stdi istd stddevi isd dintensity errint",
    "dq": "dq qdev resolution res sigmaq qsigma sigq σq qerr errq deltaq δq qerror qres dx ds",
}
_FITTED = 0.5  # what stands for σ is as large as the intensity: |σ/I - 1| below this for the brighter half


def named_columns(name: str, header: list[str], values: np.ndarray) -> Found | None:
    """The columns of `values` that a line of the header names; None where no line names as many as there are.

    Raises
    ------
    CurveError
        An angle in place of q.
    """
    for names in _names(header, values.shape[1]):
        roles = _roles(names)
        if roles.keys() >= {"q", "intensity"}:
            left = [given for number, given in enumerate(names) if number not in roles.values()]
            notes: tuple[str, ...] = (f"columns {', '.join(left)} of the file: left out",) if left else ()
            q, intensity = values[:, roles["q"]], values[:, roles["intensity"]]
            sigma, dq = (values[:, roles[role]] if role in roles else None for role in ("sigma", "dq"))
            return (q, intensity, sigma, dq), notes
        if "intensity" in roles and re.match(r"(?:2|two)[ _-]*(?:th|θ)|tth|angle", names[0], re.IGNORECASE):
            raise CurveError(f"{name}: the first column is {names[0]!r}, an angle: expected q; convert it")
    return None


def placed_columns(name: str, values: np.ndarray) -> Found:
    """q, I, σ, dq in this order, where the file does not name its columns.

    Raises
    ------
    CurveError
        The third is as large as the intensity: a fit.
    """
    q, intensity, *rest = values.T
    sigma, dq = [*rest, None, None][:2]
    notes = []
    if sigma is not None and is_as_large(sigma, intensity):
        raise CurveError(
            f"{name}: the third column is as large as the intensity, as a fit is, and no line names the columns: "
            "expected q, I, σ; write 'q I sigma' above them if it is σ, else delete it and give relative_sigma"
        )
    if dq is not None and is_as_large(dq, intensity):
        dq = None
        notes.append("column 4 is as large as the intensity, as a fit is: left out")
    if len(rest) > 2:
        notes.append(f"columns 5 to {2 + len(rest)}: left out, as no line names them")
    return (q, intensity, sigma, dq), tuple(notes)


def is_as_large(values: np.ndarray, intensity: np.ndarray) -> bool:
    """Whether values are much like the intensity where that is brightest, as a fit is and σ is not."""
    is_known = np.isfinite(values) & np.isfinite(intensity) & (intensity > 0)
    if not is_known.any():
        return False
    bright = is_known & (intensity >= np.median(intensity[is_known]))
    return bool(np.median(np.abs(values[bright] / intensity[bright] - 1)) < _FITTED)


def _names(header: list[str], n: int) -> Iterator[list[str]]:
    """Words of each line of a header, as many as there are columns, the line that is nearest to the rows first."""
    for line in reversed(header):
        words = plain(line).replace('"', "").strip(f" \t,|{COMMENT}")
        for parts in (
            re.split(r"\s*[\t;|,]\s*", words),
            re.split(r"\s{2,}", words),
            re.split(SPACES, _unbroken(words)),
        ):
            if len(parts) >= n:
                yield [part.strip() for part in parts[-n:]]


def _unbroken(words: str) -> str:
    return re.sub(r"\s+/\s+|/(?=\s|$)", " ", without_units(words)).strip()


def _roles(names: list[str]) -> dict[str, int]:
    """Which column is q, intensity, sigma and dq; s is q where nothing else is, else σ."""
    short = [re.sub(r"[^a-zσδω±+]", "", without_units(name).lower()) for name in names]
    roles: dict[str, int] = {}
    for role, known in _ROLES.items():
        candidates = [
            number for number, word in enumerate(short) if word in known.split() and number not in roles.values()
        ]
        if candidates:
            roles[role] = candidates[0]
    return roles
