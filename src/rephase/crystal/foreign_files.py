"""Names of files that hold no list of reflections that is read, and what their owner can do."""

import re

# First bytes of binary files.
_BYTES = {
    b"PK\x03\x04": "a ZIP archive, as .xlsx and .npz are, too: unpack it, or export a text",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file (detector images, NeXus): integrate it and give the reflections",
    b"%PDF": "a PDF document: get the list itself",
    b"BZh": "packed by bzip2: unpack it",
    b"\xfd7zXZ": "packed by xz: unpack it",
    b"\x1f\x9d": "packed by compress (.Z): unpack it",
    b"7z\xbc\xaf": "a 7-Zip archive: unpack it",
    b"Rar!": "a RAR archive: unpack it",
    b"\x28\xb5\x2f\xfd": "packed by zstd: unpack it",
    b"\x80\x02": "a Python pickle, which could run any code: export a text",
    b"\x80\x03": "a Python pickle, which could run any code: export a text",
    b"\x80\x04": "a Python pickle, which could run any code: export a text",
    b"\x80\x05": "a Python pickle, which could run any code: export a text",
    b"\x93NUMPY": "a NumPy array: export a text",
    b"\xd0\xcf\x11\xe0": "a document of an old Office: export a text",
    b"SQLite format 3": "an SQLite database: export a text",
    b"\x89PNG": "a PNG image: get the list itself",
    b"\xff\xd8\xff": "a JPEG image: get the list itself",
    b"II*\0": "a TIFF image: integrate the images and give the reflections",
    b"MM\0*": "a TIFF image: integrate the images and give the reflections",
}
_BYTES_AT = {(257, b"ustar"): "a tar archive: unpack it", (208, b"MAP "): "a map in CCP4 format: give the reflections"}
_TEXTS = {
    r"!OUTPUT_FILE=INTEGRATE\.HKL": "INTEGRATE.HKL of XDS, not yet corrected and scaled: give XDS_ASCII.HKL of CORRECT",
    r"!.*XPARM|XPARM\.XDS": "XPARM.XDS, which has no reflections: give XDS_ASCII.HKL of CORRECT",
    r"(?i)[ ]*\d+[ ]+[pabcfirh] *-?\d[\w/ -]*\n(?:[ ]*-?\d+){3,9}[ ]*\n": "an unmerged SCALEPACK list: merge it",
    r"(?m)[\s\S]*?^(CRYST1|ATOM  |HETATM|EXPDTA|SEQRES)": "a model in PDB format: give its structure factors",
    r"(?i)\s*(remark [^\n]*\n\s*)*(NREF\w* *=|INDEX? +-?\d)": "a list of CNS or X-PLOR: convert it to MTZ",
    r"(?i)\s*TITL[\s\S]*\n\s*CELL\s[\s\S]*\n\s*(LATT|SFAC|ZERR)": "instructions of SHELX: give the .hkl beside them",
    r"(?i)\s*<(!doctype html|html)": "an HTML page, perhaps of a failed download: get the file again",
    r"(?i)\s*<\?xml": "an XML document: export a list of h k l I σ",
    r"\s*\{\s*\"|\s*\[\s*\{": "a JSON document: export a list of h k l I σ",
    r"\s*\{\\rtf": "a document in RTF: save it as plain text",
    r"%!PS": "a PostScript document: get the list itself",
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


def foreign_bytes(content: bytes) -> str | None:
    """What a binary file is, and a remedy; None where it is unknown."""
    known = next((what for mark, what in _BYTES.items() if content.startswith(mark)), None)
    return known or next((what for (at, mark), what in _BYTES_AT.items() if content[at:].startswith(mark)), None)


def foreign_text(text: str) -> str | None:
    """What a text is by its first lines, and a remedy; None where it is unknown."""
    start = text[:4000]
    return next((what for mark, what in _TEXTS.items() if re.match(mark, start)), None)


def foreign_suffix(suffix: str) -> str | None:
    """What a file that cannot be read as a list may be by its suffix, and a remedy; None where it is unknown."""
    return _SUFFIXES.get(suffix.lower())
