"""The likelihood term of methods without a reference: CPO, ORPO, SLiC-HF."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from sparsepo.methods.base import Method, response_mean, response_sum
from sparsepo.methods.hyper_parameters import hyper_parameter
from sparsepo.types import TokenStats


@dataclass(frozen=True, kw_only=True)
class LikelihoodMethod(Method):
    """Abstract: a loss with the negative log-likelihood of the chosen responses as one term."""

    nll: Literal["pair", "batch"] = hyper_parameter(
        "pair",
        "Mean of the NLL over each pair's chosen tokens, or over those of a whole batch as in TRL.",
        source="[ours] a step may then be split",
        choices=("pair", "batch"),
    )

    @property
    def divisible(self) -> bool:
        """Whether a step may be split: not with a mean over the batch's tokens."""
        return self.nll == "pair"

    def chosen_nll(self, chosen: TokenStats) -> Float[Tensor, " B"]:
        """Return the negative log-likelihood of the chosen responses, (B,), in nats per token.

        With `nll="batch"` it is each response's share of the mean over the tokens of the batch, so
        that the mean over pairs is that mean.
        """
        if self.nll == "pair":
            return -response_mean(chosen.policy_logps, chosen)
        total = response_sum(chosen.policy_logps, chosen)
        return -total * len(total) / chosen.response_mask.sum().clamp(min=1)
