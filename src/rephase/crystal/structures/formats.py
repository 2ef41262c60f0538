"""Recognition of files that are neither CIF nor SHELX, so that an error can name their format."""

import re

_NUMBER = r"[-+]?\d*\.?\d+(?:[eEdD][-+]?\d+)?"
_THREE = rf"[ \t]*{_NUMBER}[ \t]+{_NUMBER}[ \t]+{_NUMBER}"
# Name of each format, and a pattern at the beginning or inside its text; the first match counts.
_FORMATS = {
    "a PDB file": r"\A(?:.*\n){0,50}?(?:CRYST1|HEADER|ATOM  |HETATM|REMARK +\d|MODEL +\d)",
    "a POSCAR of VASP": rf"\A.*\n[ \t]*{_NUMBER}[ \t]*\n(?:{_THREE}[ \t]*\n){{3}}",
    "an XYZ file, which has no cell": rf"\A\s*\d+[ \t]*\n.*\n[ \t]*[A-Za-z]{{1,2}}\d*[ \t]+{_THREE}",
    "a VESTA file": r"\A#VESTA",
    "an XSF file": r"\A(?:#.*\n|\s)*(?:CRYSTAL|PRIMVEC|ANIMSTEPS)\b",
    "a MOL or SDF file": r"\A(?:.*\n){3}.*V[23]000",
    "a MOL2 file": r"@<TRIPOS>",
    "an XML document": r"\A\s*<",
    "a PLATON .spf file": r"(?im)^SPGR\b",
    "an XTL file": r"(?im)^SYMMETRY +(?:NUMBER|LABEL)\b",
    "a CASTEP .cell file": r"(?i)%BLOCK +(?:LATTICE|POSITIONS)",
    "an input of Quantum ESPRESSO": r"(?i)&CONTROL\b|\bATOMIC_POSITIONS\b",
    "a geometry of FHI-aims": r"(?m)^\s*lattice_vector\b",
    "a .pcr file of FullProf": r"\ACOMM\b",
    "a model of JANA": r"(?i)\AVersion +Jana",
    "an MTZ file": r"\AMTZ ",
}
_SHELX = re.compile(r"^CELL[ \t]", re.IGNORECASE | re.MULTILINE)
_SHELX_CARD = re.compile(r"^(?:SFAC|LATT|ZERR|SYMM|UNIT)[ \t]", re.IGNORECASE | re.MULTILINE)
_BEGINNING = 20_000  # letters that are searched


def is_shelx(text: str) -> bool:
    """Whether a text has the cards of an `.ins` or `.res`."""
    return bool(_SHELX.search(text[:_BEGINNING]) and _SHELX_CARD.search(text[:_BEGINNING]))


def foreign_format(text: str) -> str | None:
    """Name the format of a text that is neither CIF nor SHELX; None if it is unknown."""
    return next((name for name, pattern in _FORMATS.items() if re.search(pattern, text[:_BEGINNING])), None)
