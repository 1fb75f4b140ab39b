"""f-DPO: DPO under other divergences from the reference (arXiv 2309.16240)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from sparsepo.methods.base import (
    LARGEST_EXPONENT,
    Method,
    Needs,
    log_ratio_sums,
    loss_output,
)
from sparsepo.methods.hyper_parameters import hyper_parameter
from sparsepo.methods.search_space import BETA, LEARNING_RATE, SearchSpace
from sparsepo.types import LossOutput, TokenStats


@dataclass(frozen=True)
class FDPO(Method):
    """Logistic loss on f′(u), u = π(y|x)/π_ref(y|x) = e^R, of a divergence.

    L = −log σ(β[f′(u_w) − f′(u_l)]), R = Σ r. Implicit reward: β[f′(u) − f′(1)].

    | divergence | f′(u) − f′(1) |
    |---|---|
    | reverse-kl | R: DPO |
    | forward-kl | 1 − e^(−R) |
    | js | log 2 − log(1 + e^(−R)) |
    | alpha | (1 − e^(−αR)) / α |

    Exponents above 80 count as 80, so that float32 does not overflow [ours].
    Source: arXiv 2309.16240.
    """

    name: ClassVar[str] = "f-dpo"
    title: ClassVar[str] = "f-DPO"
    source: ClassVar[str] = "arXiv 2309.16240"
    needs: ClassVar[Needs] = Needs()
    search_space: ClassVar[SearchSpace] = {"learning_rate": LEARNING_RATE, "beta": BETA}
    flat: ClassVar[bool] = True

    beta: float = hyper_parameter(
        0.1,
        "Strength of the reference.",
        source="[ours] that of DPO",
        low=0,
        open_low=True,
    )
    divergence: str = hyper_parameter(
        "js",
        "The divergence from the reference.",
        source="[ours] one of the article's",
        choices=("reverse-kl", "forward-kl", "js", "alpha"),
    )
    alpha: float = hyper_parameter(
        0.5,
        "α of the α-divergence: 0 is the reverse KL, 1 the forward KL.",
        source="[ours] the middle of the article's range",
        low=0,
        high=1,
        open_low=True,
        open_high=True,
    )

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss; policy_logps and ref_logps are read."""
        chosen_rewards, rejected_rewards = (
            self.beta * self._slope(total) for total in log_ratio_sums(chosen, rejected)
        )
        per_pair = -F.logsigmoid(chosen_rewards - rejected_rewards)
        return loss_output(per_pair, chosen_rewards, rejected_rewards)

    def _slope(self, ratio: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """Return f′(e^R) − f′(1)."""
        if self.divergence == "reverse-kl":
            return ratio
        if self.divergence == "js":
            return math.log(2) - F.softplus(-ratio)
        alpha = self.alpha if self.divergence == "alpha" else 1.0
        return -torch.expm1(-alpha * ratio.clamp(min=-LARGEST_EXPONENT / alpha)) / alpha
