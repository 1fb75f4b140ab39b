"""A method as a plug-in: the whole of what a package with a method of its own has to hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsepo.methods.base import Method, Needs, log_ratios, require_range, response_sum
from sparsepo.types import LossOutput, TokenStats


@dataclass(frozen=True)
class SquaredMargin(Method):
    """Squared loss on the distance of the log-ratio difference from its target 1/(2β).

    L = (Σ r_w − Σ r_l − 1/(2β))². Implicit reward: β Σ r. Source: arXiv 2310.12036, equation 17.
    """

    name: ClassVar[str] = "squared-margin"
    title: ClassVar[str] = "Squared margin"
    source: ClassVar[str] = "arXiv 2310.12036, equation 17"
    needs: ClassVar[Needs] = Needs()

    beta: float = 0.1

    def __post_init__(self) -> None:
        """Check the hyper-parameters."""
        require_range("beta", self.beta, inclusive=False)

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss; policy_logps and ref_logps are read."""
        chosen_sum = response_sum(log_ratios(chosen), chosen)
        rejected_sum = response_sum(log_ratios(rejected), rejected)
        per_pair = (chosen_sum - rejected_sum - 1 / (2 * self.beta)).square()
        return LossOutput(
            loss=per_pair.mean(),
            per_pair=per_pair,
            chosen_rewards=(self.beta * chosen_sum).detach(),
            rejected_rewards=(self.beta * rejected_sum).detach(),
        )
