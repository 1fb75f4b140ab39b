"""The log-probability of whole responses under a language model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def sequence_logps(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    batch_size: int = 128,
) -> list[float]:
    """Return log π(y|x) = Σ_t log π(y_t | x, y_<t) of each response, in nats.

    Rows are padded on the right, where a causal model cannot see it, and grouped by length; the
    sums are taken in float64.

    Args:
        model: a causal language model in evaluation mode.
        prompts: token ids of each prompt, at least one.
        responses: token ids of each response, with its end-of-sequence token where it has one. An
            empty one has log-probability 0.
        batch_size: rows in one forward pass.

    Raises:
        ValueError: if a prompt is empty, or a row is longer than the model's context.
    """
    import torch

    rows = [[*prompt, *response] for prompt, response in zip(prompts, responses, strict=True)]
    context = getattr(model.config, "max_position_embeddings", None)
    if any(not prompt for prompt in prompts):
        raise ValueError("a response has no probability without a prompt token before it")
    if context is not None and any(len(row) > context for row in rows):
        raise ValueError(f"a prompt and its response are longer than the context of {context}")
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    sums = [0.0] * len(rows)
    device: Any = model.device
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        length = max(len(rows[index]) for index in chosen)
        ids = torch.zeros(len(chosen), length, dtype=torch.long)
        mask = torch.zeros_like(ids)
        scored = torch.zeros_like(ids)
        for place, index in enumerate(chosen):
            row = rows[index]
            ids[place, : len(row)] = torch.tensor(row)
            mask[place, : len(row)] = 1
            scored[place, len(prompts[index]) : len(row)] = 1
        ids, mask, scored = ids.to(device), mask.to(device), scored.to(device)
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
        logps = logits.float().log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)
        totals = (logps.double() * scored[:, 1:]).sum(-1)
        for index, total in zip(chosen, totals.tolist(), strict=True):
            sums[index] = total
    return sums
