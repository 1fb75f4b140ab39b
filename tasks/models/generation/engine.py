"""The one entry to sampling: prompts in, responses out, whichever backend draws them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer

from sparsepo.batches.tokenize import encode_prompts
from sparsepo.data.hub import require_model
from sparsepo.errors import UserError
from sparsepo.generation.decode import TransformersBackend
from sparsepo.generation.requests import Backend, Progress, Request, Response, Sampling
from sparsepo.generation.seeds import content_id, sample_seeds
from sparsepo.types import Message
from tasks.models.generation.journal import Journal, model_identity, sample_keys
from tasks.models.generation.served import EndpointBackend
from tasks.models.generation.vllm import VllmBackend
from tasks.models.generation_settings import GenerationSettings, resolve_backend


@dataclass(frozen=True)
class Responses:
    """The texts that were sampled, and what has to be said about them."""

    texts: list[str]
    """Without special tokens: first all responses to the first prompt, and so on."""
    truncated_prompts: int
    """Prompts that lost their beginning to fit the context."""
    unfinished: int
    """Responses that reached the longest length without EOS or a stop text."""


@dataclass(frozen=True)
class SampledIds:
    """The same as token ids."""

    ids: list[list[int]]
    """Those of each response, including EOS if it was generated."""
    unfinished: int


def generate_responses(
    model_dir: str | Path,
    prompts: Sequence[str | list[Message]],
    *,
    samples: int = 1,
    max_new_tokens: int = 64,
    temperature: float = 1.0,
    top_p: float = 1.0,
    stop: Sequence[str] = (),
    seed: int = 42,
    prompt_ids: Sequence[str] | None = None,
    settings: GenerationSettings | None = None,
    journal: Path | None = None,
    device: str | None = None,
    dtype: str = "auto",
    chat_template_kwargs: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Responses:
    """Continue prompts by sampling.

    Prompts are tokenized as in training: messages with the chat template and its generation prompt,
    plain text with one BOS. A prompt is truncated from the left if prompt and response would not
    fit the model's context. A response depends on the model, its prompt, these settings and its own
    seed, which is a hash of `seed`, the prompt's id and the number of the sample; it does not
    depend on the other prompts, their order or the batch size. torch's own random state is neither
    used nor changed.

    Args:
        model_dir: a model and tokenizer that `from_pretrained` loads.
        prompts: texts, or chat messages up to the response.
        samples: responses per prompt.
        max_new_tokens: longest response, in tokens.
        temperature: 0 decodes greedily.
        top_p: nucleus sampling's share of probability, in (0, 1].
        stop: texts after which a response ends; the one that ended it is kept.
        seed: the seed for sampling.
        prompt_ids: a name of each prompt; by default a hash of its content. Prompts of equal ids
            get different samples.
        settings: the backend, batch size and endpoint.
        journal: a file to which every batch is appended, and from which an interrupted run takes
            what it has drawn before; its folder must exist.
        device: such as "cpu" or "cuda"; by default CUDA if available.
        dtype: dtype of the weights; "auto" uses the checkpoint's.
        chat_template_kwargs: further arguments of the chat template for every prompt of messages,
            such as {"enable_thinking": False}; training reads them from the rows.
        progress: called after each batch.

    Returns:
        The responses, and how many prompts were truncated and responses unfinished.

    Raises:
        DivergedError: the model's probabilities are not finite.
        UserError: there is no such model, `max_new_tokens` leaves no room for a prompt, a setting
            is out of range, or a backend cannot be used.
    """
    settings = GenerationSettings() if settings is None else settings
    sampling = Sampling(max_new_tokens, temperature, top_p, tuple(stop))
    if samples < 1:
        raise UserError(f"There must be at least 1 sample of a prompt, not {samples}.")
    ids = [content_id(prompt) for prompt in prompts] if prompt_ids is None else list(prompt_ids)
    if len(ids) != len(prompts):
        raise ValueError(f"{len(prompts)} prompts have {len(ids)} ids")
    require_model(model_dir)
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    context = getattr(
        AutoConfig.from_pretrained(_whole_model(model_dir)),
        "max_position_embeddings",
        tokenizer.model_max_length,
    )
    room = prompt_room(context, max_new_tokens, f"max_new_tokens {max_new_tokens}")
    extra = [chat_template_kwargs or {}] * len(prompts)
    whole = encode_prompts(prompts, tokenizer, chat_template_kwargs=extra)
    truncated = sum(room is not None and len(own) > room for own in whole)
    encoded = whole
    if truncated:
        encoded = encode_prompts(
            prompts, tokenizer, max_prompt_length=room, chat_template_kwargs=extra
        )
    seeds = sample_seeds(seed, ids, samples)
    requests = [
        Request(tuple(encoded[index // samples]), own_seed) for index, own_seed in enumerate(seeds)
    ]
    backend = _backend(settings, model_dir, tokenizer, device, dtype, named=journal is not None)
    responses = _sample(backend, requests, sampling, journal, progress)
    texts = tokenizer.batch_decode(
        [list(response.ids) for response in responses], skip_special_tokens=True
    )
    return Responses(
        [
            str(text) if response.text is None else response.text
            for response, text in zip(responses, texts, strict=True)
        ],
        truncated,
        _unfinished(responses),
    )


def sample_ids(
    model: Any,
    prompts: Sequence[Sequence[int]],
    tokenizer: Any,
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    stop: Sequence[str] = (),
    batch_size: int = 64,
    seed: int = 42,
    prompt_ids: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> SampledIds:
    """Continue tokenized prompts once with a loaded model; see `generate_responses`.

    Args:
        model: a causal language model in evaluation mode.
        prompts: token ids, which leave room for `max_new_tokens`.
        tokenizer: the model's tokenizer.
        batch_size: responses that are sampled together.

    Raises:
        DivergedError: the model's probabilities are not finite.
    """
    sampling = Sampling(max_new_tokens, temperature, top_p, tuple(stop))
    names = [content_id(list(p)) for p in prompts] if prompt_ids is None else list(prompt_ids)
    requests = [
        Request(tuple(prompt), own_seed)
        for prompt, own_seed in zip(prompts, sample_seeds(seed, names, 1), strict=True)
    ]
    backend = TransformersBackend(model, tokenizer, batch_size)
    responses = _sample(backend, requests, sampling, None, progress)
    return SampledIds([list(response.ids) for response in responses], _unfinished(responses))


def prompt_room(context: int | None, new_tokens: int, setting: str) -> int | None:
    """Return how many tokens of a prompt fit a context beside new ones; None without a limit.

    Args:
        context: most tokens of a sequence; None if the model has no such limit.
        new_tokens: longest response, in tokens.
        setting: what the user set them with, for the error.

    Raises:
        UserError: no token of a prompt fits.
    """
    if context is None:
        return None
    if context <= new_tokens:
        raise UserError(
            f"{setting} leaves no room for a prompt in a context of {context} tokens; lower it."
        )
    return context - new_tokens


def _sample(
    backend: Backend,
    requests: Sequence[Request],
    sampling: Sampling,
    path: Path | None,
    progress: Progress | None,
) -> list[Response]:
    """Return the responses in the order of the requests, from the journal where it has them."""
    if sampling.temperature == 0:
        # Greedy responses to a prompt are all the same, and found once.
        requests = [replace(request, seed=0) for request in requests]
    wanted = list(dict.fromkeys(requests))
    found: dict[Request, Response] = {}
    keys: dict[Request, str] = {}
    journal = None if path is None else Journal(path)
    if journal is not None:
        keys = dict(zip(wanted, sample_keys(backend.identity, wanted, sampling), strict=True))
        known = journal.read(set(keys.values()))
        found = {request: known[key] for request, key in keys.items() if key in known}
    missing = [request for request in wanted if request not in found]
    for batch in backend.sample(missing, sampling) if missing else ():
        drawn = [(missing[place], response) for place, response in batch]
        if journal is not None:
            journal.append((keys[request], response) for request, response in drawn)
        found.update(drawn)
        if progress is not None:
            progress(len(found), len(wanted))
    return [found[request] for request in requests]


def _unfinished(responses: Sequence[Response]) -> int:
    return sum(response.end == "length" for response in responses)


def _whole_model(model_dir: str | Path) -> str | Path:
    """Return a model's source, or that of the model that a folder of adapters belongs to."""
    adapters = Path(model_dir) / "adapter_config.json"
    if not adapters.is_file() or (Path(model_dir) / "config.json").is_file():
        return model_dir
    base: str = json.loads(adapters.read_text(encoding="utf-8"))["base_model_name_or_path"]
    return base


def _backend(
    settings: GenerationSettings,
    model_dir: str | Path,
    tokenizer: Any,
    device: str | None,
    dtype: str,
    *,
    named: bool,
) -> Backend:
    """Return the backend of the settings; `named` if its identity is needed."""
    name = resolve_backend(settings, device or "auto")
    if name == "endpoint":
        return EndpointBackend(settings, model_dir, tokenizer)
    identity = model_identity(model_dir, dtype) if named else ""
    if name == "vllm":
        return VllmBackend(model_dir, tokenizer, settings.batch_size, identity, dtype)
    return TransformersBackend.load(
        model_dir, tokenizer, settings.batch_size, identity, device=device, dtype=dtype
    )
