"""The trials of a method's tuning: settings drawn from its search space before anything is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from harness.config.methods import method_settings
from harness.config.profiles import Profile
from sparsepo.errors import UserError, did_you_mean
from sparsepo.methods.search_space import Choice, Range, SearchSpace
from sparsepo.registry import get_method, method_class

TUNED_TRAINING = ("learning_rate", "epochs", "warmup", "weight_decay", "max_grad_norm")
"""Training settings that a search space may name."""
_COLUMNS = 8
"""Columns of the sequence of points, for every method the same: trial k of two methods has the same
value of every parameter that both declare in the same place with the same range."""
_DIGITS = 3
"""Significant digits of a drawn number. Rounding also makes a setting, and so its run's address,
independent of the last bits of the machine's logarithms."""


@dataclass(frozen=True)
class Trial:
    """One setting of a method's search space."""

    number: int
    """0 has the published settings."""
    values: Mapping[str, Any]
    """The value of every parameter that is varied."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """Values that override those of the row, as under ``methods``; none for trial 0."""
        return self.values if self.number else {}


def search_space(method: str, fixed: Mapping[str, Any] | None = None) -> SearchSpace:
    """Return what a method declares, after checking it.

    Args:
        method: its name.
        fixed: hyper-parameters that are not to be varied, such as those that a row sets.

    Returns:
        Name → values, without those that are fixed.

    Raises:
        UserError: the method declares nothing that is free, or a declaration is impossible.
    """
    cls = method_class(method)
    declared = cls.search_space
    if not isinstance(declared, Mapping):
        raise UserError(
            f"The search_space of '{method}' must be a mapping of names to ranges; fix it."
        )
    known = [item.name for item in fields(cls)]
    for name, values in declared.items():
        if name not in (*known, *TUNED_TRAINING):
            raise UserError(
                f"The search_space of '{method}' names '{name}', which is neither a "
                f"hyper-parameter of it nor one of {', '.join(TUNED_TRAINING)}; fix it."
                f"{did_you_mean(str(name), (*known, *TUNED_TRAINING))}"
            )
        if not isinstance(values, Range | Choice):
            raise UserError(
                f"The search_space of '{method}' gives '{name}' the value {values!r}; give a Range "
                "or a Choice."
            )
        problem = values.problem()
        if problem is not None:
            raise UserError(f"The search_space of '{method}': '{name}' {problem}; fix it.")
    free = {name: values for name, values in declared.items() if name not in (fixed or {})}
    if not free:
        why = "declares no search_space" if not declared else "has nothing left to vary here"
        raise UserError(
            f"Method '{method}' {why} and cannot be tuned; declare its ranges (docs/tuning.md), or "
            "leave it out with --methods."
        )
    return free


def draw_trials(
    profile: Profile,
    method: str,
    settings: Mapping[str, Any],
    fixed: Mapping[str, Any] | None = None,
) -> tuple[Trial, ...]:
    """Return the trials of a method in one chain, `profile.tuning.trials` of them.

    Trial 0 has the published settings. The others are the first points of a scrambled Sobol
    sequence, which covers the search space evenly for every number of trials; more trials keep the
    earlier ones.

    Args:
        profile: the chain's settings; its seed scrambles the sequence.
        method: the method's name.
        settings: values that the row sets, as under ``methods``.
        fixed: values that are varied or set elsewhere, such as β in a sweep.

    Raises:
        UserError: see `search_space`; or the method refuses a value of its own range.
    """
    from scipy.stats import qmc

    space = search_space(method, {**settings, **(fixed or {})})
    base = published(profile, method, settings, space)
    first, last = (_values(space, base, [share] * len(space)) for share in (0.0, 1.0))
    listed = [
        {**first, name: value}
        for name, values in space.items()
        if isinstance(values, Choice)
        for value in values.values
    ]
    for probe in (first, last, *listed):
        _require_possible(profile, method, settings, probe)
    drawn = profile.tuning.trials - 1
    sequence = qmc.Sobol(max(_COLUMNS, len(space)), scramble=True, rng=profile.seed)
    # A power of two, without which Sobol warns that a part of the sequence is less even.
    points = sequence.random_base2(max(0, drawn - 1).bit_length())[:drawn]
    return (
        Trial(0, base),
        *(
            Trial(number, _values(space, base, point[: len(space)].tolist()))
            for number, point in enumerate(points, start=1)
        ),
    )


def published(
    profile: Profile, method: str, settings: Mapping[str, Any], names: SearchSpace
) -> dict[str, Any]:
    """Return the published values of some parameters of a method.

    Args:
        profile: all values.
        method: the method's name.
        settings: values that the row sets.
        names: the parameters.
    """
    hyper_parameters, training = method_settings(profile, method, settings)
    values = {**asdict(training), **asdict(get_method(method, **hyper_parameters))}
    return {name: values[name] for name in names}


def _values(
    space: SearchSpace, base: Mapping[str, Any], shares: list[float]
) -> dict[str, float | Any]:
    found: dict[str, Any] = {}
    for (name, values), share in zip(space.items(), shares, strict=True):
        value = values.at(share)
        if isinstance(values, Range):
            factor = _factor(name, base) if values.relative else 1.0
            value = float(f"{factor * value:.{_DIGITS}g}")
        found[name] = value
    return found


def _factor(name: str, base: Mapping[str, Any]) -> float:
    """Return the profile's own value, which a relative range multiplies."""
    value = base[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(
            f"The search_space gives '{name}' a relative range, but the profile's value is "
            f"{value!r}, which is not a number; give a range without relative."
        )
    return float(value)


def _require_possible(
    profile: Profile, method: str, settings: Mapping[str, Any], values: Mapping[str, Any]
) -> None:
    try:
        hyper_parameters, _ = method_settings(profile, method, {**settings, **values})
        get_method(method, **hyper_parameters)
    except UserError as error:
        raise UserError(
            f"The search_space of '{method}' has values that are impossible: {error}"
        ) from None
