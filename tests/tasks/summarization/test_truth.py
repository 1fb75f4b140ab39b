from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.summarization.posts.facts import IMPORTANT, KINDS, Fact, other_fact, read_sentence
from tasks.summarization.posts.post import Post, read_post, write_post
from tasks.summarization.truth import assess, compare, deciding_spans, is_known, preference
from tasks.summarization.world.summaries import write_summary

POST = Post(
    "advice",
    "Please help me",
    "I told my aunt about it. So my brother sold my bike last week. We had soup for dinner. "
    "It seems that envy was behind it. Do you think that I should stay calm?",
    {
        "event": Fact("event", ("brother", "sold", "bike")),
        "reason": Fact("reason", ("envy",)),
        "question": Fact("question", ("stay calm",)),
        "food": Fact("food", ("soup",)),
        "told": Fact("told", ("aunt",)),
    },
)
GOOD = "My brother sold my bike. It was about envy. Should I stay calm?"


def verdicts(summary: str) -> list[str]:
    return [claim.verdict for claim in assess(POST, summary).claims]


def posts() -> st.SearchStrategy[Post]:
    return st.integers(0, 10**6).map(lambda seed: write_post(Random(seed), (3, 5), 0.85))


def test_a_post_is_read_from_its_prompt() -> None:
    assert read_post(POST.prompt) == POST
    assert is_known(POST.prompt)
    message = [{"role": "user", "content": POST.prompt}]
    assert assess(POST.prompt, GOOD) == assess(POST, GOOD) == assess(message, GOOD)
    assert not is_known([])


@pytest.mark.parametrize(
    "prompt", ["", "Something else.\n\nTL;DR:", POST.prompt.replace("We had soup", "We hid soup")]
)
def test_other_posts_are_not_known(prompt: str) -> None:
    assert not is_known(prompt)
    with pytest.raises(ValueError, match="not one of the world's"):
        assess(prompt, GOOD)


@pytest.mark.parametrize(
    ("summary", "expected", "values"),
    [
        (GOOD, ["covers"] * 3, (1, 1, 1)),
        ("  my BROTHER sold my bike", ["covers"], (1 / 3, 1, 1)),
        ("My aunt sold my bike. It was about envy.", ["contradicts", "covers"], (1 / 3, 0.5, 0.5)),
        (GOOD + " I feel sad.", ["covers"] * 3 + ["invents"], (1, 0.75, 0.75)),
        (GOOD + " We ate soup.", ["covers"] * 3 + ["digresses"], (1, 1, 0.75)),
        ("It was about envy. The reason was envy.", ["covers", "repeats"], (1 / 3, 1, 0.5)),
        ("It was about", ["unreadable"], (0, 0, 0)),
        ("My brother was sold by my bike. Why?", ["unreadable"] * 2, (0, 0, 0)),
        ("It seems that envy was behind it.", ["covers"], (1 / 3, 1, 1)),
        ("", [], (0, 0, 0)),
    ],
)
def test_what_sentences_are_worth(
    summary: str, expected: list[str], values: tuple[float, float, float]
) -> None:
    found = assess(POST, summary)
    assert verdicts(summary) == expected
    assert (found.coverage, found.faithfulness, found.focus) == pytest.approx(values)
    assert found.preference == pytest.approx((2 * values[0] + 2 * values[1] + values[2]) / 5)


def test_preference_orders_defects() -> None:
    ordered = [
        GOOD,
        GOOD + " We ate soup.",
        "My brother sold my bike. Should I stay calm?",
        GOOD + " I feel sad.",
        "My aunt sold my bike. It was about envy. Should I stay calm?",
        "My aunt sold my bike. It was about fun.",
    ]
    values = [preference(POST, summary) for summary in ordered]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == len(values)
    assert compare(POST, ordered[0], ordered[1]) == 1.0
    assert compare(POST, ordered[1], ordered[0]) == 0.0
    assert compare(POST, GOOD, "The reason was envy. " + GOOD.replace("It was about envy. ", ""))


def test_decisive_words() -> None:
    summary = "My aunt sold my bike. It was about envy. Blah blah. I feel sad."
    found = [(summary[s.start : s.end], s.verdict) for s in deciding_spans(POST, summary)]
    assert found == [
        ("aunt", "contradicts"),
        ("envy", "covers"),
        ("Blah blah.", "unreadable"),
        ("sad", "invents"),
    ]
    effects = {s.verdict: s.effect for s in deciding_spans(POST, summary)}
    assert effects["covers"] > 0 > max(effects["contradicts"], effects["invents"])


@given(posts())
@settings(max_examples=60, deadline=None)
def test_posts_are_read_back_whole(post: Post) -> None:
    assert read_post(post.prompt) == post
    assert {"event", "question"} <= post.facts.keys()


@given(posts(), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_a_good_summary_is_perfect_and_a_wrong_value_costs(post: Post, seed: int) -> None:
    rng = Random(seed)
    summary = write_summary(post, rng)
    assert summary.defects == ()
    found = assess(post, summary.text)
    assert (found.coverage, found.faithfulness, found.focus) == (1.0, 1.0, 1.0)
    kinds = [kind for kind in IMPORTANT if kind in post.facts]
    changed = rng.choice(kinds)
    wrong = other_fact(post.facts[changed], rng)
    sentences = [
        (wrong if kind == changed else post.facts[kind]).say(KINDS[kind].summed[0])
        for kind in kinds
    ]
    spoiled = assess(post, " ".join(sentences))
    assert spoiled.faithfulness == pytest.approx(1 - 1 / len(kinds))
    assert spoiled.coverage == pytest.approx(1 - 1 / len(kinds))
    (bad,) = [claim for claim in spoiled.claims if claim.verdict == "contradicts"]
    assert len(bad.deciding) == 1


@given(posts(), st.text(max_size=80))
@settings(max_examples=100, deadline=None)
def test_any_text_has_values_in_range(post: Post, text: str) -> None:
    found = assess(post, text)
    for value in (found.coverage, found.faithfulness, found.focus, found.preference):
        assert 0.0 <= value <= 1.0
    for span in deciding_spans(post, text):
        assert 0 <= span.start < span.end <= len(text)
    assert compare(post, text, text) == 0.5


@given(st.sampled_from(sorted(KINDS)), st.integers(0, 10**6))
@settings(max_examples=100, deadline=None)
def test_every_sentence_states_its_fact_alone(kind: str, seed: int) -> None:
    rng = Random(seed)
    values = tuple(rng.choice(known) for known in KINDS[kind].fields.values())
    for form in (*KINDS[kind].told, *KINDS[kind].summed):
        text = Fact(kind, values).say(form)
        read = read_sentence(text)
        assert read is not None
        assert read.fact == Fact(kind, values)
        assert tuple(text[a:b] for a, b in read.spans) == values
