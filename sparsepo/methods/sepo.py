"""SePO: selective preference optimization on key tokens (arXiv 2408.13518)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from sparsepo.methods.base import Method, Needs, logistic_output, required, response_sum
from sparsepo.methods.hyper_parameters import hyper_parameter
from sparsepo.methods.search_space import LEARNING_RATE, SearchSpace
from sparsepo.types import LossOutput, TokenStats


@dataclass(frozen=True)
class SePO(Method):
    """Logistic loss on the mean log-probability of the tokens that an oracle selects.

    L = −log σ(û_w − û_l), û = mean of log π(y_t) over the selected tokens: the share k with the
    highest q_t = log π_o(y_t) − log π_ref(y_t) of the chosen response, and with the lowest of the
    rejected one; at least one token [ours]. Implicit reward: û.
    Source: arXiv 2408.13518, as in the authors' code, which has neither scale nor margin.
    """

    name: ClassVar[str] = "sepo"
    title: ClassVar[str] = "SePO"
    source: ClassVar[str] = "arXiv 2408.13518, authors' code"
    needs: ClassVar[Needs] = Needs(models=("oracle",))
    search_space: ClassVar[SearchSpace] = {"learning_rate": LEARNING_RATE}
    flat: ClassVar[bool] = True
    from_reference: ClassVar[bool] = False

    k: float = hyper_parameter(
        0.3, "Share of tokens selected.", source="[code] README", low=0, high=1, open_low=True
    )

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss; policy_logps, ref_logps and oracle_logps are read."""
        rewards = []
        for sign, stats in ((1.0, chosen), (-1.0, rejected)):
            oracle = required(stats.oracle_logps, "oracle_logps")
            guide = sign * (oracle - required(stats.ref_logps, "ref_logps"))
            selected = self.selected(guide, stats)
            rewards.append(response_sum(stats.policy_logps, stats, selected) / selected.sum(-1))
        return logistic_output(rewards[0] - rewards[1], rewards[0], rewards[1])

    def selected(self, guide: Float[Tensor, "B T"], stats: TokenStats) -> Float[Tensor, "B T"]:
        """Return 1 for the int(k·n) tokens with the highest values, at least one, else 0."""
        inside = stats.response_mask.bool()
        rank = torch.where(inside, guide, -torch.inf).argsort(dim=-1, descending=True, stable=True)
        place = torch.empty_like(rank).scatter(
            -1, rank, torch.arange(rank.shape[-1], device=rank.device).expand_as(rank)
        )
        count = (self.k * inside.sum(-1, keepdim=True)).long().clamp(min=1)
        return ((place < count) & inside).to(stats.policy_logps.dtype)
