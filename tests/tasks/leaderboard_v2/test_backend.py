from __future__ import annotations

from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import PreTrainedTokenizerFast

from tasks.leaderboard_v2.backend import LeaderboardLM, tokenizer_fingerprint
from tests.small_models import PAPER_ARCHITECTURES, small_model

from .conftest import VOCABULARY, make_tokenizer


def requests(texts: list[tuple[str, str]]) -> list[Instance]:
    return [
        Instance("loglikelihood", {}, pair, 0, metadata=("task", number, 1))
        for number, pair in enumerate(texts)
    ]


PROMPTS = ["Which one? Answer:", "Which one is it, really? Answer:", "Quite another thing"]
ANSWERS = [" (A)", " (B)", " a longer answer", " a longer reply", " 7"]
TEXTS = [(prompt, answer) for prompt in PROMPTS for answer in ANSWERS] + [("", "empty prompt")]


def language_model(
    tokenizer: PreTrainedTokenizerFast, architecture: str = "gpt_neox", **settings: Any
) -> LeaderboardLM:
    length = {"gpt_neox": "max_position_embeddings", "llama": "max_position_embeddings"}
    model = small_model(
        architecture,
        vocab_size=VOCABULARY,
        **{length.get(architecture, "n_positions"): 256},
        attn_implementation=settings.pop("attention", None),
    )
    defaults: dict[str, Any] = {"batch_size": 4, "max_length": 256, "pack_tokens": 64}
    return LeaderboardLM(model, tokenizer, **{**defaults, **settings})


@pytest.mark.parametrize("architecture", PAPER_ARCHITECTURES)
@pytest.mark.parametrize("max_length", [256, 12])
def test_packed_scores_are_lm_evals(
    tokenizer: PreTrainedTokenizerFast, architecture: str, max_length: int
) -> None:
    ours = language_model(tokenizer, architecture, max_length=max_length)
    assert ours.pack_tokens == 64
    theirs = HFLM(pretrained=ours.model, tokenizer=tokenizer, batch_size=1, max_length=max_length)
    expected = theirs.loglikelihood(requests(TEXTS), disable_tqdm=True)
    found = ours.loglikelihood(requests(TEXTS))
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
    assert [score for score, _ in found] == pytest.approx([s for s, _ in expected], abs=2e-4)


def test_greedy_answers_are_recognised(tokenizer: PreTrainedTokenizerFast) -> None:
    lm = language_model(tokenizer)
    ids = lm.tok_encode(PROMPTS[0])
    with torch.no_grad():
        best = int(lm.model(torch.tensor([ids])).logits[0, -1].argmax())
    scores = lm._loglikelihood_tokens([(("", ""), ids, [best]), (("", ""), ids, [best ^ 1])])
    assert [greedy for _, greedy in scores] == [True, False]


@pytest.mark.parametrize("pack_tokens", [None, 1, 20, 1000])
def test_packing_and_batches_do_not_move_a_score(
    tokenizer: PreTrainedTokenizerFast, pack_tokens: int | None
) -> None:
    reference = language_model(tokenizer, batch_size=1).loglikelihood(requests(TEXTS))
    lm = language_model(tokenizer, pack_tokens=pack_tokens, batch_size=7)
    found = lm.loglikelihood(requests(TEXTS))
    assert [s for s, _ in found] == pytest.approx([s for s, _ in reference], abs=2e-4)


def test_attention_without_masks_falls_back_to_lm_eval(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = language_model(tokenizer)
    packed.model.config._attn_implementation_internal = "flash_attention_2"
    lm = LeaderboardLM(packed.model, tokenizer, batch_size=1, max_length=64, pack_tokens=64)
    assert lm.pack_tokens is None


def test_truncated_prompts_are_counted_per_row(tokenizer: PreTrainedTokenizerFast) -> None:
    lm = language_model(tokenizer, max_length=16)
    texts = [("short", " a"), ("a very long prompt " * 5, " a"), ("short", " b")]
    lm.loglikelihood(requests(texts))
    assert lm.truncated == {("task", 1)}
    arguments = {"until": [], "do_sample": False, "max_gen_toks": 8}
    generation = [
        Instance("generate_until", {}, (text, arguments), 0, metadata=("write", number, 1))
        for number, text in enumerate(["ab", "cd " * 30])
    ]
    lm.generate_until(generation)
    assert lm.truncated == {("task", 1), ("write", 1)}


class Scripted(torch.nn.Module):
    """Puts the next token of a fixed text first, whatever it is given."""

    def __init__(self, start: int, ids: list[int]) -> None:
        super().__init__()
        self.start, self.ids = start, ids

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(*hidden.shape[:2], VOCABULARY)
        logits[:, -1, self.ids[self.start]] = 9.0
        self.start += 1
        return logits


@pytest.mark.parametrize(
    ("ending", "expected"),
    [("<|endoftext|>tail", "It is 4."), ("Problem: tail", "It is 4.")],
)
def test_generation_stops_at_eos_and_at_stop_strings(
    tokenizer: PreTrainedTokenizerFast, ending: str, expected: str
) -> None:
    # As a model whose configuration names another end of text than its tokenizer.
    lm = language_model(tokenizer)
    lm.model.generation_config.eos_token_id = 5
    lm = LeaderboardLM(lm.model, tokenizer, batch_size=1, max_length=256, pack_tokens=None)
    assert lm.model.generation_config.eos_token_id == [5, tokenizer.eos_token_id]
    script = Scripted(0, tokenizer("It is 4." + ending).input_ids)
    lm.model.set_output_embeddings(script)
    arguments = {"until": ["Problem:"], "do_sample": False, "max_gen_toks": 40}
    request = Instance("generate_until", {}, ("2 + 2?", arguments), 0, metadata=("t", 0, 1))
    assert lm.generate_until([request]) == [expected]
    assert script.start < len(script.ids)  # it stopped before the end of the script


def generations(arguments: dict[str, Any]) -> list[Instance]:
    return [
        Instance("generate_until", {}, (text, arguments), 0, metadata=("write", number, 1))
        for number, (text, _) in enumerate(TEXTS)
        if text
    ]


@pytest.mark.parametrize("architecture", PAPER_ARCHITECTURES)
@pytest.mark.parametrize("until", [[], ["a", "\n"]])
def test_generated_texts_equal_lm_evals_own(
    tokenizer: PreTrainedTokenizerFast, architecture: str, until: list[str]
) -> None:
    lm = language_model(tokenizer, architecture=architecture, batch_size=4, max_length=64)
    for weight in lm.model.parameters():
        weight.data *= 4.0 if weight.ndim > 1 else 1.0  # so that texts depend on their prompts
    arguments = {"until": until, "do_sample": False, "temperature": 0.0, "max_gen_toks": 12}
    own = generations(arguments)

    expected = HFLM.generate_until(lm, own, disable_tqdm=True)

    assert lm.generate_until(own) == expected
    assert len(set(expected)) > 1


def test_sampling_is_left_to_lm_eval(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = language_model(tokenizer)
    given: list[int] = []

    def own(self: HFLM, requests: list[Instance], disable_tqdm: bool) -> list[str]:
        given.append(len(requests))
        return ["text"] * len(requests)

    monkeypatch.setattr(HFLM, "generate_until", own)
    arguments = {"until": [], "do_sample": True, "temperature": 0.7, "max_gen_toks": 4}

    assert set(lm.generate_until(generations(arguments))) == {"text"}
    assert given == [len(generations(arguments))]


def test_progress_reaches_its_total(tokenizer: PreTrainedTokenizerFast) -> None:
    for pack_tokens in (64, None):
        seen: list[tuple[int, int, str]] = []
        lm = language_model(tokenizer, pack_tokens=pack_tokens)
        lm._progress = lambda done, total, what, seen=seen: seen.append((done, total, what))
        lm.loglikelihood(requests(TEXTS))
        assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)
        assert {(total, what) for _, total, what in seen} == {(len(TEXTS), "scoring choices")}
        if pack_tokens:
            assert seen[-1][0] == len(TEXTS)


def test_fingerprint_knows_vocabulary_and_template() -> None:
    first, again = make_tokenizer(), make_tokenizer()
    assert tokenizer_fingerprint(first) == tokenizer_fingerprint(again)
    again.chat_template = "{{ messages }}"
    with_bos = make_tokenizer(bos_token="<|endoftext|>")
    kinds = {tokenizer_fingerprint(t) for t in (first, again, with_bos)}
    assert len(kinds) == 3


def test_cached_tokens_are_those_of_the_tokenizer(tokenizer: PreTrainedTokenizerFast) -> None:
    other = make_tokenizer(VOCABULARY - 100)
    pair = ("Which one?", " that")
    first = language_model(tokenizer)._encode_pair(*pair)
    second = language_model(other)._encode_pair(*pair)
    assert first != second
    assert language_model(tokenizer)._encode_pair(*pair) == first


def test_a_model_that_packed_rows_get_wrong_is_scored_row_by_row(
    tokenizer: PreTrainedTokenizerFast, caplog: pytest.LogCaptureFixture
) -> None:
    """Here positions are counted along the row, whatever the position ids say."""
    ours = language_model(tokenizer, "gpt2")
    body = ours.model.transformer
    own = body.forward
    body.forward = lambda *args, **kwargs: own(*args, **{**kwargs, "position_ids": None})
    theirs = HFLM(pretrained=ours.model, tokenizer=tokenizer, batch_size=1, max_length=256)
    expected = theirs.loglikelihood(requests(TEXTS), disable_tqdm=True)
    found = ours.loglikelihood(requests(TEXTS))
    assert [score for score, _ in found] == pytest.approx([s for s, _ in expected], abs=2e-4)
    assert ours.pack_tokens is None
    assert "every request is scored in a row of its own" in caplog.text
