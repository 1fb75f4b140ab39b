"""APO: anchored preference optimization, zero and down (arXiv 2408.06266)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

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
class APOZero(Method):
    """Chosen responses above the reference, rejected ones below it.

    L = 1 − σ(β R_w) + σ(β R_l), R = Σ r. Implicit reward: β R.
    Source: arXiv 2408.06266, equation 7.
    """

    name: ClassVar[str] = "apo-zero"
    title: ClassVar[str] = "APO-zero"
    source: ClassVar[str] = "arXiv 2408.06266, equation 7"
    needs: ClassVar[Needs] = Needs()
    search_space: ClassVar[SearchSpace] = {"learning_rate": LEARNING_RATE, "beta": BETA}

    beta: float = hyper_parameter(
        0.1, "Strength of the reference.", source="[via TRL] section 5.2", low=0, open_low=True
    )

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss; policy_logps and ref_logps are read."""
        chosen_rewards, rejected_rewards = log_ratio_rewards(chosen, rejected, self.beta)
        per_pair = torch.sigmoid(-chosen_rewards) + torch.sigmoid(rejected_rewards)
        return loss_output(per_pair, chosen_rewards, rejected_rewards)


@dataclass(frozen=True)
class APODown(Method):
    """Both responses down, the rejected one more; for chosen responses worse than the policy's.

    L = σ(β R_w) + 1 − σ(β[R_w − R_l]), R = Σ r. Implicit reward: β R.
    At the reference the two gradients on R_w cancel. Source: arXiv 2408.06266, equation 8.
    """

    name: ClassVar[str] = "apo-down"
    title: ClassVar[str] = "APO-down"
    source: ClassVar[str] = "arXiv 2408.06266, equation 8"
    needs: ClassVar[Needs] = Needs()
    search_space: ClassVar[SearchSpace] = {"learning_rate": LEARNING_RATE, "beta": BETA}
    flat: ClassVar[bool] = True
    ordered: ClassVar[bool] = False

    beta: float = hyper_parameter(
        0.1, "Strength of the reference.", source="[via TRL] section 5.2", low=0, open_low=True
    )

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss; policy_logps and ref_logps are read."""
        chosen_rewards, rejected_rewards = log_ratio_rewards(chosen, rejected, self.beta)
        per_pair = torch.sigmoid(chosen_rewards) + torch.sigmoid(rejected_rewards - chosen_rewards)
        return loss_output(per_pair, chosen_rewards, rejected_rewards)
