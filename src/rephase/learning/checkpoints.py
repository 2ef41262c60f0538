"""Training checkpoints: plain values and tensors in files that end in their checksum. Nothing else is ever read."""

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import CheckpointIO

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


class CheckedCheckpoints(CheckpointIO):
    """Lightning's interface to write and read these checkpoints."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write with `write_checkpoint`."""
        write_checkpoint(path, checkpoint)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read with `read_checkpoint`, always weights only; if the folder was moved, paths are updated."""
        checkpoint = read_checkpoint(path)
        folder = os.path.realpath(Path(path).parent)
        for state in checkpoint.get("callbacks", {}).values():
            if "dirpath" in state:
                state.update(_moved(state, folder), dirpath=folder)
        return checkpoint

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove nothing: a new checkpoint replaces the old one, and a path in a file cannot be trusted."""


def _moved(state: dict[str, Any], folder: str) -> dict[str, Any]:
    """Move the paths to another folder in the state of a callback that keeps paths and scores of its checkpoints."""

    def move(path: str) -> str:
        return path and os.path.join(folder, os.path.basename(path))

    names = ("best_model_path", "kth_best_model_path", "last_model_path")
    scores = {move(path): score for path, score in state["best_k_models"].items()}
    return {name: move(state[name]) for name in names} | {"best_k_models": scores}
