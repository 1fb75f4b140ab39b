"""DPOP: DPO-Positive, also known as Smaug (arXiv 2402.13228)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from sparsepo.methods.base import (
    Method,
    Needs,
    log_ratio_sums,
    logistic_output,
    response_sum,
)
from sparsepo.methods.hyper_parameters import hyper_parameter
from sparsepo.methods.search_space import BETA, LEARNING_RATE, PENALTY, SearchSpace
from sparsepo.types import LossOutput, TokenStats

TIE_TOLERANCE = 16
"""A sum of log-ratios below this many rounding errors of its terms is treated as 0 [ours]."""


@dataclass(frozen=True)
class DPOP(Method):
    """DPO with a penalty where the chosen response becomes less likely than under the reference.

    L = −log σ(β[Σ r_w − Σ r_l − λ·max(0, −Σ r_w)]). Implicit reward: β Σ r.
    Source: arXiv 2402.13228, equation 3.
    """

    name: ClassVar[str] = "dpop"
    title: ClassVar[str] = "DPOP"
    source: ClassVar[str] = "arXiv 2402.13228, equation 3"
    needs: ClassVar[Needs] = Needs()
    search_space: ClassVar[SearchSpace] = {
        "learning_rate": LEARNING_RATE,
        "beta": BETA,
        "lam": PENALTY,
    }

    beta: float = hyper_parameter(
        0.3, "Strength of the reference.", source="[paper] arXiv 2402.13228", low=0, open_low=True
    )
    lam: float = hyper_parameter(
        50.0, "Weight of the penalty.", source="[paper] arXiv 2402.13228", low=0
    )

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss; policy_logps and ref_logps are read."""
        chosen_sum, rejected_sum = log_ratio_sums(chosen, rejected)
        # At step 0 every log-ratio is 0, and torch.maximum splits the gradient between equal
        # arguments, as max(0, ·) in the authors' code does. If the reference's values come from a
        # different batch (a cache), the log-ratios are 0 only up to rounding, and without this the
        # sign of an error of 1e-7 would decide whether there is a gradient of size λ.
        size = response_sum(chosen.policy_logps.detach().abs(), chosen)
        tie = chosen_sum.abs() <= TIE_TOLERANCE * torch.finfo(chosen_sum.dtype).eps * size
        fallen = torch.where(tie, chosen_sum.detach() - chosen_sum, -chosen_sum)
        penalty = self.lam * torch.maximum(torch.zeros_like(fallen), fallen)
        return logistic_output(
            self.beta * (chosen_sum - rejected_sum - penalty),
            self.beta * chosen_sum,
            self.beta * rejected_sum,
            metrics={"dpop/penalty": self.beta * penalty},
        )
