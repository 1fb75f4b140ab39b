"""Conventions by name: prompts, ends of answers, and programs that are run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sparsepo.errors import UserError, did_you_mean
from tasks.code.conventions.base import AsGiven, BigCode, BigCodeUnstripped, Convention
from tasks.code.conventions.chat import Chat
from tasks.code.problems import Problem

__all__ = ["Convention", "conventions", "get_convention"]

_OWN: Final[dict[str, type[Convention]]] = {
    cls.name: cls for cls in (AsGiven, BigCode, BigCodeUnstripped, Chat)
}


def conventions() -> tuple[str, ...]:
    """Return the names of all conventions."""
    return (*_OWN, "bigcode_eval")


def get_convention(name: str, problems: Sequence[Problem]) -> Convention:
    """Return a convention.

    Args:
        name: one of `conventions()`; `bigcode_eval` needs that package.
        problems: the problems to use it on.

    Raises:
        UserError: the name is unknown, or `bigcode_eval` cannot be used.
    """
    if name in _OWN:
        return _OWN[name]()
    if name == "bigcode_eval":
        from tasks.code.conventions.bigcode_eval import BigCodeEval

        return BigCodeEval(problems)
    known = conventions()
    raise UserError(
        f"Unknown convention '{name}'.{did_you_mean(name, known)} There are {', '.join(known)}."
    )
