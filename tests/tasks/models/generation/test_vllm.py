"""The vLLM backend against a stand-in module with vLLM's interface."""

from __future__ import annotations

import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from sparsepo.errors import UserError
from sparsepo.generation.requests import Request, Response, Sampling
from tasks.models import generation_settings
from tasks.models.generation import generate_responses
from tasks.models.generation.vllm import VllmBackend
from tasks.models.generation_settings import GenerationSettings, resolve_backend
from tests.small_models import small_model, small_tokenizer


@dataclass
class SamplingParams:
    n: int
    temperature: float
    top_p: float
    max_tokens: int
    stop: list[str] | None
    stop_token_ids: list[int] | None
    include_stop_str_in_output: bool
    seed: int


@dataclass
class LLM:
    """Answers each prompt with its length and the remainder of its seed."""

    model: str
    dtype: str
    seed: int
    calls: list[list[SamplingParams]] = field(default_factory=list)

    def generate(
        self, prompts: list[dict[str, list[int]]], sampling_params: Any, use_tqdm: bool
    ) -> list[Any]:
        assert len(prompts) == len(sampling_params) and not use_tqdm
        self.calls.append(sampling_params)
        made.append(self)
        return [
            types.SimpleNamespace(outputs=[self.output(one["prompt_token_ids"], own)])
            for one, own in zip(prompts, sampling_params, strict=True)
        ]

    def output(self, prompt: list[int], own: SamplingParams) -> Any:
        kind = own.seed % 4
        reasons = [("stop", None), ("stop", 0), ("stop", "\n"), ("length", None)]
        finish, reason = reasons[kind]
        ids = [len(prompt), 1 + own.seed % 7, *([0] if kind < 2 else [])]
        return types.SimpleNamespace(token_ids=ids, finish_reason=finish, stop_reason=reason)


made: list[LLM] = []


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = types.ModuleType("vllm")
    module.LLM, module.SamplingParams = LLM, SamplingParams
    module.__spec__ = types.SimpleNamespace(name="vllm")
    monkeypatch.setitem(sys.modules, "vllm", module)
    made.clear()


@pytest.mark.usefixtures("vllm")
def test_every_request_has_its_own_seed_and_responses_keep_their_order() -> None:
    backend = VllmBackend("folder", small_tokenizer(), 2, "weights", "bfloat16")
    requests = [Request((1,) * (1 + i % 5), 2**63 + i) for i in range(70)]
    sampling = Sampling(9, 0.5, 0.8, ("\n",))
    batches = list(backend.sample(requests, sampling))
    assert [len(batch) for batch in batches] == [32, 32, 6]
    found = dict(one for batch in batches for one in batch)
    assert sorted(found) == list(range(70))
    for index, response in found.items():
        end = ("eos", "eos", "stop", "length")[index % 4]
        ids = (1 + index % 5, 1 + index % 7, *([0] if index % 4 < 2 else []))
        assert response == Response(end, ids)
    (llm,) = {id(one): one for one in made}.values()
    assert (llm.model, llm.dtype, llm.seed) == ("folder", "bfloat16", 0)
    first = llm.calls[0][0]
    assert first == SamplingParams(1, 0.5, 0.8, 9, ["\n"], [0], True, first.seed)
    assert {own.seed for call in llm.calls for own in call} == set(range(70))


@pytest.mark.usefixtures("vllm")
def test_the_engine_uses_it_where_there_is_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_model("gpt2").save_pretrained(tmp_path / "model")
    small_tokenizer().save_pretrained(tmp_path / "model")
    assert resolve_backend(GenerationSettings(), "auto") == "transformers"
    with pytest.raises(UserError, match="needs a GPU"):
        resolve_backend(GenerationSettings(backend="vllm"), "auto")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_backend(GenerationSettings(), "cuda") == "vllm"
    assert resolve_backend(GenerationSettings(), "cpu") == "transformers"
    assert resolve_backend(GenerationSettings(endpoint="http://x/v1"), "cuda") == "endpoint"
    assert generation_settings.resolve_backend(GenerationSettings(), "auto") == "vllm"
    journal = tmp_path / "journal.jsonl"
    found = generate_responses(
        tmp_path / "model", ["the cat", "a dog saw it"], samples=8, journal=journal
    )
    calls = len(made)
    assert len(found.texts) == 16 and 0 < found.unfinished < 16
    assert found == generate_responses(
        tmp_path / "model", ["the cat", "a dog saw it"], samples=8, journal=journal
    )
    assert len(made) == calls
