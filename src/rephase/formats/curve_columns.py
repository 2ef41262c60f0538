"""Recognition of the columns q, I, σ and dq of a table, by the names above them or by position."""

import re
from collections.abc import Iterator

import numpy as np

from rephase.errors import CurveError
from rephase.formats.curve_units import COMMENT, Columns, plain, without_units

Found = tuple[Columns, tuple[str, ...]]
"""Columns, and notes on omissions, as sentences."""
SPACES = r"\s*[,;|]\s*|\s+"
"""Pattern of the separator between the fields of a line."""
_ROLES = {
    "q": "q s h x qvec qvector qval qvalue qvalues qmean qbin qbins qexp sexp qabs qmod qavg qaxis modq "
    "scatteringvector momentumtransfer",
    "intensity": "i int intensity intensities iq iexp jexp expintensity experimentalintensity intensityexp iobs isub "
    "icorr iabs iavg imean icor y counts signal dsdo dσdω exptint exptintensity",
    "sigma": "s sigma sig σ σi err error errors esd std stdev stddev standarddeviation sd dev idev di δi deltai erri "
    "ierr ierror interr intensityerror errorintensity isigma sigmai sigi uncertainty uncertainties unc experror experr "
    "intensityerrors expterror yerr yerror erry dy e errorbar errorbars + ± stdi istd stddevi isd dintensity errint",
    "dq": "dq qdev resolution res sigmaq qsigma sigq σq qerr errq deltaq δq qerror qres dx ds",
}
_OTHERS = re.compile(  # quantities that a file may have instead of q or I
    r"(?:2|two)[ _*-]*(?:th|θ)|tth|theta|θ|angle|azimuth|radial distance|radius|d(?:[ _-]?spacings?)?(?![a-z])"
    r"|(?:log|ln|lg)(?:10|_?e)?(?:\s*[(\[_]?\s*(?:[qsi](?![a-z])|int)|\s*\Z)"
    r"|[qs]\s*(?:\^|\*\*)?\s*[2-4²³⁴](?!\w)|(?:i|int\w*)(?:\([qs]\))?\s*[*·×.]\s*[qs](?![a-z])|q\s*[*·×]\s*i",
    re.IGNORECASE,
)
_OTHER_AXIS = re.compile(  # an axis name alone in a line, as Fit2D writes it
    r"\W*(?:(?:2|two)[ _*-]*(?:theta|θ)(?: angle)?|azimuth|(?:radial )?distance|d[ -]spacing)"
    r"\s*(?:\([^)]*\)|\[[^]]*\])?\W*",
    re.IGNORECASE,
)
_SINE = re.compile(r"(?<![\d.])2\s*[*·]?\s*sin\b(?!.*(?:pi\b|π))", re.IGNORECASE)
_FITTED = 0.5  # a column is "as large as the intensity" if the median |σ/I - 1| of the stronger half is below


def named_columns(name: str, header: list[str], values: np.ndarray) -> Found | None:
    """Assign the columns of `values` by a header line that names them; None if no line has enough names.

    Raises
    ------
    CurveError
        A column is not q or I itself, but an angle, 2 sin θ/λ, a logarithm, a power or a product.
    """
    _check_axis(name, header)
    for names in _names(header, values.shape[1]):
        _check_quantities(name, names)
        roles = _roles(names)
        if roles.keys() >= {"q", "intensity"}:
            left = [given for number, given in enumerate(names) if number not in roles.values()]
            notes: tuple[str, ...] = (f"columns {', '.join(left)} of the file: left out",) if left else ()
            q, intensity = values[:, roles["q"]], values[:, roles["intensity"]]
            sigma, dq = (values[:, roles[role]] if role in roles else None for role in ("sigma", "dq"))
            return (q, intensity, sigma, dq), notes
    return None


def _check_axis(name: str, header: list[str]) -> None:
    """Raise if a line of the header says that the first column is not q."""
    for line in map(plain, header):
        if _OTHER_AXIS.fullmatch(line) or (_SINE.search(line) and not re.search(r"\bpi\b|π", line, re.IGNORECASE)):
            raise CurveError(
                f"{name}: the first column is {line.strip()[:80]!r}: expected q = 4π sin θ/λ; convert it, and call it q"
            )


def _check_quantities(name: str, names: list[str]) -> None:
    """Raise if a column name means a function of q or I, an angle or a distance."""
    others = [given for given in names[:2] if _OTHERS.match(given)]
    if others and len(others) + len(_roles([given for given in names if given not in others])) >= 2:
        raise CurveError(
            f"{name}: a column is {others[0]!r}: expected q and I themselves; convert it, and call them q and I"
        )


def placed_columns(name: str, values: np.ndarray) -> Found:
    """Assign q, I, σ, dq in this order, for files that do not name their columns.

    Raises
    ------
    CurveError
        The third column is as large as the intensity, so it is a fit.
    """
    q, intensity, *rest = values.T
    sigma, dq = [*rest, None, None][:2]
    notes = []
    if sigma is not None and is_as_large(sigma, intensity):
        raise CurveError(
            f"{name}: the third column is as large as the intensity, like a fit, and no line names the columns: "
            "expected q, I, σ; write 'q I sigma' above them if it is σ, otherwise delete it and give relative_sigma"
        )
    if dq is not None and is_as_large(dq, intensity):
        dq = None
        notes.append("column 4 is as large as the intensity, like a fit: left out")
    if len(rest) > 2:
        notes.append(f"columns 5 to {2 + len(rest)}: left out, as no line names them")
    return (q, intensity, sigma, dq), tuple(notes)


def is_as_large(values: np.ndarray, intensity: np.ndarray) -> bool:
    """Whether values resemble the intensity at its strongest points, as a fit does and σ does not."""
    is_known = np.isfinite(values) & np.isfinite(intensity) & (intensity > 0)
    if not is_known.any():
        return False
    bright = is_known & (intensity >= np.median(intensity[is_known]))
    return bool(np.median(np.abs(values[bright] / intensity[bright] - 1)) < _FITTED)


def _names(header: list[str], n: int) -> Iterator[list[str]]:
    """Yield the words of each header line with enough words for all columns, nearest to the rows first."""
    for line in reversed(header):
        words = plain(line).replace('"', "").lstrip(f" \t,|{COMMENT}").rstrip(" \t,|#;!")
        words = re.sub(r"\s*[(\[]?\s*%\s*[)\]]?", "%", words)
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
    """Find the columns q, intensity, sigma and dq, without percentages; s means q if nothing else does, otherwise σ."""
    short = ["" if "%" in name else re.sub(r"[^a-zσδω±+]", "", without_units(name).lower()) for name in names]
    roles: dict[str, int] = {}
    for role, known in _ROLES.items():
        candidates = [
            number for number, word in enumerate(short) if word in known.split() and number not in roles.values()
        ]
        if candidates:
            roles[role] = candidates[0]
    return roles
