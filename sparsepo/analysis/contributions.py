"""Each token's contribution to a pair's margin of implicit rewards, for any method."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sparsepo.methods.base import Method
from sparsepo.types import TokenStats

TOLERANCE = 1e-9
"""Largest difference, relative to its terms, between a sum of contributions and the reward."""

PROBES = 256
"""Tokens whose contributions are computed in one call of a method."""


def contributions_of(
    method: Method, chosen: TokenStats, rejected: TokenStats
) -> tuple[Float[Tensor, " T"], Float[Tensor, " U"]] | None:
    """Return each token's contribution to a pair's margin of implicit rewards.

    They are computed with the method itself: a token's share is the implicit reward of the response
    if the log-probabilities and the KL of all its other tokens are 0. Any plug-in method has
    contributions without further code.

    Args:
        method: the method.
        chosen: one response, (1, T), without padding, in double precision.
        rejected: one response, (1, U), in the same form.

    Returns:
        (T,) and (U,), with the opposite sign for rejected tokens: together they sum to chosen minus
        rejected reward. None if they do not, because the reward is not a sum over tokens.
    """
    output = method(chosen, rejected)
    totals = (output.chosen_rewards, output.rejected_rewards)
    sizes = [stats.policy_logps.shape[1] for stats in (chosen, rejected)]
    parts: list[list[Tensor]] = [[], []]
    for start in range(0, max(sizes), PROBES):
        probe = torch.arange(start, min(start + PROBES, max(sizes)))
        output = method(_alone(chosen, probe), _alone(rejected, probe))
        parts[0].append(output.chosen_rewards)
        parts[1].append(output.rejected_rewards)
    shares = [torch.cat(part)[:size] for part, size in zip(parts, sizes, strict=True)]
    for share, total in zip(shares, totals, strict=True):
        scale = float(share.abs().sum() + total.abs().sum())
        if not abs(float(share.sum() - total)) <= TOLERANCE * scale:
            return None
    return shares[0], -shares[1]


def _alone(stats: TokenStats, tokens: Tensor) -> TokenStats:
    """Return the response once for each given token, (P, T), with all other tokens' values 0."""
    size = stats.policy_logps.shape[1]
    only = tokens[:, None] == torch.arange(size)

    def isolated(values: Tensor | None) -> Tensor | None:
        return None if values is None else torch.where(only, values, 0.0)

    def repeated(values: Tensor | None) -> Any:
        return None if values is None else values.expand(len(tokens), size)

    logps = isolated(stats.policy_logps)
    assert logps is not None
    return replace(
        stats,
        policy_logps=logps,
        ref_logps=isolated(stats.ref_logps),
        kl=isolated(stats.kl),
        response_mask=repeated(stats.response_mask),
        reward_mask=repeated(stats.reward_mask),
        kl_mask=repeated(stats.kl_mask),
    )
