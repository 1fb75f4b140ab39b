"""``--set key=value``: typed changes to a profile's frozen dataclasses."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast

from sparsepo.cli.options import json_or_text, split_assignment
from sparsepo.errors import UserError, did_you_mean

Settings = TypeVar("Settings")


def parse_assignment(text: str) -> tuple[str, str]:
    """Split ``key=value``.

    Raises:
        UserError: there is no equals sign or no key.
    """
    return split_assignment(text, "po.epochs=1")


def assigned_keys(assignments: Sequence[str]) -> set[str]:
    """Return the dotted names that assignments set."""
    return {parse_assignment(text)[0] for text in assignments}


def apply_assignments(settings: Settings, assignments: Sequence[str]) -> Settings:
    """Return settings with the assignments applied in order.

    Args:
        settings: a frozen dataclass whose fields are values, dataclasses or mappings.
        assignments: ``dotted.key=value`` texts.

    Returns:
        A changed copy.

    Raises:
        UserError: a key is unknown (the message names the closest one), or a value has the wrong
            type.
    """
    for text in assignments:
        key, value = parse_assignment(text)
        settings = cast(Settings, _assign(settings, key.split("."), value, key))
    return settings


def set_unless_assigned(
    settings: Settings, values: Mapping[str, object], assignments: Sequence[str]
) -> Settings:
    """Return settings with values for the names that the user has not set.

    Args:
        settings: a frozen dataclass whose fields are values or dataclasses.
        values: dotted name → value; the name of a group sets the whole group.
        assignments: the user's ``dotted.key=value`` texts.

    Returns:
        A changed copy. A group that the user set in part is left alone.
    """
    assigned = assigned_keys(assignments)
    for key, value in values.items():
        if not any(own == key or own.startswith(f"{key}.") for own in assigned):
            settings = cast(Settings, _replace(settings, key.split("."), value))
    return settings


def _replace(settings: Any, path: Sequence[str], value: object) -> object:
    name, *rest = path
    new = _replace(getattr(settings, name), rest, value) if rest else value
    return dataclasses.replace(settings, **{name: new})


def known_keys(settings: object, prefix: str = "") -> list[str]:
    """Return every dotted key that ``apply_assignments`` accepts, in the order of the fields."""
    keys: list[str] = []
    if dataclasses.is_dataclass(settings):
        items = [(f.name, getattr(settings, f.name)) for f in dataclasses.fields(settings)]
    elif isinstance(settings, Mapping):
        items = list(settings.items())
    else:
        return [prefix]
    for name, value in items:
        keys += known_keys(value, f"{prefix}.{name}" if prefix else str(name))
    return keys


def has_key(settings: object, key: str) -> bool:
    """Return whether settings have a value of that dotted name; mappings accept any name."""
    for name in key.split("."):
        if isinstance(settings, Mapping):
            return True
        if not (dataclasses.is_dataclass(settings) and hasattr(settings, name)):
            return False
        settings = getattr(settings, name)
    return True


def _assign(settings: object, path: list[str], text: str, key: str) -> object:
    name, *rest = path
    if dataclasses.is_dataclass(settings) and not isinstance(settings, type):
        hints = typing.get_type_hints(type(settings))
        names = [field.name for field in dataclasses.fields(settings)]
        _require_known(name, names, key)
        old = getattr(settings, name)
        new = _assign(old, rest, text, key) if rest else _convert(text, hints[name], key, old)
        return dataclasses.replace(settings, **{name: new})
    if isinstance(settings, _OpenMapping):
        old = settings.get(name, _OpenMapping() if rest else None)
        if rest and not isinstance(old, Mapping):
            raise UserError(f"--set {key}: {name} is a single value; leave out the names after it.")
        new = _assign(old, rest, text, key) if rest else json_or_text(text)
        return _OpenMapping({**settings, name: new})
    if isinstance(settings, Mapping):
        _require_known(name, list(settings), key)
        old = settings[name]
        new = _assign(old, rest, text, key) if rest else _convert(text, type(old), key, old)
        return {**settings, name: new}
    value = key.rsplit(".", len(path))[0]
    raise UserError(f"Unknown key {key}: {value} is a single value; leave out the names after it.")


class _OpenMapping(dict[str, Any]):
    """A mapping that accepts new keys; another module checks them."""


def open_mapping(values: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return a two-level mapping to which ``--set`` may add keys, which the caller checks."""
    return _OpenMapping({name: _OpenMapping(inner) for name, inner in values.items()})


def _require_known(name: str, names: Sequence[str], key: str) -> None:
    if name not in names:
        raise UserError(
            f"Unknown key {key}.{did_you_mean(name, names)} Keys there: {', '.join(names)}."
        )


def _convert(text: str, hint: Any, key: str, old: object) -> object:
    if dataclasses.is_dataclass(old) or isinstance(old, Mapping):
        inside = ", ".join(f"{key}.{inner}" for inner in known_keys(old)[:3])
        raise UserError(
            f"--set {key}: this is a group of settings; set one of its members, such as {inside}."
        )
    options = typing.get_args(hint) if _is_union(hint) else (hint,)
    if type(None) in options and text.lower() in {"none", "null"}:
        return None
    for option in options:
        value = _as(option, text)
        if value is not None:
            return value
    raise UserError(f"--set {key}={text}: this must be {' or '.join(map(_describe, options))}.")


def _is_union(hint: Any) -> bool:
    return isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union


def _as(option: Any, text: str) -> object | None:
    origin = typing.get_origin(option)
    if origin is typing.Literal:
        return next((value for value in typing.get_args(option) if str(value) == text), None)
    if origin is tuple:
        inner = typing.get_args(option)[0]
        parts = [_as(inner, part.strip()) for part in text.split(",")]
        return None if None in parts else tuple(parts)
    if option is bool:
        return {"true": True, "false": False}.get(text.lower())
    if option is str:
        return text
    try:
        if option is int:
            return int(text)
        if option is float:
            number = float(text)
            return number if math.isfinite(number) else None
    except ValueError:
        return None
    return None


def _describe(option: Any) -> str:
    origin = typing.get_origin(option)
    if origin is typing.Literal:
        return "one of " + ", ".join(map(str, typing.get_args(option)))
    if origin is tuple:
        return f"{_describe(typing.get_args(option)[0])}s separated by commas"
    names = {bool: "true or false", int: "an integer", float: "a finite number", str: "text"}
    return "none" if option is type(None) else names.get(option, str(option))
