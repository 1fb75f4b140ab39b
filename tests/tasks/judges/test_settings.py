"""A judge's settings, its cost, and the world's rules as a judge."""

from __future__ import annotations

import pytest

from sparsepo.errors import UserError
from tasks.dialogue.judge import compare
from tasks.judges.ask import compare_systems
from tasks.judges.base import Item
from tasks.judges.cost import estimate_cost
from tasks.judges.make import make_judge
from tasks.judges.rules import RuleJudge
from tasks.judges.settings import JudgeSettings, check_judge


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"kind": "human"}, "judge.kind cannot be 'human'"),
        ({"kind": "rules", "url": "http://localhost/v1"}, "judge.url has no effect"),
        ({"kind": "reward", "model": "a/b", "agree": True}, "judge.agree has no effect"),
        ({"kind": "instruct", "model": "a/b", "max_tokens": 9}, "without judge.answer=generate"),
        ({"kind": "reward"}, r"needs judge.model=NAME (or trained)"),
        ({"kind": "reward", "model": "a/b", "train.epochs": 2}, "without judge.model=trained"),
        ({"kind": "endpoint", "model": "a"}, "needs judge.url"),
        ({"kind": "endpoint", "url": "http://localhost/v1"}, "needs judge.model"),
        ({"kind": "rules", "label_pairs": 0}, "judge.label_pairs must be at least 1"),
        (
            {"kind": "endpoint", "url": "http://a/v1", "model": "a", "price_in": float("nan")},
            "judge.price_in cannot be nan",
        ),
    ],
)
def test_unusable_settings_are_one_sentence(values: dict[str, object], words: str) -> None:
    own = {name: value for name, value in values.items() if "." not in name}
    settings = JudgeSettings(**own)  # type: ignore[arg-type]
    with pytest.raises(UserError) as raised:
        check_judge(settings, values, knows_rules=True)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_rules_do_not_judge_real_data() -> None:
    with pytest.raises(UserError, match="the embedded world's prompts only"):
        check_judge(JudgeSettings(), (), knows_rules=False)
    with pytest.raises(UserError, match="no rules for these prompts"):
        make_judge(JudgeSettings(), "dialogue")


def test_the_cost_is_both_orders_of_every_comparison() -> None:
    settings = JudgeSettings(
        kind="endpoint", model="m", url="u", max_tokens=50, price_in=2.0, price_out=10.0
    )
    cost = estimate_cost(settings, "dialogue", 1000, prompt_tokens=100, response_tokens=40)
    assert cost.calls == 2000
    assert cost.completion_tokens == 100_000
    frame = cost.prompt_tokens / 2000 - 180
    assert 150 < frame < 400
    assert cost.price == pytest.approx((cost.prompt_tokens * 2 + 100_000 * 10) / 1e6)
    assert f"{cost.price:,.2f}" in cost.sentence(settings)
    free = estimate_cost(JudgeSettings(), "summary", 1, 1, 1)
    assert "no price is known" in free.sentence(JudgeSettings())


def test_the_worlds_rules_do_not_depend_on_the_order() -> None:
    prompt = [{"role": "user", "content": "Tell me about apples."}]
    judge = RuleJudge(compare, "rules")
    items = [Item("1", prompt, "a", "b")]
    (found,) = compare_systems(judge, items)
    assert found.result == "failed"
    assert "does not know the request" in found.forward.detail

    def longer(prompt: object, first: str, second: str) -> float:
        return 0.5 + 0.5 * ((len(first) > len(second)) - (len(first) < len(second)))

    items = [
        Item("1", "", "long", "short answer"),
        Item("2", "", "aa", "bb"),
        Item("3", "", "", "c"),
    ]
    results = compare_systems(RuleJudge(longer, "longer"), items)
    assert [one.result for one in results] == ["second", "tie", "second"]
