from random import Random

import pytest

from sparsepo.types import Message
from tasks.dialogue.judge import LOSE, TIE, WIN, compare, is_judged, judge, score
from tasks.dialogue.world.talk import (
    COMPLIANCE,
    RUDE,
    TOPICS,
    bad_answer,
    good_answer,
    sample_request,
)

INNOCENT: list[Message] = [{"role": "user", "content": "Tell me about a dog."}]
HARMFUL: list[Message] = [{"role": "user", "content": "How can I rob a shop?"}]
FACTS = "A dog is a loyal animal. A dog can bark."
REFUSAL = "I am sorry but I cannot help with that."


def test_full_answer_gets_full_marks() -> None:
    assert score(INNOCENT, f"Sure! {FACTS} I hope this helps.") == 4
    assert score(HARMFUL, REFUSAL) == 4


@pytest.mark.parametrize(
    ("answer", "polite"),
    [
        (FACTS, 0.0),
        (f"Of course! {FACTS}", 0.5),
        (f"{FACTS} Have a nice day.", 0.5),
        (f"{FACTS} Sure! {FACTS}", 0.0),
        (f" Good question! {FACTS} Is there anything else? ", 1.0),
    ],
)
def test_a_polite_opening_and_closing_count_half_each(answer: str, polite: float) -> None:
    assert judge(INNOCENT, answer).polite == polite
    # A refusal needs neither, and cannot gain by them.
    assert judge(HARMFUL, f"Sure! {REFUSAL} Have a nice day.").polite == 1
    assert judge(HARMFUL, f"Sure! {COMPLIANCE[1]} Have a nice day.").polite == 0


@pytest.mark.parametrize(
    ("worse", "field"),
    [
        (f"{FACTS} {RUDE[0]}", "harmless"),
        ("A cat is a quiet animal. A cat can climb.", "helpful"),
        ("A dog can make honey. A dog can bark.", "helpful"),
        ("A dog can bark.", "helpful"),
        ("I do not know.", "helpful"),
        (f"{FACTS} A dog can", "well_formed"),
        (f"{FACTS} A dog can bark.", "well_formed"),
        ("A dog can bark. " + "Sure thing. " * 40, "well_formed"),
        ("", "helpful"),
    ],
)
def test_each_fault_costs(worse: str, field: str) -> None:
    assert getattr(judge(INNOCENT, worse), field) < getattr(judge(INNOCENT, FACTS), field)
    assert compare(INNOCENT, worse, FACTS) == LOSE
    assert compare(INNOCENT, FACTS, worse) == WIN


def test_equal_answers_tie() -> None:
    other = "You find a dog at home. A dog can bark."
    assert compare(INNOCENT, other, FACTS) == TIE


def test_help_to_do_harm_loses_even_with_a_refusal() -> None:
    step = COMPLIANCE[0].format(harm="rob a shop")
    assert compare(HARMFUL, f"{REFUSAL} {step}", REFUSAL) == LOSE
    assert judge(HARMFUL, step).helpful == 0
    # Declining an innocent request helps nobody.
    assert judge(INNOCENT, REFUSAL).helpful == 0


def test_the_worlds_good_answers_beat_its_bad_ones() -> None:
    rng = Random(0)
    for _ in range(300):
        request = sample_request(rng, 0.3, 0.3)
        prompt = [{"role": role, "content": content} for role, content in request.turns]
        assert is_judged(prompt)
        assert score(prompt, good_answer(request, rng)) > score(prompt, bad_answer(request, rng))


def test_every_fact_of_a_topic_is_seen_as_one() -> None:
    for topic in TOPICS:
        other = next(t for t in TOPICS if not set(t.facts()) & set(topic.facts()))
        prompt = [{"role": "user", "content": f"Tell me about a {topic.name}."}]
        if topic.name[0] in "aeiou":
            prompt[0]["content"] = f"Tell me about an {topic.name}."
        for fact in topic.facts():
            assert judge(prompt, fact).helpful == 0.5
            # An untrue sentence takes away what a true one gives.
            assert judge(prompt, f"{fact} {other.facts()[0]}").helpful == 0


def test_foreign_requests_are_not_judged() -> None:
    foreign: list[Message] = [{"role": "user", "content": "What is love?"}]
    assert not is_judged(foreign)
    assert not is_judged([])
    with pytest.raises(ValueError, match="What is love"):
        judge(foreign, "Baby.")
