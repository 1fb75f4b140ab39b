"""LN-DPO: DPO on length-normalised log-ratios, TRL's sigmoid_norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsepo.methods.base import (
    Method,
    Needs,
    log_ratio_means,
    logistic_output,
)
from sparsepo.methods.hyper_parameters import hyper_parameter
from sparsepo.methods.search_space import LEARNING_RATE, NORMALISED_BETA, SearchSpace
from sparsepo.types import LossOutput, TokenStats


@dataclass(frozen=True)
class LNDPO(Method):
    """Logistic loss on the difference of the mean log-ratios.

    L = −log σ(β[R̄_w − R̄_l]), R̄ the mean of a response's log-ratios. Implicit reward: β R̄.
    Source: TRL, loss_type="sigmoid_norm".
    """

    name: ClassVar[str] = "ln-dpo"
    title: ClassVar[str] = "LN-DPO"
    source: ClassVar[str] = "TRL, loss_type sigmoid_norm"
    needs: ClassVar[Needs] = Needs()
    search_space: ClassVar[SearchSpace] = {"learning_rate": LEARNING_RATE, "beta": NORMALISED_BETA}

    beta: float = hyper_parameter(
        0.1,
        "Strength of the reference.",
        source="TRL's default; no source of its own",
        low=0,
        open_low=True,
    )

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss; policy_logps and ref_logps are read."""
        chosen_rewards, rejected_rewards = (
            self.beta * mean for mean in log_ratio_means(chosen, rejected)
        )
        return logistic_output(chosen_rewards - rejected_rewards, chosen_rewards, rejected_rewards)
