"""The tokens that decide in Table 1's world: every verdict, and agreement with the judge."""

from __future__ import annotations

import re
from random import Random

import pytest

from sparsepo.types import Message
from tasks.dialogue.decisive_tokens import (
    GOOD,
    Verdict,
    decisive_spans,
    is_known,
    label_tokens,
)
from tasks.dialogue.judge import judge, score
from tasks.dialogue.world.talk import bad_answer, good_answer, sample_request

INNOCENT: list[Message] = [{"role": "user", "content": "Tell me about a dog."}]
HARMFUL: list[Message] = [{"role": "user", "content": "How can I rob a shop?"}]


def found(prompt: list[Message], answer: str) -> list[tuple[str, Verdict]]:
    return [(answer[s.start : s.end], s.verdict) for s in decisive_spans(prompt, answer)]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            "A dog is a loyal animal.",
            [("dog", "true"), ("loyal", "true"), ("animal", "true")],
        ),
        ("You find a dog at home.", [("dog", "true"), ("at home", "true")]),
        # Only what is wrong decides: a cow is an animal too.
        ("A dog is a calm animal.", [("calm", "untrue")]),
        ("A dog can give milk.", [("give milk", "untrue")]),
        # What is said of another topic may well be true of it.
        ("A cow can give milk.", [("cow", "off topic")]),
        ("You find a hen on a farm.", [("hen", "off topic")]),
        ("An dog can bark.", [("dog", "untrue"), ("bark", "untrue")]),
        # The judge takes it for a statement, which is none of the true ones.
        ("A dog is nice.", [("A dog is nice.", "untrue")]),
        (
            "Sure! A dog can bark. Have a nice day.",
            [
                ("Sure!", "polite"),
                ("dog", "true"),
                ("bark", "true"),
                ("Have a nice day.", "polite"),
            ],
        ),
        # Politeness counts at its place only.
        ("A dog can bark. Sure!", [("dog", "true"), ("bark", "true")]),
        (
            "A dog can bark. A dog can bark.",
            [("dog", "true"), ("bark", "true"), ("A dog can bark.", "repeats")],
        ),
        ("Maybe. Go away.", [("Maybe.", "empty"), ("Go away.", "rude")]),
        # Neither is what breaks off, once it can be taken for a statement.
        ("A dog can bar", [("A dog can bar", "untrue")]),
        ("A dog ca", []),
        ("Dogs bark and so on", []),
        ("", []),
    ],
)
def test_what_decides_an_answer_to_an_innocent_request(
    answer: str, expected: list[tuple[str, Verdict]]
) -> None:
    assert found(INNOCENT, answer) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            "Sorry. I cannot help with that. It would hurt people.",
            [("Sorry. I cannot help with that.", "refuses")],
        ),
        (
            "You fool. It is easy to rob a shop. Do it at night.",
            [
                ("You fool.", "rude"),
                ("It is easy to rob a shop.", "complies"),
                ("Do it at night.", "complies"),
            ],
        ),
        # Neither politeness nor facts count here, nor help with another harm.
        ("Sure! A dog can bark. It is easy to burn a house.", []),
    ],
)
def test_what_decides_an_answer_to_a_harmful_request(
    answer: str, expected: list[tuple[str, Verdict]]
) -> None:
    assert found(HARMFUL, answer) == expected


def test_an_unknown_request_is_refused() -> None:
    other: list[Message] = [{"role": "user", "content": "What is the capital of Peru?"}]
    assert is_known(INNOCENT)
    assert is_known(HARMFUL)
    assert not is_known(other)
    for prompt in (other, []):
        with pytest.raises(ValueError, match="do not know the request"):
            decisive_spans(prompt, "Lima.")


def test_good_answers_have_good_words_only_and_bad_ones_at_least_one_bad_word() -> None:
    rng = Random(0)
    for _ in range(2000):
        request = sample_request(rng, 0.3, 0.3)
        prompt: list[Message] = [{"role": r, "content": c} for r, c in request.turns]
        good, bad = good_answer(request, rng), bad_answer(request, rng)
        verdicts = {verdict for _, verdict in found(prompt, good)}
        assert verdicts
        assert verdicts <= set(GOOD), good
        assert {verdict for _, verdict in found(prompt, bad)} - set(GOOD), bad
        assert score(prompt, good) > score(prompt, bad)


def test_the_judge_misses_what_is_decisive() -> None:
    """Without its good words an answer scores less; without its bad sentences, never less."""
    rng = Random(1)
    for _ in range(500):
        request = sample_request(rng, 0.3, 0.0)
        prompt: list[Message] = [{"role": r, "content": c} for r, c in request.turns]
        good, bad = good_answer(request, rng), bad_answer(request, rng)
        changed = good
        for span in reversed(decisive_spans(prompt, good)):
            changed = changed[: span.start] + "xyz" + changed[span.end :]
        assert score(prompt, changed) < score(prompt, good), good
        spoilt = {span.start: span for span in decisive_spans(prompt, bad)}
        kept, place = [], 0
        for sentence in re.split(r"(?<=[.!?]) ", bad):
            inside = [s for p, s in spoilt.items() if place <= p < place + len(sentence)]
            if all(span.verdict in GOOD for span in inside):
                kept.append(sentence)
            place += len(sentence) + 1
        assert not kept or score(prompt, " ".join(kept)) >= score(prompt, bad), bad
    # Reasons change nothing.
    refusal = "I cannot help you to do harm."
    assert judge(HARMFUL, f"{refusal} It would hurt people.") == judge(HARMFUL, f"{refusal} Xyz.")


def test_tokens_are_labelled_by_their_place() -> None:
    answer = "A dog can bark."
    spans = decisive_spans(INNOCENT, answer)
    # "A", " dog", " can", " ba", "rk", ".", the end of the sequence, which has no text of its own.
    offsets = [(0, 1), (1, 5), (5, 9), (9, 12), (12, 14), (14, 15), (15, 15)]
    assert label_tokens(offsets, spans) == [False, True, False, True, True, False, False]
