"""Responses end at a stop text wherever its tokens begin, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from sparsepo.generation.stops import Ends, eos_ids
from tests.small_models import small_model, small_tokenizer


def ended_at(tokenizer: Any, text: str, stop: list[str]) -> tuple[str, str | None]:
    """What of a text is generated, token by token, and why it ends."""
    ends = Ends(tokenizer, frozenset({tokenizer.eos_token_id}), stop)
    ids = tokenizer(text)["input_ids"]
    for length in range(1, len(ids) + 1):
        if (end := ends.of(ids[:length])) is not None:
            return tokenizer.decode(ids[:length]), end
    return text, None


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("the cat sat\nand the dog", ["\n"], "the cat sat\n"),
        # Its first letters are the end of a token, its last ones the beginning of another.
        ("the cat saw the dog", ["w th"], "the cat saw the"),
        ("the dog saw it on the mat", ["mat", "it on"], "the dog saw it on"),
        ("on the mat and the dog saw it, the cat", ["on the mat and the dog saw"], None),
        ("the cat", ["dog"], None),
        ("cat", ["c"], "cat"),
    ],
)
def test_stop_texts_across_tokens(text: str, stop: list[str], expected: str | None) -> None:
    tokenizer = small_tokenizer()
    found, end = ended_at(tokenizer, text, stop)
    if expected is None:
        long = stop[0] in text
        assert end == ("stop" if long else None)
        assert found == (stop[0] if long else text)
    else:
        assert (found, end) == (expected, "stop")


def test_stop_text_of_characters_of_several_bytes() -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bare = Tokenizer(models.BPE({c: i for i, c in enumerate(["<e>", *alphabet])}, []))
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bare, eos_token="<e>")
    assert len(tokenizer("日本")["input_ids"]) == 6
    assert ended_at(tokenizer, "日本語です。次", ["です。"]) == ("日本語です。", "stop")
    # Each byte is a token, and the stop text is longer than the margin.
    assert ended_at(tokenizer, "x" * 30 + "日本語日本語!", ["日本語日本語"])[0].endswith("語日本語")


def test_the_end_of_sequence_comes_first() -> None:
    tokenizer = small_tokenizer()
    ends = Ends(tokenizer, frozenset({0, 7}), ["a"])
    assert ends.of([5, 0]) == "eos"
    assert ends.of([7]) == "eos"


def test_the_models_own_ends_count_too() -> None:
    tokenizer = small_tokenizer()
    model = small_model("llama")
    assert eos_ids(None, tokenizer) == {0}
    model.generation_config.eos_token_id = [3, 9]
    assert eos_ids(model, tokenizer) == {0, 3, 9}
    model.generation_config.eos_token_id = 4
    assert eos_ids(model, tokenizer) == {0, 4}
