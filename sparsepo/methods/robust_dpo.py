"""Robust DPO: an unbiased loss for labels that are flipped at a known rate (arXiv 2403.00409)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F

from sparsepo.methods.base import (
    Method,
    Needs,
    log_ratio_rewards,
    loss_output,
)
from sparsepo.methods.hyper_parameters import hyper_parameter
from sparsepo.methods.search_space import BETA, LEARNING_RATE, SearchSpace
from sparsepo.types import LossOutput, TokenStats


@dataclass(frozen=True)
class RobustDPO(Method):
    """DPO's loss, corrected for labels of which a share ε is wrong.

    L = [−(1−ε) log σ(β[R_w − R_l]) + ε log σ(−β[R_w − R_l])] / (1 − 2ε), R = Σ r.
    Implicit reward: β R. The expectation over flipped labels is DPO's loss on the true ones.
    Source: arXiv 2403.00409.
    """

    name: ClassVar[str] = "robust-dpo"
    title: ClassVar[str] = "Robust DPO"
    source: ClassVar[str] = "arXiv 2403.00409"
    needs: ClassVar[Needs] = Needs()
    search_space: ClassVar[SearchSpace] = {"learning_rate": LEARNING_RATE, "beta": BETA}

    beta: float = hyper_parameter(
        0.1, "Strength of the reference.", source="[via TRL] appendix B", low=0, open_low=True
    )
    epsilon: float = hyper_parameter(
        0.1,
        "Share of wrong labels.",
        source="[via TRL] section 6",
        low=0,
        high=0.5,
        open_high=True,
    )

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss; policy_logps and ref_logps are read."""
        chosen_rewards, rejected_rewards = log_ratio_rewards(chosen, rejected, self.beta)
        margin = chosen_rewards - rejected_rewards
        kept = -(1 - self.epsilon) * F.logsigmoid(margin)
        per_pair = (kept + self.epsilon * F.logsigmoid(-margin)) / (1 - 2 * self.epsilon)
        return loss_output(per_pair, chosen_rewards, rejected_rewards)
