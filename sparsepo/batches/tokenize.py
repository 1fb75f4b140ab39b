"""The one place for chat template, BOS and EOS, truncation, and the prompt/response boundary.

The boundary: a prompt is tokenized separately, because training must see the same ids that
generation starts from. Prompt and response are then tokenized together as one text, and the
response consists of the ids after the prompt's. If a token would straddle the boundary, the text
does not begin with the prompt's ids; the response is then tokenized separately, and the pair is
counted.

BOS: text begins with exactly one if the tokenizer has a BOS token; chat has only the tokens that
its template writes, as in `apply_chat_template`. EOS: each response ends with exactly one, and
anything that a template writes after it is dropped. Truncation: a prompt loses its beginning
(keeping a BOS), a response its end, including the EOS.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, get_args

from transformers import PreTrainedTokenizerBase

from sparsepo.batches.chat import (
    assistant_header,
    eos_id,
    render_chat,
    unused_fields,
    writes_tool_calls,
)
from sparsepo.errors import EmptyDataError, UserError, require_choice
from sparsepo.types import Message, PreferencePair, TokenizedPair

LongResponse = Literal["truncate", "skip", "error"]

EMPTY_PROMPT: Final = "empty prompt and no BOS token to begin with"
LONG_RESPONSE: Final = "response longer than the context"
IDENTICAL_AFTER_TRUNCATION: Final = "responses identical once truncated"

_BATCH = 1000


@dataclass(frozen=True, slots=True)
class TokenizeReport:
    """Counts of tokenization, of pairs unless stated otherwise."""

    pairs: int
    """Pairs given."""
    kept: int
    """Pairs tokenized."""
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Reason → pairs left out for it."""
    truncated_prompts: int = 0
    """Prompts that lost their beginning."""
    truncated_responses: int = 0
    """Responses (up to two per pair) that lost their end, EOS included."""
    boundary_mismatches: int = 0
    """Responses tokenized separately because a token would have straddled the boundary."""
    template_mismatches: int = 0
    """Responses that the chat template does not render directly after its generation prompt; their
    text is used unchanged."""
    unused_fields: Mapping[str, int] = field(default_factory=dict)
    """Field of a message, or argument of the template → pairs that have it although the chat
    template does not use it."""

    def counts(self) -> dict[str, Any]:
        """Return the counts by name."""
        whole = asdict(self)
        whole.pop("unused_fields")
        return whole

    def __str__(self) -> str:
        """One line with the counts that are not zero."""
        line = f"{self.kept} of {self.pairs} pairs tokenized"
        named = {
            "prompts truncated": self.truncated_prompts,
            "responses truncated": self.truncated_responses,
            "boundary mismatches": self.boundary_mismatches,
            "template mismatches": self.template_mismatches,
        }
        parts = [f"{count} {name}" for name, count in named.items() if count]
        parts += [f"{count} skipped: {reason}" for reason, count in self.skipped.items()]
        if self.unused_fields:
            fields = (f"{name} ({count} pairs)" for name, count in self.unused_fields.items())
            parts.append(f"the chat template does not use {', '.join(fields)}")
        return "; ".join([line, *parts])


@dataclass(frozen=True, slots=True)
class TokenizedPairs:
    """Tokenized pairs and the report on tokenization."""

    pairs: list[TokenizedPair]
    report: TokenizeReport


def encode_prompts(
    prompts: Sequence[str | list[Message]],
    tokenizer: PreTrainedTokenizerBase,
    max_prompt_length: int | None = None,
    chat_template_kwargs: Sequence[Mapping[str, Any]] | None = None,
) -> list[list[int]]:
    """Tokenize prompts as training does, for generation and scoring.

    Args:
        prompts: texts, or messages before the answer.
        tokenizer: the tokenizer.
        max_prompt_length: longest prompt in tokens; longer ones lose their beginning.
        chat_template_kwargs: further arguments of the chat template for each prompt.

    Returns:
        The ids of each prompt: for chat, those of `apply_chat_template` with
        `add_generation_prompt=True`.
    """
    extra = [{}] * len(prompts) if chat_template_kwargs is None else chat_template_kwargs
    texts = [_prompt_text(p, tokenizer, kw) for p, kw in zip(prompts, extra, strict=True)]
    encoded = _prompt_ids(texts, prompts, tokenizer)
    if max_prompt_length is None:
        return encoded
    return [_truncate_prompt(ids, max_prompt_length, tokenizer) for ids in encoded]


def tokenize_pairs(
    pairs: Iterable[PreferencePair],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    max_prompt_length: int | None = None,
    on_long_response: LongResponse = "truncate",
) -> TokenizedPairs:
    """Tokenize preference pairs; the module's docstring describes the rules.

    Args:
        pairs: text or chat pairs.
        tokenizer: any tokenizer with an EOS token; if there are chat pairs and it has no chat
            template, the paper's is set.
        max_length: longest prompt + response, in tokens.
        max_prompt_length: longest prompt, in tokens; half of `max_length` if None. Prompts are
            truncated independently of their responses, because generation must see the same prompt.
        on_long_response: how to treat a response longer than `max_length` minus its prompt:
            "truncate" cuts its end, "skip" skips the pair, "error" raises an error.

    Returns:
        The tokenized pairs, in order, and the counts.

    Raises:
        UserError: the lengths leave no room for a response, there is no EOS token, the template
            rejects a dialogue, a response is too long with "error", or no pair is left.
    """
    limit = max_length // 2 if max_prompt_length is None else max_prompt_length
    if not 0 < limit < max_length:
        raise UserError(
            f"max_prompt_length {limit} leaves no room in max_length {max_length}: "
            "it must be at least 1 and smaller than max_length."
        )
    require_choice("on_long_response", on_long_response, get_args(LongResponse))
    work = _Work(tokenizer, eos_id(tokenizer), max_length, limit, on_long_response)
    everything = list(pairs)
    tokenized: list[TokenizedPair] = []
    for start in range(0, len(everything), _BATCH):
        tokenized += work.tokenize(everything[start : start + _BATCH])
    if everything and not tokenized:
        reasons = ", ".join(f"{count} {reason}" for reason, count in work.skipped.items())
        raise EmptyDataError(f"No pair is left after tokenization: {reasons}.")
    report = TokenizeReport(
        pairs=len(everything),
        kept=len(tokenized),
        skipped=dict(work.skipped),
        truncated_prompts=work.counts["truncated_prompts"],
        truncated_responses=work.counts["truncated_responses"],
        boundary_mismatches=work.counts["boundary_mismatches"],
        template_mismatches=work.counts["template_mismatches"],
        unused_fields=dict(work.unused_fields),
    )
    return TokenizedPairs(tokenized, report)


class _Work:
    """One run of `tokenize_pairs`: its settings, and the counts that it gathers."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        eos: int,
        max_length: int,
        max_prompt_length: int,
        on_long_response: LongResponse,
    ) -> None:
        self.tokenizer = tokenizer
        self.eos = eos
        self.max_length = max_length
        self.max_prompt_length = max_prompt_length
        self.on_long_response = on_long_response
        self.skipped: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.unused_fields: Counter[str] = Counter()

    def tokenize(self, pairs: list[PreferencePair]) -> list[TokenizedPair]:
        texts = [
            _prompt_text(pair.prompt, self.tokenizer, pair.chat_template_kwargs) for pair in pairs
        ]
        for pair in pairs:
            if not isinstance(pair.prompt, str):
                self._count_unused(pair)
        prompts = _prompt_ids(texts, [pair.prompt for pair in pairs], self.tokenizer)
        chosen = self._responses(pairs, texts, prompts, True)
        rejected = self._responses(pairs, texts, prompts, False)
        fitted = map(self._fit, pairs, prompts, chosen, rejected)
        return [pair for pair in fitted if pair is not None]

    def _responses(
        self,
        pairs: list[PreferencePair],
        texts: list[str],
        prompts: list[list[int]],
        chosen: bool,
    ) -> list[list[int]]:
        """Return the ids of all chosen or all rejected responses; none where a row lacks it."""
        continuations = [
            self._continuation(pair, text, pair.chosen if chosen else pair.rejected)
            if pair.label in (None, chosen)
            else ""
            for pair, text in zip(pairs, texts, strict=True)
        ]
        wholes = _encode(
            [text + more for text, more in zip(texts, continuations, strict=True)], self.tokenizer
        )
        encoded: list[list[int]] = []
        for pair, text, prompt, more, whole in zip(
            pairs, texts, prompts, continuations, wholes, strict=True
        ):
            if pair.label not in (None, chosen):
                encoded.append([])
                continue
            if isinstance(pair.prompt, str):
                whole = _with_bos(whole, self.tokenizer)
            if whole[: len(prompt)] == prompt:
                ids = whole[len(prompt) :]
            else:
                self.counts["boundary_mismatches"] += 1
                ids = _encode_apart(text, prompt, more, self.tokenizer)
            encoded.append(self._end(ids))
        return encoded

    def _count_unused(self, pair: PreferencePair) -> None:
        dialogue = [m for part in (pair.prompt, pair.chosen, pair.rejected) for m in part]
        messages = [message for message in dialogue if not isinstance(message, str)]
        unused = set(unused_fields(messages, pair.chat_template_kwargs, self.tokenizer))
        prompt = messages[: len(pair.prompt)]
        if _calls_tools(prompt) and not writes_tool_calls(
            prompt, self.tokenizer, pair.chat_template_kwargs
        ):
            unused.add("tool_calls")
        self.unused_fields.update(sorted(unused))

    def _continuation(
        self, pair: PreferencePair, prompt_text: str, response: str | list[Message]
    ) -> str:
        """Text that follows the prompt's text."""
        if isinstance(response, str):
            return response
        assert isinstance(pair.prompt, list)
        prompt, extra = pair.prompt, pair.chat_template_kwargs
        whole = render_chat([*prompt, *response], self.tokenizer, chat_template_kwargs=extra)
        if _calls_tools(response) and not writes_tool_calls(
            response, self.tokenizer, extra, before=prompt
        ):
            raise UserError(
                f"Pair {pair.pair_id}: a response calls a tool, but the tokenizer's chat template "
                "does not write tool calls; use a model whose template does, or remove such pairs."
            )
        if whole.startswith(prompt_text):
            return whole[len(prompt_text) :]
        # For example, a template opens a <think> block only in the generation prompt.
        self.counts["template_mismatches"] += 1
        used = response[0].keys() - unused_fields(response, {}, self.tokenizer)
        if len(response) == 1 and used == {"role", "content"}:
            return str(response[0]["content"])
        header = assistant_header(prompt, self.tokenizer, extra)
        if whole.startswith(header):
            return whole[len(header) :]
        raise UserError(
            f"Pair {pair.pair_id}: the chat template's generation prompt is not what it writes "
            "before this response, so the start of the response is unknown; give it as one "
            "message of plain content, or set the row's chat_template_kwargs."
        )

    def _end(self, ids: list[int]) -> list[int]:
        """End with exactly one EOS: drop what a template writes after it, or add it."""
        trailing = len(ids)
        while trailing > 0 and (
            ids[trailing - 1] == self.eos or not self._decode(ids[trailing - 1]).strip()
        ):
            trailing -= 1
        tail = ids[trailing:]
        if self.eos in tail:
            return [*ids[:trailing], *tail[: tail.index(self.eos) + 1]]
        return [*ids, self.eos]

    def _decode(self, token: int) -> str:
        return str(self.tokenizer.decode([token]))

    def _fit(
        self,
        pair: PreferencePair,
        prompt: list[int],
        chosen: list[int],
        rejected: list[int],
    ) -> TokenizedPair | None:
        """Truncate a pair to the context, or return None to skip it."""
        if not prompt:
            self.skipped[EMPTY_PROMPT] += 1
            return None
        if len(prompt) > self.max_prompt_length:
            self.counts["truncated_prompts"] += 1
            prompt = _truncate_prompt(prompt, self.max_prompt_length, self.tokenizer)
        room = self.max_length - len(prompt)
        too_long = [ids for ids in (chosen, rejected) if len(ids) > room]
        if too_long and self.on_long_response == "error":
            raise UserError(
                f"Pair {pair.pair_id}: a response of {len(too_long[0])} tokens is longer than the "
                f"context (max_length {self.max_length} minus a prompt of {len(prompt)}); raise "
                "max_length, or set on_long_response to truncate or skip."
            )
        if too_long and self.on_long_response == "skip":
            self.skipped[LONG_RESPONSE] += 1
            return None
        if chosen[:room] == rejected[:room]:
            self.skipped[IDENTICAL_AFTER_TRUNCATION] += 1
            return None
        self.counts["truncated_responses"] += len(too_long)
        return TokenizedPair(
            pair.pair_id,
            prompt,
            chosen[:room],
            rejected[:room],
            pair.scores,
            pair.win_probability,
            pair.label,
        )


def _calls_tools(messages: Sequence[Message]) -> bool:
    return any("tool_calls" in message for message in messages)


def _prompt_text(
    prompt: str | list[Message],
    tokenizer: PreTrainedTokenizerBase,
    chat_template_kwargs: Mapping[str, Any],
) -> str:
    if isinstance(prompt, str):
        return prompt
    return render_chat(
        prompt, tokenizer, add_generation_prompt=True, chat_template_kwargs=chat_template_kwargs
    )


def _prompt_ids(
    texts: list[str],
    prompts: Sequence[str | list[Message]],
    tokenizer: PreTrainedTokenizerBase,
) -> list[list[int]]:
    return [
        _with_bos(ids, tokenizer) if isinstance(prompt, str) else ids
        for ids, prompt in zip(_encode(texts, tokenizer), prompts, strict=True)
    ]


def _encode(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    if not texts:
        return []
    encoded: Any = tokenizer(texts, add_special_tokens=False, truncation=False, verbose=False)
    return [list(ids) for ids in encoded["input_ids"]]


def _encode_apart(
    prompt_text: str, prompt: list[int], response: str, tokenizer: PreTrainedTokenizerBase
) -> list[int]:
    """Tokenize a response separately; the ids of prompt and response together decode to the text.

    For tokenizers that put a space before every text, another character is prepended and its ids
    are removed again. Several characters are tried, because the response may merge with one.
    """
    prompt_only, whole, apart = _encode([prompt_text, prompt_text + response, response], tokenizer)
    candidates = [apart]
    for anchor, anchored in (_encode([c, c + response], tokenizer) for c in "\n.a"):
        if anchored[: len(anchor)] == anchor:
            candidates.append(anchored[len(anchor) :])
    text = tokenizer.decode(whole)
    body = prompt[len(prompt) - len(prompt_only) :]
    exact = (ids for ids in candidates if tokenizer.decode([*body, *ids]) == text)
    return next(exact, apart)


def _with_bos(ids: list[int], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    bos = tokenizer.bos_token_id
    if bos is None or ids[:1] == [bos]:
        return ids
    return [bos, *ids]


def _truncate_prompt(ids: list[int], length: int, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    if len(ids) <= length:
        return ids
    if length > 1 and ids[0] == tokenizer.bos_token_id:
        return [ids[0], *ids[len(ids) - length + 1 :]]
    return ids[len(ids) - length :]
