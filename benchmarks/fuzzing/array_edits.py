"""Changes of the headers of NumPy files and TIFF images."""

import struct
from pathlib import Path
from random import Random

import numpy as np

from fuzzing.text_edits import Edit, edit_bytes

_SHAPES = [
    "()",
    "(0,)",
    "(-1, 40)",
    "(1000000000000,)",
    "(40, 40, 1)",
    "(2, 2, 40, 40)",
    "(1, 100000, 100000)",
    "None",
    "(40,)",
    "(1e3, 40)",
    "(True, 40)",
    "(99999999999999999999, 40)",
    "[40, 40]",
    "(40, 40",
    "(20, 20)",
    "(1000000, 40, 40)",
]
_TYPES = ["|O", "<f8", "<f2", ">i4", "<c16", "|b1", "<U10", "|S9", "<M8[s]", "|V8", "<i8", "x", "[('a','<f4')]", "<f16"]
_NUMBERS = [0, 1, 2, 3, 7, 8, 16, 17, 64, 255, 256, 32_773, 65_535, 100_000, 2**31 - 1, 2**31, 2**32 - 1]
_TAGS = {
    256: "width",
    257: "length",
    258: "bits",
    259: "compression",
    262: "photometric",
    273: "offsets",
    277: "samples",
    278: "rows of a strip",
    279: "byte counts",
    284: "planar",
    317: "predictor",
    322: "tile width",
    338: "extra samples",
    339: "sample format",
}


def edit_numpy_header(path: Path, random: Random) -> None:
    """Change shape, type or order in the header of a .npy file, keeping its length if possible."""
    content = path.read_bytes()
    if content[:6] != b"\x93NUMPY":
        return
    end = 10 + int.from_bytes(content[8:10], "little")
    shape, kind = random.choice(_SHAPES), random.choice(_TYPES)
    old = content[10:end].decode("latin-1").strip()
    new = random.choice(
        [
            old.split("'shape'")[0] + f"'shape': {shape}, }}",
            old.replace(old.split("'descr': ")[-1].split(",")[0], f"'{kind}'"),
            old.replace("False", "True"),
            old.replace("'shape'", "'shap'"),
            old + "__import__('os').getcwd()",
            "{" * 3000,
        ]
    )
    header = new.encode("latin-1", errors="replace").ljust(end - 11) + b"\n"
    path.write_bytes(content[:8] + len(header).to_bytes(2, "little") + header + content[end:])


def edit_numpy_values(path: Path, random: Random) -> None:
    """Replace some values of a .npy file by impossible ones."""
    try:
        values = np.load(path)
    except Exception:  # damaged before
        return
    with np.errstate(all="ignore"):
        new = np.array(random.choice([np.nan, -np.inf, -1, 0, 1e30, 65535])).astype(values.dtype)
    flat = values.reshape(-1)
    if flat.size:
        flat[random.randrange(flat.size) :: random.choice((1, 3, flat.size))] = new
    np.save(path, values)


def edit_tiff_tag(path: Path, random: Random) -> None:
    """Give a tag of the first page another type, count or value, or repeat it."""
    content = bytearray(path.read_bytes())
    if content[:4] not in (b"II*\0", b"MM\0*"):
        return
    order = "<" if content[:2] == b"II" else ">"
    (start,) = struct.unpack_from(f"{order}I", content, 4)
    if start + 2 > len(content):
        return
    (n,) = struct.unpack_from(f"{order}H", content, start)
    rows = [row for row in range(start + 2, start + 2 + 12 * n, 12) if row + 12 <= len(content)]
    known = [row for row in rows if struct.unpack_from(f"{order}H", content, row)[0] in _TAGS]
    if not known:
        return
    row, number = random.choice(known), random.choice(_NUMBERS)
    match random.randrange(6):
        case 0:
            struct.pack_into(f"{order}H", content, row + 2, random.randrange(20))
        case 1:
            struct.pack_into(f"{order}I", content, row + 4, number)
        case 2:
            struct.pack_into(f"{order}H", content, row, random.choice(list(_TAGS)))
        case 3 if rows[-1] + 16 <= len(content):
            struct.pack_into(f"{order}I", content, rows[-1] + 12, random.choice([start, number]))
        case _:
            is_short = struct.unpack_from(f"{order}H", content, row + 2)[0] == 3
            struct.pack_into(
                f"{order}H" if is_short else f"{order}I", content, row + 8, number % (65536 if is_short else 2**32)
            )
    path.write_bytes(content)


NUMPY_EDITS: tuple[Edit, ...] = (*(edit_numpy_header,) * 4, *(edit_numpy_values,) * 2, edit_bytes)
TIFF_EDITS: tuple[Edit, ...] = (*(edit_tiff_tag,) * 4, edit_bytes)
