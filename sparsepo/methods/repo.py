"""RePO: a rectified margin without a reference (arXiv 2503.07426)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsepo.methods.base import (
    Method,
    Needs,
    logp_means,
    loss_output,
)
from sparsepo.methods.hyper_parameters import hyper_parameter
from sparsepo.methods.search_space import GAMMA, LEARNING_RATE, SearchSpace
from sparsepo.types import LossOutput, TokenStats


@dataclass(frozen=True)
class RePO(Method):
    """Hinge loss on the mean log-probabilities; no reference.

    L = max(0, γ − (ℓ̄_w − ℓ̄_l)), ℓ̄ = mean log π(y). Implicit reward: ℓ̄. Source: arXiv 2503.07426.
    """

    name: ClassVar[str] = "repo"
    title: ClassVar[str] = "RePO"
    source: ClassVar[str] = "arXiv 2503.07426"
    needs: ClassVar[Needs] = Needs(ref_logps=False)
    search_space: ClassVar[SearchSpace] = {"learning_rate": LEARNING_RATE, "gamma": GAMMA}
    flat: ClassVar[bool] = True

    gamma: float = hyper_parameter(
        0.5,
        "Target margin.",
        source="[code] the authors' 0.4 to 0.6, by model",
        low=0,
        open_low=True,
    )

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss; only policy_logps is read."""
        chosen_rewards, rejected_rewards = logp_means(chosen, rejected)
        per_pair = (self.gamma - (chosen_rewards - rejected_rewards)).relu()
        return loss_output(per_pair, chosen_rewards, rejected_rewards)
