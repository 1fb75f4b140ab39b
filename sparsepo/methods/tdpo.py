"""TDPO: token-level direct preference optimization, both versions (arXiv 2404.11999)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsepo.methods.base import (
    Method,
    Needs,
    log_ratio_sums,
    logistic_output,
    response_sum,
    token_kl,
)
from sparsepo.methods.hyper_parameters import hyper_parameter
from sparsepo.methods.search_space import ALPHA, BETA, LEARNING_RATE, SearchSpace
from sparsepo.types import LossOutput, TokenStats


@dataclass(frozen=True)
class TDPO1(Method):
    """Logistic loss on summed log-ratios minus the difference of the sequential KLs.

    L = −log σ(β[(Σ r_w − Σ r_l) − (Σ k_l − Σ k_w)]). Implicit reward: β(Σ r + Σ k).
    Source: arXiv 2404.11999, the loss of TDPO1.
    """

    name: ClassVar[str] = "tdpo1"
    title: ClassVar[str] = "TDPO v1"
    source: ClassVar[str] = "arXiv 2404.11999, TDPO1"
    needs: ClassVar[Needs] = Needs(kl=True)
    search_space: ClassVar[SearchSpace] = {"learning_rate": LEARNING_RATE, "beta": BETA}

    beta: float = hyper_parameter(
        0.1, "Strength of the reference.", source="[paper] arXiv 2404.11999", low=0, open_low=True
    )

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss; policy_logps, ref_logps and kl are read."""
        chosen_ratio, rejected_ratio = log_ratio_sums(chosen, rejected)
        chosen_kl = response_sum(token_kl(chosen), chosen)
        rejected_kl = response_sum(token_kl(rejected), rejected)
        return logistic_output(
            self.beta * ((chosen_ratio - rejected_ratio) - (rejected_kl - chosen_kl)),
            self.beta * (chosen_ratio + chosen_kl),
            self.beta * (rejected_ratio + rejected_kl),
        )


@dataclass(frozen=True)
class TDPO2(Method):
    """TDPO v1 with a weight on the KL difference and no gradient through the chosen KL.

    L = −log σ(β[(Σ r_w − Σ r_l) − α(Σ k_l − sg(Σ k_w))]). Implicit reward: β(Σ r + Σ k).
    Source: arXiv 2404.11999, the loss of TDPO2.
    """

    name: ClassVar[str] = "tdpo2"
    title: ClassVar[str] = "TDPO v2"
    source: ClassVar[str] = "arXiv 2404.11999, TDPO2"
    needs: ClassVar[Needs] = Needs(kl=True)
    search_space: ClassVar[SearchSpace] = {
        "learning_rate": LEARNING_RATE,
        "beta": BETA,
        "alpha": ALPHA,
    }

    beta: float = hyper_parameter(
        0.1, "Strength of the reference.", source="[paper] arXiv 2404.11999", low=0, open_low=True
    )
    alpha: float = hyper_parameter(
        0.5, "Weight of the KL difference.", source="[code] the authors', TDPO's default", low=0
    )

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss; policy_logps, ref_logps and kl are read."""
        chosen_ratio, rejected_ratio = log_ratio_sums(chosen, rejected)
        chosen_kl = response_sum(token_kl(chosen), chosen).detach()
        rejected_kl = response_sum(token_kl(rejected), rejected)
        return logistic_output(
            self.beta * ((chosen_ratio - rejected_ratio) - self.alpha * (rejected_kl - chosen_kl)),
            self.beta * (chosen_ratio + chosen_kl),
            self.beta * (rejected_ratio + rejected_kl),
        )
