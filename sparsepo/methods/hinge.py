"""Hinge loss on normalised likelihoods, as in RSO (arXiv 2309.06657)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

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
class Hinge(Method):
    """Hinge loss on the difference of the summed log-ratios.

    L = max(0, 1 − β[R_w − R_l]), R = Σ r. Implicit reward: β R.
    Source: arXiv 2309.06657, the loss "hinge-norm".
    """

    name: ClassVar[str] = "hinge"
    title: ClassVar[str] = "Hinge (RSO)"
    source: ClassVar[str] = "arXiv 2309.06657, hinge-norm"
    needs: ClassVar[Needs] = Needs()
    search_space: ClassVar[SearchSpace] = {"learning_rate": LEARNING_RATE, "beta": BETA}
    flat: ClassVar[bool] = True

    beta: float = hyper_parameter(
        0.05,
        "Strength of the reference.",
        source="[via TRL] γ of the article",
        low=0,
        open_low=True,
    )

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss; policy_logps and ref_logps are read."""
        chosen_rewards, rejected_rewards = log_ratio_rewards(chosen, rejected, self.beta)
        per_pair = (1 - (chosen_rewards - rejected_rewards)).relu()
        return loss_output(per_pair, chosen_rewards, rejected_rewards)
