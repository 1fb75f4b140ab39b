"""TGDPO: token-level reward guidance for DPO (arXiv 2506.14574)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsepo.methods.base import (
    Method,
    Needs,
    log_ratios,
    logistic_output,
    required,
    response_sum,
)
from sparsepo.methods.hyper_parameters import hyper_parameter
from sparsepo.methods.search_space import ALPHA, BETA, LEARNING_RATE, SearchSpace
from sparsepo.types import LossOutput, TokenStats


@dataclass(frozen=True)
class TGDPO(Method):
    """DPO with token weights from the rewards of a model that DPO trained, the oracle.

    L = −log σ(β[Σ (1 + αβ q_t) r_w − Σ (1 − αβ q_t) r_l]), q_t = log π_o(y_t) − log π_ref(y_t).
    Implicit reward: β Σ f r with the side's own factor f, which a lone response does not have.
    Source: arXiv 2506.14574, as in the authors' code.
    """

    name: ClassVar[str] = "tgdpo"
    title: ClassVar[str] = "TGDPO"
    source: ClassVar[str] = "arXiv 2506.14574, authors' code"
    needs: ClassVar[Needs] = Needs(models=("oracle",))
    search_space: ClassVar[SearchSpace] = {
        "learning_rate": LEARNING_RATE,
        "beta": BETA,
        "alpha": ALPHA,
    }
    flat: ClassVar[bool] = True
    ordered: ClassVar[bool] = False

    beta: float = hyper_parameter(
        0.1,
        "Strength of the reference, and scale of the oracle's rewards.",
        source="[code] the released configuration",
        low=0,
        open_low=True,
    )
    alpha: float = hyper_parameter(
        0.5, "Weight of the guidance; 0 is DPO.", source="[code] the released configuration", low=0
    )

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss; policy_logps, ref_logps and oracle_logps are read."""
        rewards = []
        for sign, stats in ((1.0, chosen), (-1.0, rejected)):
            oracle = required(stats.oracle_logps, "oracle_logps")
            guide = oracle - required(stats.ref_logps, "ref_logps")
            factor = 1 + sign * self.alpha * self.beta * guide
            rewards.append(self.beta * response_sum(log_ratios(stats), stats, factor))
        return logistic_output(rewards[0] - rewards[1], rewards[0], rewards[1])
