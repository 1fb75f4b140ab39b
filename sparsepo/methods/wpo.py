"""WPO: DPO with pairs weighted by how likely the policy is to write them (arXiv 2406.11827)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from sparsepo.methods.base import (
    Method,
    Needs,
    log_ratio_rewards,
    loss_output,
    required,
    response_mean,
)
from sparsepo.methods.hyper_parameters import hyper_parameter
from sparsepo.methods.search_space import BETA, LEARNING_RATE, SearchSpace
from sparsepo.types import LossOutput, TokenStats


@dataclass(frozen=True)
class WPO(Method):
    """DPO in which pairs that the policy would write itself count more.

    L = −w_w w_l log σ(β[R_w − R_l]), R = Σ r, w = exp(mean_t [log π(y_t) − log Σ_v π(v)²]), without
    gradient and without an upper limit. Implicit reward: β R. Source: arXiv 2406.11827, equation 2.
    """

    name: ClassVar[str] = "wpo"
    title: ClassVar[str] = "WPO"
    source: ClassVar[str] = "arXiv 2406.11827, equation 2"
    needs: ClassVar[Needs] = Needs(log_sum_sq_probs=True)
    search_space: ClassVar[SearchSpace] = {"learning_rate": LEARNING_RATE, "beta": BETA}
    # The weight, which has no gradient, rises with the log-probabilities too.
    ordered: ClassVar[bool] = False

    beta: float = hyper_parameter(
        0.01, "Strength of the reference.", source="[via TRL] section 4", low=0, open_low=True
    )

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss; policy_logps, ref_logps and log_sum_sq_probs are read."""
        chosen_rewards, rejected_rewards = log_ratio_rewards(chosen, rejected, self.beta)
        weight = _weight(chosen) * _weight(rejected)
        per_pair = -weight * F.logsigmoid(chosen_rewards - rejected_rewards)
        return loss_output(per_pair, chosen_rewards, rejected_rewards, {"wpo/weight": weight})


def _weight(stats: TokenStats) -> Float[Tensor, " B"]:
    """Return w of each response."""
    usual = required(stats.log_sum_sq_probs, "log_sum_sq_probs")
    return response_mean(stats.policy_logps - usual, stats).exp().detach()
