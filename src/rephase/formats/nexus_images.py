"""Images in NeXus files of detectors: the frames of an entry, possibly in linked files, and their pixel mask."""

import re
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import h5py

from rephase.formats.hdf5 import Hdf5File

_MASKS = ("instrument/detector/pixel_mask", "instrument/detector/detectorSpecific/pixel_mask")

_MOST_GROUPS = 100  # of the root that are searched


class NexusFrames(NamedTuple):
    """Names of the datasets with the frames of an entry, relative to the entry, and of their mask.

    ``linked`` are the other files that contain frames.
    """

    entry: h5py.Group
    names: tuple[str, ...]
    mask: str | None
    linked: tuple[Path, ...]


def frames_of(file: Hdf5File) -> NexusFrames | None:
    """Find the frames of the first entry that has any: ``data/data_000001`` … (Eiger), or ``data/data``.

    The frames are not read, and their links are not followed. None if the file is of another kind.
    """
    for name in islice(file.root, _MOST_GROUPS):
        group = file.group(name) if isinstance(file.root.get(name, getlink=True), h5py.HardLink) else None
        data = None if group is None else file.group("data", group)
        if group is None or data is None:
            continue
        numbered = sorted(key for key in data if re.fullmatch(r"data_\d+", key))
        names = tuple(f"data/{key}" for key in numbered or ("data",) if key in data)
        if names:
            links = (group.get(name, getlink=True) for name in names)
            linked = tuple(file.path.parent / link.filename for link in links if isinstance(link, h5py.ExternalLink))
            mask = next((mask for mask in _MASKS if file.dataset(mask, group) is not None), None)
            return NexusFrames(group, names, mask, linked)
    return None
