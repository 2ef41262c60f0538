"""Changes of weights and checkpoints, signed again as by an attacker, to reach the code after the checksum test."""

import hashlib
import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from fuzzing.text_edits import Edit, edit_bytes
from fuzzing.tree_edits import changed_tree

_MARK = b"\nrephase sha256 "
_TENSORS = [torch.full((3,), torch.nan), torch.zeros(0), torch.zeros(2, 2), torch.ones(3, dtype=torch.int64)]


class Executed:
    """Code that a pickle executes when a program that trusts it opens it."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return eval, ("1 / 0",)


def edit_checkpoint(path: Path, random: Random) -> None:
    """Write another tree of values and tensors, or an object that executes code, with the correct checksum."""
    content = path.read_bytes().rpartition(_MARK)[0] or path.read_bytes()
    try:
        tree = torch.load(io.BytesIO(content), weights_only=True)
    except Exception:  # damaged before
        return
    weights = tree.get("state_dict") if isinstance(tree, dict) else None
    match random.randrange(5):
        case 0 if isinstance(weights, dict) and weights:
            name = random.choice(list(weights))
            kept = weights[name] if isinstance(weights[name], torch.Tensor) else torch.ones(2)  # changed before
            weights[name] = random.choice([*_TENSORS, kept * torch.nan, kept.flatten()[:1], "x", None])
        case 1 if isinstance(tree, dict):
            tree[random.choice(["x", "callbacks", "state_dict", "loops", "epoch"])] = Executed()
        case _:
            tree = changed_tree(tree, random)
    made = io.BytesIO()
    try:
        torch.save(tree, made)
    except (pickle.PicklingError, OverflowError, RuntimeError):
        return
    path.write_bytes(made.getvalue() + _MARK + hashlib.sha256(made.getvalue()).hexdigest().encode())


def edit_safetensors(path: Path, random: Random) -> None:
    """Change tensors, with the correct checksum in the card: NaN, another type, shape, place or name, one missing."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8 : 8 + length])
    except ValueError:  # damaged before
        return
    name = random.choice([name for name in header if name != "__metadata__"])
    entry, data = header[name], bytearray(content[8 + length :])
    first, last = entry["data_offsets"]
    match random.randrange(9):
        case 0:
            data[first:last] = np.full((last - first) // 2, random.choice([np.nan, np.inf]), np.float16).tobytes()
        case 1:
            entry["dtype"] = random.choice(["F16", "F32", "F64", "I64", "BF16", "BOOL", "X"])
        case 2:
            entry["shape"] = random.choice([[], [10**12], [-1], [0], [[1]], entry["shape"][::-1], [1, *entry["shape"]]])
        case 3:
            entry["data_offsets"] = random.choice([[0, 0], [0, 2**62], [last, first], [first, last + 2], "x"])
        case 4:
            del header[name]
        case 5:
            header[random.choice(["x", "<img>", "", name + ".", "x" * 10_000])] = header.pop(name)
        case 6:
            data[first : first + 2] = np.float16(random.choice([6e4, np.nan, -np.inf])).tobytes()
        case 7:
            data = data[: len(data) // 2]
        case _:
            header["__metadata__"] = random.choice([{"a": "b"}, {"a": 1}, [], "x"])
    made = json.dumps(header).encode()
    size = random.choice([len(made)] * 12 + [2**63 - 1, 0, 10**9])
    path.write_bytes(size.to_bytes(8, "little") + made + bytes(data))
    _sign(path)


def _sign(path: Path) -> None:
    """Write the checksum of weights into their card."""
    beside = path.with_suffix(".json")
    try:
        card = json.loads(beside.read_text())
    except ValueError:
        return
    beside.write_text(json.dumps(card | {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}))


SAFETENSORS_EDITS: tuple[Edit, ...] = (*(edit_safetensors,) * 5, edit_bytes)
CHECKPOINT_EDITS: tuple[Edit, ...] = (*(edit_checkpoint,) * 5, edit_bytes)
