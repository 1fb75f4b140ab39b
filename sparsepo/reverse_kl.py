"""KL(π ‖ π_ref) per token, the direction that the fused operation does not compute."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

from sparsepo.fused import IDENTITY, LogitTransform

CHUNK_SIZE = 512
"""Tokens whose logits exist at once."""


def reverse_kl(
    policy_hidden: Float[Tensor, "N d"],
    policy_head: Float[Tensor, "V d"],
    ref_hidden: Float[Tensor, "N e"],
    ref_head: Float[Tensor, "V e"],
    *,
    policy_bias: Float[Tensor, " V"] | None = None,
    ref_bias: Float[Tensor, " V"] | None = None,
    policy_transform: LogitTransform = IDENTITY,
    ref_transform: LogitTransform = IDENTITY,
    chunk_size: int | None = None,
) -> Float[Tensor, " N"]:
    """Return KL(π ‖ π_ref) = Σ_v π(v) [log π(v) − log π_ref(v)] ≥ 0 of N tokens, in nats.

    Differentiable in the policy's arguments. Only one method asks for it, so that it is a pass over
    the vocabulary of its own, which autograd differentiates block by block.

    Args:
        policy_hidden: the policy's final hidden states at the predicting positions.
        policy_head: its output projection.
        ref_hidden: the reference's states at the same positions.
        ref_head: its output projection.
        policy_bias: the policy's output bias, if it has one.
        ref_bias: the reference's.
        policy_transform: the policy's transform of its logits.
        ref_transform: the reference's.
        chunk_size: tokens whose logits exist at once; None uses CHUNK_SIZE.
    """

    def log_probs(
        hidden: Tensor, head: Tensor, bias: Tensor | None, transform: LogitTransform
    ) -> Tensor:
        logits = linear(hidden, head, bias)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        # Not in place, because autograd needs the values.
        if transform.cap is not None:
            logits = transform.cap * torch.tanh(logits * (transform.scale / transform.cap))
        elif transform.scale != 1:
            logits = logits * transform.scale
        return logits.log_softmax(-1)

    def block(policy: Tensor, ref: Tensor) -> Tensor:
        ours = log_probs(policy, policy_head, policy_bias, policy_transform)
        theirs = log_probs(ref, ref_head, ref_bias, ref_transform).detach()
        # A token that a bias of −inf excludes adds nothing.
        return (ours.exp() * (ours - theirs).nan_to_num(nan=0.0)).sum(-1)

    size = CHUNK_SIZE if chunk_size is None else chunk_size
    parts = [
        checkpoint(block, policy, ref, use_reentrant=False)
        for policy, ref in zip(policy_hidden.split(size), ref_hidden.split(size), strict=True)
    ]
    return torch.cat(parts).clamp(min=0)
