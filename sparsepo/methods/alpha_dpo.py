"""α-DPO: SimPO with a margin that follows each pair's log-ratio gap (arXiv 2410.10148)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from sparsepo.methods.base import Method, Needs, log_ratio_means, logp_means, loss_output
from sparsepo.methods.hyper_parameters import hyper_parameter
from sparsepo.methods.running import moved_average, spread
from sparsepo.methods.search_space import LEARNING_RATE, MEAN_BETA, SearchSpace
from sparsepo.types import LossOutput, TokenStats


@dataclass(frozen=True)
class AlphaDPO(Method):
    """SimPO's loss; pairs whose gap to the reference is large get a larger margin.

    L = −log σ(β(ℓ̄_w − ℓ̄_l) − β [γ + α (M − m)/s]), ℓ̄ = mean log π(y), M = R̄_w − R̄_l, R̄ the mean
    of a response's log-ratios; the bracket has no gradient; m and s are moving averages of the mean
    and the standard deviation of M. Implicit reward: β ℓ̄.
    Source: arXiv 2410.10148, as in the authors' code.
    """

    name: ClassVar[str] = "alpha-dpo"
    title: ClassVar[str] = "α-DPO"
    source: ClassVar[str] = "arXiv 2410.10148, authors' code"
    needs: ClassVar[Needs] = Needs(whole_step=True)
    search_space: ClassVar[SearchSpace] = {"learning_rate": LEARNING_RATE, "beta": MEAN_BETA}
    ordered: ClassVar[bool] = False
    from_reference: ClassVar[bool] = False

    beta: float = hyper_parameter(
        2.5,
        "Scale of the mean log-probability.",
        source="[ours] that of SimPO's Instruct settings",
        low=0,
        open_low=True,
    )
    gamma: float = hyper_parameter(
        0.5, "Margin over β.", source="[code] 0.4 to 0.6, by model", low=0
    )
    alpha: float = hyper_parameter(
        0.1, "Weight of the gap.", source="[code] 0.05 to 0.2, by model", low=0
    )
    momentum: float = hyper_parameter(
        0.9, "Of the moving averages.", source="[code]", low=0, high=1, open_high=True
    )

    def initial_state(self) -> dict[str, Tensor]:
        """Return averages of 0, without a correction of the start, as in the authors' code."""
        return {"gap_mean": torch.zeros(()), "gap_std": torch.zeros(())}

    def __call__(
        self, chosen: TokenStats, rejected: TokenStats, state: dict[str, Tensor] | None = None
    ) -> LossOutput:
        """Return the loss and the new state; policy_logps and ref_logps are read."""
        chosen_ratio, rejected_ratio = (
            ratio.detach() for ratio in log_ratio_means(chosen, rejected)
        )
        gap = chosen_ratio - rejected_ratio
        state = state or self.initial_state()
        mean = moved_average(state["gap_mean"], gap.mean(), self.momentum)
        deviation = moved_average(state["gap_std"], spread(gap), self.momentum)
        # Where every gap is the same, as at step 0, none is larger than usual.
        unusual = torch.where(deviation > 0, (gap - mean) / deviation, 0.0)
        chosen_rewards, rejected_rewards = (
            self.beta * value for value in logp_means(chosen, rejected)
        )
        margin = self.beta * (self.gamma + self.alpha * unusual)
        return loss_output(
            -F.logsigmoid(chosen_rewards - rejected_rewards - margin),
            chosen_rewards,
            rejected_rewards,
            {"alpha-dpo/margin": margin},
            {"gap_mean": mean, "gap_std": deviation},
        )
