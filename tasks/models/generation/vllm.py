"""The backend that samples with vLLM, which must be installed separately and needs a GPU."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sparsepo.generation.requests import Batch, End, Request, Response, Sampling

_BATCHES_AT_ONCE = 16
"""vLLM makes its own batches; it gets as many requests at a time as fill this number of ours."""
_SEED_BITS = 63


class VllmBackend:
    """Draws samples with vLLM's own engine, each request with its own seed.

    Source: https://docs.vllm.ai/en/latest/api/vllm/sampling_params.html
    """

    def __init__(
        self, source: str | Path, tokenizer: Any, batch_size: int, identity: str, dtype: str
    ) -> None:
        """Load a model.

        Args:
            source: a model's folder or hub id.
            tokenizer: the model's.
            batch_size: as of other backends; a killed run loses sixteen times as many samples.
            identity: what names the weights, for the journal.
            dtype: dtype of the weights; "auto" uses the checkpoint's.
        """
        # Not imported by name, because it is no dependency of this project.
        self._vllm: Any = importlib.import_module("vllm")
        self._llm = self._vllm.LLM(model=str(source), dtype=dtype, seed=0)
        self._eos = tokenizer.eos_token_id
        self._at_once = _BATCHES_AT_ONCE * batch_size
        self.identity = f"vllm\0{identity}"

    def sample(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Batch]:
        """Yield the responses, those to the longest prompts first."""
        order = sorted(
            range(len(requests)), key=lambda i: (-len(requests[i].prompt), requests[i].prompt)
        )
        for start in range(0, len(order), self._at_once):
            chosen = order[start : start + self._at_once]
            outputs = self._llm.generate(
                [{"prompt_token_ids": list(requests[i].prompt)} for i in chosen],
                sampling_params=[self._parameters(requests[i].seed, sampling) for i in chosen],
                use_tqdm=False,
            )
            yield [
                (i, _response(output.outputs[0])) for i, output in zip(chosen, outputs, strict=True)
            ]

    def _parameters(self, seed: int, sampling: Sampling) -> Any:
        return self._vllm.SamplingParams(
            n=1,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_new_tokens,
            stop=list(sampling.stop) or None,
            stop_token_ids=None if self._eos is None else [self._eos],
            include_stop_str_in_output=True,
            seed=seed % 2**_SEED_BITS,
        )


def _response(output: Any) -> Response:
    end: End = "length"
    if output.finish_reason == "stop":
        # The reason is a stop text, a stop token's id, or None for the model's own EOS.
        end = "stop" if isinstance(output.stop_reason, str) else "eos"
    return Response(end, tuple(output.token_ids))
