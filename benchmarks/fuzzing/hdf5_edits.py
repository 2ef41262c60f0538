"""Changes of the contents of an HDF5 file: datasets, groups, links, attributes, shapes and types."""

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np

from fuzzing.text_edits import Edit, edit_bytes

_MOST = 100_000  # numbers
HUGE_SHAPES = [(10**12,), (2**62,), (1, 10**9), (10**6, 10**6), (10**9, 32, 32), (2**31, 2**20), (50_000, 50_000)]
ATTRIBUTES: list[Any] = [
    *(b"1/nm", b"\xff\xfe", "", "1/angstrom", "x" * 60_000, 5, -1.5, np.nan, np.arange(3), np.array([b"a", b"b"])),
    *(h5py.Empty("f"), h5py.Empty("S5"), np.array([], dtype="f"), True, 1 + 2j, "<img src=x onerror=alert(1)>", "../x"),
]
WRONG_VALUES: list[Any] = [
    *(np.nan, np.inf, -1.0, 0.0, 1e300, 2**63 - 1, -(2**62), 1e-320, b"text", "text", 1 + 2j, True, h5py.Empty("f8")),
    *(np.zeros(0), np.zeros((0, 3)), np.array("x" * 50_000, dtype=object), np.array([b"1", b"2"]), np.array([1, 2])),
]
TYPES = ("f2", "f4", "f8", "i1", "u1", "i8", "u8", "u4", "c8", "bool", "S8", "f4,i4", ">f8", ">i2")


def _items(file: h5py.File) -> list[str]:
    names: list[str] = []
    file.visit(names.append)
    return names


def _dataset(file: h5py.File, random: Random) -> str | None:
    """Choose a dataset no larger than those of good files: an edit must not fill the memory that is monitored."""
    found = ((name, file.get(name)) for name in _items(file))
    names = [
        name
        for name, item in found
        if isinstance(item, h5py.Dataset) and (item.size or 0) <= _MOST and not item.external
    ]
    return random.choice(names) if names else None


def delete_item(file: h5py.File, random: Random) -> None:
    """Delete a dataset or a group."""
    del file[random.choice(_items(file))]


def _replaced(file: h5py.File, name: str, value: Any, **options: Any) -> None:
    attributes = dict(file[name].attrs) if isinstance(file.get(name), h5py.HLObject) else {}
    del file[name]
    made = file.create_dataset(name, data=value, **options)
    for key, kept in attributes.items():
        made.attrs[key] = kept


def replace_by_group(file: h5py.File, random: Random) -> None:
    """Replace a dataset, or a group with all in it, by a group, empty or with the dataset inside."""
    name = random.choice(_items(file))
    if random.random() < 0.5:
        file.move(name, "moved")
        file.create_group(name)
        file.move("moved", f"{name}/{random.choice(('data', 'Q', 'x'))}")
    else:
        del file[name]
        file.create_group(name)


def replace_by_value(file: h5py.File, random: Random) -> None:
    """Replace any object by a dataset with an unexpected value."""
    _replaced(file, random.choice(_items(file)), random.choice(WRONG_VALUES))


def change_values(file: h5py.File, random: Random) -> None:
    """Replace some or all values of a dataset by impossible ones."""
    if (name := _dataset(file, random)) is None or file[name].shape is None:
        return
    values = np.array(file[name][()])
    with np.errstate(all="ignore"):
        new = np.array(random.choice([np.nan, np.inf, -1, 0, 1e30, 65535, 2**31 - 1, -(2**31)])).astype(values.dtype)
    flat = values.reshape(-1)
    flat[random.randrange(flat.size) :: random.choice((1, 2, 7, flat.size))] = new
    _replaced(file, name, values)


def change_type(file: h5py.File, random: Random) -> None:
    """Change the type of a dataset."""
    if (name := _dataset(file, random)) is None:
        return
    values = np.asarray(file[name][()])
    with np.errstate(all="ignore"):
        _replaced(
            file,
            name,
            np.zeros(values.shape, random.choice(TYPES))
            if values.dtype.kind not in "buif"
            else values.astype(random.choice(TYPES)),
        )


def change_shape(file: h5py.File, random: Random) -> None:
    """Change the axes of a dataset, with the same values or a part of them."""
    if (name := _dataset(file, random)) is None:
        return
    values = np.asarray(file[name][()])
    shapes = [
        values.ravel,
        lambda: values[None],
        lambda: values[..., None],
        lambda: values.T,
        lambda: values[:0],
        lambda: values.ravel()[:1],
        lambda: values.ravel()[:-1],
        lambda: np.stack([values] * 2),
        lambda: values[..., :3],
        lambda: values.reshape((1,) * 4 + values.shape),
    ]
    _replaced(file, name, random.choice(shapes)())


def claim_huge(file: h5py.File, random: Random) -> None:
    """Write a dataset that claims a huge shape but stores almost nothing."""
    if (name := _dataset(file, random)) is None:
        return
    old, attributes = file[name], dict(file[name].attrs)
    shape = random.choice([*HUGE_SHAPES, *((10**7, *(old.shape or ())[1:]),) * 2])
    dtype = old.dtype if old.dtype.kind in "buif" else np.dtype("f8")
    chunks = tuple(min(side, 64) for side in shape)
    options = [{"chunks": chunks}, {"chunks": chunks, "compression": "gzip"}, {"chunks": chunks, "fillvalue": 1}]
    del file[name]
    made = file.create_dataset(name, shape, dtype, **random.choice(options))
    if random.random() < 0.5:
        made[(0,) * len(shape)] = 1
    for key, kept in attributes.items():
        made.attrs[key] = kept


def link(file: h5py.File, random: Random) -> None:
    """Add a link that leads nowhere, to another file, to itself or back to the root."""
    name = random.choice(_items(file))
    target = random.choice(
        [
            h5py.SoftLink("/nowhere"),
            h5py.SoftLink(f"/{name}"),
            h5py.SoftLink("/"),
            file["/"],
            h5py.ExternalLink("nowhere.h5", "/x"),
            h5py.ExternalLink("/dev/zero", "/x"),
            h5py.ExternalLink("", "/"),
            h5py.ExternalLink("../" * 50, "/"),
        ]
    )
    del file[name]
    file[name] = target


def keep_outside(file: h5py.File, random: Random) -> None:
    """Move the values of a dataset to another file, which does not exist or belongs to the system."""
    if (name := _dataset(file, random)) is None or file[name].shape in (None, ()):
        return
    shape, dtype = file[name].shape, file[name].dtype
    if dtype.kind not in "buif":
        return
    del file[name]
    outside = [(random.choice(("nowhere.raw", "/dev/zero", "/etc/passwd")), 0, h5py.h5f.UNLIMITED)]
    file.create_dataset(name, shape, dtype, external=outside)


def change_attribute(file: h5py.File, random: Random) -> None:
    """Delete an attribute, or replace it by text, bytes, a number, an array, or an empty value."""
    holder = file[random.choice([*_items(file), "/"])]
    names = [*holder.attrs.keys(), random.choice(("units", "unit", "uncertainties", "resolutions", "mask", "signal"))]
    name = random.choice(names)
    if name in holder.attrs and random.random() < 0.2:
        del holder.attrs[name]
    else:
        holder.attrs[name] = random.choice(ATTRIBUTES)


def rename(file: h5py.File, random: Random) -> None:
    """Rename any object: another entry, a name with markup, a long name, or one that is not text."""
    name, parent = random.choice(_items(file)), ""
    parent = name.rpartition("/")[0]
    new = random.choice(
        [
            "entry_2",
            "entry_999999999",
            "entry_0",
            "data",
            "mask",
            "Q",
            "I",
            "<img src=x onerror=1>",
            "x" * 20_000,
            "ä",
            " ",
            "\n",
            "a/b/c",
        ]
    )
    file.move(name, f"{parent}/{new}")


def repeat_item(file: h5py.File, random: Random) -> None:
    """Copy any object once, or many times."""
    name = random.choice(_items(file))
    for number in range(random.choice((1, 1, 300))):
        file.copy(name, f"{name.partition('/')[0] if '/' in name else name}_{number}")


STRUCTURE: tuple[Callable[[h5py.File, Random], None], ...] = (
    *(delete_item, replace_by_group, replace_by_value, replace_by_value, change_values, change_values, change_type),
    *(change_shape, change_shape, claim_huge, claim_huge, link, keep_outside, change_attribute, change_attribute),
    *(rename, repeat_item),
)


def edit_structure(path: Path, random: Random) -> None:
    """Make one change in an HDF5 file; a file that earlier changes have made unreadable stays as it is."""
    change = random.choice(STRUCTURE)
    try:
        with h5py.File(path, "a") as file:
            change(file, random)
    except Exception:  # cannot be changed in this way, or was damaged before
        return


HDF5_EDITS: tuple[Edit, ...] = (*(edit_structure,) * 8, edit_bytes)
