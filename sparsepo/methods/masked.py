"""The loss shared by MaPO and SparsePO: TDPO v1 with a mask on each of its two terms."""

from __future__ import annotations

import abc
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sparsepo.methods.base import (
    Method,
    log_ratios,
    logistic_output,
    response_sum,
    token_kl,
)
from sparsepo.methods.hyper_parameters import hyper_parameter
from sparsepo.types import LossOutput, TokenStats


def uses_given_masks(method: Method) -> bool:
    """Return whether a method's masks are given, `mask_kind=given`, rather than computed."""
    return getattr(method, "mask_kind", None) == "given"


def sparsity(mask: Float[Tensor, "B T"], stats: TokenStats) -> Float[Tensor, " B"]:
    """Return the percentage of response tokens whose mask value is exactly 0, (B,).

    Source: arXiv 2410.05102.
    """
    zeros = (mask == 0) & stats.response_mask.bool()
    return 100.0 * zeros.sum(-1) / stats.response_mask.sum(-1).clamp(min=1)


@dataclass(frozen=True)
class MaskedMethod(Method):
    """Abstract: the masked loss; subclasses define the masks and an optional penalty."""

    beta: float = hyper_parameter(
        0.1, "Strength of the reference.", source="[paper]", low=0, open_low=True
    )

    @abc.abstractmethod
    def masks(self, stats: TokenStats) -> tuple[Float[Tensor, "B T"], Float[Tensor, "B T"]]:
        """Return (m_u, m_d), the masks on the log-ratios and on the token KL."""

    def penalty(
        self,
        chosen: TokenStats,
        rejected: TokenStats,
        reward_pull: Float[Tensor, " B"],
        kl_pull: Float[Tensor, " B"],
    ) -> Float[Tensor, " B"] | None:
        """Return the penalty that is added to each pair's loss, (B,), or None.

        Args:
            chosen: statistics of the chosen responses.
            rejected: statistics of the rejected responses.
            reward_pull: how much the loss without penalty falls per relative growth of m_u, without
                a gradient: σ(−z)·β(Σ m_u r_w − Σ m_u r_l), where the loss is −log σ(z), (B,).
            kl_pull: likewise of m_d: σ(−z)·β(Σ m_d k_w − Σ m_d k_l), (B,).
        """
        return None

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return −log σ(β[(Σ m_u r_w − Σ m_u r_l) − (Σ m_d k_l − Σ m_d k_w)]) + penalties.

        The implicit reward is β(Σ m_u r + Σ m_d k), the quantity that the loss orders.

        Args:
            chosen: statistics of the chosen responses; policy_logps, ref_logps, kl and the masks
                are read.
            rejected: statistics of the rejected responses; the same fields are read.
        """
        ratio: list[Tensor] = []
        kl: list[Tensor] = []
        metrics: dict[str, Tensor] = {}
        for side, stats in (("chosen", chosen), ("rejected", rejected)):
            reward_mask, kl_mask = self.masks(stats)
            ratio.append(response_sum(log_ratios(stats), stats, reward_mask))
            kl.append(response_sum(token_kl(stats), stats, kl_mask))
            metrics[f"sparsity/reward/{side}"] = sparsity(reward_mask, stats)
            metrics[f"sparsity/kl/{side}"] = sparsity(kl_mask, stats)
        logits = self.beta * ((ratio[0] - ratio[1]) - (kl[1] - kl[0]))
        slope = (self.beta * torch.sigmoid(-logits)).detach()
        return logistic_output(
            logits,
            self.beta * (ratio[0] + kl[0]),
            self.beta * (ratio[1] + kl[1]),
            penalty=self.penalty(
                chosen,
                rejected,
                slope * (ratio[0] - ratio[1]).detach(),
                slope * (kl[0] - kl[1]).detach(),
            ),
            metrics=metrics,
        )
