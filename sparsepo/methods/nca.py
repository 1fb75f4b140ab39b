"""NCA: noise contrastive alignment, its loss on pairs (arXiv 2402.05369)."""

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
class NCA(Method):
    """Chosen responses up; both responses, with half the weight each, back to the reference.

    L = −log σ(β R_w) − ½ log σ(−β R_w) − ½ log σ(−β R_l), R = Σ r. Implicit reward: β R.
    Source: arXiv 2402.05369, the loss for pairs.
    """

    name: ClassVar[str] = "nca"
    title: ClassVar[str] = "NCA"
    source: ClassVar[str] = "arXiv 2402.05369, loss for pairs"
    needs: ClassVar[Needs] = Needs()
    search_space: ClassVar[SearchSpace] = {"learning_rate": LEARNING_RATE, "beta": BETA}

    beta: float = hyper_parameter(
        0.01, "Strength of the reference.", source="[via TRL] appendix C", low=0, open_low=True
    )

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss; policy_logps and ref_logps are read."""
        chosen_rewards, rejected_rewards = log_ratio_rewards(chosen, rejected, self.beta)
        held = F.logsigmoid(-chosen_rewards) + F.logsigmoid(-rejected_rewards)
        per_pair = -F.logsigmoid(chosen_rewards) - held / 2
        return loss_output(per_pair, chosen_rewards, rejected_rewards)
