"""ORPO: odds-ratio preference optimization (arXiv 2403.07691)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from sparsepo.methods.base import (
    Needs,
    logp_means,
    loss_output,
)
from sparsepo.methods.hyper_parameters import hyper_parameter
from sparsepo.methods.likelihood import LikelihoodMethod
from sparsepo.methods.search_space import LEARNING_RATE, NLL_WEIGHT, SearchSpace
from sparsepo.types import LossOutput, TokenStats


@dataclass(frozen=True)
class ORPO(LikelihoodMethod):
    """The chosen response's likelihood and the log odds ratio of both; no reference.

    L = NLL(y_w) − λ log σ(o_w − o_l), o = ℓ̄ − log(1 − e^ℓ̄), ℓ̄ = mean log π(y).
    Implicit reward: o. Source: arXiv 2403.07691, equations 4 and 7.
    """

    name: ClassVar[str] = "orpo"
    title: ClassVar[str] = "ORPO"
    source: ClassVar[str] = "arXiv 2403.07691, equations 4 and 7"
    needs: ClassVar[Needs] = Needs(ref_logps=False)
    search_space: ClassVar[SearchSpace] = {"learning_rate": LEARNING_RATE, "lam": NLL_WEIGHT}

    lam: float = hyper_parameter(
        0.1,
        "Weight of the odds ratio; `beta` in TRL.",
        source="[via TRL] table 7",
        low=0,
        open_low=True,
    )

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss; only policy_logps is read."""
        chosen_rewards, rejected_rewards = (
            _log_odds(mean) for mean in logp_means(chosen, rejected)
        )
        nll = self.chosen_nll(chosen)
        odds_ratio = -F.logsigmoid(chosen_rewards - rejected_rewards)
        metrics = {"orpo/nll": nll, "orpo/odds_ratio": odds_ratio}
        return loss_output(nll + self.lam * odds_ratio, chosen_rewards, rejected_rewards, metrics)


def _log_odds(logp: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Return log(p / (1 − p)) from log p; the probability counts as at most 1 − ε of its dtype."""
    logp = logp.clamp(max=-torch.finfo(logp.dtype).eps)
    # −expm1 keeps the digits of 1 − p where p is near 1.
    return logp - torch.log(-torch.expm1(logp))
