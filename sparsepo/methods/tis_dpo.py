"""TIS-DPO: token-level importance sampling for DPO (arXiv 2410.04350)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

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

_CLIP = 1.5
_RANGE = (0.7, 1.3)


@dataclass(frozen=True)
class TISDPO(Method):
    """DPO with token weights from two models, trained on the preferences and on their reverse.

    L = −log σ(β[Σ ω r_w − Σ ω r_l]); ω from s_t = log π⁺(y_t) − log π⁻(y_t) of chosen responses,
    and from −s_t of rejected ones: clipped to ±1.5 and mapped to [0.7, 1.3], or 1 for the
    `top_percent` highest and 0 for the others. Implicit reward: β Σ ω r.
    Source: arXiv 2410.04350, as in the authors' code.
    """

    name: ClassVar[str] = "tis-dpo"
    title: ClassVar[str] = "TIS-DPO"
    source: ClassVar[str] = "arXiv 2410.04350, authors' code"
    needs: ClassVar[Needs] = Needs(models=("oracle", "anti"))
    search_space: ClassVar[SearchSpace] = {"learning_rate": LEARNING_RATE, "beta": BETA}
    flat: ClassVar[bool] = True

    beta: float = hyper_parameter(
        0.1,
        "Strength of the reference.",
        source="[code] the released configuration",
        low=0,
        open_low=True,
    )
    transform: str = hyper_parameter(
        "clip",
        "From differences of log-probabilities to weights.",
        source="[code] one of the authors'; their default, all weights 1, is DPO",
        choices=("clip", "binary"),
    )
    top_percent: float = hyper_parameter(
        50.0,
        "Percentage of tokens with weight 1, for transform=binary.",
        source="[ours]; the authors' 100 is DPO",
        low=0,
        high=100,
        open_low=True,
    )

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss; policy_logps, ref_logps, oracle_logps and anti_logps are read."""
        rewards = [
            self.beta * response_sum(self._values(stats), stats, self.weights(stats, sign))
            for sign, stats in ((1.0, chosen), (-1.0, rejected))
        ]
        return logistic_output(rewards[0] - rewards[1], rewards[0], rewards[1])

    def _values(self, stats: TokenStats) -> Float[Tensor, "B T"]:
        """Return what is weighted."""
        return log_ratios(stats)

    def weights(self, stats: TokenStats, sign: float) -> Float[Tensor, "B T"]:
        """Return ω, (B, T).

        Args:
            stats: a side's statistics.
            sign: 1 for chosen, −1 for rejected responses.
        """
        oracle = required(stats.oracle_logps, "oracle_logps")
        score = sign * (oracle - required(stats.anti_logps, "anti_logps"))
        if self.transform == "clip":
            low, high = _RANGE
            return low + (high - low) * (score.clamp(-_CLIP, _CLIP) + _CLIP) / (2 * _CLIP)
        inside = stats.response_mask.bool()
        ordered = torch.where(inside, score, -torch.inf).sort(-1, descending=True).values
        length = inside.sum(-1, keepdim=True)
        count = (self.top_percent / 100 * length).long().clamp(min=1)
        smallest = ordered.gather(-1, count - 1)
        return ((score >= smallest) & inside).to(score.dtype)


@dataclass(frozen=True)
class TISDPOKL(TISDPO):
    """TIS-DPO with the weighted token KL, policy first, taken from both sides.

    L = −log σ(β[Σ ω (r_w − α k'_w) − Σ ω (r_l − α k'_l)]), k' = KL(π ‖ π_ref); its direction and
    its sign are opposite to TDPO's. Implicit reward: β Σ ω (r − α k').
    Source: arXiv 2410.04350, as in the authors' code with token_level.
    """

    name: ClassVar[str] = "tis-dpo-kl"
    title: ClassVar[str] = "TIS-DPO with KL"
    needs: ClassVar[Needs] = Needs(models=("oracle", "anti"), reverse_kl=True)
    search_space: ClassVar[SearchSpace] = {
        "learning_rate": LEARNING_RATE,
        "beta": BETA,
        "alpha": ALPHA,
    }

    alpha: float = hyper_parameter(
        0.5, "Weight of the token KL.", source="[code] the released configuration", low=0
    )

    def _values(self, stats: TokenStats) -> Float[Tensor, "B T"]:
        """Return what is weighted."""
        return log_ratios(stats) - self.alpha * required(stats.reverse_kl, "the reverse KL")
