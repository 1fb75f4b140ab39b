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
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sparsepo.models.tolerance import tolerance_of
from tasks.leaderboard_v2.prefix_tree import PackedRow, pack_prefix_trees
from tasks.models.generation import sample_ids

EncodedRequest = tuple[tuple[str, str], list[int], list[int]]  # (texts, context ids, answer ids)
Progress = Callable[[int, int, str], None]  # (done, total, what)

# Attention implementations that take a 4-dimensional additive mask.
_MASKABLE = ("eager", "sdpa")
# Tokens at a sequence's end on which packed rows are checked, and how far below the likeliest word
# of each, in nats, a word may be to take part.
_CHECKED_TOKENS, _LIKELY = 8, 10.0
_log = logging.getLogger(__name__)
# Arguments of greedy generation; others are left to lm-eval.
_GREEDY = {"until", "max_gen_toks", "do_sample", "temperature"}
# Characters of prompts whose tokens are kept between evaluations.
_TOKEN_CACHE_CHARACTERS = 64_000_000


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
        groups: dict[str, list[int]] = {}
        for place, request in enumerate(requests):
            prompt, arguments = request.args
            room = self.max_length - int(arguments["max_gen_toks"])
            if len(self.tok_encode(prompt)) > room:
                self.truncated.add((request.task_name, request.doc_id))
            groups.setdefault(repr(sorted(arguments.items())), []).append(place)
        texts = [""] * len(requests)
        for places in groups.values():
            own = [requests[place] for place in places]
            for place, text in zip(places, self._continue(own), strict=True):
                texts[place] = text
        return texts

    def _continue(self, requests: Sequence[Any]) -> list[str]:
        """Generate for requests with the same arguments: greedy ones with the project's engine.

        The engine gives the texts of lm-eval's own loop, but for nearly equal probabilities, where
        a last bit of batched arithmetic decides, and does not compute rows that have ended.
        """
        arguments: Any = normalize_gen_kwargs(requests[0].args[1], self.max_gen_toks)
        if set(arguments) - _GREEDY or arguments["do_sample"] or arguments.get("temperature"):
            texts: list[str] = super().generate_until(list(requests), disable_tqdm=True)
            return texts
        limit = int(arguments["max_gen_toks"])
        stop = [text for text in arguments["until"] if text]
        before = self._done
        sampled = sample_ids(
            self.model,
            [self.tok_encode(one.args[0])[-(self.max_length - limit) :] for one in requests],
            self.tokenizer,
            max_new_tokens=limit,
            temperature=0.0,
            stop=stop,
            batch_size=int(self.batch_size),
            progress=lambda done, total: self._advance(before + done - self._done),
        )
        self._advance(before + len(requests) - self._done)
        return [
            postprocess_generated_text(self.tok_decode(ids), stop, think_end_token=None)
            for ids in sampled.ids
        ]

    def _model_generate(self, context: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        with torch.inference_mode():
            tokens: torch.Tensor = super()._model_generate(context, *args, **kwargs)
        self._advance(context.shape[0])
        return tokens
