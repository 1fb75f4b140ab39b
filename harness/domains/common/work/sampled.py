"""Shared by the stages that measure a trial: sampled responses and their KL to the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.domains.common.work.generation import batch_size
from harness.graph.stages import StageContext
from sparsepo.batches.tokenize import encode_prompts
from sparsepo.types import Message
from tasks.metrics.response_kl import response_kl, sequence_logps
from tasks.models.generation import prompt_room, sample_ids


@dataclass(frozen=True)
class Sampled:
    """One response of a policy to each prompt."""

    texts: list[str]
    kl: float
    """Response-level KL(π‖π_ref), in nats."""


def sample_responses(
    policy: Path | str,
    reference: Path | str,
    prompts: Sequence[str | list[Message]],
    context: StageContext,
) -> Sampled:
    """Answer each prompt once at temperature 1, where the estimate of the KL is unbiased.

    Args:
        policy: the trained model.
        reference: the model that it is compared with.
        prompts: texts, or messages before the answer.
        context: the stage's; its configuration has `max_new_tokens`, `batch_size` (rows that are
            scored together), `seed` and `device`.

    Raises:
        DivergedError: the policy's probabilities are not finite.
        UserError: `max_new_tokens` leaves no room for a prompt.
    """
    config = context.config
    tokenizer: Any = AutoTokenizer.from_pretrained(policy)
    model: Any = AutoModelForCausalLM.from_pretrained(policy).to(config["device"]).eval()
    positions = getattr(model.config, "max_position_embeddings", None)
    new_tokens = config["max_new_tokens"]
    room = prompt_room(positions, new_tokens, f"max_new_tokens {new_tokens}")
    encoded = encode_prompts(prompts, tokenizer, max_prompt_length=room)
    ids = sample_ids(
        model,
        encoded,
        tokenizer,
        max_new_tokens=new_tokens,
        batch_size=batch_size(context),
        seed=config["seed"],
    ).ids
    logps = sequence_logps(model, encoded, ids, config["batch_size"])
    other: Any = AutoModelForCausalLM.from_pretrained(reference, dtype="float32")
    other = other.to(config["device"]).eval()
    kl = response_kl(logps, sequence_logps(other, encoded, ids, config["batch_size"]))
    texts = [str(text) for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]
    return Sampled(texts, kl)
