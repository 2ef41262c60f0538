"""Training checkpoints: plain values and tensors in files that end in their checksum. Nothing else is ever read."""

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from rephase.errors import TrainingError
from rephase.files.writing import write_whole

_MARK = b"\nrephase sha256 "
_REMEDY = "delete its folder to train again"


def write_checkpoint(path: str | Path, checkpoint: dict[str, Any]) -> None:
    """Write a checkpoint in the format of ``torch.save`` with its SHA-256 as the last line, entirely or not at all.

    Raises
    ------
    DiskError
        The disk refuses the file.
    """
    file = io.BytesIO()
    torch.save(checkpoint, file)
    content = file.getvalue()
    write_whole(Path(path), content + _MARK + hashlib.sha256(content).hexdigest().encode())


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a file from `write_checkpoint`; no code in the file is ever executed.

    Raises
    ------
    TrainingError
        The file is missing, damaged or without a checksum, or holds anything but plain values and tensors.
    """
    try:
        content, mark, expected = Path(path).read_bytes().rpartition(_MARK)
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error
    if not mark:
        raise TrainingError(
            f"{path}: expected its SHA-256 in the last line, but there is none: the file is from an older version of "
            f"rephase, is truncated, or was written by another program; {_REMEDY}"
        )
    if (found := hashlib.sha256(content).hexdigest()) != (said := expected.decode("latin-1")):
        raise TrainingError(f"{path}: its SHA-256 is {found}, expected {said}: it is damaged; {_REMEDY}")
    try:
        checkpoint = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch's reader can raise anything for a manipulated file
        reason = str(error).split("\n", 1)[0]
        raise TrainingError(
            f"{path}: expected plain values and tensors only ({reason}); nothing in it was executed; {_REMEDY}"
        ) from error
    weights = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise TrainingError(f"{path}: expected a checkpoint, but it has no state_dict of tensors; {_REMEDY}")
    return checkpoint
