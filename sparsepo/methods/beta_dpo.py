"""β-DPO: DPO with a β that follows the data, and outlying pairs left out (arXiv 2407.08639)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from sparsepo.methods.base import Method, Needs, log_ratio_sums, loss_output
from sparsepo.methods.hyper_parameters import hyper_parameter
from sparsepo.methods.running import moved_average, spread
from sparsepo.methods.search_space import BETA, LEARNING_RATE, SearchSpace
from sparsepo.types import LossOutput, TokenStats

SMALLEST_BETA = 1e-3


@dataclass(frozen=True)
class BetaDPO(Method):
    """DPO whose β follows the gap of a batch, on pairs whose gap is not unusual.

    L = −log σ(β_b M) over the pairs kept, M = R_w − R_l, R = Σ r,
    β_b = max(0.001, β [1 + a (mean of M over the pairs kept − m)]), without gradient. A share 1 − ρ
    of the pairs is kept, drawn without replacement with weights exp(−½ ((M − m)/s)²); m and s are
    moving averages of the mean and the standard deviation of M. Implicit reward: β R.
    Source: arXiv 2407.08639, as in the authors' code.
    """

    name: ClassVar[str] = "beta-dpo"
    title: ClassVar[str] = "β-DPO"
    source: ClassVar[str] = "arXiv 2407.08639, authors' code"
    needs: ClassVar[Needs] = Needs(whole_step=True)
    search_space: ClassVar[SearchSpace] = {"learning_rate": LEARNING_RATE, "beta": BETA}
    flat: ClassVar[bool] = True
    ordered: ClassVar[bool] = False

    beta: float = hyper_parameter(
        0.1, "β before it is adapted.", source="[code] README", low=0, open_low=True
    )
    a: float = hyper_parameter(
        0.6, "How far β follows the gap; 0 leaves it as it is.", source="[code] README", low=0
    )
    rho: float = hyper_parameter(
        0.2, "Share of pairs left out.", source="[code] README", low=0, high=1, open_high=True
    )
    momentum: float = hyper_parameter(
        0.9, "Of the moving averages.", source="[code]", low=0, high=1, open_high=True
    )

    def initial_state(self) -> dict[str, Tensor]:
        """Return averages of 0, without a correction of the start, as in the authors' code."""
        names = ("gap_mean", "gap_std", "step")
        return {name: torch.zeros(()) for name in names}

    def __call__(
        self, chosen: TokenStats, rejected: TokenStats, state: dict[str, Tensor] | None = None
    ) -> LossOutput:
        """Return the loss and the new state; policy_logps and ref_logps are read.

        Which pairs are drawn depends on the number of the step alone.
        """
        chosen_ratio, rejected_ratio = log_ratio_sums(chosen, rejected)
        gap = chosen_ratio - rejected_ratio
        fixed = gap.detach()
        state = state or self.initial_state()
        mean = moved_average(state["gap_mean"], fixed.mean(), self.momentum)
        deviation = moved_average(state["gap_std"], spread(fixed), self.momentum)
        step = state["step"]
        kept = self._kept(fixed, mean, deviation, int(step))
        beta = self.beta * (1 + self.a * ((fixed * kept).sum() / kept.sum() - mean))
        beta = beta.clamp(min=SMALLEST_BETA)
        per_pair = -F.logsigmoid(beta * gap) * kept * len(gap) / kept.sum()
        return loss_output(
            per_pair,
            self.beta * chosen_ratio,
            self.beta * rejected_ratio,
            {"beta-dpo/beta": beta.expand(len(gap)), "beta-dpo/kept": 100 * kept},
            {"gap_mean": mean, "gap_std": deviation, "step": step + 1},
        )

    def _kept(
        self, gap: Float[Tensor, " B"], mean: Tensor, deviation: Tensor, step: int
    ) -> Float[Tensor, " B"]:
        """Return 1 for the pairs that count, else 0."""
        count = max(1, int(len(gap) * (1 - self.rho)))
        if count == len(gap):
            return torch.ones_like(gap)
        # Weights of 0 cannot be drawn; a deviation of 0 makes all pairs equal.
        distance = (gap - mean) / deviation.clamp(min=torch.finfo(gap.dtype).tiny)
        weights = (-distance.square() / 2).exp().clamp(min=torch.finfo(gap.dtype).tiny)
        generator = torch.Generator().manual_seed(step)
        drawn = torch.multinomial(weights.cpu(), count, generator=generator).to(gap.device)
        return torch.zeros_like(gap).scatter(0, drawn, 1.0)
