"""What a profile says about each method, and which source decides a method's training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from harness.config.assign import apply_assignments
from harness.config.profiles import Profile, TrainingSettings
from sparsepo.errors import UserError, did_you_mean
from sparsepo.registry import available_methods, get_method

_NOT_TRAINING = {"__main__", "analysis", "cli", "data", "errors", "methods", "py"}
"""What of sparsepo/ a training stage does not load, its methods apart; and errors, which computes
nothing."""


def check_methods(profile: Profile) -> None:
    """Refuse values under ``methods`` that nothing would use.

    Raises:
        UserError: for an unknown method or hyper-parameter, or a value out of range.
    """
    known = available_methods()
    for method in profile.methods:
        if method not in known:
            raise UserError(
                f"unknown method '{method}' in methods.{method}.{did_you_mean(method, known)} "
                f"Methods: {', '.join(known)}"
            )
        if not isinstance(profile.methods[method], Mapping):
            raise UserError(f"methods.{method} has parts: set one, such as methods.{method}.beta")
        hyper_parameters, _ = method_settings(profile, method)
        get_method(method, **hyper_parameters)


def method_settings(
    profile: Profile, method: str, overrides: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], TrainingSettings]:
    """Return a method's hyper-parameters and its training settings.

    Args:
        profile: all values.
        method: a method's name.
        overrides: values in place of the method's own, of both kinds.

    Returns:
        (hyper-parameters, `sft` or `po` settings with the method's own values in their place).
    """
    training = profile.sft if method == "sft" and profile.sft is not None else profile.po
    own = {**profile.methods.get(method, {}), **(overrides or {})}
    names = {item.name for item in fields(TrainingSettings)}
    changes = [f"{key}={value}" for key, value in own.items() if key in names]
    hyper_parameters = {key: value for key, value in own.items() if key not in names}
    return hyper_parameters, apply_assignments(training, changes)


def training_code(method: str) -> tuple[str, ...]:
    """Return the modules whose source decides a training run of one method.

    The other methods' files are not among them, so that a change of one method trains only
    that one again.

    Args:
        method: a registered method.
    """
    folder = Path(__file__).parents[2] / "sparsepo"
    core = {path.name.split(".")[0] for path in folder.iterdir()} - {"__pycache__", "__init__"}
    modules = {f"sparsepo.{name}" for name in core - _NOT_TRAINING}
    modules.add("sparsepo.methods.base")
    for cls in available_methods()[method].__mro__:
        if cls.__module__.startswith("sparsepo."):
            modules.add(cls.__module__)
        elif not cls.__module__.startswith(("sparsepo_plugin_", "abc", "builtins")):
            modules.add(cls.__module__.split(".")[0])
    return (*sorted(modules), "harness.domains.common.work.files")
