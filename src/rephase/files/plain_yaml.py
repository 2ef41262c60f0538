"""The subset of YAML for configurations: texts, numbers, true, false, null, lists and keys; each key once, as a word.

It follows YAML 1.2, without the surprises of 1.1: 2020-01-01, no and 1:30 are texts, 1e-3 and 010 are numbers.
"""

import re
from typing import Any, ClassVar

import yaml

from rephase.errors import ConfigError

DEEPEST = 50
LONGEST = 200_000  # letters; the parser takes seconds for a million
_LONGEST_NUMBER = 18  # digits that fit 64 bits
_RESOLVED = {
    "bool": (r"(true|True|TRUE|false|False|FALSE)", "tTfF"),
    "int": (r"[-+]?[0-9]+", "-+0123456789"),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+0123456789.",
    ),
    "null": (r"(~|null|Null|NULL|)", ["~", "n", "N", ""]),
}  # pattern of a plain scalar, and the letters with which it may start


class _Loader(yaml.SafeLoader):
    """Loads only plain values."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  as in the class above
    yaml_constructors: ClassVar[dict[Any, Any]] = {}
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = yaml.SafeLoader.peek_event(self)  # by its class: mypy then knows whose method has no types
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) or getattr(event, "tag", None):
            raise yaml.YAMLError("anchors (&), aliases (*) and tags (!) are not read; write the values out")
        self.depth += 1
        if self.depth > DEEPEST:
            raise yaml.YAMLError(f"nested deeper than {DEEPEST} levels")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def mapping(self, node: yaml.MappingNode) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.YAMLError(f"a key that is not a word, in line {key.start_mark.line + 1}")
            if key.value in values:
                raise yaml.YAMLError(f"key {key.value!r} occurs twice, again in line {key.start_mark.line + 1}")
            values[key.value] = self.construct_object(value, deep=True)
        return values

    def sequence(self, node: yaml.SequenceNode) -> list[Any]:
        return [self.construct_object(value, deep=True) for value in node.value]

    def text(self, node: yaml.ScalarNode) -> str:
        if "\0" in node.value:
            raise yaml.YAMLError("a text with the character NUL")
        return node.value

    def whole(self, node: yaml.ScalarNode) -> int:
        if len(node.value.lstrip("-+0")) > _LONGEST_NUMBER:
            raise yaml.YAMLError(f"{node.value[:40]}: expected a whole number of at most {_LONGEST_NUMBER} digits")
        return int(node.value)


class _Dumper(yaml.SafeDumper):
    """Writes values in the form that `_Loader` reads back."""


_READERS: dict[str, Any] = {
    "str": _Loader.text,
    "int": _Loader.whole,
    "float": yaml.SafeLoader.construct_yaml_float,
    "bool": yaml.SafeLoader.construct_yaml_bool,
    "null": yaml.SafeLoader.construct_yaml_null,
    "seq": _Loader.sequence,
    "map": _Loader.mapping,
}
for _name, _reader in _READERS.items():
    _Loader.add_constructor(f"tag:yaml.org,2002:{_name}", _reader)
for _name, (_pattern, _first) in _RESOLVED.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"^({_pattern})$"), list(_first))


def yaml_value(text: str, subject: str) -> Any:
    """Parse the value of a text.

    Raises
    ------
    ConfigError
        The text is not YAML, or uses unsupported YAML: "`subject` not YAML", and the reason.
    """
    if len(text) > LONGEST:
        raise ConfigError(f"{subject} too long: {len(text):,} letters, expected at most {LONGEST:,}")
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise ConfigError(f"{subject} not YAML: {' '.join(str(error).split())}") from error


def yaml_text(values: dict[str, Any]) -> str:
    """Write plain values as YAML, in their order."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False)
