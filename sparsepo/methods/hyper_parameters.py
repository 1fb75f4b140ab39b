"""Hyper-parameters as a method declares them: default, meaning, permitted values and source."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from sparsepo.errors import UserError, require_choice

_KEY: Final = "hyper_parameter"


@dataclass(frozen=True)
class HyperParameter:
    """What is declared of a hyper-parameter, besides its name, type and default."""

    help: str
    """Its meaning, as one line."""
    source: str
    """Where the default comes from: paper and section, code, or [ours]."""
    low: float | None = None
    """Smallest value, None for no limit."""
    high: float | None = None
    """Largest value, None for no limit."""
    open_low: bool = False
    """Whether `low` itself is excluded."""
    open_high: bool = False
    """Whether `high` itself is excluded."""
    choices: tuple[Any, ...] = ()
    """The permitted values, if they are not a range."""

    @property
    def is_number(self) -> bool:
        """Whether a range is declared."""
        return self.low is not None or self.high is not None

    def describe(self) -> str:
        """Return the permitted values in words, such as "greater than 0 and at most 1"."""
        if self.choices:
            return ", ".join(str(choice) for choice in self.choices)
        parts = []
        if self.low is not None:
            parts.append(f"{'greater than' if self.open_low else 'at least'} {self.low:g}")
        if self.high is not None:
            parts.append(f"{'less than' if self.open_high else 'at most'} {self.high:g}")
        return " and ".join(parts)

    def check(self, name: str, value: object) -> None:
        """Raise a UserError unless the value is permitted."""
        if self.choices:
            require_choice(name, value, self.choices)
        elif self.is_number and not self._holds(value):
            raise UserError(f"{name} must be {self.describe()}, not {value!r}.")

    def _holds(self, value: object) -> bool:
        # Hyper-parameters come from users, who may pass values of any type.
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        return (
            math.isfinite(value)
            and (value > low if self.open_low else value >= low)
            and (value < high if self.open_high else value <= high)
        )


def hyper_parameter(
    default: Any,
    help: str,
    *,
    source: str,
    low: float | None = None,
    high: float | None = None,
    open_low: bool = False,
    open_high: bool = False,
    choices: tuple[Any, ...] = (),
) -> Any:
    """Declare a field of a method; `Method` checks its values.

    Args:
        default: the field's default.
        help: its meaning, as one line.
        source: where the default comes from: paper and section, code, or [ours].
        low: smallest value.
        high: largest value.
        open_low: whether `low` itself is excluded.
        open_high: whether `high` itself is excluded.
        choices: the permitted values, if they are not a range.
    """
    declared = HyperParameter(help, source, low, high, open_low, open_high, choices)
    return field(default=default, metadata={_KEY: declared})


def declared(method: Any) -> Iterator[tuple[dataclasses.Field[Any], HyperParameter | None]]:
    """Yield a method's fields, or its class's, each with what is declared of it.

    A plug-in may have fields without a declaration.
    """
    for item in dataclasses.fields(method):
        yield item, item.metadata.get(_KEY)


def check_declared(method: Any) -> None:
    """Raise a UserError at the first hyper-parameter whose value is not permitted."""
    for item, declaration in declared(method):
        if declaration is not None:
            declaration.check(item.name, getattr(method, item.name))
