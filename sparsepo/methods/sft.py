"""SFT: supervised fine-tuning on the chosen responses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsepo.methods.base import Method, Needs, response_mean
from sparsepo.types import LossOutput, TokenStats


@dataclass(frozen=True)
class SFT(Method):
    """Mean negative log-likelihood of the chosen response.

    L = −mean_t log π(y_w,t | x, y_w,<t). Source: arXiv 2410.05102.
    """

    name: ClassVar[str] = "sft"
    title: ClassVar[str] = "SFT"
    source: ClassVar[str] = "supervised fine-tuning on chosen responses"
    needs: ClassVar[Needs] = Needs(ref_logps=False, rejected=False)

    def __call__(self, chosen: TokenStats, rejected: TokenStats | None = None) -> LossOutput:
        """Return the loss; the implicit reward is mean_t log π(y), which training increases.

        Args:
            chosen: statistics of the chosen responses; only policy_logps is read.
            rejected: if given, read only to report its reward.
        """
        mean_logps = response_mean(chosen.policy_logps, chosen)
        rejected_rewards = (
            response_mean(rejected.policy_logps, rejected).detach()
            if rejected is not None
            else mean_logps.detach().new_full(mean_logps.shape, float("nan"))
        )
        return LossOutput(
            loss=-mean_logps.mean(),
            per_pair=-mean_logps,
            chosen_rewards=mean_logps.detach(),
            rejected_rewards=rejected_rewards,
        )
