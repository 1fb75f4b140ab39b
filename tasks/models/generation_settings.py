"""How samples are drawn, without importing a training library."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Literal

from sparsepo.errors import UserError

BackendName = Literal["transformers", "vllm", "endpoint"]


@dataclass(frozen=True)
class GenerationSettings:
    """What draws the samples of a model; see docs/generation.md."""

    backend: Literal["auto", "transformers", "vllm", "endpoint"] = "auto"
    """auto: the endpoint if there is one, else vLLM if it is installed and there is a GPU, else
    transformers."""
    endpoint: str | None = None
    """Base URL of an OpenAI-compatible server, such as http://localhost:8000/v1."""
    model: str | None = None
    """Name under which the endpoint serves the model; none for the model's own hub id or folder."""
    batch_size: int = 64
    """Samples that are drawn together, without effect on any of them."""
    concurrency: int = 8
    """Requests that an endpoint gets at the same time."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "concurrency"):
            if getattr(self, name) < 1:
                raise UserError(f"generation.{name} must be at least 1, not {getattr(self, name)}.")


def resolve_backend(settings: GenerationSettings, device: str) -> BackendName:
    """Return the backend that `auto` stands for, and check that it can be used.

    Args:
        settings: what the user has set.
        device: "cpu", "cuda" or "auto".

    Raises:
        UserError: a setting has no effect with this backend, or vLLM or its GPU is missing.
    """
    name = settings.backend
    if name == "auto":
        if settings.endpoint is not None:
            name = "endpoint"
        else:
            name = "vllm" if _has_vllm() and _has_gpu(device) else "transformers"
    if name == "endpoint" and settings.endpoint is None:
        raise UserError(
            "generation.backend=endpoint needs the server's address; set generation.endpoint=URL."
        )
    for key in ("endpoint", "model"):
        if name != "endpoint" and getattr(settings, key) is not None:
            raise UserError(
                f"generation.{key} has no effect with generation.backend={name}; leave one of "
                "them out."
            )
    if name == "vllm":
        if not _has_vllm():
            raise UserError(
                "generation.backend=vllm needs the package vllm; install it with `pip install "
                "vllm`, or leave generation.backend out."
            )
        if not _has_gpu(device):
            raise UserError(
                "generation.backend=vllm needs a GPU; leave it out to sample with transformers."
            )
    return name


def _has_vllm() -> bool:
    return importlib.util.find_spec("vllm") is not None


def _has_gpu(device: str) -> bool:
    if device == "cpu":
        return False
    import torch

    return torch.cuda.is_available()
