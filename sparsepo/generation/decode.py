"""The backend that runs a loaded transformers model: batches by length, one cache per batch.

A prompt that several rows of a batch share is computed once. Rows that have ended leave the batch
as soon as enough of them have.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache

from sparsepo.generation.blocks import drawn_in_blocks, greedy_in_blocks
from sparsepo.generation.cache import roomy_cache
from sparsepo.generation.choice import drawn_tokens, greedy_tokens, levels
from sparsepo.generation.head import (
    Projection,
    find_projection,
    has_many_words,
    states_for_logits,
)
from sparsepo.generation.requests import Batch, Request, Response, Sampling
from sparsepo.generation.seeds import uniforms
from sparsepo.generation.stops import Ends, eos_ids

_KEPT = 0.8
"""Share of the rows still running below which the ended ones are removed; copying the cache costs
about as much as one step."""


class TransformersBackend:
    """Draws samples with a model in this process."""

    def __init__(self, model: Any, tokenizer: Any, batch_size: int, identity: str = "") -> None:
        """Use a loaded model.

        Args:
            model: a causal language model in evaluation mode.
            tokenizer: the model's tokenizer.
            batch_size: rows of a batch.
            identity: what names the weights, for the journal.
        """
        self._model = model
        self._tokenizer = tokenizer
        self._batch_size = batch_size
        self.identity = f"transformers\0{identity}"

    @classmethod
    def load(
        cls,
        source: str | Path,
        tokenizer: Any,
        batch_size: int,
        identity: str,
        *,
        device: str | None,
        dtype: str,
    ) -> TransformersBackend:
        """Load a model; see `generate_responses` for the arguments."""
        place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        model: Any = AutoModelForCausalLM.from_pretrained(source, dtype=dtype)
        return cls(model.to(place).eval(), tokenizer, batch_size, identity)

    def sample(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Batch]:
        """Yield one batch after another, those with the longest prompts first."""
        eos = eos_ids(self._model, self._tokenizer)
        ends = Ends(self._tokenizer, eos, sampling.stop)
        # Equal prompts are neighbours, and the first batch needs the most memory.
        order = sorted(
            range(len(requests)), key=lambda i: (-len(requests[i].prompt), requests[i].prompt)
        )
        projection = None
        if sampling.temperature == 0 or sampling.top_p == 1:
            projection = find_projection(self._model)
        with torch.no_grad():
            for start in range(0, len(order), self._batch_size):
                chosen = order[start : start + self._batch_size]
                wanted = [requests[i] for i in chosen]
                responses = _decode(self._model, wanted, sampling, ends, projection)
                yield list(zip(chosen, responses, strict=True))


def _decode(
    model: Any,
    requests: Sequence[Request],
    sampling: Sampling,
    ends: Ends,
    projection: Projection | None,
) -> list[Response]:
    """Return the responses of one batch."""
    prompts = [request.prompt for request in requests]
    batch = _Running(model, prompts, sampling.max_new_tokens, projection)
    seeds = np.array([request.seed for request in requests], dtype=np.uint64)
    ids: list[list[int]] = [[] for _ in requests]
    found: dict[int, Response] = {}
    rows = list(range(len(requests)))
    for position in range(sampling.max_new_tokens):
        tokens = _choose(batch, seeds[rows], position, sampling)
        going: list[int] = []
        for place, (row, token) in enumerate(zip(rows, tokens.tolist(), strict=True)):
            if row in found:
                continue
            ids[row].append(token)
            end = ends.of(ids[row])
            if end is None and position + 1 == sampling.max_new_tokens:
                end = "length"
            if end is None:
                going.append(place)
            else:
                found[row] = Response(end, tuple(ids[row]))
        if not going:
            break
        if len(going) < _KEPT * len(rows):
            batch.keep(going)
            tokens = tokens[going]
            rows = [rows[place] for place in going]
        batch.append(tokens)
    return [found[row] for row in range(len(requests))]


def _choose(
    batch: _Running, seeds: np.ndarray[Any, np.dtype[np.uint64]], position: int, sampling: Sampling
) -> Tensor:
    found, projection = batch.found, batch.projection
    if sampling.temperature == 0:
        if projection is not None:
            return greedy_in_blocks(found, projection)
        return greedy_tokens(found)
    vocabulary = found.shape[1] if projection is None else len(projection.weight)
    numbers = torch.from_numpy(uniforms(seeds, position, levels(vocabulary))).to(found.device)
    if projection is not None:
        return drawn_in_blocks(found, projection, numbers, sampling.temperature)
    return drawn_tokens(found, numbers, sampling.temperature, sampling.top_p)


@dataclass(frozen=True)
class _Accepts:
    """Which arguments a model's forward pass has."""

    cache: bool
    positions: bool
    last_logits: bool

    @classmethod
    def of(cls, model: Any) -> _Accepts:
        # PEFT's own signature names no arguments.
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        names = inspect.signature(inner.forward).parameters
        return cls("past_key_values" in names, "position_ids" in names, "logits_to_keep" in names)


class _Running:
    """The rows of a batch and what decides their next tokens."""

    found: Tensor
    """Logits, (rows, vocabulary), float32; with a projection the final states, (rows, width)."""

    def __init__(
        self,
        model: Any,
        prompts: Sequence[tuple[int, ...]],
        new_tokens: int,
        projection: Projection | None,
    ) -> None:
        self._model = model
        self.projection = projection
        self._accepts = _Accepts.of(model)
        unique = list(dict.fromkeys(prompts))
        length = max(map(len, unique))
        ids = torch.zeros(len(unique), length, dtype=torch.long)
        mask = torch.zeros(len(unique), length + new_tokens, dtype=torch.long)
        for row, prompt in enumerate(unique):
            ids[row, length - len(prompt) :] = torch.tensor(prompt)
            mask[row, length - len(prompt) :] = 1
        place = model.device
        self._ids, self._mask = ids.to(place), mask.to(place)
        self._length = length
        self._positions = (self._mask[:, :length].cumsum(dim=-1) - 1).clamp(min=0)
        self._cache: DynamicCache | None = None
        if self._accepts.cache and has_many_words(model):
            self._cache = roomy_cache(model.config, length, new_tokens)
        elif self._accepts.cache:
            self._cache = DynamicCache(config=model.config)
        self._forward(self._ids, self._positions)
        if len(unique) < len(prompts):
            places = {prompt: place for place, prompt in enumerate(unique)}
            self.keep([places[prompt] for prompt in prompts])

    def keep(self, rows: list[int]) -> None:
        """Keep some rows, or repeat them."""
        index = torch.tensor(rows, device=self._mask.device)
        self._ids, self._mask = self._ids[index], self._mask[index]
        self._positions, self.found = self._positions[index], self.found[index]
        if self._cache is not None:
            self._cache.batch_select_indices(index)

    def append(self, tokens: Tensor) -> None:
        """Append a token to every row, and compute what decides the next one."""
        last = self._positions[:, -1:] + 1
        self._length += 1
        if self._cache is not None:
            self._positions = last
            self._forward(tokens[:, None], last)
        else:
            self._ids = torch.cat([self._ids, tokens[:, None]], dim=1)
            self._positions = torch.cat([self._positions, last], dim=1)
            self._forward(self._ids, self._positions)

    def _forward(self, ids: Tensor, positions: Tensor) -> None:
        arguments: dict[str, Any] = {"attention_mask": self._mask[:, : self._length]}
        if self._accepts.positions:
            arguments["position_ids"] = positions
        if self._accepts.last_logits:
            arguments["logits_to_keep"] = 1
        if self._cache is not None:
            arguments |= {"past_key_values": self._cache, "use_cache": True}
        if self.projection is None:
            self.found = self._model(input_ids=ids, **arguments).logits[:, -1].float()
            return
        with states_for_logits(self._model):
            self.found = self._model(input_ids=ids, **arguments).logits[:, -1]
