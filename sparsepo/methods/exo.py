"""EXO: efficient exact optimization, its loss on preferences (arXiv 2402.00856)."""

from __future__ import annotations

import math
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
class EXO(Method):
    """Reverse KL from the smoothed label to the policy's preference.

    L = p log(p / (1−ε)) + (1−p) log((1−p) / ε), p = σ(β[R_w − R_l]), R = Σ r. Implicit reward: β R.
    It pushes both ways: p beyond 1−ε is penalised. With `targets="authors"` the denominators are 1
    and ε, as in the authors' code. Source: arXiv 2402.00856, equation 16.
    """

    name: ClassVar[str] = "exo"
    title: ClassVar[str] = "EXO"
    source: ClassVar[str] = "arXiv 2402.00856, equation 16"
    needs: ClassVar[Needs] = Needs()
    search_space: ClassVar[SearchSpace] = {"learning_rate": LEARNING_RATE, "beta": BETA}

    beta: float = hyper_parameter(
        0.1,
        "Strength of the reference.",
        source="[via TRL]; the authors' scripts have 0.5",
        low=0,
        open_low=True,
    )
    epsilon: float = hyper_parameter(
        1e-3,
        "Label smoothing; 0 would make the loss infinite.",
        source="[via TRL]",
        low=0,
        high=0.5,
        open_low=True,
        open_high=True,
    )
    targets: str = hyper_parameter(
        "normalised",
        "Target probabilities: 1−ε and ε, or 1 and ε as in the authors' code.",
        source="arXiv 2402.00856, equation 16",
        choices=("normalised", "authors"),
    )

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss; policy_logps and ref_logps are read."""
        chosen_rewards, rejected_rewards = log_ratio_rewards(chosen, rejected, self.beta)
        margin = chosen_rewards - rejected_rewards
        right, wrong = F.logsigmoid(margin), F.logsigmoid(-margin)
        target = math.log1p(-self.epsilon) if self.targets == "normalised" else 0.0
        per_pair = right.exp() * (right - target) + wrong.exp() * (wrong - math.log(self.epsilon))
        return loss_output(per_pair, chosen_rewards, rejected_rewards)
