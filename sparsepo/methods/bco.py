"""BCO: binary classifier optimization (arXiv 2404.04656)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from sparsepo.methods.base import (
    Method,
    Needs,
    log_ratio_rewards,
    loss_output,
    mean_over_responses,
    present,
)
from sparsepo.methods.hyper_parameters import hyper_parameter
from sparsepo.methods.search_space import BETA, LEARNING_RATE, SearchSpace
from sparsepo.types import LossOutput, TokenStats


@dataclass(frozen=True)
class BCO(Method):
    """Classifies each response as chosen or rejected by its reward over a running mean.

    L = −½ log σ(β R_w − δ) − ½ log σ(δ − β R_l), R = Σ r; δ is the mean of β R over all responses
    so far, these included, without gradient. Implicit reward: β R. The loss of an unpaired row is
    that of its only response, not halved. Source: arXiv 2404.04656.
    """

    name: ClassVar[str] = "bco"
    title: ClassVar[str] = "BCO"
    source: ClassVar[str] = "arXiv 2404.04656, without its weights of rejected responses"
    needs: ClassVar[Needs] = Needs(whole_step=True)
    unpaired: ClassVar[bool] = True
    search_space: ClassVar[SearchSpace] = {"learning_rate": LEARNING_RATE, "beta": BETA}

    beta: float = hyper_parameter(
        0.01, "Strength of the reference.", source="[via TRL] appendix C", low=0, open_low=True
    )

    def initial_state(self) -> dict[str, Tensor]:
        """Return the mean of no responses."""
        return {"mean": torch.zeros(()), "count": torch.zeros(())}

    def __call__(
        self, chosen: TokenStats, rejected: TokenStats, state: dict[str, Tensor] | None = None
    ) -> LossOutput:
        """Return the loss and the new state; policy_logps and ref_logps are read."""
        chosen_rewards, rejected_rewards = log_ratio_rewards(chosen, rejected, self.beta)
        state = state or self.initial_state()
        here = torch.stack([present(chosen), present(rejected)])
        seen = torch.where(here, torch.stack([chosen_rewards, rejected_rewards]), 0.0)
        seen = seen.detach().float()
        before = state["count"].to(seen.device)
        count = before + here.sum()
        mean = (state["mean"].to(seen.device) * before + seen.sum()) / count
        shift = mean.to(chosen_rewards.dtype)
        up = -F.logsigmoid(chosen_rewards - shift)
        down = -F.logsigmoid(shift - rejected_rewards)
        return loss_output(
            mean_over_responses(up, down, chosen, rejected),
            chosen_rewards,
            rejected_rewards,
            {"bco/delta": shift.expand(len(up))},
            {"mean": mean, "count": count},
        )


@dataclass(frozen=True)
class BCOPair(Method):
    """BCO's classifier without a shift, as TRL applies it to pairs; it is not BCO.

    L = −log σ(β R_w) − log σ(−β R_l), R = Σ r. Implicit reward: β R.
    Source: TRL, loss_type bco_pair.
    """

    name: ClassVar[str] = "bco-pair"
    title: ClassVar[str] = "BCO (pairs)"
    source: ClassVar[str] = "TRL, loss_type bco_pair"
    needs: ClassVar[Needs] = Needs()
    search_space: ClassVar[SearchSpace] = {"learning_rate": LEARNING_RATE, "beta": BETA}

    beta: float = hyper_parameter(
        0.01, "Strength of the reference.", source="[via TRL] appendix C", low=0, open_low=True
    )

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss; policy_logps and ref_logps are read."""
        chosen_rewards, rejected_rewards = log_ratio_rewards(chosen, rejected, self.beta)
        per_pair = -F.logsigmoid(chosen_rewards) - F.logsigmoid(-rejected_rewards)
        return loss_output(per_pair, chosen_rewards, rejected_rewards)
