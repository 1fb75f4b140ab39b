"""The registry of methods: built in, installed as entry points, or loaded from a file."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, TypeGuard, TypeVar

from sparsepo.errors import UserError, did_you_mean
from sparsepo.methods import BUILT_IN
from sparsepo.methods.base import Method

ENTRY_POINT_GROUP = "sparsepo.methods"
PLUGIN_PREFIX = "sparsepo_plugin_"
"""How the module of a file that `load_plugin` loaded begins."""

_plugged_in: dict[str, type[Method]] = {}
_origins: dict[str, str] = {}

MethodClass = TypeVar("MethodClass", bound=type[Method])


def is_method(value: object) -> TypeGuard[type[Method]]:
    """Return whether a value is a concrete method class with a name."""
    return (
        isinstance(value, type)
        and issubclass(value, Method)
        and not inspect.isabstract(value)
        and isinstance(getattr(value, "name", None), str)
    )


def register_method(cls: MethodClass, origin: str = "registered in this process") -> MethodClass:
    """Register a method under its name; usable as a class decorator.

    Args:
        cls: a concrete subclass of `Method`.
        origin: where the method comes from, as shown by `python -m harness list`.

    Returns:
        `cls` itself.

    Raises:
        UserError: the name is taken by another class.
    """
    if not is_method(cls):
        raise UserError(
            f"{cls!r} is not a method: it must subclass sparsepo.Method and set a name."
        )
    known = available_methods() if cls.name not in _plugged_in else _plugged_in
    other = known.get(cls.name)
    if other is not None and (other.__module__, other.__qualname__) != (
        cls.__module__,
        cls.__qualname__,
    ):
        raise UserError(
            f"The method name '{cls.name}' is already taken by {other.__module__}."
            f"{other.__qualname__}; give {cls.__qualname__} another name."
        )
    _plugged_in[cls.name] = cls
    _origins[cls.name] = origin
    return cls


@functools.cache
def _entry_points() -> dict[str, type[Method]]:
    found: dict[str, type[Method]] = {}
    for entry_point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        try:
            cls = entry_point.load()
        except Exception as error:
            raise UserError(
                f"The plug-in method '{entry_point.name}' ({entry_point.value}) cannot be loaded "
                f"({type(error).__name__}: {error}); fix or uninstall its package."
            ) from error
        if not is_method(cls):
            raise UserError(
                f"The entry point '{entry_point.name}' ({entry_point.value}) is not a subclass of "
                "sparsepo.Method with a name; fix or uninstall its package."
            )
        if cls.name in BUILT_IN:
            raise UserError(
                f"The plug-in {entry_point.value} uses the name '{cls.name}' of a built-in method; "
                "rename its method or uninstall its package."
            )
        found[cls.name] = cls
        distribution = entry_point.dist.name if entry_point.dist else entry_point.value
        _origins.setdefault(cls.name, f"package {distribution}")
    return found


def available_methods() -> dict[str, type[Method]]:
    """Return every known method by name: built-in methods first, then plug-ins.

    Raises:
        UserError: an installed plug-in cannot be loaded.
    """
    return {**BUILT_IN, **_entry_points(), **_plugged_in}


def method_origin(name: str) -> str:
    """Return where a method comes from: "built in", its package, or its file."""
    method_class(name)
    return _origins.get(name, "built in")


def method_class(name: str) -> type[Method]:
    """Return the class of a method.

    Raises:
        UserError: the name is unknown.
    """
    known = available_methods()
    if name not in known:
        raise UserError(
            f"Unknown method '{name}'.{did_you_mean(name, known)} Known: {', '.join(known)}."
        )
    return known[name]


def get_method(name: str, **hyper_parameters: Any) -> Method:
    """Return a method, given its name and hyper-parameters.

    Args:
        name: a key of `available_methods()`.
        hyper_parameters: the method's fields; those omitted keep their defaults.

    Returns:
        The method, a callable that takes the token statistics of chosen and rejected responses.

    Raises:
        UserError: the name is unknown, the method does not use one of the hyper-parameters, or
            a value is out of range.
    """
    cls = method_class(name)
    fields = [field.name for field in dataclasses.fields(cls)]
    for parameter in hyper_parameters:
        if parameter not in fields:
            raise UserError(
                f"Method '{name}' does not use the hyper-parameter '{parameter}'."
                f"{did_you_mean(parameter, fields)} It uses: {', '.join(fields) or 'none'}."
            )
    return cls(**hyper_parameters)


def load_plugin(path: str | Path) -> list[str]:
    """Load a Python file and register every method that it defines (`--plugin FILE.py`).

    Args:
        path: the file; each concrete subclass of `Method` in it is registered.

    Returns:
        The names of the methods that were added.

    Raises:
        UserError: the file is missing, fails to import, or defines no method.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError(f"The plug-in file {file} does not exist; give the path of a Python file.")
    module = load_file(file, PLUGIN_PREFIX, "plug-in")
    classes = [
        value
        for value in vars(module).values()
        if is_method(value) and value.__module__ == module.__name__
    ]
    if not classes:
        raise UserError(
            f"The plug-in {file} defines no subclass of sparsepo.Method; add one that sets a name."
        )
    return [register_method(cls, origin=f"file {file.name}").name for cls in classes]


def load_file(file: Path, prefix: str, what: str) -> ModuleType:
    """Return a Python file of the user's as a module.

    Args:
        file: an existing file.
        prefix: begins the module's name; the file's own name ends it.
        what: what the file is, for messages.

    Raises:
        UserError: it is not a Python file, or fails.
    """
    name = f"{prefix}{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UserError(f"The {what} {file} is not a Python file; its name must end in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        # Bypass the bytecode cache, which misses an edit made within the same second.
        exec(compile(file.read_bytes(), str(file), "exec"), vars(module))
    except Exception as error:
        raise UserError(
            f"The {what} {file} cannot be loaded ({type(error).__name__}: {error}); fix the file."
        ) from error
    return module
