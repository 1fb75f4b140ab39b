import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from sparsepo.batches.chat import CHAT_TEMPLATE
from sparsepo.errors import UserError
from tasks.dialogue.world.chat import render_chat
from tasks.models.base_config import BaseModelConfig
from tasks.models.base_model import (
    _rate,
    _Reader,
    build_model,
    pack_windows,
    read_corpus,
    train_base_model,
    train_tokenizer,
)
from tasks.models.special_tokens import EOS

TEXTS = ["The capital of France is Paris.", "A dog can bark. A cat can climb.", "Answer: B"] * 20
SMALL = BaseModelConfig(
    layers=1, width=32, heads=2, vocabulary_size=300, context=32, steps=12, batch_size=4,
    warmup_steps=2, learning_rate=1e-2,
)  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(TEXTS, 290, 32)


def write_corpus(path: Path) -> Path:
    rows = [{"text": text, "answers": []} for text in TEXTS]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_any_text_survives_the_tokenizer(tokenizer: PreTrainedTokenizerFast) -> None:
    for text in ("A dog.", " two  spaces\n\nλ ∈ ℝ, 한국어, \\boxed{7}", "日本\t!"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_one_special_token_serves_as_end_beginning_and_padding(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    assert tokenizer.eos_token == tokenizer.bos_token == tokenizer.pad_token == EOS
    assert len(tokenizer) == 290
    assert tokenizer.model_max_length == 32
    ids = tokenizer(f"a{EOS}b")["input_ids"]
    assert ids.count(tokenizer.eos_token_id) == 1
    assert tokenizer("a")["input_ids"].count(tokenizer.bos_token_id) == 0


def test_corpus_dialogues_are_what_the_chat_template_renders(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    turns = [("user", "Hi"), ("assistant", "Hello!"), ("user", "Bye")]
    messages = [{"role": role, "content": content} for role, content in turns]
    assert tokenizer.chat_template == CHAT_TEMPLATE
    for generation in (False, True):
        rendered = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=generation
        )
        assert rendered == render_chat(turns, generation_prompt=generation)


def test_vocabulary_without_room_for_bytes_is_refused() -> None:
    with pytest.raises(UserError, match="257"):
        train_tokenizer(TEXTS, 100)


def test_windows_open_with_a_document_and_weigh_answers(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    text = "zq zq zq\n\nAnswer: B"
    start = len("zq zq zq\n\nAnswer:")
    row = {"text": text, "answers": [[start, len(text)]], "unread": len("zq zq zq\n\n")}
    windows = pack_windows([row] * 20, tokenizer, context=24, answer_weight=5.0)
    assert windows.ids.shape == windows.weights.shape
    assert windows.ids.shape[1] == 25
    first = tokenizer(text)["input_ids"]
    for ids, weights in zip(windows.ids.tolist(), windows.weights.tolist(), strict=True):
        assert ids[: len(first)] == first
        assert ids[len(first)] == tokenizer.eos_token_id
        spelled = dict.fromkeys(weights[: len(first) + 1], "")
        for token, weight in zip(first, weights, strict=False):
            spelled[weight] += str(tokenizer.decode([token]))
        assert spelled == {0.0: "zq zq zq\n\n", 1.0: "Answer:", 5.0: " B"}
        # The end-of-sequence token after an answer is part of answering.
        assert weights[len(first)] == 5.0


def test_documents_stay_whole_and_fill_the_windows(tokenizer: PreTrainedTokenizerFast) -> None:
    """Each text is in one window from its first token to its EOS; the rest is padding."""
    texts = [" ".join(["A dog can bark."] * (1 + number % 4)) for number in range(60)]
    ids = tokenizer(texts)["input_ids"]
    context = 3 * max(map(len, ids))
    windows = pack_windows([{"text": text} for text in texts], tokenizer, context, 1.0)
    eos = tokenizer.eos_token_id
    found = []
    for row, weights in zip(windows.ids.tolist(), windows.weights.tolist(), strict=True):
        used = int(sum(weights))
        assert weights == [1.0] * used + [0.0] * (context + 1 - used)
        assert set(row[used:]) <= {eos}
        assert row[used - 1] == eos
        documents = " ".join(map(str, row[:used])).split(f" {eos}")
        found += [document.split() for document in documents if document]
    assert sorted(found) == sorted([list(map(str, document)) for document in ids])
    tokens = sum(len(document) + 1 for document in ids)
    assert tokens / windows.ids.numel() > 0.9


def test_a_document_that_is_too_long_ends_after_its_last_whole_answer(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    question = "zq zq zq\n\nAnswer: B\n\n"
    text = question * 3
    starts = [len(question) * number + question.index(" B") for number in range(3)]
    answers = [[start, start + len(" B")] for start in starts]
    whole = len(tokenizer(text)["input_ids"])
    (window, *_) = pack_windows(
        [{"text": text, "answers": answers}] * 4, tokenizer, whole - 3, 5.0
    ).ids.tolist()
    kept = window[: window.index(tokenizer.eos_token_id)]
    assert tokenizer.decode(kept) == (question * 2).removesuffix("\n\n")


def test_only_the_end_of_a_text_is_an_eos_and_only_one(tokenizer: PreTrainedTokenizerFast) -> None:
    text = "A dog can bark. " * 8
    ids, eos = tokenizer(text)["input_ids"], tokenizer.eos_token_id
    cut = pack_windows([{"text": text}], tokenizer, len(ids) - 3, 1.0)
    assert cut.ids.tolist() == [ids[:-2]]
    assert cut.weights.tolist() == [[1.0] * (len(ids) - 2)]
    fits = pack_windows([{"text": text + EOS}], tokenizer, len(ids), 1.0)
    assert fits.ids.tolist() == [[*ids, eos]]


def test_windows_may_begin_as_a_plain_prompt_does(tokenizer: PreTrainedTokenizerFast) -> None:
    rows = [{"text": "A dog can bark."}] * 20
    plain = pack_windows(rows, tokenizer, 24, 1.0)
    begun = pack_windows(rows, tokenizer, 24, 1.0, leading_bos=True)
    assert set(begun.ids[:, 0].tolist()) == {tokenizer.bos_token_id}
    assert begun.ids[0, 1:].tolist() == plain.ids[0, :-1].tolist()


@pytest.mark.parametrize("architecture", ["gpt_neox", "gpt2", "gpt_bigcode"])
def test_architectures_share_size_and_special_tokens(
    tokenizer: PreTrainedTokenizerFast, architecture: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    model = build_model(dataclasses.replace(SMALL, architecture=architecture), tokenizer)
    assert model.config.model_type == architecture
    assert model.config.max_position_embeddings == SMALL.context
    assert model.config.eos_token_id == model.config.pad_token_id == tokenizer.eos_token_id
    assert model.get_output_embeddings().weight.shape == (len(tokenizer), SMALL.width)
    assert model(torch.tensor([[1, 2, 3]])).logits.shape == (1, 3, len(tokenizer))
    assert "must be" not in capfd.readouterr().err


def test_corpus_too_small_for_a_window_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(UserError, match="larger world"):
        pack_windows([{"text": "a"}], tokenizer, 64, 1.0)


def test_damaged_corpus_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no corpus"):
        list(read_corpus(tmp_path / "none.jsonl"))
    (tmp_path / "c.jsonl").write_text('{"text": "a"}\n{"text": \n')
    with pytest.raises(UserError, match="Line 2"):
        list(read_corpus(tmp_path / "c.jsonl"))


def test_training_learns_is_repeatable_and_saves_a_plain_model(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl")
    losses: list[float] = []
    train_base_model(SMALL, corpus, tmp_path / "a", lambda step, steps, loss: losses.append(loss))
    train_base_model(SMALL, corpus, tmp_path / "b")
    assert len(losses) == SMALL.steps
    assert losses[-1] < losses[0] - 1
    first, second = (AutoModelForCausalLM.from_pretrained(tmp_path / name) for name in "ab")
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)
    assert first.config.model_type == "gpt_neox"
    assert first.config.max_position_embeddings == SMALL.context
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "a")
    assert first.config.eos_token_id == tokenizer.eos_token_id
    assert tokenizer.chat_template == CHAT_TEMPLATE
    assert json.loads((tmp_path / "a" / "base_model.json").read_text())["steps"] == SMALL.steps


def first_and_other(path: Path) -> Path:
    """A corpus of two kinds of documents, which a model learns one after the other."""
    rows = [
        {"text": "ab ab ab: c", "answers": [[9, 11]], "first": True},
        {"text": "zq zq zq zq", "answers": []},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows * 40))
    return path


def test_first_steps_read_only_first_documents(tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL, first_steps=10, first_loss=0.0, steps=8)
    losses: list[float] = []
    corpus = first_and_other(tmp_path / "corpus.jsonl")
    train_base_model(config, corpus, tmp_path / "m", lambda *now: losses.append(now[2]))
    assert len(losses) == 18
    # The model knows the first documents by then; the others surprise it.
    assert losses[10] > losses[9] + 1


def test_first_steps_end_when_their_answers_are_learned(tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL, first_steps=400, first_loss=1.0, steps=8)
    counts: list[tuple[int, int]] = []
    corpus = first_and_other(tmp_path / "corpus.jsonl")
    train_base_model(config, corpus, tmp_path / "m", lambda *now: counts.append(now[:2]))
    beginning = len(counts) - 8
    assert 0 < beginning < 400
    assert counts[beginning - 2 :] == [(beginning - 1, 408)] + [
        (beginning + n, beginning + 8) for n in range(9)
    ]


@pytest.mark.parametrize(
    ("share", "later"), [(0.0, 0), (0.25, 1), (1.0, 4)], ids=["none", "one", "all"]
)
def test_batches_take_the_share_of_the_first_windows(share: float, later: int) -> None:
    reader = _Reader(5, 9, dataclasses.replace(SMALL, first_share=share))
    batches = [reader.batch(beginning=number < 2).tolist() for number in range(6)]
    assert [sum(index < 5 for index in batch) for batch in batches] == [4, 4] + [later] * 4
    assert all(len(batch) == 4 and max(batch) < 14 for batch in batches)
    drawn = [index for batch in batches for index in batch if index < 5]
    assert set(drawn[:5]) == set(range(5))  # An epoch has each window once.


def test_the_rate_is_constant_in_the_beginning_and_then_decays() -> None:
    config = dataclasses.replace(SMALL, warmup_steps=2, steps=10)
    assert [_rate(step, 4, config) for step in range(5)] == [0.5, 1.0, 1.0, 1.0, 1.0]
    decay = [_rate(step, 4, config) for step in range(4, 15)]
    assert decay == sorted(decay, reverse=True)
    assert decay[-1] == pytest.approx(0.05)


def test_first_steps_without_first_documents_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"base\.first_steps=0"):
        train_base_model(
            dataclasses.replace(SMALL, first_steps=2),
            write_corpus(tmp_path / "corpus.jsonl"),
            tmp_path / "m",
        )


def test_another_seed_gives_another_model(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl")
    from dataclasses import replace

    final: list[float] = []
    for seed in (0, 1):
        train_base_model(
            replace(SMALL, seed=seed, steps=2),
            corpus,
            tmp_path / str(seed),
            lambda step, steps, loss: final.append(loss),
        )
    assert final[0] != final[2]
