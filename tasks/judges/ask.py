"""Asks a judge about two systems' responses, in both orders, and nothing twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

from tasks.judges.base import Item, Judge, Verdict
from tasks.judges.journal import VerdictJournal, question_key
from tasks.metrics.preference import Preference, combine

Progress = Callable[[int, int], None]
"""Called with (questions answered so far, all questions)."""


@dataclass(frozen=True, slots=True)
class Compared:
    """Two responses to one prompt, judged in both orders."""

    item: Item
    forward: Verdict
    """With `item.first` shown first."""
    backward: Verdict
    """With `item.second` shown first, in terms of what was shown."""

    @property
    def result(self) -> Preference:
        """Return the response that is better in both orders, "tie" or "failed"."""
        return combine(self.forward.preference, self.backward.preference)


def compare_systems(
    judge: Judge,
    items: Sequence[Item],
    journal: VerdictJournal | None = None,
    progress: Progress | None = None,
) -> list[Compared]:
    """Judge every item in both orders.

    Equal responses are a tie without a question. Questions that the journal knows are not asked,
    and a question that occurs several times is asked once.

    Args:
        judge: the judge.
        items: the first system's response is `first`.
        journal: where verdicts are kept; None keeps none.
        progress: called after each verdict.

    Returns:
        One result per item, in order.

    Raises:
        UserError: the judge cannot be asked; what it has answered so far is in the journal.
    """
    both = [(item, Item(item.id, item.prompt, item.second, item.first)) for item in items]
    signature = judge.signature
    questions = {
        question_key(signature, one): one for one in chain.from_iterable(both) if not _equal(one)
    }
    if journal is None:
        verdicts = _ask(judge, questions, {}, None, progress)
    else:
        with journal.exclusive():
            verdicts = _ask(judge, questions, journal.read(), journal, progress)

    def verdict(item: Item) -> Verdict:
        if _equal(item):
            return Verdict("tie", "equal responses")
        return verdicts[question_key(signature, item)]

    return [Compared(item, verdict(item), verdict(other)) for item, other in both]


def _ask(
    judge: Judge,
    questions: dict[str, Item],
    known: dict[str, Verdict],
    journal: VerdictJournal | None,
    progress: Progress | None,
) -> dict[str, Verdict]:
    keys = [key for key in questions if key not in known]
    done = len(questions) - len(keys)
    for position, verdict in judge.each([questions[key] for key in keys]):
        if journal is not None:
            journal.add(keys[position], verdict)
        known[keys[position]] = verdict
        done += 1
        if progress is not None:
            progress(done, len(questions))
    return known


def _equal(item: Item) -> bool:
    return item.first.strip() == item.second.strip()
