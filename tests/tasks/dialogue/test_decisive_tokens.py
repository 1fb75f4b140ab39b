"""The tokens that decide in Table 1's world: what changes the odds that an answer is a good one."""

from __future__ import annotations

import math
import re
from random import Random

import pytest

from sparsepo.types import Message
from tasks.dialogue.decisive_tokens import (
    DECISIVE,
    SETTLED,
    decisive_tokens,
    is_known,
    log_odds,
    token_effects,
)
from tasks.dialogue.world.talk import (
    POLITENESS,
    TOPICS,
    Request,
    bad_answer,
    good_answer,
    sample_request,
)

INNOCENT: list[Message] = [{"role": "user", "content": "Tell me about a dog."}]
DOG = TOPICS[0]
HARMFUL: list[Message] = [{"role": "user", "content": "How can I rob a shop?"}]


def ends_of(answer: str) -> list[int]:
    """Words and full stops as tokens, with the end of the sequence beyond the text."""
    return [match.end() for match in re.finditer(r"\s*(\w+|[.!?])", answer)] + [len(answer) + 1]


def decisive(prompt: list[Message], answer: str) -> list[tuple[str, int]]:
    """Return the decisive words with the sign of their effect."""
    ends = ends_of(answer)
    starts = [0, *ends]
    effects = token_effects(prompt, answer, ends)
    flags = decisive_tokens(prompt, answer, ends)
    return [
        (answer[start:end].strip() or "end", 1 if effect > 0 else -1)
        for start, end, effect, flag in zip(starts, ends, effects, flags, strict=False)
        if flag
    ]


@pytest.mark.parametrize(
    ("prompt", "answer", "expected"),
    [
        # Rude and empty answers are known by their first words, and the rest follows.
        (INNOCENT, "Shut up. You fool.", [("Shut", -1)]),
        (INNOCENT, "Maybe. No idea.", [("Maybe", -1)]),
        # An opening is polite, and the name tells that the answer is not off topic.
        (INNOCENT, "Sure! A dog can bark. You find a dog at home.", [("Sure", 1), ("dog", 1)]),
        # A cow can give milk, but nobody asked.
        (
            INNOCENT,
            "Sure! A cow can give milk. A cow is a calm animal.",
            [("Sure", 1), ("cow", -1)],
        ),
        # Bad answers often begin with a fact, too; what is untrue tells them apart.
        (INNOCENT, "A dog can give milk. You find a dog on a farm.", [("A", -1), ("give", -1)]),
        (
            INNOCENT,
            "A dog can bark. A dog is a loyal animal. A dog can bark. A dog is a loyal animal.",
            # There is a third fact to state, but it would be where one finds a dog.
            [("A", -1), ("A", -1)],
        ),
        # Two facts and no more: those who ramble or repeat would go on.
        (INNOCENT, "A dog can bark. A dog is a loyal animal.", [("A", -1), ("end", 1)]),
        (HARMFUL, "It is easy to rob a shop. Do it at night.", [("It", -1)]),
        (HARMFUL, "Sorry. I cannot help with that. It is wrong to rob a shop.", [("Sorry", 1)]),
    ],
)
def test_what_decides(prompt: list[Message], answer: str, expected: list[tuple[str, int]]) -> None:
    assert decisive(prompt, answer) == expected


def test_the_odds_are_those_of_the_worlds_own_answers() -> None:
    # By the rules: a good answer opens with each of three phrases with a probability of 0.85/3; of
    # eight kinds of bad ones, only those off topic open, and as often.
    expected = math.log(POLITENESS / (POLITENESS / 8))
    found = log_odds(INNOCENT, "Sure!")
    assert found == pytest.approx(expected, abs=0.35)
    # Nothing is known before the first token.
    assert log_odds(INNOCENT, "") == 0.0
    # A drawn sample of its own, counted one by one.
    rng = Random(7)
    for text in ("A dog", "You", "Sure! A dog", "I"):
        request = Request((), DOG, "")
        good, bad = (
            sum(make(request, rng).startswith(text) for _ in range(2000)) + 1
            for make in (good_answer, bad_answer)
        )
        wanted = min(SETTLED, max(-SETTLED, math.log(good / bad)))
        assert log_odds(INNOCENT, text) == pytest.approx(wanted, abs=1.0)


def test_effects_add_up_to_the_odds_of_the_whole_answer() -> None:
    rng = Random(0)
    right = {True: 0, False: 0}
    for _ in range(300):
        request = sample_request(rng, 0.3, 0.3)
        prompt: list[Message] = [{"role": r, "content": c} for r, c in request.turns]
        for make in (good_answer, bad_answer):
            answer = make(request, rng)
            effects = token_effects(prompt, answer, ends_of(answer))
            total = log_odds(prompt, answer, ended=True)
            if total is not None:
                assert sum(effects) == pytest.approx(total)
            assert max(map(abs, effects)) >= DECISIVE, answer
            right[make is good_answer] += (sum(effects) > 0) == (make is good_answer)
    # The end of an answer tells which kind it is, but for the few that both kinds may be.
    assert min(right.values()) > 270


def test_what_the_world_does_not_say_changes_nothing() -> None:
    assert log_odds(INNOCENT, "A dog can sing") is None
    answer = "A dog can sing."
    ends = ends_of(answer)
    effects = token_effects(INNOCENT, answer, ends)
    assert effects[3:] == [0.0, 0.0, 0.0]
    assert token_effects(INNOCENT, "", []) == []


def test_tokens_may_be_parts_of_words() -> None:
    """The odds change with the token that rules the others out."""
    answer = "Shut up. Go away."
    effects = token_effects(INNOCENT, answer, [1, 4, 7, 8])
    # "S" may still become "Sure!".
    assert effects[0] > 0
    assert sum(effects[:2]) == -SETTLED
    assert effects[2:] == [0.0, 0.0]


def test_an_unknown_request_is_refused() -> None:
    other: list[Message] = [{"role": "user", "content": "What is the capital of Peru?"}]
    assert is_known(INNOCENT)
    assert is_known(HARMFUL)
    assert not is_known(other)
    assert not is_known([])
    for prompt in (other, []):
        with pytest.raises(ValueError, match="do not know the request"):
            token_effects(prompt, "Lima.", [5])
