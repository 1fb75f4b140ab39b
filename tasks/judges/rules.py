"""The rules of an embedded world as a judge."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tasks.judges.base import Item, Judge, Verdict

Rules = Callable[[Any, str, str], float]
"""(prompt, first response, second response) → 1 if the first is better, ½, or 0; raises a
ValueError for a prompt that is not the world's."""


class RuleJudge(Judge):
    """Knows what is true in a world, and looks at nothing else."""

    in_order = False

    def __init__(self, rules: Rules, name: str) -> None:
        self._rules = rules
        self._name = name

    @property
    def signature(self) -> dict[str, str]:
        """Return the name of the rules."""
        return {"kind": "rules", "rules": self._name}

    def each(self, items: Sequence[Item]) -> Iterator[tuple[int, Verdict]]:
        """Judge by the rules; see the base class."""
        for position, item in enumerate(items):
            try:
                points = self._rules(item.prompt, item.first, item.second)
            except ValueError as error:
                yield position, Verdict("failed", str(error))
                continue
            better = "first" if points > 0.5 else "second" if points < 0.5 else "tie"
            yield position, Verdict(better)  # type: ignore[arg-type]  # one of three literals
