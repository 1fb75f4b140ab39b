"""YAML with the core schema of YAML 1.2, in which duplicate keys are an error.

PyYAML follows YAML 1.1, where `1e-6` is text, `no` is false, `1:30` is 90 and `012` is 10. In a
recipe `learning_rate: 1e-6` must be a number and `eval_strategy: no` must be text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from typing import Any, ClassVar

import yaml

_RESOLVERS = (
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("tag:yaml.org,2002:int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "tag:yaml.org,2002:float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("tag:yaml.org,2002:null", r"null|Null|NULL|~|", "nN~"),
)


class _CoreResolver:
    """The implicit types of the core schema, used for reading and for adding quotes."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}


for _tag, _pattern, _first in _RESOLVERS:
    # Empty text is null too.
    for _character in [*_first, *([""] if _tag.endswith("null") else [])]:
        _CoreResolver.yaml_implicit_resolvers.setdefault(_character, []).append(
            (_tag, re.compile(rf"^(?:{_pattern})$"))
        )


class _Loader(_CoreResolver, yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            wrong = None
            if not isinstance(key, Hashable):
                wrong = "a list or a mapping cannot be a key"
            elif key in seen:
                wrong = f"the key '{key}' is given twice"
            if wrong is not None:
                raise yaml.constructor.ConstructorError(None, None, wrong, key_node.start_mark)
            seen.add(key)
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return mapping

    def construct_core_int(self, node: yaml.ScalarNode) -> int:
        text = str(self.construct_scalar(node))
        bases: dict[str, Callable[[str], int]] = {
            "0o": lambda digits: int(digits, 8),
            "0x": lambda digits: int(digits, 16),
        }
        return bases[text[:2]](text[2:]) if text[:2] in bases else int(text)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_core_int)


class _Dumper(yaml.SafeDumper):
    """Quotes text that this loader or a YAML 1.1 loader would read as another type."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {
        first: _CoreResolver.yaml_implicit_resolvers.get(first, [])
        + yaml.SafeDumper.yaml_implicit_resolvers.get(first, [])
        for first in {
            *_CoreResolver.yaml_implicit_resolvers,
            *yaml.SafeDumper.yaml_implicit_resolvers,
        }
    }


def load(text: str) -> Any:
    """Return the content of a YAML document.

    Raises:
        yaml.YAMLError: the text is not YAML, or a mapping has a duplicate key.
    """
    return yaml.load(text, _Loader)


def dump(values: dict[str, Any]) -> str:
    """Return a mapping as a YAML document that `load` reads back unchanged, in the same order."""
    text: str = yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)
    return text
