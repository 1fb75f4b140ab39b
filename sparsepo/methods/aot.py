"""AOT: alignment via optimal transport (arXiv 2406.05882)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsepo.methods.base import (
    Method,
    Needs,
    log_ratio_sums,
    logp_sums,
    loss_output,
    required,
    response_sum,
    smoothed_logistic,
)
from sparsepo.methods.hyper_parameters import hyper_parameter
from sparsepo.methods.search_space import BETA, LEARNING_RATE, SearchSpace
from sparsepo.types import LossOutput, TokenStats


@dataclass(frozen=True)
class AOT(Method):
    """Logistic loss between the sorted margins of the policy and those of the reference.

    L = −(1−ε) log σ(β(a − b)) − ε log σ(−β(a − b)), a and b the margins ℓ_w − ℓ_l, ℓ = Σ log π, of
    the policy and of the reference, each sorted over a batch; or with `form="unpaired"` the sorted
    log-ratios R = Σ r of the chosen and of the rejected responses. The losses are in sorted order
    and belong to no pair; a batch of one is DPO. Implicit reward: β R. Source: arXiv 2406.05882.
    """

    name: ClassVar[str] = "aot"
    title: ClassVar[str] = "AOT"
    source: ClassVar[str] = "arXiv 2406.05882, paired and unpaired"
    needs: ClassVar[Needs] = Needs(whole_step=True)
    search_space: ClassVar[SearchSpace] = {"learning_rate": LEARNING_RATE, "beta": BETA}
    ordered: ClassVar[bool] = False

    beta: float = hyper_parameter(
        0.01, "Strength of the reference.", source="[via TRL] figure 2", low=0, open_low=True
    )
    epsilon: float = hyper_parameter(
        0.0, "Label smoothing.", source="[code] TRL", low=0, high=0.5, open_high=True
    )
    form: str = hyper_parameter(
        "paired",
        "What is sorted: margins of pairs, or the responses of each side.",
        source="[ours] the data are pairs",
        choices=("paired", "unpaired"),
    )

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss; policy_logps and ref_logps are read."""
        chosen_ratio, rejected_ratio = log_ratio_sums(chosen, rejected)
        if self.form == "paired":
            chosen_logp, rejected_logp = logp_sums(chosen, rejected)
            upper = chosen_logp - rejected_logp
            lower = response_sum(required(chosen.ref_logps, "ref_logps"), chosen) - response_sum(
                required(rejected.ref_logps, "ref_logps"), rejected
            )
        else:
            upper, lower = chosen_ratio, rejected_ratio
        margin = self.beta * (upper.sort().values - lower.sort().values)
        per_pair = smoothed_logistic(margin, self.epsilon)
        return loss_output(per_pair, self.beta * chosen_ratio, self.beta * rejected_ratio)
