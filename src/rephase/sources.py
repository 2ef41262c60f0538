"""The source files that a package depends on: its own, and those of its project and of rephase that it imports."""

import ast
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from rephase.errors import ConfigError

_OURS = __name__.partition(".")[0]


def source_files(package: str) -> list[Path]:
    """List every file that a package or module imports, directly or not, from its own project or rephase, in order.

    Raises
    ------
    ConfigError
        There is no such package.
    """
    own = package.partition(".")[0]
    roots = {name: _root(name) for name in {own, _OURS}}
    place = roots[own].joinpath(*package.split("."))
    if not place.is_dir() and not place.with_suffix(".py").is_file():
        raise ConfigError(f"no package {package!r} in {roots[own]}; give the dotted name of a laboratory's code")
    waiting, found = [*place.rglob("*.py"), *_modules(roots[own], package)], set[Path]()
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            for name in _imported(path.read_bytes()):
                if (root := roots.get(name.partition(".")[0])) is not None:
                    waiting += _modules(root, name)
    return sorted(found)


def _root(name: str) -> Path:
    """Return the folder that contains a package."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ConfigError(f"no package {name!r}; install it, or put its folder on the PYTHONPATH")
    return Path(spec.origin).parents[1 if spec.submodule_search_locations else 0]


def _modules(root: Path, name: str) -> Iterator[Path]:
    """List the file of a module and the ``__init__`` files of the packages around it."""
    parts = name.split(".")
    for n in range(1, len(parts) + 1):
        place = root.joinpath(*parts[:n])
        yield from filter(Path.is_file, (place / "__init__.py", place.with_suffix(".py")))


@cache  # by the content: parsing takes most of the time, and the packages of the laboratories share most files
def _imported(source: bytes) -> list[str]:
    """List the dotted names that code imports when it runs: modules and objects in them, perhaps modules too."""
    waiting: list[ast.AST] = [ast.parse(source)]
    found: list[str] = []
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found += (f"{node.module}.{alias.name}" for alias in node.names)
        elif not _is_for_types(node):
            waiting += ast.iter_child_nodes(node)
    return found


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
