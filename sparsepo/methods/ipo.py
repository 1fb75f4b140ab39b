"""IPO: identity preference optimization (arXiv 2310.12036)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsepo.methods.base import (
    Method,
    Needs,
    log_ratio_means,
    log_ratio_sums,
    loss_output,
)
from sparsepo.methods.hyper_parameters import hyper_parameter
from sparsepo.methods.search_space import LEARNING_RATE, TARGET_BETA, SearchSpace
from sparsepo.types import LossOutput, TokenStats


@dataclass(frozen=True)
class IPO(Method):
    """Squared distance of the log-ratio margin from 1/(2β).

    L = (R̄_w − R̄_l − 1/(2β))², where R̄ is the mean of a response's log-ratios, or their sum with
    `reduction="sum"`. Implicit reward: β R̄. Source: arXiv 2310.12036, equation 17.
    """

    name: ClassVar[str] = "ipo"
    title: ClassVar[str] = "IPO"
    source: ClassVar[str] = "arXiv 2310.12036, equation 17"
    needs: ClassVar[Needs] = Needs()
    search_space: ClassVar[SearchSpace] = {"learning_rate": LEARNING_RATE, "beta": TARGET_BETA}

    beta: float = hyper_parameter(
        0.1,
        "τ of the article: the margin aimed at is 1/(2β).",
        source="[code] the authors of DPO and TRL",
        low=0,
        open_low=True,
    )
    reduction: str = hyper_parameter(
        "mean",
        "Log-ratios of a response: their mean, as in TRL and HALOs, or their sum.",
        source="[code] TRL, which says that the authors confirmed it",
        choices=("mean", "sum"),
    )

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss; policy_logps and ref_logps are read."""
        reduced = log_ratio_means if self.reduction == "mean" else log_ratio_sums
        chosen_ratio, rejected_ratio = reduced(chosen, rejected)
        per_pair = (chosen_ratio - rejected_ratio - 1 / (2 * self.beta)).square()
        return loss_output(per_pair, self.beta * chosen_ratio, self.beta * rejected_ratio)
