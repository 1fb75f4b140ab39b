"""DPO: direct preference optimization (arXiv 2305.18290)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsepo.methods.base import (
    Method,
    Needs,
    log_ratio_rewards,
    logistic_output,
)
from sparsepo.methods.hyper_parameters import hyper_parameter
from sparsepo.methods.search_space import BETA, LEARNING_RATE, SearchSpace
from sparsepo.types import LossOutput, TokenStats


@dataclass(frozen=True)
class DPO(Method):
    """Logistic loss on the difference of the summed log-ratios.

    L = −log σ(β[Σ r_w − Σ r_l]). Implicit reward: β Σ r. Source: arXiv 2305.18290, equation 7.
    """

    name: ClassVar[str] = "dpo"
    title: ClassVar[str] = "DPO"
    source: ClassVar[str] = "arXiv 2305.18290, equation 7"
    needs: ClassVar[Needs] = Needs()
    search_space: ClassVar[SearchSpace] = {"learning_rate": LEARNING_RATE, "beta": BETA}

    beta: float = hyper_parameter(
        0.1,
        "Strength of the reference.",
        source="arXiv 2305.18290, appendix B",
        low=0,
        open_low=True,
    )

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss; policy_logps and ref_logps are read."""
        chosen_rewards, rejected_rewards = log_ratio_rewards(chosen, rejected, self.beta)
        return logistic_output(chosen_rewards - rejected_rewards, chosen_rewards, rejected_rewards)
