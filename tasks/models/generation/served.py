"""The backend that asks an OpenAI-compatible endpoint for completions, one request per sample."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sparsepo.generation.requests import Batch, Request, Response, Sampling
from sparsepo.generation.stops import eos_ids
from tasks.models.endpoint import EndpointClient, EndpointSettings, ReplyError
from tasks.models.generation_settings import GenerationSettings

_SEED_BITS = 31
"""llama.cpp takes seeds of 32 bits, others signed ones."""


class EndpointBackend:
    """Draws samples with a server."""

    def __init__(self, settings: GenerationSettings, source: str | Path, tokenizer: Any) -> None:
        """Connect to the server and check that it serves the model.

        Args:
            settings: `endpoint`, `model` and `concurrency`.
            source: the model's hub id or folder, the name that is asked for without `model`.
            tokenizer: the model's.

        Raises:
            EndpointError: see `EndpointClient`.
        """
        assert settings.endpoint is not None
        self._client = EndpointClient(
            EndpointSettings(
                settings.endpoint, settings.model or str(source), concurrency=settings.concurrency
            )
        )
        self._tokenizer = tokenizer
        self._extra: Mapping[str, Any] | None = None
        self.identity = f"endpoint\0{self._client.model}"

    def sample(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Batch]:
        """Yield each response as it arrives; prompts are sent as text."""
        texts = {prompt: self._as_text(prompt) for prompt in {one.prompt for one in requests}}

        def ask(request: Request) -> Response:
            return self._ask(texts[request.prompt], request.seed, sampling)

        # The first request finds out which settings the server understands.
        yield [(0, ask(requests[0]))]
        for place, response in self._client.each(ask, requests[1:]):
            yield [(place + 1, response)]

    def _ask(self, text: str, seed: int, sampling: Sampling) -> Response:
        known = [self._extra] if self._extra is not None else self._dialects(sampling)
        for place, extra in enumerate(known):
            try:
                (reply,) = self._client.complete(
                    text,
                    max_tokens=sampling.max_new_tokens,
                    temperature=sampling.temperature,
                    top_p=sampling.top_p,
                    stop=sampling.stop,
                    seed=seed % 2**_SEED_BITS,
                    extra=extra,
                )
            except ReplyError:
                if place + 1 == len(known):
                    raise
            else:
                self._extra = extra
                break
        if reply.finish_reason == "length":
            return Response("length", text=reply.text)
        # An endpoint does not say which of the two it was.
        return Response("stop" if sampling.stop else "eos", text=reply.text)

    def _dialects(self, sampling: Sampling) -> list[dict[str, Any]]:
        """Return what makes different servers sample from the model's own distribution.

        By default, llama.cpp samples from the 40 most probable tokens, vLLM with the settings that
        the checkpoint recommends, and transformers serve decodes greedily. Servers that refuse
        unknown fields get none.
        """
        neutral = {
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "include_stop_str_in_output": True,
        }
        own = {
            "do_sample": sampling.temperature > 0,
            "top_k": 0,
            "max_new_tokens": sampling.max_new_tokens,
            "eos_token_id": sorted(eos_ids(None, self._tokenizer)),
            "pad_token_id": self._tokenizer.pad_token_id or self._tokenizer.eos_token_id,
        }
        return [neutral, {"generation_config": json.dumps(own)}, {}]

    def _as_text(self, prompt: Sequence[int]) -> str:
        """Return the text that the server's tokenizer turns into these tokens.

        Some tokenizers put BOS before every text; for them, the prompt's own is left out.
        """
        whole = str(self._tokenizer.decode(prompt, skip_special_tokens=False))
        bos = self._tokenizer.bos_token
        if bos and whole.startswith(bos):
            bare = whole[len(bos) :]
            if self._tokenizer(bare)["input_ids"] == list(prompt):
                return bare
        return whole
