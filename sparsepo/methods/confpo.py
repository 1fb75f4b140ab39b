"""ConfPO: SimPO on the tokens that the policy is least sure of (arXiv 2506.08712)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from sparsepo.methods.base import (
    Method,
    Needs,
    loss_output,
    response_mean,
    response_sum,
)
from sparsepo.methods.hyper_parameters import hyper_parameter
from sparsepo.methods.search_space import GAMMA, LEARNING_RATE, MEAN_BETA, SearchSpace
from sparsepo.types import LossOutput, TokenStats


@dataclass(frozen=True)
class ConfPO(Method):
    """SimPO's loss on the tokens that are less likely than a response's average token.

    L = −log σ(β[ℓ̄_w − ℓ̄_l] − γ), ℓ̄ the mean of log π(y_t) over the tokens with π(y_t) < c, c the
    mean of π(y_t) over the response; no reference. Implicit reward: β ℓ̄. A pair with a response in
    which all tokens are equally likely keeps nothing and has the loss 0. Source: arXiv 2506.08712.
    """

    name: ClassVar[str] = "confpo"
    title: ClassVar[str] = "ConfPO"
    source: ClassVar[str] = "arXiv 2506.08712"
    needs: ClassVar[Needs] = Needs(ref_logps=False)
    search_space: ClassVar[SearchSpace] = {
        "learning_rate": LEARNING_RATE,
        "beta": MEAN_BETA,
        "gamma": GAMMA,
    }
    flat: ClassVar[bool] = True

    beta: float = hyper_parameter(
        1.5,
        "Scale of the mean.",
        source="[code] the authors' script for Zephyr-Mistral-Base",
        low=0,
        open_low=True,
    )
    gamma: float = hyper_parameter(
        1.6, "Target margin.", source="[code] the authors' script for Zephyr-Mistral-Base", low=0
    )

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss; only policy_logps is read."""
        selected = [_selected(stats) for stats in (chosen, rejected)]
        counts = [mask.sum(-1) for mask in selected]
        chosen_rewards, rejected_rewards = (
            self.beta * response_sum(stats.policy_logps, stats, mask) / count.clamp(min=1)
            for stats, mask, count in zip((chosen, rejected), selected, counts, strict=True)
        )
        kept = (counts[0] > 0) & (counts[1] > 0)
        per_pair = -F.logsigmoid(chosen_rewards - rejected_rewards - self.gamma)
        return loss_output(
            torch.where(kept, per_pair, 0.0),
            chosen_rewards,
            rejected_rewards,
            {
                f"confpo/selected/{side}": 100 * count / stats.response_mask.sum(-1).clamp(min=1)
                for side, stats, count in zip(
                    ("chosen", "rejected"), (chosen, rejected), counts, strict=True
                )
            },
        )


def _selected(stats: TokenStats) -> Float[Tensor, "B T"]:
    """Return 1 for the tokens that are less likely than the response's average, else 0."""
    probability = stats.policy_logps.detach().exp()
    below = probability < response_mean(probability, stats)[:, None]
    return (below & stats.response_mask.bool()).to(probability.dtype)
