"""cDPO: conservative DPO, for labels that may be wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsepo.methods.base import (
    Method,
    Needs,
    log_ratio_rewards,
    loss_output,
    smoothed_logistic,
)
from sparsepo.methods.hyper_parameters import hyper_parameter
from sparsepo.methods.search_space import BETA, LEARNING_RATE, SearchSpace
from sparsepo.types import LossOutput, TokenStats


@dataclass(frozen=True)
class CDPO(Method):
    """DPO's loss on smoothed labels.

    L = −(1−ε) log σ(β[R_w − R_l]) − ε log σ(−β[R_w − R_l]), R = Σ r. Implicit reward: β R.
    Source: the note of DPO's authors on noisy labels, as in their code.
    """

    name: ClassVar[str] = "cdpo"
    title: ClassVar[str] = "cDPO"
    source: ClassVar[str] = "note of DPO's authors (E. Mitchell, 2023)"
    needs: ClassVar[Needs] = Needs()
    search_space: ClassVar[SearchSpace] = {"learning_rate": LEARNING_RATE, "beta": BETA}

    beta: float = hyper_parameter(
        0.1,
        "Strength of the reference.",
        source="arXiv 2305.18290, appendix B",
        low=0,
        open_low=True,
    )
    epsilon: float = hyper_parameter(
        0.2,
        "Assumed share of wrong labels.",
        source="[code] HALOs",
        low=0,
        high=0.5,
        open_high=True,
    )

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss; policy_logps and ref_logps are read."""
        chosen_rewards, rejected_rewards = log_ratio_rewards(chosen, rejected, self.beta)
        margin = chosen_rewards - rejected_rewards
        per_pair = smoothed_logistic(margin, self.epsilon)
        return loss_output(per_pair, chosen_rewards, rejected_rewards)
