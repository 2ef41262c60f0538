"""Recognition of archives, documents or images in place of a text, with a remedy for each."""

import re

from rephase.files.reading import decoded

# First bytes of binary formats.
_BYTES = {
    b"PK\x03\x04": "a ZIP archive, as .xlsx and .npz are, too: unpack it, or export a text",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file: unpack it if it is packed, or give the data integrated from its images",
    b"%PDF": "a PDF document: obtain the numerical data",
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
    b"\xd0\xcf\x11\xe0": "a document in an old Office format: export a text",
    b"SQLite format 3": "an SQLite database: export a text",
    b"\x89PNG": "a PNG image: obtain the numerical data",
    b"\xff\xd8\xff": "a JPEG image: obtain the numerical data",
    b"II*\0": "a TIFF image: give the data integrated from it",
    b"MM\0*": "a TIFF image: give the data integrated from it",
}
_BYTES_AT = {
    (257, b"ustar"): "a tar archive: unpack it",
    (208, b"MAP "): "a map in CCP4 format: give the data it was made from",
}
_TEXTS = {
    r"(?i)\s*<(!doctype html|html)": "an HTML page, perhaps of a failed download: get the file again",
    r"\s*\{\s*\"|\s*\[\s*\{": "a JSON document: export a text",
    r"\s*\{\\rtf": "a document in RTF: save it as plain text",
    r"%!PS": "a PostScript document: obtain the numerical data",
}


def foreign_document(content: bytes) -> str | None:
    """Name the format of a file by its first bytes, with a remedy; None if it may be a text of this field.

    Examples
    --------
    >>> foreign_document(b"BZh91AY&SY")
    'packed by bzip2: unpack it'
    """
    known = next((what for mark, what in _BYTES.items() if content.startswith(mark)), None)
    known = known or next((what for (at, mark), what in _BYTES_AT.items() if content[at:].startswith(mark)), None)
    start = decoded(content[:4000])
    return known or next((what for mark, what in _TEXTS.items() if re.match(mark, start)), None)
