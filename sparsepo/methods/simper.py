"""SimPER: perplexities without hyper-parameters (arXiv 2502.00883)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsepo.methods.base import (
    Method,
    Needs,
    logp_means,
    loss_output,
)
from sparsepo.methods.search_space import LEARNING_RATE, SearchSpace
from sparsepo.types import LossOutput, TokenStats


@dataclass(frozen=True)
class SimPER(Method):
    """Difference of the inverse perplexities; no reference and no hyper-parameter.

    L = e^ℓ̄_l − e^ℓ̄_w, ℓ̄ = mean log π(y). Implicit reward: e^ℓ̄. Source: arXiv 2502.00883.
    """

    name: ClassVar[str] = "simper"
    title: ClassVar[str] = "SimPER"
    source: ClassVar[str] = "arXiv 2502.00883"
    needs: ClassVar[Needs] = Needs(ref_logps=False)
    search_space: ClassVar[SearchSpace] = {"learning_rate": LEARNING_RATE}

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss; only policy_logps is read."""
        chosen_rewards, rejected_rewards = (mean.exp() for mean in logp_means(chosen, rejected))
        return loss_output(rejected_rewards - chosen_rewards, chosen_rewards, rejected_rewards)
