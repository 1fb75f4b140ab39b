"""A judge as a reward: shares of comparisons won, what is left out, and training with it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from sparsepo.cli.main import main
from sparsepo.errors import UserError
from tasks.judges.as_reward import JudgeReward, judge_reward
from tasks.judges.base import Item, Judge, Verdict
from tasks.judges.journal import VerdictJournal
from tests.endpoint_server import Body, Reply, chat_reply, endpoint
from tests.small_models import small_model, small_tokenizer, text_pairs
from tests.tasks.judges.test_endpoint_judge import shown


class Longest(Judge):
    """Prefers the longer response, and says nothing of one with a question mark."""

    def __init__(self) -> None:
        self.asked: list[Item] = []

    @property
    def signature(self) -> dict[str, str]:
        return {"kind": "longest"}

    def each(self, items: Sequence[Item]) -> Iterator[tuple[int, Verdict]]:
        for place, item in enumerate(items):
            self.asked.append(item)
            first, second = len(item.first), len(item.second)
            if "?" in item.first + item.second:
                yield place, Verdict("failed", "a question is no answer")
            else:
                yield place, Verdict("first" if first > second else "second")


def test_a_reward_is_the_share_of_the_prompts_other_samples_that_are_worse() -> None:
    judge = Longest()
    prompts: list[Any] = ["p", "p", "p", [{"role": "user", "content": "p"}]] * 2
    responses = ["a", "aaa", "aa", "bb", "aa", "a", "a", "b"]
    found = JudgeReward(judge)(prompts, responses)
    # Of "p": a, aaa, aa, aa, a, a; equal responses tie. Of the messages: bb, b.
    assert found == [0.2, 1.0, 0.7, 1.0, 0.7, 0.2, 0.2, 0.0]
    assert {item.first for item in judge.asked} == {"a", "aa", "aaa", "b", "bb"}
    # Each question once, in both orders: three among a, aa, aaa and one between b and bb.
    assert len(judge.asked) == 2 * (3 + 1)


def test_a_verdict_that_changes_with_the_order_is_a_tie() -> None:
    class First(Longest):
        def each(self, items: Sequence[Item]) -> Iterator[tuple[int, Verdict]]:
            yield from ((place, Verdict("first")) for place in range(len(items)))

    assert JudgeReward(First())(["p"] * 2, ["a", "aa"]) == [0.5, 0.5]


def test_comparisons_without_a_verdict_are_left_out_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "tasks.judges.as_reward"):
        found = JudgeReward(Longest())(["p"] * 3, ["a", "aa", "?"])
    assert found == [0.0, 1.0, 0.5]
    assert "no verdict in 2 of 3 comparisons (the first: 'a question is no answer')" in caplog.text
    with pytest.raises(UserError, match=r"no verdict in any of 1 comparisons.*no answer"):
        JudgeReward(Longest())(["p"] * 2, ["a", "?"])
    with pytest.raises(UserError, match="raise samples_per_prompt"):
        JudgeReward(Longest())(["p", "p", "q"], ["a", "b", "c"])


def test_a_journal_answers_what_was_asked_before(tmp_path: Path) -> None:
    judge = Longest()
    reward = JudgeReward(judge, VerdictJournal(tmp_path / "verdicts.jsonl"))
    first = reward(["p"] * 2, ["a", "aa"])
    asked = len(judge.asked)
    assert reward(["p"] * 2, ["a", "aa"]) == first and len(judge.asked) == asked == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "endpoint", "model": "m"}, "needs judge.url"),
        ({"kind": "rules"}, "know the embedded world's prompts only"),
        ({"kind": "oracle"}, "Choose one of"),
        ({"models": "m"}, "no setting 'models'"),
        ({"kind": "endpoint", "model": "m", "url": "http://localhost:1/v1"}, "or agree=True"),
        ({"kind": "reward", "model": "no/such"}, "no/such"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_settings_that_cannot_be_used(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        judge_reward(**settings)


def more_vowels(path: str, body: Body) -> Reply:
    first, second = (sum(map(text.count, "aeiou")) for text in shown(body))
    return chat_reply(f"Better: {'tie' if first == second else 'A' if first > second else 'B'}")


def test_the_command_trains_with_a_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of the documentation, with a served judge."""
    monkeypatch.setenv("SPARSEPO_ENDPOINT_KEY", "sk-none")
    small_model("gpt2").save_pretrained(tmp_path / "model")
    small_tokenizer().save_pretrained(tmp_path / "model")
    rows = [{"prompt": prompt} for prompt in dict.fromkeys(str(p.prompt) for p in text_pairs(8))]
    data = tmp_path / "prompts.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with endpoint(more_vowels) as server:
        (tmp_path / "judged.py").write_text(
            "from tasks.judges.as_reward import judge_reward\n"
            f"judge = judge_reward(kind='endpoint', url={server.url!r}, model='judge',\n"
            f"    price_in=0, price_out=0, journal={str(tmp_path / 'verdicts.jsonl')!r})\n"
        )
        command = [
            "train", "--model", str(tmp_path / "model"), "--data", str(data), "--method", "grpo",
            "--reward", f"{tmp_path / 'judged.py'}:judge", "--output", str(tmp_path / "out"),
            "--set", "samples_per_prompt=4", "max_new_tokens=6", "max_steps=2", "max_length=64",
            "per_device_train_batch_size=2", "save_strategy=no", "use_cpu=true",
        ]  # fmt: skip
        assert main(command) == 0
        assert server.requests
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert len(VerdictJournal(tmp_path / "verdicts.jsonl").read()) == len(server.requests)
