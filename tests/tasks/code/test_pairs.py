from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsepo.errors import UserError
from tasks.code.conventions import get_convention
from tasks.code.judging import Result
from tasks.code.pairs import (
    Answers,
    answers_of_samples,
    epoch_pairs,
    fixed_pairs,
    read_answers,
    select,
    write_answers,
)
from tasks.code.problems import read_problems
from tasks.code.samples import Sample
from tests.tasks.code.rows import MBPP

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@st.composite
def all_answers(draw: st.DrawFn) -> list[Answers]:
    """Prompts with up to six samples; what passes can be told from what fails."""
    return [
        Answers(
            str(number),
            f"prompt {number}",
            tuple(f"+{text}" for text in draw(st.lists(texts, max_size=4))),
            tuple(f"-{text}" for text in draw(st.lists(texts, max_size=3))),
        )
        for number in range(draw(st.integers(1, 6)))
    ]


def usable(answers: list[Answers]) -> list[Answers]:
    return [one for one in answers if len(one.passing) >= 2 and len(one.failing) >= 1]


@given(all_answers())
def test_prompts_with_two_passing_and_one_failing_sample_are_kept(answers: list[Answers]) -> None:
    expected = usable(answers)
    if not expected:
        with pytest.raises(UserError, match=r"None of the \d+ training problems"):
            select(answers, "training problems")
        return
    kept, selection = select(answers, "training problems")
    assert kept == expected
    assert selection.kept == len(expected)
    assert selection.prompts == len(answers)
    assert selection.kept + selection.too_few_passing + selection.none_failing == len(answers)
    assert selection.passed == sum(len(one.passing) for one in answers)


@given(all_answers(), st.integers(1, 4), st.integers(0, 9))
def test_each_epoch_has_one_pair_of_every_prompt(
    answers: list[Answers], epochs: int, seed: int
) -> None:
    kept = usable(answers)
    pairs = epoch_pairs(kept, epochs, seed)
    assert len(pairs) == epochs * len(kept)
    assert len({pair.pair_id for pair in pairs}) == len(pairs)
    by_prompt = {one.prompt: one for one in kept}
    for epoch in range(epochs):
        part = pairs[epoch * len(kept) : (epoch + 1) * len(kept)]
        assert {pair.prompt for pair in part} == set(by_prompt)
        assert all(pair.pair_id.endswith(f"#{epoch}") for pair in part)
        for pair in part:
            assert isinstance(pair.prompt, str)
            assert pair.chosen in by_prompt[pair.prompt].passing
            assert pair.rejected in by_prompt[pair.prompt].failing


@given(all_answers(), st.integers(0, 9))
def test_more_epochs_leave_the_first_ones_as_they_were(answers: list[Answers], seed: int) -> None:
    kept = usable(answers)
    assert epoch_pairs(kept, 4, seed)[: 2 * len(kept)] == epoch_pairs(kept, 2, seed)


@given(all_answers(), st.integers(0, 9))
def test_validation_has_one_fixed_pair_of_every_prompt(answers: list[Answers], seed: int) -> None:
    kept = usable(answers)
    pairs = fixed_pairs(kept, seed)
    assert pairs == fixed_pairs(kept, seed)
    assert [(pair.pair_id, pair.prompt) for pair in pairs] == [(a.key, a.prompt) for a in kept]


def test_epochs_and_seeds_draw_different_pairs_in_different_orders() -> None:
    passing, failing = tuple(f"+{j}" for j in range(50)), tuple(f"-{j}" for j in range(50))
    answers = [Answers(str(i), f"prompt {i}", passing, failing) for i in range(30)]
    first, second = epoch_pairs(answers, 2, 0)[:30], epoch_pairs(answers, 2, 0)[30:]
    other = epoch_pairs(answers, 1, 1)
    for one, two in ((first, second), (first, other)):
        assert [pair.prompt for pair in one] != [pair.prompt for pair in two]
        drawn = {pair.prompt: (pair.chosen, pair.rejected) for pair in one}
        same = sum(drawn[pair.prompt] == (pair.chosen, pair.rejected) for pair in two)
        assert same < 5


def test_a_text_that_was_sampled_often_is_drawn_often() -> None:
    answers = [Answers("a", "prompt", ("often",) * 9 + ("rarely",), ("wrong",))]
    counts = Counter(pair.chosen for pair in epoch_pairs(answers, 1000, 0))
    assert 850 < counts["often"] < 950


@settings(max_examples=50)
@given(all_answers())
def test_the_authors_schema_is_read_as_it_is_written(
    tmp_path_factory: pytest.TempPathFactory, answers: list[Answers]
) -> None:
    path = tmp_path_factory.mktemp("answers") / "merged.json"
    write_answers(answers, path)
    assert [(a.prompt, a.passing, a.failing) for a in read_answers(path)] == [
        (a.prompt, a.passing, a.failing) for a in answers
    ]


def test_votes_that_are_null_are_failing_solutions(tmp_path: Path) -> None:
    path = tmp_path / "merged.json"
    solutions = [
        {"text": "a", "votes": None},
        {"text": "b", "votes": 1.0},
        {"text": "c", "votes": 0},
    ]
    path.write_text(json.dumps([{"question": "q", "answers": solutions}]))
    assert read_answers(path) == [Answers("1", "q", ("b", "c"), ("a",))]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"answers": []}, "row 1: there is no column 'question'"),
        ({"question": 3, "answers": []}, "'question' should be text, not a number"),
        ({"question": "q"}, "there is no column 'answers'"),
        ({"question": "q", "answers": "a"}, "'answers' should be a list of objects"),
        ({"question": "q", "answers": ["a"]}, "'answers' should be a list of objects"),
        ({"question": "q", "answers": [{"text": "a"}]}, "there is no column 'votes'"),
        ({"question": "q", "answers": [{"votes": 1}]}, "there is no column 'text'"),
        (
            {"question": "q", "answers": [{"text": "a", "votes": "yes"}]},
            "a number or null, not text",
        ),
    ],
)
def test_another_schema_is_named_with_its_row(row: object, message: str, tmp_path: Path) -> None:
    path = tmp_path / "merged.json"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(UserError, match=message):
        read_answers(path)


def test_an_empty_or_cut_off_file_is_an_error(tmp_path: Path) -> None:
    empty, cut = tmp_path / "empty.json", tmp_path / "cut.jsonl"
    empty.write_text("")
    cut.write_text('{"question": "q", "answers": [{"te')
    with pytest.raises(UserError, match="contains no prompts"):
        read_answers(empty)
    with pytest.raises(UserError, match=r"cut\.jsonl"):
        read_answers(cut)


def test_samples_are_parted_by_verdict_and_cut_where_they_were_cut_to_be_run(
    tmp_path: Path,
) -> None:
    (tmp_path / "mbpp.jsonl").write_text("".join(json.dumps(row) + "\n" for row in MBPP))
    problems = read_problems(tmp_path / "mbpp.jsonl")
    convention = get_convention("bigcode", problems)
    outcomes = ("passed", "failed", "timeout", "memory", "refused", "unsupported")
    samples = [
        Sample(problems[0], number, f"answer {outcome}\nassert more")
        for number, outcome in enumerate(outcomes)
    ]
    samples.append(Sample(problems[1], 0, "other"))
    results = [Result(outcome, "", 0.0, 3.0) for outcome in (*outcomes, "passed")]  # type: ignore[arg-type]
    first, second = answers_of_samples(samples, results, convention)
    assert first.key == str(problems[0].task_id)
    assert first.prompt == convention.prompt(problems[0])
    assert first.passing == ("answer passed",)
    # What could not be judged is neither.
    assert first.failing == ("answer failed", "answer timeout", "answer memory")
    assert (second.passing, second.failing) == (("other",), ())
