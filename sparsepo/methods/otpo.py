"""OTPO: token weights from optimal transport between both responses (arXiv 2505.18720)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from sparsepo.methods.base import (
    Method,
    Needs,
    log_ratio_rewards,
    logistic_output,
    required,
)
from sparsepo.methods.hyper_parameters import hyper_parameter
from sparsepo.methods.search_space import BETA, LEARNING_RATE, SearchSpace
from sparsepo.types import LossOutput, TokenStats

_ITERATIONS = 1000
_TOLERANCE = 1e-6
"""Of the scaling vectors, relative to their size."""


@dataclass(frozen=True)
class OTPO(Method):
    """DPO in which tokens count that have a counterpart in the other response.

    L = −log σ(β[Σ ω r_w − Σ ω r_l]); ω are the row and the column sums of the unbalanced optimal
    transport plan between the policy's hidden states at the two responses' tokens (cost: Euclidean
    distance, at most 1; masses 1; entropic weight `reg`, marginal weight `reg_m`), scaled to the
    sum min(n_w, n_l). No gradient flows through ω. Implicit reward: β Σ ω r. The authors' solver
    stops before its first step where the rejected response is padded, because columns of mass 0 sum
    to 0; `solver="released"` does so too. Source: arXiv 2505.18720, as in the
    authors' code.
    """

    name: ClassVar[str] = "otpo"
    title: ClassVar[str] = "OTPO"
    source: ClassVar[str] = "arXiv 2505.18720, authors' code"
    needs: ClassVar[Needs] = Needs(hidden=True)
    search_space: ClassVar[SearchSpace] = {"learning_rate": LEARNING_RATE, "beta": BETA}

    beta: float = hyper_parameter(
        0.1, "Strength of the reference.", source="[code] of the 3B models", low=0, open_low=True
    )
    reg: float = hyper_parameter(
        1.0, "Entropic regularisation.", source="[code] default", low=0, open_low=True
    )
    reg_m: float = hyper_parameter(
        0.2, "Weight of the marginals.", source="[code] default", low=0, open_low=True
    )
    solver: str = hyper_parameter(
        "converged",
        "The plan, or what the authors' solver returns when it stops at its first step.",
        source="[ours] weights must not depend on padding",
        choices=("converged", "released"),
    )

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss; policy_logps, ref_logps and hidden are read."""
        weights = self.weights(chosen, rejected)
        rewards = log_ratio_rewards(chosen, rejected, self.beta, weights)
        return logistic_output(rewards[0] - rewards[1], *rewards)

    @torch.no_grad()
    def weights(
        self, chosen: TokenStats, rejected: TokenStats
    ) -> tuple[Float[Tensor, "B T"], Float[Tensor, "B S"]]:
        """Return ω of both responses; 0 on padding."""
        inside = [stats.response_mask.double() for stats in (chosen, rejected)]
        states = [
            required(stats.hidden, "hidden").double() * mask[..., None]
            for stats, mask in zip((chosen, rejected), inside, strict=True)
        ]
        cost = torch.cdist(states[0], states[1]) + 1e-6
        tokens = inside[0][:, :, None] * inside[1][:, None, :]
        # In the authors' code padding's zero vectors count towards the maximum.
        counted = cost if self.solver == "released" else cost * tokens
        cost = cost / counted.amax((1, 2), keepdim=True).clamp(min=1)
        kernel = (-cost / self.reg).exp() * tokens
        power = self.reg_m / (self.reg_m + self.reg)
        plan = _unbalanced_plan(kernel, inside[0], inside[1], power)
        if self.solver == "released":
            padded = inside[1].amin(-1) == 0
            plan = torch.where(padded[:, None, None], kernel, plan)
        shorter = torch.minimum(inside[0].sum(-1), inside[1].sum(-1))
        scale = (shorter / plan.sum((1, 2)))[:, None]
        rows, columns = plan.sum(2) * scale, plan.sum(1) * scale
        return rows.to(chosen.policy_logps.dtype), columns.to(rejected.policy_logps.dtype)


def _unbalanced_plan(
    kernel: Float[Tensor, "B T S"],
    rows: Float[Tensor, "B T"],
    columns: Float[Tensor, "B S"],
    power: float,
) -> Float[Tensor, "B T S"]:
    """Return the plan u K v of Sinkhorn's algorithm with marginals of finite weight.

    Args:
        kernel: K = exp(−cost/reg), 0 on padding.
        rows: the masses of the rows.
        columns: the masses of the columns.
        power: reg_m / (reg_m + reg).
    """
    u, v = torch.ones_like(rows), torch.ones_like(columns)
    for _ in range(_ITERATIONS):
        before = u
        u = _scaled(rows, torch.einsum("bts,bs->bt", kernel, v), power)
        v = _scaled(columns, torch.einsum("bts,bt->bs", kernel, u), power)
        if float((u - before).abs().max()) <= _TOLERANCE * max(1.0, float(u.abs().max())):
            break
    return u[:, :, None] * kernel * v[:, None, :]


def _scaled(mass: Tensor, total: Tensor, power: float) -> Tensor:
    """Return (mass / total)^power, 0 on padding."""
    return torch.where(mass > 0, mass / torch.where(mass > 0, total, 1.0), 0.0) ** power
