"""The checks of a method as verdicts, one line each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sparsepo.conformance.checks import CHECKS
from sparsepo.conformance.drawn import MethodClass


@dataclass(frozen=True)
class Verdict:
    """What one check found."""

    promise: str
    """What is checked, one sentence."""
    problem: str | None
    """What is broken and how to fix it; None if nothing is."""

    def __str__(self) -> str:
        """Return the verdict as one line."""
        if self.problem is None:
            return f"ok    {self.promise}"
        return f"FAIL  {self.promise} Here: {self.problem}."


def check_method(cls: MethodClass) -> Iterator[Verdict]:
    """Run all checks on a method, one after another.

    A check that raises an unexpected error, as a method with a mistake in its formula does, is
    failed with that error.

    Args:
        cls: the method's class.

    Yields:
        One verdict per check.
    """
    for check in CHECKS:
        promise = (check.__doc__ or check.__name__).partition("\n")[0]
        try:
            check(cls)
        except AssertionError as error:
            yield Verdict(promise, _one_line(error))
        except Exception as error:
            yield Verdict(promise, f"it raises {type(error).__name__}: {_one_line(error)}")
        else:
            yield Verdict(promise, None)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or "no reason is given"
