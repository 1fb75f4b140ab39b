"""Response-level KL(π ‖ π_ref), estimated on responses that the policy itself sampled."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor
    from transformers import PreTrainedModel

    from sparsepo.generation.head import Projection


def response_kl(policy_logps: ArrayLike, ref_logps: ArrayLike) -> float:
    """Return the mean over sampled responses of Σ_t [log π(y_t|x, y_<t) − log π_ref(y_t|x, y_<t)].

    Unbiased for E_x KL(π(·|x) ‖ π_ref(·|x)) if y ~ π(·|x) at temperature 1 without truncation of
    the distribution. A single response's term may be negative; the mean of few responses too.

    Args:
        policy_logps: log π(y|x) of each response, in nats, (n,).
        ref_logps: log π_ref(y|x) of the same responses, (n,).

    Returns:
        Nats per response.

    Raises:
        ValueError: if there are no responses, or not equally many of both.

    Source:
        arXiv 2410.05102, section on sentiment control; Rafailov et al. 2023, section 6.1.
    """
    policy, reference = (np.asarray(x, dtype=np.float64) for x in (policy_logps, ref_logps))
    if policy.shape != reference.shape or policy.size == 0:
        raise ValueError(f"{policy.size} and {reference.size} log-probabilities give no KL")
    return float((policy - reference).mean())


def sequence_logps(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    batch_size: int = 128,
) -> list[float]:
    """Return log π(y|x) = Σ_t log π(y_t | x, y_<t) of each response, in nats.

    Rows are padded on the right, where a causal model cannot see it, and grouped by length. Logits
    exist in blocks, where the model only projects its final states; the sums are taken in float64.

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

    from sparsepo.generation.head import find_projection, states_for_logits

    rows = [[*prompt, *response] for prompt, response in zip(prompts, responses, strict=True)]
    context = getattr(model.config, "max_position_embeddings", None)
    if any(not prompt for prompt in prompts):
        raise ValueError("a response has no probability without a prompt token before it")
    if context is not None and any(len(row) > context for row in rows):
        raise ValueError(f"a prompt and its response are longer than the context of {context}")
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    sums = [0.0] * len(rows)
    projection = find_projection(model, least=0)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        length = max(len(rows[index]) for index in chosen)
        ids = torch.zeros(len(chosen), length, dtype=torch.long)
        mask = torch.zeros_like(ids)
        scored = torch.zeros(len(chosen), length, dtype=torch.bool)
        for place, index in enumerate(chosen):
            row = rows[index]
            ids[place, : len(row)] = torch.tensor(row)
            mask[place, : len(row)] = 1
            scored[place, len(prompts[index]) : len(row)] = True
        ids, mask, scored = (one.to(model.device) for one in (ids, mask, scored[:, 1:]))
        with torch.no_grad():
            with contextlib.nullcontext() if projection is None else states_for_logits(model):
                found = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
            logps = torch.zeros(scored.shape, dtype=torch.float64, device=ids.device)
            logps[scored] = _token_logps(found[scored], projection, ids[:, 1:][scored]).double()
        for index, total in zip(chosen, logps.sum(-1).tolist(), strict=True):
            sums[index] = total
    return sums


def _token_logps(
    found: Float[Tensor, "N _"], projection: Projection | None, targets: Int[Tensor, " N"]
) -> Float[Tensor, " N"]:
    """Return log π(y) from final states and their projection, or from logits without one."""
    from sparsepo.fused import token_stats

    if projection is None:
        return found.float().log_softmax(-1).gather(-1, targets[:, None])[:, 0]
    weight, bias = projection
    return token_stats(found, weight, None, None, targets, policy_bias=bias).policy_logps
