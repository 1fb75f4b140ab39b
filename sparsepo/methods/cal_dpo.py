"""Cal-DPO: DPO with rewards calibrated to ±1/(2β) (arXiv 2412.14516)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsepo.methods.base import (
    Method,
    Needs,
    log_ratio_sums,
    logistic_output,
)
from sparsepo.methods.hyper_parameters import hyper_parameter
from sparsepo.methods.search_space import LEARNING_RATE, TARGET_BETA, SearchSpace
from sparsepo.types import LossOutput, TokenStats


@dataclass(frozen=True)
class CalDPO(Method):
    """Logistic loss on the log-ratios, which are also drawn to ±1/(2β).

    L = −log σ(R_w − R_l) + ½ (R_w − 1/(2β))² + ½ (R_l + 1/(2β))², R = Σ r, without β in the first
    term. Implicit reward: R. Source: arXiv 2412.14516, as in the authors' code.
    """

    name: ClassVar[str] = "cal-dpo"
    title: ClassVar[str] = "Cal-DPO"
    source: ClassVar[str] = "arXiv 2412.14516, authors' code"
    needs: ClassVar[Needs] = Needs()
    search_space: ClassVar[SearchSpace] = {"learning_rate": LEARNING_RATE, "beta": TARGET_BETA}

    beta: float = hyper_parameter(
        0.002,
        "The rewards aimed at are ±1/(2β).",
        source="[code] the released configuration",
        low=0,
        open_low=True,
    )

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss; policy_logps and ref_logps are read."""
        chosen_rewards, rejected_rewards = log_ratio_sums(chosen, rejected)
        target = 1 / (2 * self.beta)
        calibration = (
            (chosen_rewards - target).square() + (rejected_rewards + target).square()
        ) / 2
        return logistic_output(
            chosen_rewards - rejected_rewards,
            chosen_rewards,
            rejected_rewards,
            penalty=calibration,
            metrics={"cal-dpo/calibration": calibration},
        )
