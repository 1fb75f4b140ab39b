"""CPO: contrastive preference optimization (arXiv 2401.08417)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsepo.methods.base import (
    Needs,
    logistic_output,
    logp_sums,
)
from sparsepo.methods.hyper_parameters import hyper_parameter
from sparsepo.methods.likelihood import LikelihoodMethod
from sparsepo.methods.search_space import BETA, LEARNING_RATE, NLL_WEIGHT, SearchSpace
from sparsepo.types import LossOutput, TokenStats


@dataclass(frozen=True)
class CPO(LikelihoodMethod):
    """Logistic loss on the log-probabilities, and the chosen response's likelihood; no reference.

    L = −log σ(β[ℓ_w − ℓ_l]) + λ NLL(y_w), ℓ = Σ log π, NLL = −mean log π(y_w).
    Implicit reward: β ℓ. Source: arXiv 2401.08417, equation 3.
    """

    name: ClassVar[str] = "cpo"
    title: ClassVar[str] = "CPO"
    source: ClassVar[str] = "arXiv 2401.08417, equation 3"
    needs: ClassVar[Needs] = Needs(ref_logps=False)
    search_space: ClassVar[SearchSpace] = {
        "learning_rate": LEARNING_RATE,
        "beta": BETA,
        "lam": NLL_WEIGHT,
    }

    beta: float = hyper_parameter(
        0.1, "Scale of the log-probabilities.", source="[via TRL] section 4.2", low=0, open_low=True
    )
    lam: float = hyper_parameter(
        1.0, "Weight of the likelihood term.", source="[via TRL] section 3", low=0
    )

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss; only policy_logps is read."""
        chosen_rewards, rejected_rewards = (
            self.beta * total for total in logp_sums(chosen, rejected)
        )
        nll = self.chosen_nll(chosen)
        return logistic_output(
            chosen_rewards - rejected_rewards,
            chosen_rewards,
            rejected_rewards,
            penalty=self.lam * nll,
            metrics={"cpo/nll": nll},
        )
