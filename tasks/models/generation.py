"""Seeded, batched sampling of responses from a Hugging Face model directory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from sparsepo.batches.tokenize import encode_prompts
from sparsepo.data.hub import require_model
from sparsepo.errors import DivergedError, UserError
from sparsepo.types import Message

Progress = Callable[[int, int], None]
"""Called with (responses so far, total responses)."""


def generate_responses(
    model_dir: str | Path,
    prompts: Sequence[str | list[Message]],
    *,
    samples: int = 1,
    max_new_tokens: int = 64,
    temperature: float = 1.0,
    top_p: float = 1.0,
    stop: Sequence[str] = (),
    batch_size: int = 64,
    seed: int = 42,
    device: str | None = None,
    dtype: str = "auto",
    chat_template_kwargs: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> list[str]:
    """Continue prompts by sampling, in batches padded on the left.

    Prompts are tokenized as in training: messages with the chat template and its generation prompt,
    plain text with one BOS. A prompt is truncated from the left if prompt and response would not
    fit the model's context. The result depends on the seed, the batch size and the order of the
    prompts; torch's own random state is left unchanged.

    Args:
        model_dir: a model and tokenizer that `from_pretrained` loads.
        prompts: texts, or chat messages up to the response.
        samples: responses per prompt.
        max_new_tokens: longest response, in tokens.
        temperature: 0 decodes greedily.
        top_p: nucleus sampling's share of probability, in (0, 1].
        stop: texts after which a response ends; the one that ended it is kept.
        batch_size: responses per batch.
        seed: the seed for sampling.
        device: such as "cpu" or "cuda"; by default CUDA if available.
        dtype: dtype of the weights; "auto" uses the checkpoint's.
        chat_template_kwargs: further arguments of the chat template for every prompt of messages,
            such as {"enable_thinking": False}; training reads them from the rows.
        progress: called after each batch.

    Returns:
        The responses without special tokens: first all responses to the first prompt, and so on.

    Raises:
        DivergedError: the model's probabilities are not finite.
        UserError: there is no such model, or `max_new_tokens` leaves no room for a prompt.
    """
    require_model(model_dir)
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    model: Any = AutoModelForCausalLM.from_pretrained(model_dir, dtype=dtype)
    model.to(place).eval()
    room = prompt_room(
        getattr(model.config, "max_position_embeddings", tokenizer.model_max_length),
        max_new_tokens,
        f"max_new_tokens {max_new_tokens}",
    )
    encoded = [
        ids
        for ids in encode_prompts(
            prompts,
            tokenizer,
            max_prompt_length=room,
            chat_template_kwargs=[chat_template_kwargs or {}] * len(prompts),
        )
        for _ in range(samples)
    ]
    sampled = sample_ids(
        model,
        encoded,
        tokenizer,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        stop=stop,
        batch_size=batch_size,
        seed=seed,
        progress=progress,
    )
    return [str(text) for text in tokenizer.batch_decode(sampled, skip_special_tokens=True)]


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
    progress: Progress | None = None,
) -> list[list[int]]:
    """Continue tokenized prompts with a loaded model; see `generate_responses`.

    Args:
        model: a causal language model in evaluation mode.
        prompts: token ids, which leave room for `max_new_tokens`.
        tokenizer: the model's tokenizer.

    Returns:
        The token ids of each response, including EOS if it was generated.

    Raises:
        DivergedError: the model's probabilities are not finite.
    """
    eos = tokenizer.eos_token_id
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else eos
    sampling: dict[str, Any] = (
        {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}
        if temperature > 0
        else {"do_sample": False}
    )
    if stop:
        sampling |= {"stop_strings": list(stop), "tokenizer": tokenizer}
    responses: list[list[int]] = []
    place = model.device
    devices = [place] if place.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        torch.manual_seed(seed)
        for start in range(0, len(prompts), batch_size):
            batch = prompts[start : start + batch_size]
            length = max(map(len, batch))
            ids = torch.full((len(batch), length), pad, dtype=torch.long)
            mask = torch.zeros_like(ids)
            for row, tokens in enumerate(batch):
                ids[row, length - len(tokens) :] = torch.tensor(tokens)
                mask[row, length - len(tokens) :] = 1
            try:
                output = model.generate(
                    input_ids=ids.to(place),
                    attention_mask=mask.to(place),
                    max_new_tokens=max_new_tokens,
                    pad_token_id=pad,
                    eos_token_id=eos,
                    **sampling,
                )
            except RuntimeError as error:
                # torch.multinomial's own words; its exception has no other mark.
                if "probability tensor contains" not in str(error):
                    raise
                raise DivergedError(
                    "The model gives probabilities that are not finite; train it again with a "
                    "lower learning rate."
                ) from None
            responses += [_ended(row, eos, pad) for row in output[:, length:].tolist()]
            if progress is not None:
                progress(len(responses), len(prompts))
    return responses


def _ended(ids: list[int], eos: int, pad: int) -> list[int]:
    """Remove the padding after a response's EOS or stop text."""
    if eos in ids:
        return ids[: ids.index(eos) + 1]
    while ids and ids[-1] == pad:
        ids.pop()
    return ids
