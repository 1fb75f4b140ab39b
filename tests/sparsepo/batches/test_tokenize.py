"""Tokenization: one boundary, one BOS, one EOS, truncation that is counted, one chat template."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from sparsepo.batches.chat import CHAT_TEMPLATE, ensure_chat_template, render_chat
from sparsepo.batches.tokenize import encode_prompts, tokenize_pairs
from sparsepo.errors import UserError
from sparsepo.types import PreferencePair, TokenizedPair

TEXTS = ["Say hi to the user.", "Hi there!\n\nHow are you?", "<|user|>\n<|assistant|>\n"] * 3
SYSTEM = {"role": "system", "content": "Be kind."}
USER = {"role": "user", "content": "Say hi."}
GOOD = {"role": "assistant", "content": "Hi there!"}
BAD = {"role": "assistant", "content": "No."}
AGAIN = {"role": "user", "content": "Again?"}


def byte_level(bos: str | None = None, eos: str | None = "</s>") -> Any:
    """A tokenizer of GPT-2's kind: byte-level BPE, adding nothing by itself."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = [token for token in dict.fromkeys([bos, eos, "<pad>"]) if token]
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=bos, eos_token=eos, pad_token="<pad>"
    )


def space_marking() -> Any:
    """A tokenizer of Llama's kind: it puts a space and BOS before every text."""
    core = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    core.normalizer = None
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=200,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=[chr(c) for c in range(33, 127)] + ["\n", "▁"],
        show_progress=False,
    )
    core.train_from_iterator(TEXTS, trainer)
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", core.token_to_id("<s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def merging() -> Any:
    """A tokenizer whose only merge is a·b: a prompt that ends in a, before a b, straddles."""
    core = Tokenizer(
        models.BPE(
            vocab={"a": 0, "b": 1, "c": 2, "ab": 3, "</s>": 4},
            merges=[("a", "b")],
        )
    )
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>")


def text_pair(prompt: str = "Say hi.", chosen: str = " Hi!", rejected: str = " No.") -> Any:
    return PreferencePair("p", prompt, chosen, rejected)


def one(pair: PreferencePair, tokenizer: Any, **options: Any) -> TokenizedPair:
    options = {"max_length": 512, "max_prompt_length": 256, **options}
    (tokenized,) = tokenize_pairs([pair], tokenizer, **options).pairs
    return tokenized


TOKENIZERS: dict[str, Any] = {
    "no BOS": byte_level(),
    "BOS": byte_level(bos="<s>"),
    "BOS is EOS": byte_level(bos="<end>", eos="<end>"),
    "adds BOS itself": space_marking(),
}


# --- BOS and EOS --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("prompt", ["Say hi.", "{bos}Say hi."])
def test_text_has_exactly_one_bos_where_there_is_one_and_each_response_one_eos(
    name: str, prompt: str
) -> None:
    tokenizer = TOKENIZERS[name]
    pair = one(text_pair(prompt.format(bos=tokenizer.bos_token or "")), tokenizer)
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    if bos is not None:
        assert pair.prompt_ids[0] == bos
        assert pair.prompt_ids.count(bos) == 1
    for response in (pair.chosen_ids, pair.rejected_ids):
        assert response[-1] == eos
        assert response.count(eos) == 1
        assert bos == eos or bos not in response


def test_a_response_that_ends_with_eos_already_gets_no_second() -> None:
    tokenizer = byte_level()
    plain = one(text_pair(), tokenizer)
    written = one(text_pair(chosen=" Hi!</s>", rejected=" No.</s>\n"), tokenizer)
    assert written == plain


def test_white_space_at_the_end_of_a_response_is_kept() -> None:
    tokenizer = byte_level()
    pair = one(text_pair(chosen=" Hi!\n"), tokenizer)
    assert tokenizer.decode(pair.chosen_ids) == " Hi!\n</s>"


def test_a_tokenizer_without_eos_is_refused() -> None:
    with pytest.raises(UserError, match="no EOS token"):
        tokenize_pairs([text_pair()], byte_level(eos=None), 64)


def test_an_empty_prompt_begins_with_bos_or_is_skipped() -> None:
    tokenizer = byte_level(bos="<s>")
    assert one(text_pair(prompt=""), tokenizer).prompt_ids == [tokenizer.bos_token_id]
    result = tokenize_pairs([text_pair(prompt=""), text_pair()], byte_level(), 64)
    assert result.report.skipped == {"empty prompt and no BOS token to begin with": 1}
    assert result.report.kept == 1


# --- the boundary -------------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    prompt=st.text(min_size=1, max_size=20),
    chosen=st.text(min_size=1, max_size=20),
    rejected=st.text(min_size=1, max_size=20),
)
def test_prompt_and_response_decode_to_the_text(prompt: str, chosen: str, rejected: str) -> None:
    if chosen == rejected:
        rejected += "!"
    tokenizer = TOKENIZERS["BOS"]
    pair = one(text_pair(prompt, chosen, rejected), tokenizer)
    bos, eos = tokenizer.bos_token, tokenizer.eos_token
    for response, ids in ((chosen, pair.chosen_ids), (rejected, pair.rejected_ids)):
        assert tokenizer.decode([*pair.prompt_ids, *ids]) == f"{bos}{prompt}{response}{eos}"


@settings(max_examples=60)
@given(
    prompt=st.text(alphabet="abH i!\n", min_size=1, max_size=12),
    chosen=st.text(alphabet="abH i!\n", min_size=1, max_size=12),
)
def test_the_same_for_a_tokenizer_that_puts_a_space_before_every_text(
    prompt: str, chosen: str
) -> None:
    tokenizer = TOKENIZERS["adds BOS itself"]
    pair = one(text_pair(prompt, chosen, chosen + "!"), tokenizer)
    assert pair.prompt_ids == encode_prompts([prompt], tokenizer)[0]
    decoded = tokenizer.decode([*pair.prompt_ids, *pair.chosen_ids], skip_special_tokens=True)
    whole = tokenizer(prompt + chosen)["input_ids"]
    assert decoded == tokenizer.decode(whole, skip_special_tokens=True)


def test_the_response_is_what_follows_the_prompt_in_one_tokenization() -> None:
    for name in ("no BOS", "adds BOS itself"):
        tokenizer = TOKENIZERS[name]
        pair = one(text_pair("Say", " hi to", " hi"), tokenizer)
        whole = tokenizer("Say hi to")["input_ids"]
        assert [*pair.prompt_ids, *pair.chosen_ids] == [*whole, tokenizer.eos_token_id]


def test_a_token_across_the_boundary_is_split_there_and_counted() -> None:
    tokenizer = merging()
    result = tokenize_pairs([text_pair("ca", "bc", "cb")], tokenizer, 64)
    assert tokenizer("cabc")["input_ids"] == [2, 3, 2]
    assert result.pairs == [TokenizedPair("p", [2, 0], [1, 2, 4], [2, 1, 4])]
    assert result.report.boundary_mismatches == 1
    assert "1 boundary mismatches" in str(result.report)


# --- chat ---------------------------------------------------------------------------------------

DIALOGUES = {
    "one turn": [USER],
    "system": [SYSTEM, USER],
    "several turns": [SYSTEM, USER, GOOD, AGAIN],
}
LLAMA_LIKE = (
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}"
    "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
NO_EOS = LLAMA_LIKE.replace("{{ eos_token }}", "<over>").replace("{{ bos_token }}", "")
TEMPLATES = {"paper's": None, "with BOS and EOS": LLAMA_LIKE, "without EOS": NO_EOS}


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("dialogue", DIALOGUES)
@pytest.mark.parametrize("name", TOKENIZERS)
def test_chat_prompts_are_those_of_generation(name: str, dialogue: str, template: str) -> None:
    tokenizer: Any = PreTrainedTokenizerFast(
        tokenizer_object=TOKENIZERS[name].backend_tokenizer,
        **TOKENIZERS[name].special_tokens_map,
    )
    tokenizer.chat_template = TEMPLATES[template]
    messages = DIALOGUES[dialogue]
    pair = one(PreferencePair("p", messages, [GOOD], [BAD]), tokenizer)
    generation = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
    assert pair.prompt_ids == list(generation["input_ids"])
    assert encode_prompts([messages], tokenizer) == [pair.prompt_ids]
    assert pair.chosen_ids[-1] == tokenizer.eos_token_id
    assert pair.chosen_ids.count(tokenizer.eos_token_id) == 1
    whole = tokenizer.decode([*pair.prompt_ids, *pair.chosen_ids])
    rendered = render_chat([*messages, GOOD], tokenizer)
    end = rendered.rfind(tokenizer.eos_token) if template != "without EOS" else len(rendered)
    assert whole.lstrip() == rendered[:end] + tokenizer.eos_token
    if template == "with BOS and EOS" and tokenizer.bos_token_id is not None:
        assert pair.prompt_ids[0] == tokenizer.bos_token_id
        assert pair.prompt_ids[1:].count(tokenizer.bos_token_id) == (
            dialogue == "several turns" and name == "BOS is EOS"
        )


def test_the_papers_format() -> None:
    tokenizer = byte_level(eos="<end>")
    assert ensure_chat_template(tokenizer)
    assert not ensure_chat_template(tokenizer)
    assert tokenizer.chat_template == CHAT_TEMPLATE
    assert render_chat([USER, GOOD], tokenizer) == (
        "<|user|>\nSay hi.<end>\n<|assistant|>\nHi there!<end>\n"
    )
    assert render_chat([USER], tokenizer, add_generation_prompt=True) == (
        "<|user|>\nSay hi.<end>\n<|assistant|>\n"
    )


def test_a_tokenizer_that_adds_bos_has_it_once_in_the_papers_format_too() -> None:
    tokenizer = space_marking()
    pair = one(PreferencePair("p", [USER], [GOOD], [BAD]), tokenizer)
    assert pair.prompt_ids[0] == tokenizer.bos_token_id
    assert pair.prompt_ids.count(tokenizer.bos_token_id) == 1


def test_several_response_messages_keep_their_eos_between() -> None:
    tokenizer = byte_level()
    pair = one(PreferencePair("p", [USER], [GOOD, BAD], [BAD]), tokenizer)
    assert tokenizer.decode(pair.chosen_ids) == "Hi there!</s>\n<|assistant|>\nNo.</s>"


def test_a_generation_prompt_that_the_dialogue_does_not_repeat() -> None:
    tokenizer = byte_level()
    tokenizer.chat_template = CHAT_TEMPLATE.replace("'<|assistant|>\\n'", "'<|assistant|>\\n<t>'")
    result = tokenize_pairs([PreferencePair("p", [USER], [GOOD], [BAD])], tokenizer, 512)
    assert tokenizer.decode(result.pairs[0].chosen_ids) == "Hi there!</s>"
    assert result.report.template_mismatches == 2
    several = tokenize_pairs([PreferencePair("p", [USER], [GOOD, BAD], [BAD])], tokenizer, 512)
    assert tokenizer.decode(several.pairs[0].chosen_ids) == (
        "Hi there!</s>\n<|assistant|>\nNo.</s>"
    )


def test_a_template_that_refuses_a_dialogue() -> None:
    tokenizer = byte_level()
    tokenizer.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    )
    with pytest.raises(UserError, match=r"rejects a dialogue of system, user.*\(no system role"):
        encode_prompts([[SYSTEM, USER]], tokenizer)


# --- truncation ---------------------------------------------------------------------------------


def test_a_long_prompt_loses_its_beginning_and_keeps_bos() -> None:
    tokenizer = byte_level(bos="<s>")
    whole = one(text_pair("a b c d e f g h"), tokenizer).prompt_ids
    result = tokenize_pairs([text_pair("a b c d e f g h")], tokenizer, 64, max_prompt_length=4)
    (pair,) = result.pairs
    assert pair.prompt_ids == [tokenizer.bos_token_id, *whole[-3:]]
    assert result.report.truncated_prompts == 1
    assert encode_prompts(["a b c d e f g h"], tokenizer, 4) == [pair.prompt_ids]
    plain = encode_prompts(["a b c d e f g h"], byte_level(), 4)[0]
    assert byte_level().decode(plain) == "f g h"[-len(byte_level().decode(plain)) :]
    assert len(plain) == 4


def test_a_long_response_loses_its_end_with_the_eos() -> None:
    tokenizer = byte_level()
    long = text_pair(chosen=" x y z" * 9, rejected=" No.")
    whole = one(long, tokenizer)
    prompt_length = len(whole.prompt_ids)
    result = tokenize_pairs([long], tokenizer, prompt_length + 10, prompt_length)
    (pair,) = result.pairs
    assert pair.chosen_ids == whole.chosen_ids[:10]
    assert tokenizer.eos_token_id not in pair.chosen_ids
    assert pair.rejected_ids == whole.rejected_ids
    assert result.report.truncated_responses == 1
    assert str(result.report) == "1 of 1 pairs tokenized; 1 responses truncated"


def test_a_long_response_skips_the_pair_or_stops() -> None:
    tokenizer = byte_level()
    long = PreferencePair("long one", "Say hi.", " x y z" * 20, " No.")
    skipped = tokenize_pairs([long, text_pair()], tokenizer, 40, 20, on_long_response="skip")
    assert [pair.pair_id for pair in skipped.pairs] == ["p"]
    assert skipped.report.skipped == {"response longer than the context": 1}
    with pytest.raises(UserError, match=r"Pair long one: a response of .* longer than the context"):
        tokenize_pairs([long], tokenizer, 40, 20, on_long_response="error")
    with pytest.raises(UserError, match=r"No pair is left .*: 1 response longer"):
        tokenize_pairs([long], tokenizer, 40, 20, on_long_response="skip")


def test_a_response_that_just_fits_is_not_long() -> None:
    tokenizer = byte_level()
    whole = one(text_pair(), tokenizer)
    length = len(whole.prompt_ids) + max(len(whole.chosen_ids), len(whole.rejected_ids))
    fitted = one(
        text_pair(), tokenizer, max_length=length, max_prompt_length=len(whole.prompt_ids),
        on_long_response="error",
    )  # fmt: skip
    assert fitted == whole


def test_a_pair_that_truncation_makes_identical_carries_no_preference() -> None:
    same = PreferencePair("same", "Say hi.", " x y z" * 20 + "1", " x y z" * 20 + "2")
    result = tokenize_pairs([same, text_pair()], byte_level(), 40, 20)
    assert result.report.skipped == {"responses identical once truncated": 1}
    assert result.report.truncated_responses == 0


@pytest.mark.parametrize(("length", "prompt"), [(8, 8), (8, 9), (8, 0), (1, None), (0, None)])
def test_lengths_that_leave_no_room_are_refused(length: int, prompt: int | None) -> None:
    with pytest.raises(UserError, match="leaves no room"):
        tokenize_pairs([text_pair()], byte_level(), length, prompt)


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(UserError, match=r"'ignore'\. Choose one of: truncate, skip, error"):
        tokenize_pairs([text_pair()], byte_level(), 64, on_long_response="ignore")  # type: ignore[arg-type]


def test_many_pairs_keep_their_order_and_one_report() -> None:
    pairs = [PreferencePair(str(i), f"Say {i}.", " Hi!", " No.") for i in range(1203)]
    result = tokenize_pairs(pairs, TOKENIZERS["no BOS"], 64)
    assert [pair.pair_id for pair in result.pairs] == [pair.pair_id for pair in pairs]
    assert (result.report.pairs, result.report.kept) == (1203, 1203)


def test_no_pairs_give_no_pairs() -> None:
    assert tokenize_pairs([], byte_level(), 64).pairs == []
