"""The text of single tokens, as it appears in the response."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
_CONTEXT = 6
"""Number of preceding tokens decoded with a token, to keep its leading space."""


def token_texts(
    tokenizer: PreTrainedTokenizerBase, prompt_ids: Sequence[int], ids: Sequence[int]
) -> tuple[str, ...]:
    """Return the text that each response token adds to the preceding text.

    A single token may decode without its leading space, or to half a character. A token that
    completes no character gets "", and the token that completes it gets the whole character.

    Args:
        tokenizer: the tokenizer.
        prompt_ids: the prompt.
        ids: the response.
    """

    def decode(part: list[int]) -> str:
        return str(tokenizer.decode(part, clean_up_tokenization_spaces=False))

    before = list(prompt_ids[-_CONTEXT:])
    held: list[int] = []
    texts = []
    for token in ids:
        held.append(token)
        known, whole = decode(before), decode([*before, *held])
        if whole.endswith(_INCOMPLETE) and len(held) < _CONTEXT:
            texts.append("")
            continue
        texts.append(whole[len(known) :])
        before, held = [*before, *held][-_CONTEXT:], []
    if held:
        # The response was truncated inside a character.
        texts[-1] = decode([*before, *held])[len(decode(before)) :]
    return tuple(texts)
