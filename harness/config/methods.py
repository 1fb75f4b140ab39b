"""A profile's settings for each method, and the source code that affects a method's training."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from harness.config.assign import apply_assignments
from harness.config.profiles import Profile, TrainingSettings
from sparsepo.errors import UserError, did_you_mean
from sparsepo.registry import PLUGIN_PREFIX, available_methods, get_method, method_class

METHOD_TABLE = ("sparsepo.methods",)
"""The module that imports every built-in method."""


def check_methods(profile: Profile) -> None:
    """Check the values under ``methods``.

    Raises:
        UserError: a method or hyper-parameter is unknown, or a value is out of range.
    """
    known = available_methods()
    for method in profile.methods:
        if method not in known:
            raise UserError(
                f"Unknown method '{method}' in methods.{method}.{did_you_mean(method, known)} "
                f"Methods: {', '.join(known)}."
            )
        if not isinstance(profile.methods[method], Mapping):
            raise UserError(
                f"methods.{method} is a group of settings; set one of its members, "
                f"such as methods.{method}.beta."
            )
        hyper_parameters, _ = method_settings(profile, method)
        get_method(method, **hyper_parameters)


def method_settings(
    profile: Profile, method: str, overrides: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], TrainingSettings]:
    """Return a method's hyper-parameters and its training settings.

    Args:
        profile: all values.
        method: a method's name.
        overrides: values that replace those of the method, of both kinds.

    Returns:
        (hyper-parameters, `sft` or `po` settings with the method's own values).
    """
    training = profile.sft if method == "sft" and profile.sft is not None else profile.po
    own = {**profile.methods.get(method, {}), **(overrides or {})}
    names = {item.name for item in fields(TrainingSettings)}
    changes = [f"{key}={value}" for key, value in own.items() if key in names]
    hyper_parameters = {key: value for key, value in own.items() if key not in names}
    return hyper_parameters, apply_assignments(training, changes)


def without_defaults(profile: Profile, method: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the overrides of a method's values without those that change nothing.

    A variant that names a default of its method, beside others that change it, is then the same run
    as the method itself.

    Args:
        profile: all values.
        method: a method's name.
        overrides: values that replace those of the method.
    """
    defaults = {item.name: item.default for item in fields(method_class(method))}
    given = profile.methods.get(method, {})
    return {
        key: value
        for key, value in overrides.items()
        if key in given or key not in defaults or value != defaults[key]
    }


def method_code(method: str) -> tuple[str, ...]:
    """Return the modules that define a method: its class's and its base classes'.

    A stage that uses one method lists them as its ``code`` and leaves out `METHOD_TABLE`, which
    imports all methods: a change of one method must train only that method again. The file of a
    method loaded with --plugin is an outside file of its stages instead.

    Args:
        method: a registered method.
    """
    modules = {cls.__module__ for cls in available_methods()[method].__mro__}
    return tuple(
        sorted(
            name
            for name in modules
            if name.partition(".")[0] not in sys.stdlib_module_names
            and not name.startswith(PLUGIN_PREFIX)
        )
    )
