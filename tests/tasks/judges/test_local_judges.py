"""Models on this machine as judges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from sparsepo.errors import UserError
from tasks.judges.ask import compare_systems
from tasks.judges.base import Item
from tasks.judges.journal import VerdictJournal
from tasks.judges.local import InstructJudge, RewardJudge
from tasks.judges.make import make_judge
from tasks.judges.settings import JudgeSettings
from tests.small_models import small_tokenizer

CONTEXT = 4096
ITEMS = [
    Item("1", [{"role": "user", "content": "Tea?"}], "Yes, gladly.", "Go away."),
    Item("2", [{"role": "user", "content": "Milk?"}], "No.", "A little, thank you very much."),
    Item("3", [{"role": "user", "content": "Milk?"}], "No.", "No. "),
]


def config(tokenizer: Any, context: int = CONTEXT, **values: Any) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=context,
        pad_token_id=tokenizer.pad_token_id or 0,
        **values,
    )


def saved(kind: type, folder: Path, chat: bool = True, **values: Any) -> Path:
    tokenizer = small_tokenizer()
    if chat:
        tokenizer.chat_template = (
            "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
            "{% if add_generation_prompt %}assistant: {% endif %}"
        )
    else:
        tokenizer.chat_template = None
    torch.manual_seed(0)
    model = kind(config(tokenizer, **values))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(0.0, 0.3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def reward(folder: Path, **values: Any) -> RewardJudge:
    return RewardJudge(JudgeSettings(kind="reward", model=str(folder), **values), folder, "cpu")


def test_a_reward_model_orders_responses_alike_in_both_orders_and_any_batch(tmp_path: Path) -> None:
    folder = saved(LlamaForSequenceClassification, tmp_path, num_labels=1)
    found = [compare_systems(reward(folder, batch_size=size), ITEMS) for size in (1, 2, 16)]
    results = [[one.result for one in own] for own in found]
    assert results[0] == results[1] == results[2]
    assert set(results[0][:2]) <= {"first", "second"}
    assert results[0][2] == "tie"
    for one in found[0][:2]:
        assert {one.forward.preference, one.backward.preference} == {"first", "second"}


def test_without_a_chat_template_a_transcript_is_scored(tmp_path: Path) -> None:
    folder = saved(LlamaForSequenceClassification, tmp_path, chat=False, num_labels=1)
    texts = [Item("1", "Tea?", " Yes.", " No."), ITEMS[0]]
    assert {one.result for one in compare_systems(reward(folder), texts)} <= {"first", "second"}


def test_a_score_that_is_no_number_is_no_verdict(tmp_path: Path) -> None:
    folder = saved(LlamaForSequenceClassification, tmp_path, num_labels=1)
    judge = reward(folder)
    with torch.no_grad():
        judge._model.score.weight.fill_(float("nan"))
    found = compare_systems(judge, ITEMS)
    assert [one.result for one in found] == ["failed", "failed", "tie"]
    assert found[0].forward.detail == "the judge's score is not finite"


def test_a_text_longer_than_the_context_is_no_verdict(tmp_path: Path) -> None:
    folder = saved(LlamaForSequenceClassification, tmp_path, num_labels=1, context=64)
    items = [ITEMS[0], Item("2", "Tea?", "word " * 80, "No.")]
    found = compare_systems(reward(folder), items)
    assert found[0].result != "failed"
    assert found[1].result == "failed"
    assert "context of 64 tokens" in found[1].forward.detail


@pytest.mark.parametrize(
    ("kind", "values"),
    [(LlamaForCausalLM, {}), (LlamaForSequenceClassification, {"num_labels": 3})],
    ids=["a language model", "a classifier of three"],
)
def test_other_models_are_no_reward_models(
    kind: type, values: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="is not a reward model with one score"):
        reward(saved(kind, tmp_path, **values))


def instruct(folder: Path, **values: Any) -> InstructJudge:
    settings = JudgeSettings(kind="instruct", model=str(folder), **values)
    made = make_judge(settings, "dialogue")
    assert isinstance(made, InstructJudge)
    return made


def test_an_instruct_model_answers_by_the_likeliest_ending(tmp_path: Path) -> None:
    folder = saved(LlamaForCausalLM, tmp_path)
    found = [instruct(folder, batch_size=size).compare(ITEMS) for size in (1, 16)]
    assert [one.preference for one in found[0]] == [one.preference for one in found[1]]
    judge = instruct(folder)
    (ids,) = [judge._encode([{"role": "user", "content": "A or B?"}], at_once=True)]
    scores = {}
    for answer, preference in ((" A", "first"), (" B", "second"), (" tie", "tie")):
        ending = judge._tokenizer(answer, add_special_tokens=False)["input_ids"]
        whole = torch.tensor([[*ids, *ending]])
        with torch.no_grad():
            logps = judge._model(whole).logits[0].log_softmax(-1)
        at = range(len(ids) - 1, len(ids) + len(ending) - 1)
        scores[preference] = sum(
            float(logps[i, token]) for i, token in zip(at, ending, strict=True)
        )
    ((_, verdict),) = judge._by_likelihood([ids])
    assert verdict.preference == max(scores, key=scores.__getitem__)


def test_words_without_a_verdict_fail(tmp_path: Path) -> None:
    folder = saved(LlamaForCausalLM, tmp_path)
    (verdict,) = instruct(folder, answer="generate", max_tokens=4).compare(ITEMS[:1])
    assert verdict.preference == "failed"
    assert verdict.completion_tokens <= 4


def test_nan_and_long_questions_are_no_verdicts(tmp_path: Path) -> None:
    judge = instruct(saved(LlamaForCausalLM, tmp_path))
    with torch.no_grad():
        judge._model.lm_head.weight.fill_(float("nan"))
    assert [one.preference for one in judge.compare(ITEMS)] == ["failed"] * 3
    short = instruct(saved(LlamaForCausalLM, tmp_path / "short", context=64))
    (verdict,) = short.compare(ITEMS[:1])
    assert "context of 64 tokens" in verdict.detail


def test_an_instruct_model_needs_a_chat_template(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no chat template"):
        instruct(saved(LlamaForCausalLM, tmp_path, chat=False))


def test_verdicts_of_a_local_model_are_journalled_too(tmp_path: Path) -> None:
    folder = saved(LlamaForSequenceClassification, tmp_path, num_labels=1)
    journal = VerdictJournal(tmp_path / "journal.jsonl")
    found = compare_systems(reward(folder), ITEMS, journal)
    assert len(journal.read()) == 4

    class Unasked(RewardJudge):
        def each(self, items: Any) -> Any:
            assert not items
            return iter(())

    settings = JudgeSettings(kind="reward", model=str(folder))
    assert compare_systems(Unasked(settings, folder, "cpu"), ITEMS, journal) == found
