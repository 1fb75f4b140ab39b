"""The fused operation: hidden states and output projections → per-token statistics.

Shapes: N tokens, d and d' hidden sizes of policy and reference, V vocabulary.

Logits are made chunk by chunk and never kept as a whole: beyond its inputs and outputs the
operation holds O(chunk_size × V) numbers, however many tokens there are. The backward pass makes a
chunk's log-probabilities again; where all of them fit a stated budget they are kept instead.
Everything between the projection and the results is float32 at least.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

DEFAULT_CHUNK_SIZE = 512
"""Tokens per chunk."""

KEEP_BYTES = 64 * 2**20
"""What the log-probabilities of a whole batch may take to be kept for the backward pass."""


class FusedStats(NamedTuple):
    """Per-token results, (N,) each, float32 or wider; None where no reference was given."""

    policy_logps: Float[Tensor, " N"]
    ref_logps: Float[Tensor, " N"] | None
    kl: Float[Tensor, " N"] | None


def _log_probs(
    hidden: Float[Tensor, "n d"], head: Float[Tensor, "V d"], bias: Float[Tensor, " V"] | None
) -> Float[Tensor, "n V"]:
    logits = torch.nn.functional.linear(hidden, head, bias)
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)


class _TokenStats(torch.autograd.Function):
    """Forward and backward of `token_stats`; see there."""

    @staticmethod
    def forward(
        ctx: Any,
        policy_hidden: Tensor,
        policy_head: Tensor,
        policy_bias: Tensor | None,
        ref_hidden: Tensor | None,
        ref_head: Tensor | None,
        ref_bias: Tensor | None,
        targets: Tensor,
        chunk_size: int,
        need_kl: bool,
        keep_bytes: int,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        tokens, vocabulary = len(targets), policy_head.shape[0]
        dtype = torch.promote_types(policy_hidden.dtype, torch.float32)
        policy_logps = policy_hidden.new_empty(tokens, dtype=dtype)
        has_ref = ref_hidden is not None
        ref_logps = torch.empty_like(policy_logps) if has_ref else None
        kl = torch.empty_like(policy_logps) if has_ref and need_kl else None
        copies = 2 if kl is not None else 1
        keep = tokens * vocabulary * dtype.itemsize * copies <= keep_bytes
        keep = keep and any(ctx.needs_input_grad)
        kept: list[Tensor] = []
        for start in range(0, tokens, chunk_size):
            part = slice(start, start + chunk_size)
            target = targets[part, None]
            policy = _log_probs(policy_hidden[part], policy_head, policy_bias)
            policy_logps[part] = policy.gather(-1, target).squeeze(-1)
            if keep:
                kept.append(policy)
            if ref_hidden is None or ref_head is None or ref_logps is None:
                continue
            ref = _log_probs(ref_hidden[part], ref_head, ref_bias)
            ref_logps[part] = ref.gather(-1, target).squeeze(-1)
            if kl is None:
                continue
            # A token that the reference rules out (-inf logit) contributes nothing to the sum.
            ref_probs = ref.exp()
            difference = torch.where(ref_probs > 0, ref - policy, 0.0)
            # Rounding can leave a sum of -1e-8 where both distributions agree.
            kl[part] = (ref_probs * difference).sum(-1).clamp(min=0)
            if keep:
                kept.append(ref_probs)
        ctx.save_for_backward(
            policy_hidden, policy_head, policy_bias, ref_hidden, ref_head, ref_bias, targets, *kept
        )
        ctx.chunk_size, ctx.keep, ctx.has_kl = chunk_size, keep, kl is not None
        if ref_logps is not None:
            ctx.mark_non_differentiable(ref_logps)
        return policy_logps, ref_logps, kl

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any, grad_logps: Tensor, _grad_ref: Tensor | None, grad_kl: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        policy_hidden, policy_head, policy_bias, ref_hidden, ref_head, ref_bias, targets = saved[:7]
        kept = list(saved[7:])
        chunk_size = ctx.chunk_size
        needs_hidden, needs_head, needs_bias = ctx.needs_input_grad[:3]
        grad_hidden = torch.empty_like(policy_hidden) if needs_hidden else None
        wide = torch.promote_types(policy_head.dtype, torch.float32)
        grad_head = torch.zeros_like(policy_head, dtype=wide) if needs_head else None
        grad_bias = torch.zeros_like(policy_bias, dtype=wide) if needs_bias else None
        for start in range(0, len(targets), chunk_size):
            part = slice(start, start + chunk_size)
            if ctx.keep:
                policy_probs = kept.pop(0).exp()
            else:
                policy_probs = _log_probs(policy_hidden[part], policy_head, policy_bias).exp_()
            # d log π(y)/d logits = onehot(y) − π;  d KL(π_ref ‖ π)/d logits = π − π_ref.
            if ctx.has_kl:
                ref_probs = (
                    kept.pop(0)
                    if ctx.keep
                    else _log_probs(ref_hidden[part], ref_head, ref_bias).exp_()
                )
                kl_part = grad_kl[part, None]  # type: ignore[index]
                grad_logits = policy_probs.mul_(kl_part - grad_logps[part, None])
                grad_logits.addcmul_(ref_probs, kl_part, value=-1)
            else:
                grad_logits = policy_probs.mul_(-grad_logps[part, None])
            grad_logits.scatter_add_(-1, targets[part, None], grad_logps[part, None])
            if grad_bias is not None:
                grad_bias += grad_logits.sum(0)
            grad_logits = grad_logits.to(policy_head.dtype)
            if grad_hidden is not None:
                grad_hidden[part] = grad_logits @ policy_head
            if grad_head is not None:
                grad_head += grad_logits.T @ policy_hidden[part]
        return (
            grad_hidden,
            grad_head.to(policy_head.dtype) if grad_head is not None else None,
            grad_bias.to(policy_bias.dtype) if grad_bias is not None else None,
            *[None] * 7,
        )


def token_stats(
    policy_hidden: Float[Tensor, "N d"],
    policy_head: Float[Tensor, "V d"],
    ref_hidden: Float[Tensor, "N e"] | None,
    ref_head: Float[Tensor, "V e"] | None,
    targets: Int[Tensor, " N"],
    chunk_size: int = DEFAULT_CHUNK_SIZE,
    *,
    policy_bias: Float[Tensor, " V"] | None = None,
    ref_bias: Float[Tensor, " V"] | None = None,
    need_kl: bool = True,
    keep_bytes: int = KEEP_BYTES,
) -> FusedStats:
    """Return log π(y), log π_ref(y) and KL(π_ref ‖ π) of N tokens without N × V logits.

    log π = log_softmax(W h + b);  KL = Σ_v π_ref(v) [log π_ref(v) − log π(v)] ≥ 0.
    Differentiable in policy_hidden, policy_head and policy_bias; once, not twice.

    Args:
        policy_hidden: the policy's final hidden states at the positions that predict the targets.
        policy_head: the policy's output projection W.
        ref_hidden: the reference's hidden states there; None gives no reference statistics.
        ref_head: the reference's output projection; its width may differ from the policy's.
        targets: the tokens y.
        chunk_size: tokens per chunk; bounds memory, does not change the results.
        policy_bias: the policy's output bias b, where the model has one.
        ref_bias: the reference's.
        need_kl: False skips the KL.
        keep_bytes: the whole batch's log-probabilities are kept for the backward pass when they
            take no more than this, and recomputed otherwise.

    Returns:
        policy_logps, ref_logps and kl, (N,) each, in nats, float32 at least.

    Raises:
        ValueError: shapes do not fit together.

    Source: arXiv 2410.05102; TDPO (arXiv 2404.11999) for the direction of the KL.
    """
    if (ref_hidden is None) != (ref_head is None):
        raise ValueError("ref_hidden and ref_head must be given together")
    if ref_head is not None and ref_head.shape[0] != policy_head.shape[0]:
        raise ValueError(
            f"policy and reference have different vocabularies: {policy_head.shape[0]} and "
            f"{ref_head.shape[0]}"
        )
    if len(policy_hidden) != len(targets):
        raise ValueError(f"{len(policy_hidden)} hidden states for {len(targets)} targets")
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, not {chunk_size}")
    return FusedStats(
        *_TokenStats.apply(
            policy_hidden,
            policy_head,
            policy_bias,
            ref_hidden,
            ref_head,
            ref_bias,
            targets,
            chunk_size,
            need_kl,
            keep_bytes,
        )
    )
