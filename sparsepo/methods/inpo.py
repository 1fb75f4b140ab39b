"""INPO: iterative Nash policy optimization (arXiv 2407.00617)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsepo.methods.base import Method, Needs, logp_sums, loss_output, required, response_sum
from sparsepo.methods.hyper_parameters import hyper_parameter
from sparsepo.methods.search_space import LEARNING_RATE, SearchSpace
from sparsepo.types import LossOutput, TokenStats


@dataclass(frozen=True)
class INPO(Method):
    """Squared distance of a margin over reference and previous policy from 1/(2η).

    L = (h_w − h_l − 1/(2η))², h = ℓ − (τ/η) ℓ_ref − ((η−τ)/η) ℓ_previous, ℓ = Σ log π.
    Implicit reward: η h. With τ = η it is IPO on sums with β = η. Its pairs are samples of the
    previous policy, ordered by a preference oracle.
    Source: arXiv 2407.00617, from an implementation; the article was not read.
    """

    name: ClassVar[str] = "inpo"
    title: ClassVar[str] = "INPO"
    source: ClassVar[str] = "arXiv 2407.00617, from an implementation"
    needs: ClassVar[Needs] = Needs(models=("history",))
    search_space: ClassVar[SearchSpace] = {"learning_rate": LEARNING_RATE}
    from_reference: ClassVar[bool] = False

    eta: float = hyper_parameter(
        7.5e-3, "Step size of the game.", source="[third party]", low=0, open_low=True
    )
    tau: float = hyper_parameter(
        2.5e-3, "Strength of the reference, at most η.", source="[third party] η/3", low=0
    )

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss; policy_logps, ref_logps and history_logps are read."""
        share = self.tau / self.eta
        policy = logp_sums(chosen, rejected)
        heights = []
        for logp, stats in zip(policy, (chosen, rejected), strict=True):
            ref = response_sum(required(stats.ref_logps, "ref_logps"), stats)
            previous = response_sum(required(stats.history_logps, "history_logps"), stats)
            heights.append(logp - share * ref - (1 - share) * previous)
        per_pair = (heights[0] - heights[1] - 1 / (2 * self.eta)).square()
        return loss_output(per_pair, self.eta * heights[0], self.eta * heights[1])
