"""SLiC-HF: hinge loss on log-probabilities with a likelihood term (arXiv 2305.10425)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsepo.methods.base import (
    Needs,
    logp_sums,
    loss_output,
)
from sparsepo.methods.hyper_parameters import hyper_parameter
from sparsepo.methods.likelihood import LikelihoodMethod
from sparsepo.methods.search_space import LEARNING_RATE, NLL_WEIGHT, SearchSpace
from sparsepo.types import LossOutput, TokenStats


@dataclass(frozen=True)
class SLiC(LikelihoodMethod):
    """Hinge loss on the log-probabilities, and the chosen response's likelihood; no reference.

    L = max(0, δ − β[ℓ_w − ℓ_l]) + λ NLL(y_w), ℓ = Σ log π, NLL = −mean log π(y_w).
    Implicit reward: β ℓ. Source: arXiv 2305.10425, the calibration and regularisation losses.
    """

    name: ClassVar[str] = "slic"
    title: ClassVar[str] = "SLiC-HF"
    source: ClassVar[str] = "arXiv 2305.10425, rank calibration"
    needs: ClassVar[Needs] = Needs(ref_logps=False)
    search_space: ClassVar[SearchSpace] = {"learning_rate": LEARNING_RATE, "lam": NLL_WEIGHT}
    flat: ClassVar[bool] = True

    delta: float = hyper_parameter(1.0, "The margin.", source="[code] HALOs", low=0, open_low=True)
    beta: float = hyper_parameter(
        1.0, "Scale of the log-probabilities.", source="the article has none", low=0, open_low=True
    )
    lam: float = hyper_parameter(
        0.1, "Weight of the likelihood term.", source="[code] HALOs", low=0
    )

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss; only policy_logps is read."""
        chosen_rewards, rejected_rewards = (
            self.beta * total for total in logp_sums(chosen, rejected)
        )
        nll = self.chosen_nll(chosen)
        per_pair = (self.delta - (chosen_rewards - rejected_rewards)).relu() + self.lam * nll
        return loss_output(per_pair, chosen_rewards, rejected_rewards, {"slic/nll": nll})
