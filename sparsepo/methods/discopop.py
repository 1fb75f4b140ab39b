"""DiscoPOP: a loss that a language model discovered (arXiv 2406.08414)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from sparsepo.methods.base import (
    LARGEST_EXPONENT,
    Method,
    Needs,
    log_ratio_rewards,
    loss_output,
)
from sparsepo.methods.hyper_parameters import hyper_parameter
from sparsepo.methods.search_space import BETA, LEARNING_RATE, SearchSpace
from sparsepo.types import LossOutput, TokenStats


@dataclass(frozen=True)
class DiscoPOP(Method):
    """Log-ratio modulated loss: logistic for small margins, exponential for large ones.

    L = (1−g)(−log σ(z)) + g e^(−z), z = β[R_w − R_l], g = σ(z/τ), R = Σ r. Implicit reward: β R.
    It is not monotone: at τ = 0.05 the loss rises with z from −0.119 to 0.072.
    Source: arXiv 2406.08414, equation 5.
    """

    name: ClassVar[str] = "discopop"
    title: ClassVar[str] = "DiscoPOP"
    source: ClassVar[str] = "arXiv 2406.08414, equation 5"
    needs: ClassVar[Needs] = Needs()
    search_space: ClassVar[SearchSpace] = {"learning_rate": LEARNING_RATE, "beta": BETA}
    ordered: ClassVar[bool] = False

    beta: float = hyper_parameter(
        0.05, "Strength of the reference.", source="[via TRL] appendix B.1", low=0, open_low=True
    )
    tau: float = hyper_parameter(
        0.05, "Temperature of the blend.", source="[via TRL] appendix E", low=0, open_low=True
    )

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss; policy_logps and ref_logps are read."""
        chosen_rewards, rejected_rewards = log_ratio_rewards(chosen, rejected, self.beta)
        margin = chosen_rewards - rejected_rewards
        blend = torch.sigmoid(margin / self.tau)
        # Far below 0, where the blend is 0, e^(−z) must not overflow.
        exponential = torch.exp(-margin.clamp(min=-LARGEST_EXPONENT))
        per_pair = (1 - blend) * -F.logsigmoid(margin) + blend * exponential
        return loss_output(per_pair, chosen_rewards, rejected_rewards)
