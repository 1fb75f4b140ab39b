"""Drawn token statistics, as far as a method's needs declare them."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from sparsepo.methods.base import Method
from sparsepo.types import LossOutput, TokenStats

MethodClass = type[Method]
PAIRS = 5
MODEL_FIELDS = ("oracle_logps", "anti_logps", "history_logps")
TOKEN_FIELDS = (
    "policy_logps",
    "ref_logps",
    "kl",
    "reward_mask",
    "kl_mask",
    "reverse_kl",
    "log_sum_sq_probs",
    "token_weights",
    "sampling_logps",
    "credit",
    "values",
    "sampling_values",
    "returns",
    *MODEL_FIELDS,
    "importance",
    "hidden",
)
RESPONSE_FIELDS = (
    "scores",
    "win_probability",
    "mismatched_policy_logps",
    "mismatched_ref_logps",
    "mean_length",
    "log_z",
    "baseline",
)
"""Values of whole responses."""
FIELDS = (*TOKEN_FIELDS, *RESPONSE_FIELDS)


def declared_fields(cls: MethodClass) -> set[str]:
    """Return the fields of TokenStats that a method's needs promise to it."""
    needs = cls.needs
    fields = {"policy_logps"}
    fields |= {"ref_logps"} if needs.ref_logps else set()
    fields |= {"kl"} if needs.kl else set()
    fields |= {"reward_mask"} if needs.mask != "none" else set()
    fields |= {"kl_mask"} if needs.mask == "learned-independent" else set()
    plain = ("scores", "win_probability", "reverse_kl", "log_sum_sq_probs", "token_weights")
    fields |= {name for name in (*plain, "importance", "hidden", "values") if getattr(needs, name)}
    fields |= {f"{name}_logps" for name in needs.models}
    fields |= set(needs.rollout)
    mismatched = {name for name in RESPONSE_FIELDS if name.startswith("mismatched")}
    fields |= mismatched if needs.mismatched else set()
    # What only the computation before a rollout's steps reads.
    return fields - getattr(cls, "before_steps", frozenset())


def sides_with(cls: MethodClass, name: str) -> tuple[int, ...]:
    """Return the sides, 0 for chosen and 1 for rejected, of which a method reads a field."""
    return (0, 1) if cls.needs.rejected and name != "win_probability" else (0,)


def random_stats(
    cls: MethodClass,
    seed: int,
    *,
    distance: float = 0.3,
    extra: bool = False,
    tokens: int = 7,
    pairs: int = PAIRS,
) -> TokenStats:
    """Return statistics with just the declared fields; padding holds zeros, masks no zeros.

    Args:
        cls: decides which fields are there.
        seed: of the draw.
        distance: how far the policy is from the reference; 0 is step 0.
        extra: fill the fields too that the method did not ask for.
        tokens: T.
        pairs: B.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw() -> Tensor:
        return torch.rand(pairs, tokens, generator=generator, dtype=torch.float64)

    # Lengths 2, 3, …: padding everywhere but in the longest, as the packed batch has it.
    lengths = 2 + (torch.arange(pairs) + seed) % (tokens - 1)
    inside = torch.arange(tokens) < lengths[:, None]
    ref = -3 * draw() - 0.1
    values = {
        # No probability is 1 or more.
        "policy_logps": (ref + distance * (draw() - 0.5)).clamp(max=-1e-3),
        "ref_logps": ref,
        "kl": distance * (draw() + 0.1),
        "reward_mask": draw() + 0.1,
        "kl_mask": draw() + 0.1,
        # Chosen responses, whose seed is 1, score higher than rejected ones, whose seed is 2.
        "scores": (5 / seed + draw())[:, 0],
        "win_probability": (0.6 + 0.3 * draw())[:, 0],
        "mismatched_policy_logps": -5 * draw()[:, 0],
        "mismatched_ref_logps": -8 - 5 * draw()[:, 0],
        "reverse_kl": distance * (draw() + 0.1),
        "log_sum_sq_probs": -3 * draw(),
        "token_weights": draw() + 0.1,
        # Samples are drawn by a policy near the one that is trained on them.
        "sampling_logps": (ref + distance * (draw() - 0.5)).clamp(max=-1e-3),
        "credit": draw() - 0.3,
        "mean_length": 4 + draw()[:, 0],
        "log_z": draw()[:, 0],
        "baseline": draw()[:, 0],
        "importance": draw() + 0.1,
        **{name: -3 * draw() - 0.1 for name in MODEL_FIELDS},
        "hidden": torch.stack([draw(), draw(), draw()], -1),
        "values": draw(),
    }
    # Every other value has moved towards its return since the sample was drawn, so far that a limit
    # on the change of values takes effect.
    moved = torch.arange(tokens) % 2 * (0.5 + draw())
    values["sampling_values"] = values["values"] - moved
    values["returns"] = values["values"] + 0.1 + draw()
    wanted = set(FIELDS) if extra else declared_fields(cls)
    fields: dict[str, Any] = {
        name: masked(value, inside) if name in wanted else None for name, value in values.items()
    }
    return TokenStats(response_mask=inside, **fields)


def masked(values: Tensor, inside: Tensor, outside: Tensor | float = 0.0) -> Tensor:
    """Return values of tokens with others on padding; values of responses as they are."""
    if values.ndim == 1:
        return values
    return torch.where(inside if values.ndim == 2 else inside[..., None], values, outside)


def random_pair(cls: MethodClass, **options: Any) -> tuple[TokenStats, TokenStats]:
    """Return statistics of chosen and rejected responses."""
    return random_stats(cls, 1, **options), random_stats(cls, 2, **options)


def with_gradients(stats: TokenStats) -> tuple[TokenStats, dict[str, Tensor]]:
    """Return the statistics with every value a leaf that requires gradients, and the leaves."""
    leaves = {
        name: value.clone().requires_grad_()
        for name in FIELDS
        if (value := getattr(stats, name)) is not None
    }
    return dataclasses.replace(stats, **leaves), leaves


def select(stats: TokenStats, rows: Tensor) -> TokenStats:
    """Return the statistics of some of the pairs."""
    picked = {
        name: value[rows]
        for name in (*FIELDS, "response_mask")
        if (value := getattr(stats, name)) is not None
    }
    return dataclasses.replace(stats, **picked)


def results(output: LossOutput) -> dict[str, Tensor]:
    """Return everything that a method says of each pair."""
    found = {name: getattr(output, name) for name in ("per_pair", "chosen_rewards")}
    if output.rejected_rewards.isfinite().all():
        found["rejected_rewards"] = output.rejected_rewards
    return {**found, **output.metrics}
