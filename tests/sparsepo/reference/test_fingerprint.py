"""What moves a number of the reference moves its fingerprint, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model

from sparsepo import UserError
from sparsepo.reference.fingerprint import (
    digest,
    pair_hash,
    reference_fingerprint,
    tokenizer_hash,
    weights_hash,
)
from sparsepo.types import TokenizedPair
from tests.small_models import PAPER_ARCHITECTURES, small_model, small_tokenizer

SETTINGS = {"max_length": 64, "max_prompt_length": None, "on_long_response": "error"}


def change_a_weight(model: Any, tokenizer: Any) -> None:
    with torch.no_grad():
        next(model.parameters()).view(-1)[3] += 1e-6


def halve(model: Any, tokenizer: Any) -> None:
    model.half()


def other_attention(model: Any, tokenizer: Any) -> None:
    model.set_attn_implementation("eager")


def other_config(model: Any, tokenizer: Any) -> None:
    model.config.layer_norm_eps = 1e-3


def more_words(model: Any, tokenizer: Any) -> None:
    tokenizer.add_tokens(["zebra"])


def other_end(model: Any, tokenizer: Any) -> None:
    tokenizer.eos_token = "."


def a_template(model: Any, tokenizer: Any) -> None:
    tokenizer.chat_template = "{{ messages[0]['content'] }}"


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (change_a_weight, {"weights"}),
        (halve, {"weights", "dtype"}),
        (other_attention, {"attention"}),
        (other_config, {"config"}),
        (more_words, {"tokenizer"}),
        (other_end, {"tokenizer"}),
        (a_template, {"chat_template"}),
    ],
)
def test_what_moves_a_number_moves_the_fingerprint(
    change: Callable[[Any, Any], None], parts: set[str]
) -> None:
    model, tokenizer = small_model("gpt_neox"), small_tokenizer()
    before = reference_fingerprint(model, tokenizer, SETTINGS)
    change(model, tokenizer)
    after = reference_fingerprint(model, tokenizer, SETTINGS)
    assert {name for name in before if before[name] != after[name]} == parts
    assert digest(before) != digest(after)


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_of_the_data_count(name: str) -> None:
    model, tokenizer = small_model("gpt_neox"), small_tokenizer()
    before = reference_fingerprint(model, tokenizer, SETTINGS)
    assert before != reference_fingerprint(model, tokenizer, {**SETTINGS, name: 32})


@pytest.mark.parametrize("library", ["torch", "transformers"])
def test_versions_count(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = small_model("gpt_neox"), small_tokenizer()
    before = reference_fingerprint(model, tokenizer, SETTINGS)
    monkeypatch.setattr(f"sparsepo.reference.fingerprint.{library}.__version__", "0.0.1")
    after = reference_fingerprint(model, tokenizer, SETTINGS)
    assert {name for name in before if before[name] != after[name]} == {"versions"}


def test_what_moves_no_number_does_not_count(tmp_path: Any) -> None:
    """Where a model lies, what its tokenizer did last, and what a training run switches."""
    small_model("gpt_neox").save_pretrained(tmp_path)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    tokenizer = small_tokenizer()
    tokenizer(["the cat", "a"], truncation=True, max_length=1, padding=False)
    loaded.config.use_cache = False
    loaded.train().requires_grad_(False)
    ours = reference_fingerprint(loaded, tokenizer, SETTINGS)
    theirs = reference_fingerprint(small_model("gpt_neox"), small_tokenizer(), SETTINGS)
    assert ours == theirs


@pytest.mark.parametrize("architecture", PAPER_ARCHITECTURES)
def test_every_tensor_counts(architecture: str) -> None:
    model = small_model(architecture)
    seen = {weights_hash(model)}
    for parameter in model.parameters():
        with torch.no_grad():
            parameter.view(-1)[-1] += 1
        seen.add(weights_hash(model))
    assert len(seen) == 1 + len(list(model.parameters()))


def test_long_tensors_are_hashed_to_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    model = torch.nn.Linear(50, 30)
    whole = weights_hash(model)
    monkeypatch.setattr("sparsepo.reference.fingerprint._CHUNK_BYTES", 256)
    assert weights_hash(model) == whole
    with torch.no_grad():
        model.weight[-1, -1] += 1
    assert weights_hash(model) != whole


def test_names_and_shapes_count() -> None:
    one, two = torch.nn.Linear(4, 6, bias=False), torch.nn.Linear(6, 4, bias=False)
    two.weight.data = one.weight.data.view(4, 6)
    assert weights_hash(one) != weights_hash(two)
    assert weights_hash(one) != weights_hash(torch.nn.Sequential(one))


@pytest.mark.parametrize("options", [{}, {"modules_to_save": ["lm_head"]}], ids=str)
def test_a_model_under_adapters_that_are_off_is_the_model(options: dict[str, Any]) -> None:
    bare = weights_hash(small_model("llama"))
    adapted = get_peft_model(
        small_model("llama"), LoraConfig(r=2, init_lora_weights=False, **options)
    ).get_base_model()
    assert weights_hash(adapted, without_adapters=True) == bare
    assert weights_hash(adapted) != bare
    other = get_peft_model(small_model("llama", seed=1), LoraConfig(r=2)).get_base_model()
    assert weights_hash(other, without_adapters=True) != bare


def test_weights_that_are_not_here_cannot_be_hashed() -> None:
    with torch.device("meta"):
        model = torch.nn.Linear(3, 3)
    with pytest.raises(UserError, match="leave reference_cache out"):
        weights_hash(model)
    sharded = torch.nn.Linear(3, 3)
    sharded.weight.ds_id = 1  # type: ignore[assignment]  # how DeepSpeed ZeRO-3 marks a parameter
    with pytest.raises(UserError, match=r"holds only a part of .*weight"):
        weights_hash(sharded)


def test_a_tokenizer_in_python_has_a_hash_too() -> None:
    class Words:
        special_tokens_map = {"eos_token": "."}  # noqa: RUF012

        def __init__(self, *words: str) -> None:
            self.words = words

        def get_vocab(self) -> dict[str, int]:
            return {word: number for number, word in enumerate(self.words)}

    one, two = (tokenizer_hash(Words(*words)) for words in (("a", "."), ("b", ".")))  # type: ignore[arg-type]
    assert one != two == tokenizer_hash(Words("b", "."))  # type: ignore[arg-type]


def test_a_pairs_hash_knows_where_its_parts_end() -> None:
    pairs = [
        TokenizedPair("a", [1, 2], [3], [4]),
        TokenizedPair("a", [1], [2, 3], [4]),
        TokenizedPair("a", [1, 2], [4], [3]),
        TokenizedPair("a", [1, 2], [3, 4], [0]),
    ]
    assert len({pair_hash(pair) for pair in pairs}) == 4
    assert pair_hash(pairs[0]) == pair_hash(TokenizedPair("b", [1, 2], [3], [4]))
