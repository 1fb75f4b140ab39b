"""LD-DPO: length-desensitised DPO (arXiv 2409.06411)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
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
class LDDPO(Method):
    """DPO in which tokens beyond the shorter response's length count with α.

    L = −log σ(β[S_w − S_l]), S = Σ_{t≤p} r_t + α Σ_{t>p} r_t, p = min(n_w, n_l).
    Implicit reward: β S. Policy and reference are weighted alike. Source: arXiv 2409.06411.
    """

    name: ClassVar[str] = "ld-dpo"
    title: ClassVar[str] = "LD-DPO"
    source: ClassVar[str] = "arXiv 2409.06411"
    needs: ClassVar[Needs] = Needs()
    search_space: ClassVar[SearchSpace] = {"learning_rate": LEARNING_RATE, "beta": BETA}

    beta: float = hyper_parameter(
        0.1,
        "Strength of the reference.",
        source="arXiv 2305.18290, appendix B",
        low=0,
        open_low=True,
    )
    alpha: float = hyper_parameter(
        0.5, "Weight of the excess tokens; 1 is DPO.", source="[via TRL]", low=0, high=1
    )

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss; policy_logps and ref_logps are read."""
        common = torch.minimum(chosen.response_mask.sum(-1), rejected.response_mask.sum(-1))
        weights = self._weights(chosen, common), self._weights(rejected, common)
        rewards = log_ratio_rewards(chosen, rejected, self.beta, weights)
        return logistic_output(rewards[0] - rewards[1], *rewards)

    def _weights(self, stats: TokenStats, common: Float[Tensor, " B"]) -> Float[Tensor, "B T"]:
        """Return 1 for a response's first `common` tokens and α for the others."""
        position = stats.response_mask.cumsum(-1)
        weights = stats.policy_logps.new_tensor([1.0, self.alpha])
        return weights[(position > common[:, None]).long()]
