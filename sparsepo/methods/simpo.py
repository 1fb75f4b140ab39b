"""SimPO: simple preference optimization without a reference (arXiv 2405.14734)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsepo.methods.base import Method, Needs, logistic_output, response_mean
from sparsepo.methods.hyper_parameters import hyper_parameter
from sparsepo.methods.search_space import GAMMA, LEARNING_RATE, MEAN_BETA, SearchSpace
from sparsepo.types import LossOutput, TokenStats


@dataclass(frozen=True)
class SimPO(Method):
    """Logistic loss on length-normalised log-probabilities with a target margin.

    L = −log σ(β·mean log π(y_w) − β·mean log π(y_l) − γ). Implicit reward: β·mean log π(y).
    Source: arXiv 2405.14734, equation 6.
    """

    name: ClassVar[str] = "simpo"
    title: ClassVar[str] = "SimPO"
    source: ClassVar[str] = "arXiv 2405.14734, equation 6"
    needs: ClassVar[Needs] = Needs(ref_logps=False)
    search_space: ClassVar[SearchSpace] = {
        "learning_rate": LEARNING_RATE,
        "beta": MEAN_BETA,
        "gamma": GAMMA,
    }

    beta: float = hyper_parameter(
        2.0,
        "Scale of the mean log-probability.",
        source="[ours] not legible in the article or the code",
        low=0,
        open_low=True,
    )
    gamma: float = hyper_parameter(
        1.0, "Target margin.", source="[ours] not legible in the article or the code", low=0
    )

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss; only policy_logps is read."""
        chosen_rewards = self.beta * response_mean(chosen.policy_logps, chosen)
        rejected_rewards = self.beta * response_mean(rejected.policy_logps, rejected)
        logits = chosen_rewards - rejected_rewards - self.gamma
        return logistic_output(logits, chosen_rewards, rejected_rewards)
