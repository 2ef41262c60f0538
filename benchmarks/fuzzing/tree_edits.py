"""Changes of nested keys and values: JSON and YAML files that stay valid, with changed contents."""

import copy
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import yaml

from fuzzing.text_edits import TEXT_EDITS, VALUES, Edit

LEAVES: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        10**20,
        10**400,
        -(10**400),
        1e308,
        -1e-320,
        float("nan"),
        float("inf"),
        "",
        "x",
        "../../x",
    ),
    *([], {}, [[]], [None], {"a": {}}, ["x"] * 3, [1, "x", None], *VALUES),
]
_YAML_TEXTS = [
    "2026-11-27",
    "2026-11-27T10:00:00Z",
    "!!python/object/apply:os.getcwd []",
    "!!binary aGFsbG8=",
    "!!set {a, b}",
    "0o17",
    "1:30:00",
    "*nowhere",
    "&a [*a]",
    "? [a, b]\n: c",
    "{[1, 2]: 3}",
    "<<: {a: b}",
    "1e5",
    ".nan",
    "~",
    "1_000",
    "&a [x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b]",
]


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every container with each of its keys, to any depth."""
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield tree, key
        yield from _places(tree[key])


def changed_tree(tree: Any, random: Random) -> Any:
    """Return a copy with one value replaced, deleted, moved, wrapped or under another key."""
    tree = copy.deepcopy(tree)
    places = list(_places(tree))
    if not places or random.random() < 0.02:
        return random.choice(LEAVES)
    holder, key = random.choice(places)
    match random.randrange(10):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[random.choice(["x", "", "seed", "<img>", "a.b", " ", "x" * 3000, "__class__"])] = holder.pop(key)
        case 2:
            holder[key] = [holder[key]]
        case 3:
            holder[key] = {"x": holder[key]}
        case 4:
            other, where = random.choice(places)
            holder[key] = copy.deepcopy(other.get(where)) if isinstance(other, dict) else copy.deepcopy(holder[key])
        case 5 if isinstance(holder[key], (int, float)):
            holder[key] = random.choice([-holder[key], holder[key] * 1_000_000, str(holder[key]), 0, 1.5])
        case 6 if isinstance(holder, list):
            holder.extend(holder * random.choice((1, 1000)))
        case _:
            holder[key] = random.choice(LEAVES)
    return tree


def edit_tree(read: Callable[[str], Any], write: Callable[[Any], str], path: Path, random: Random) -> None:
    """Write a changed tree in the same format."""
    try:
        text = write(changed_tree(read(path.read_text()), random))
    except Exception:  # damaged before, or this format cannot represent it
        return
    path.write_text(text)


def edit_yaml_text(path: Path, random: Random) -> None:
    """Replace a value in a line of YAML by special YAML syntax."""
    lines = path.read_bytes().split(b"\n")
    row = random.randrange(len(lines))
    key, colon, _ = lines[row].partition(b":")
    lines[row] = key + (colon or b":") + b" " + random.choice(_YAML_TEXTS).encode()
    path.write_bytes(b"\n".join(lines))


edit_json = partial(edit_tree, json.loads, json.dumps)
edit_yaml = partial(edit_tree, yaml.safe_load, yaml.safe_dump)
JSON_EDITS: tuple[Edit, ...] = (*(edit_json,) * 20, *TEXT_EDITS[::2])
YAML_EDITS: tuple[Edit, ...] = (*(edit_yaml,) * 14, *(edit_yaml_text,) * 6, *TEXT_EDITS[::2])
