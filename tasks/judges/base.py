"""What every judge does: say which of two responses to a prompt is better."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sparsepo.types import Message
from tasks.metrics.preference import Preference


@dataclass(frozen=True, slots=True)
class Item:
    """One question to a judge; `first` is shown first."""

    id: str
    prompt: str | list[Message]
    """A text, or chat messages up to the response."""
    first: str
    second: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """A judge's answer in one order."""

    preference: Preference
    detail: str = ""
    """The judge's words, or why there is no verdict."""
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Judge(ABC):
    """Compares two responses in the order in which they are given."""

    in_order = True
    """Whether verdicts can depend on the order; if not, the journal is not worth its time."""

    @property
    @abstractmethod
    def signature(self) -> dict[str, str]:
        """What its verdicts depend on, besides the item: kind, model, prompt, settings."""

    @abstractmethod
    def each(self, items: Sequence[Item]) -> Iterator[tuple[int, Verdict]]:
        """Judge items.

        Args:
            items: the questions.

        Returns:
            An iterator over (position of the item, verdict), in the order in which they are made,
            each item once. An answer that is no verdict is "failed" with the reason.

        Raises:
            UserError: the judge cannot be asked at all, such as for a wrong key.
        """

    def compare(self, items: Sequence[Item]) -> list[Verdict]:
        """Judge items and return the verdicts in their order; see `each`."""
        found = dict(self.each(items))
        return [found[position] for position in range(len(items))]


def transcript(prompt: str | list[Message]) -> str:
    """Return a prompt as a person would read it."""
    if isinstance(prompt, str):
        return prompt
    return "\n\n".join(f"{str(turn['role']).capitalize()}: {turn['content']}" for turn in prompt)
