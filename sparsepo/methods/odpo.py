"""ODPO: DPO with an offset by how much better the chosen response is (arXiv 2402.10571)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsepo.errors import UserError
from sparsepo.methods.base import (
    Method,
    Needs,
    log_ratio_rewards,
    logistic_output,
    required,
)
from sparsepo.methods.hyper_parameters import hyper_parameter
from sparsepo.methods.search_space import BETA, LEARNING_RATE, SearchSpace
from sparsepo.types import LossOutput, TokenStats


@dataclass(frozen=True)
class ODPO(Method):
    """Logistic loss with a margin from the scores s_w > s_l, which come with the data.

    L = −log σ(β[R_w − R_l] − α log(s_w − s_l)), R = Σ r. Implicit reward: β R.
    The margin is negative where the scores differ by less than 1. Source: arXiv 2402.10571.
    """

    name: ClassVar[str] = "odpo"
    title: ClassVar[str] = "ODPO"
    source: ClassVar[str] = "arXiv 2402.10571"
    needs: ClassVar[Needs] = Needs(scores=True)
    search_space: ClassVar[SearchSpace] = {"learning_rate": LEARNING_RATE, "beta": BETA}

    beta: float = hyper_parameter(
        0.1,
        "Strength of the reference.",
        source="[ours] that of DPO; the authors' code has 0.7 and 0.05 by task",
        low=0,
        open_low=True,
    )
    alpha: float = hyper_parameter(
        1.0, "Weight of the offset; 0 is DPO.", source="arXiv 2402.10571", low=0
    )

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss; policy_logps, ref_logps and scores are read.

        Raises:
            UserError: a chosen response's score is not above the rejected one's.
        """
        chosen_rewards, rejected_rewards = log_ratio_rewards(chosen, rejected, self.beta)
        gap = required(chosen.scores, "scores") - required(rejected.scores, "scores")
        if not bool((gap > 0).all()):
            raise UserError(
                "ODPO needs a chosen score above the rejected one in every pair; remove the pairs "
                "with equal scores, and exchange the responses of the others."
            )
        margin = chosen_rewards - rejected_rewards - self.alpha * gap.to(chosen_rewards.dtype).log()
        return logistic_output(margin, chosen_rewards, rejected_rewards)
