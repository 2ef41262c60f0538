"""Crystallographic files without a readable reflection list: how to recognise them, and what the user can do."""

import re

_TEXTS = {
    r"!OUTPUT_FILE=INTEGRATE\.HKL": "INTEGRATE.HKL of XDS, not yet corrected and scaled: give XDS_ASCII.HKL of CORRECT",
    r"!.*XPARM|XPARM\.XDS": "XPARM.XDS, which has no reflections: give XDS_ASCII.HKL of CORRECT",
    r"(?i)[ ]*\d+[ ]+[pabcfirh] *-?\d[\w/ -]*\n(?:[ ]*-?\d+){3,9}[ ]*\n": "an unmerged SCALEPACK list: merge it",
    r"(?m)[\s\S]*?^(CRYST1|ATOM  |HETATM|EXPDTA|SEQRES)": "a model in PDB format: give its structure factors",
    r"(?i)\s*(remark [^\n]*\n\s*)*(NREF\w* *=|INDEX? +-?\d)": "a list of CNS or X-PLOR: convert it to MTZ",
    r"(?i)\s*TITL[\s\S]*\n\s*CELL\s[\s\S]*\n\s*(LATT|SFAC|ZERR)": "instructions of SHELX: give the .hkl beside them",
    r"(?i)\s*<\?xml": "an XML document: export a list of h k l I σ",
    r"\s*\d+ \d+ \d+[^\n]*\n\s*nH\s": "a list of d*TREK: write SHELX HKLF 4 or an MTZ",
    r"FILEID\s": "a .p4p of SAINT, which has no scaled reflections: give the .hkl of SADABS",
    r"\s*(datblock|data Block\w*)\b": "a list of JANA: export it as SHELX HKLF 4",
}
_SUFFIXES = {
    ".pdb": "a model in PDB format: give its structure factors",
    ".mtz": "an MTZ that is damaged: get the file again",
    ".m90": "a list of JANA: export it as SHELX HKLF 4",
    ".m91": "a list of JANA: export it as SHELX HKLF 4",
    ".m95": "a list of JANA: export it as SHELX HKLF 4",
    ".raw": "the integrated list of SAINT, not yet scaled: give the .hkl of SADABS",
    ".p4p": "a .p4p of SAINT, which has no scaled reflections: give the .hkl of SADABS",
    ".abs": "the report of SADABS: give the .hkl beside it",
    ".rrpprof": "a profile file of CrysAlisPro: give the .hkl that it exports",
    ".lst": "the report of SHELX: give the .hkl",
    ".refl": "a reflection file of DIALS: export an MTZ or a .hkl (dials.export)",
    ".expt": "a file of DIALS without reflections: export an MTZ or a .hkl (dials.export)",
    ".xlsx": "a spreadsheet: export a CSV",
}


def foreign_text(text: str) -> str | None:
    """Name the format of a text by its first lines, with a remedy; None if it is unknown."""
    start = text[:4000]
    return next((what for mark, what in _TEXTS.items() if re.match(mark, start)), None)


def foreign_suffix(suffix: str) -> str | None:
    """Name the probable format of an unreadable list by its suffix, with a remedy; None if it is unknown."""
    return _SUFFIXES.get(suffix.lower())
