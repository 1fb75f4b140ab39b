"""lm-eval's Hugging Face backend, which computes shared prefixes once and counts truncations.

A multiple-choice row is scored by one request per choice, which all repeat the row's prompt; BBH's
rows also repeat the three examples of their sub-task. Requests are therefore packed as a prefix
tree: each shared prefix occurs once in a packed row, a token attends only to its own ancestors (a
4-dimensional additive mask), and positions count along the path. The log-probabilities equal those
of separate forward passes up to floating-point rounding; a test compares them with lm-eval's own.

Shapes: S tokens of a packed row, V vocabulary.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from lm_eval.models.huggingface import HFLM
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sparsepo.models.tolerance import tolerance_of

EncodedRequest = tuple[tuple[str, str], list[int], list[int]]  # (texts, context ids, answer ids)
Progress = Callable[[int, int, str], None]  # (done, total, what)

# Attention implementations that take a 4-dimensional additive mask.
_MASKABLE = ("eager", "sdpa")
# Tokens at a sequence's end on which packed rows are checked, and how far below the likeliest word
# of each, in nats, a word may be to take part.
_CHECKED_TOKENS, _LIKELY = 8, 10.0
_log = logging.getLogger(__name__)
# Characters of prompts whose tokens are kept between evaluations.
_TOKEN_CACHE_CHARACTERS = 64_000_000


@dataclass(slots=True)
class PackedRow:
    """Sequences packed into one row as a prefix tree.

    Attributes:
        token_ids: Tokens of the tree, S of them, parents before children.
        positions: Position of each token in its own sequences.
        parents: Index of each token's predecessor, −1 for a first token.
        paths: For each packed sequence (by its index in the input) where its tokens are.
    """

    token_ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    paths: dict[int, list[int]] = field(default_factory=dict)

    def visible(self) -> NDArray[np.bool_]:
        """Return the tokens that each token attends to, itself and its ancestors, (S, S)."""
        count = len(self.token_ids)
        visible = np.zeros((count, count), dtype=np.bool_)
        start = 0
        while start < count:
            # A run is a stretch in which each token follows the one before it.
            end = start + 1
            while end < count and self.parents[end] == end - 1:
                end += 1
            parent = self.parents[start]
            if parent >= 0:
                visible[start:end, :start] = visible[parent, :start]
            visible[start:end, start:end] = np.tri(end - start, dtype=np.bool_)
            start = end
        return visible


def pack_prefix_trees(sequences: Sequence[Sequence[int]], budget: int) -> list[PackedRow]:
    """Pack token sequences into rows in which a common prefix occurs once.

    Sequences are processed in lexicographic order, in which neighbours have the longest common
    prefixes. A row starts with one sequence and ends when the next one would add more than
    ``budget`` tokens in total, which leaves room for the choices of a long prompt.

    Args:
        sequences: Token ids; none empty.
        budget: Largest number of tokens of a row beyond its first sequence.

    Returns:
        Rows; every sequence is in exactly one of them.
    """
    rows: list[PackedRow] = []
    row = PackedRow()
    room = 0
    previous: Sequence[int] = ()
    path: list[int] = []
    for index in sorted(range(len(sequences)), key=lambda i: tuple(sequences[i])):
        sequence = sequences[index]
        shared = 0
        for left, right in zip(previous, sequence, strict=False):
            if left != right:
                break
            shared += 1
        if row.token_ids and len(row.token_ids) + len(sequence) - shared > room:
            rows.append(row)
            row, path, shared = PackedRow(), [], 0
        first = len(row.token_ids)
        if not first:
            room = len(sequence) + budget
        path = path[:shared] + list(range(first, first + len(sequence) - shared))
        for position in range(shared, len(sequence)):
            row.token_ids.append(sequence[position])
            row.positions.append(position)
            row.parents.append(path[position - 1] if position else -1)
        row.paths[index] = path
        previous = sequence
    if row.token_ids:
        rows.append(row)
    return rows


class _TokenCache:
    """Tokenised requests, reused by every model with the same tokenizer."""

    def __init__(self) -> None:
        self.pairs: dict[tuple[str, str, str], tuple[list[int], list[int]]] = {}
        self.characters = 0

    def add(self, key: tuple[str, str, str], pair: tuple[list[int], list[int]]) -> None:
        """Keep a request's tokens; start again where all of them would be too many."""
        self.characters += sum(map(len, key))
        if self.characters > _TOKEN_CACHE_CHARACTERS:
            self.pairs, self.characters = {}, sum(map(len, key))
        self.pairs[key] = pair


_token_cache = _TokenCache()


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a hash of everything in a tokenizer that affects token ids and rendered prompts.

    Args:
        tokenizer: The tokenizer.

    Returns:
        A short hexadecimal string.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    parts = [
        type(tokenizer).__name__,
        backend.to_str() if backend is not None else repr(sorted(tokenizer.get_vocab().items())),
        repr(sorted((name, str(token)) for name, token in tokenizer.special_tokens_map.items())),
        repr(tokenizer.chat_template),
        repr(getattr(tokenizer, "add_bos_token", None)),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


class LeaderboardLM(HFLM):
    """lm-eval's `HFLM` for a loaded causal model.

    Attributes:
        fingerprint: Of the tokenizer, see `tokenizer_fingerprint`.
        truncated: (leaf task, document number) of prompts that lost tokens on their left side.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        batch_size: int,
        max_length: int | None,
        pack_tokens: int | None,
        progress: Progress | None = None,
    ) -> None:
        """Wrap a model.

        Args:
            model: A causal language model on its device.
            tokenizer: Its tokenizer.
            batch_size: Rows in a batch of generation, and of scoring where nothing is packed.
            max_length: Context in tokens; ``None`` for the model's own.
            pack_tokens: Tokens packed after a row's first sequence; ``None`` for no packing.
            progress: Called with (done, total, what).
        """
        super().__init__(
            pretrained=model,
            tokenizer=tokenizer,
            batch_size=batch_size,
            max_length=max_length,
            backend="causal",
        )
        self.fingerprint = tokenizer_fingerprint(tokenizer)
        self.truncated: set[tuple[str, int]] = set()
        self._progress = progress
        self._done = self._total = 0
        self._what = ""
        self._cut: list[bool] = []
        self._packing_is_checked = False
        self._last_context: tuple[str, list[int]] = ("", [])
        accepted = inspect.signature(model.forward).parameters
        implementation = getattr(model.config, "_attn_implementation", None)
        packable = implementation in _MASKABLE and {
            "attention_mask",
            "position_ids",
            "logits_to_keep",
        } <= set(accepted)
        self.pack_tokens = pack_tokens if packable else None
        # A finished row must stop at the tokenizer's end of text even where the model's
        # configuration names another one: lm-eval cannot cut there, it decodes without specials.
        generation = model.generation_config
        ends = generation.eos_token_id
        known = ends if isinstance(ends, list) else [] if ends is None else [ends]
        if tokenizer.eos_token_id is not None and tokenizer.eos_token_id not in known:
            generation.eos_token_id = [*known, tokenizer.eos_token_id]

    def _begin(self, total: int, what: str) -> None:
        self._done, self._total, self._what = 0, total, what

    def _advance(self, count: int) -> None:
        self._done += count
        if self._progress is not None:
            self._progress(min(self._done, self._total), self._total, self._what)

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        key = (self.fingerprint, context, continuation)
        if key not in _token_cache.pairs:
            _token_cache.add(key, super()._encode_pair(context, continuation))
        return _token_cache.pairs[key]

    def tok_encode(
        self,
        string: str,
        add_special_tokens: bool | None = None,
        left_truncate_len: int | None = None,
        **kwargs: Any,
    ) -> list[int]:
        """Token ids of a text, as lm-eval's method; remembers the last prompt.

        Args:
            string: The text.
            add_special_tokens: As lm-eval's.
            left_truncate_len: As lm-eval's.
            **kwargs: As lm-eval's.

        Returns:
            The ids.
        """
        # The requests of a row are consecutive, and each one encodes the row's prompt again.
        plain = add_special_tokens is None and left_truncate_len is None and not kwargs
        if plain and string == self._last_context[0]:
            return list(self._last_context[1])
        ids: list[int] = super().tok_encode(string, add_special_tokens, left_truncate_len, **kwargs)
        if plain:
            self._last_context = (string, list(ids))
        return ids

    def loglikelihood(
        self, requests: list[Any], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Score (prompt, answer) requests.

        Args:
            requests: lm-eval's instances.
            disable_tqdm: Ignored; progress goes to the callback.

        Returns:
            For each request (log-probability of the answer, whether it is the greedy one).
        """
        self._begin(len(requests), "scoring choices")
        scores: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=True)
        for request, cut in zip(requests, self._cut, strict=True):
            if cut:
                self.truncated.add((request.task_name, request.doc_id))
        return scores

    def _loglikelihood_tokens(
        self,
        requests: list[EncodedRequest],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        longest = self.max_length + 1
        self._cut = [len(context) + len(answer) > longest for _, context, answer in requests]
        if self.pack_tokens is None:
            scores: list[tuple[float, bool]] = super()._loglikelihood_tokens(
                requests, disable_tqdm=True, override_bs=override_bs
            )
            return scores
        return self._score_packed(requests, self.pack_tokens)

    def _score_packed(
        self, requests: list[EncodedRequest], budget: int
    ) -> list[tuple[float, bool]]:
        sequences: list[list[int]] = []
        number: dict[tuple[int, ...], int] = {}
        wanted: list[tuple[int, list[int]]] = []  # (number of its sequence, answer ids)
        for _, context, answer in requests:
            if not context or not 0 < len(answer) <= self.max_length:
                raise ValueError("a request needs a prompt and an answer that fits the context")
            inputs = (context + answer)[-(self.max_length + 1) :][:-1]
            key = tuple(inputs)
            if key not in number:
                number[key] = len(sequences)
                sequences.append(inputs)
            wanted.append((number[key], answer))
        by_sequence: dict[int, list[int]] = {}
        for position, (sequence, _) in enumerate(wanted):
            by_sequence.setdefault(sequence, []).append(position)

        results: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        rows = pack_prefix_trees(sequences, budget)
        if not self._packs_right(rows[0], sequences):
            self.pack_tokens = None
            return self._loglikelihood_tokens(requests)
        for row in rows:
            members = [
                (position, row.paths[sequence][-len(wanted[position][1]) :])
                for sequence in row.paths
                for position in by_sequence[sequence]
            ]
            keep = sorted({index for _, places in members for index in places})
            logps, greedy = self._row_log_probs(row, keep)
            where = {index: offset for offset, index in enumerate(keep)}
            for position, places in members:
                answer = wanted[position][1]
                offsets = [where[index] for index in places]
                results[position] = (
                    float(logps[offsets, answer].sum()),
                    bool((greedy[offsets] == torch.tensor(answer)).all()),
                )
            self._advance(len(members))
        return results

    def _packs_right(self, row: PackedRow, sequences: Sequence[Sequence[int]]) -> bool:
        """Return whether a row's longest and shortest sequence have the same values as alone.

        Models with unusual attention or positions cannot use packed rows; each is checked once.
        """
        if self._packing_is_checked:
            return True
        self._packing_is_checked = True
        by_length = sorted(row.paths, key=lambda sequence: len(sequences[sequence]))
        largest = 0.0
        for sequence in {by_length[0], by_length[-1]}:
            places = [int(place) for place in row.paths[sequence][-_CHECKED_TOKENS:]]
            ids = torch.tensor([list(sequences[sequence])], device=self.device)
            with torch.inference_mode():
                logits = self.model(input_ids=ids, use_cache=False).logits[0, -len(places) :]
            alone = torch.log_softmax(logits.float(), dim=-1).cpu()
            try:
                keep = sorted(places)
                packed = self._row_log_probs(row, keep)[0][[keep.index(place) for place in places]]
            except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
                largest = float("inf")
                break
            likely = alone > alone.amax(-1, keepdim=True) - _LIKELY
            largest = max(largest, float((alone - packed)[likely].abs().max()))
        if largest <= tolerance_of(self.model):
            return True
        _log.warning(
            "%s gives packed rows other log-probabilities (%.2g nats on a token); every request is "
            "scored in a row of its own.",
            type(self.model).__name__,
            largest,
        )
        return False

    def _row_log_probs(self, row: PackedRow, keep: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities (K, V) after the K kept tokens, and the likeliest tokens (K,)."""
        device, dtype = self.device, self.model.dtype
        visible = torch.from_numpy(row.visible()).to(device)
        # Finite, as minus infinity gives NaN where a whole row is masked.
        mask = torch.zeros(visible.shape, dtype=dtype, device=device).masked_fill_(
            ~visible, torch.finfo(dtype).min
        )
        with torch.inference_mode():
            logits = self.model(
                input_ids=torch.tensor([row.token_ids], device=device),
                position_ids=torch.tensor([row.positions], device=device),
                attention_mask=mask[None, None],
                logits_to_keep=torch.tensor(keep, device=device),
                use_cache=False,
            ).logits[0]
            logps = torch.log_softmax(logits.float(), dim=-1).cpu()
        return logps, logps.argmax(dim=-1)

    def _model_call(self, inps: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        logits: torch.Tensor = super()._model_call(inps, *args, **kwargs)
        self._advance(inps.shape[0])
        return logits

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Generate greedily until a stop string, the end of text or the task's limit.

        Args:
            requests: lm-eval's instances.
            disable_tqdm: Ignored; progress goes to the callback.

        Returns:
            The texts.
        """
        self._begin(len(requests), "generating")
        for request in requests:
            prompt, arguments = request.args
            room = self.max_length - int(arguments["max_gen_toks"])
            if len(self.tok_encode(prompt)) > room:
                self.truncated.add((request.task_name, request.doc_id))
        texts: list[str] = super().generate_until(requests, disable_tqdm=True)
        return texts

    def _model_generate(self, context: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        with torch.inference_mode():
            tokens: torch.Tensor = super()._model_generate(context, *args, **kwargs)
        self._advance(context.shape[0])
        return tokens
