"""KTO: Kahneman-Tversky optimization, and its form on pairs (arXiv 2402.01306)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from sparsepo.methods.base import (
    Method,
    Needs,
    log_ratio_sums,
    loss_output,
    mean_over_responses,
    present,
    required,
)
from sparsepo.methods.hyper_parameters import hyper_parameter
from sparsepo.methods.search_space import BETA, LEARNING_RATE, SearchSpace
from sparsepo.types import LossOutput, TokenStats


@dataclass(frozen=True)
class KTO(Method):
    """Each response by itself: its utility over the policy's distance from the reference.

    L = ½ λ_D [1 − σ(β(R_w − z))] + ½ λ_U [1 − σ(β(z − R_l))], R = Σ r; z = max(0, mean of the
    log-ratios of responses to other pairs' prompts), without gradient. Implicit reward: β R. The
    loss of an unpaired row is that of its only response, not halved.
    Source: arXiv 2402.01306, equation 7.
    """

    name: ClassVar[str] = "kto"
    title: ClassVar[str] = "KTO"
    source: ClassVar[str] = "arXiv 2402.01306, equation 7"
    needs: ClassVar[Needs] = Needs(mismatched=True, whole_step=True)
    unpaired: ClassVar[bool] = True
    search_space: ClassVar[SearchSpace] = {"learning_rate": LEARNING_RATE, "beta": BETA}

    beta: float = hyper_parameter(
        0.1,
        "Strength of the reference.",
        source="[code] the authors' and TRL's default",
        low=0,
        open_low=True,
    )
    desirable_weight: float = hyper_parameter(
        1.0, "λ_D, weight of the chosen responses.", source="[code] TRL", low=0, open_low=True
    )
    undesirable_weight: float = hyper_parameter(
        1.0,
        "λ_U; λ_D n_D / (λ_U n_U) should be between 1 and 4/3.",
        source="[code] TRL; [via TRL] equation 8",
        low=0,
        open_low=True,
    )

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss; policy_logps, ref_logps and the mismatched log-ratios are read."""
        sides = (chosen, rejected)
        here = torch.stack([present(stats) for stats in sides])
        apart = torch.where(here, torch.stack([_mismatched(stats) for stats in sides]), 0.0)
        apart = (apart.sum() / here.sum()).clamp(min=0)
        chosen_ratio, rejected_ratio = log_ratio_sums(chosen, rejected)
        losses = (
            self.desirable_weight * torch.sigmoid(-self.beta * (chosen_ratio - apart)),
            self.undesirable_weight * torch.sigmoid(-self.beta * (apart - rejected_ratio)),
        )
        return loss_output(
            mean_over_responses(*losses, chosen, rejected),
            self.beta * chosen_ratio,
            self.beta * rejected_ratio,
            {"kto/z": apart.expand(len(chosen_ratio))},
        )


@dataclass(frozen=True)
class KTOPair(Method):
    """KTO with the other side's responses in place of mismatched ones; it is not KTO.

    L = ½ [1 − σ(β(R_w − z_w))] + ½ [1 − σ(β(z_l − R_l))], z_w = max(0, mean R_l),
    z_l = max(0, mean R_w), R = Σ r, with a gradient through z. Implicit reward: β R.
    Source: TRL until version 0.8, loss_type kto_pair.
    """

    name: ClassVar[str] = "kto-pair"
    title: ClassVar[str] = "KTO (pairs)"
    source: ClassVar[str] = "TRL until 0.8, loss_type kto_pair"
    needs: ClassVar[Needs] = Needs(whole_step=True)
    search_space: ClassVar[SearchSpace] = {"learning_rate": LEARNING_RATE, "beta": BETA}

    beta: float = hyper_parameter(
        0.1, "Strength of the reference.", source="[code] TRL", low=0, open_low=True
    )

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss; policy_logps and ref_logps are read."""
        chosen_ratio, rejected_ratio = log_ratio_sums(chosen, rejected)
        over_chosen = rejected_ratio.mean().clamp(min=0)
        over_rejected = chosen_ratio.mean().clamp(min=0)
        up = torch.sigmoid(-self.beta * (chosen_ratio - over_chosen))
        down = torch.sigmoid(-self.beta * (over_rejected - rejected_ratio))
        return loss_output((up + down) / 2, self.beta * chosen_ratio, self.beta * rejected_ratio)


def _mismatched(stats: TokenStats) -> Float[Tensor, " B"]:
    """Return the log-ratios of responses to other prompts, without gradient."""
    policy = required(stats.mismatched_policy_logps, "mismatched_policy_logps")
    return (policy - required(stats.mismatched_ref_logps, "mismatched_ref_logps")).detach()
