"""D²PO: DPO with temporal decay (arXiv 2502.14340)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

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
class D2PO(Method):
    """DPO in which later tokens count less.

    L = −log σ(β[Σ γ^t r_w − Σ γ^t r_l]), t = 1, 2, … within the response: the first token has the
    weight γ. Implicit reward: β Σ γ^t r. Source: arXiv 2502.14340.
    """

    name: ClassVar[str] = "d2po"
    title: ClassVar[str] = "D²PO"
    source: ClassVar[str] = "arXiv 2502.14340"
    needs: ClassVar[Needs] = Needs()
    search_space: ClassVar[SearchSpace] = {"learning_rate": LEARNING_RATE, "beta": BETA}

    beta: float = hyper_parameter(
        0.1,
        "Strength of the reference.",
        source="[code] the authors' configuration",
        low=0,
        open_low=True,
    )
    gamma: float = hyper_parameter(
        0.98,
        "Decay per token; 1 is DPO.",
        source="[code] the authors' configuration",
        low=0,
        high=1,
        open_low=True,
    )

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss; policy_logps and ref_logps are read."""
        weights = self._decay(chosen), self._decay(rejected)
        rewards = log_ratio_rewards(chosen, rejected, self.beta, weights)
        return logistic_output(rewards[0] - rewards[1], *rewards)

    def _decay(self, stats: TokenStats) -> Float[Tensor, "B T"]:
        """Return γ^t for the t-th token of a response."""
        return self.gamma ** stats.response_mask.to(stats.policy_logps.dtype).cumsum(-1)
