"""SPPO: self-play preference optimization, hard and soft (arXiv 2405.00675)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsepo.methods.base import (
    Method,
    Needs,
    log_ratio_sums,
    loss_output,
    required,
)
from sparsepo.methods.hyper_parameters import hyper_parameter
from sparsepo.methods.search_space import LEARNING_RATE, TARGET_BETA, SearchSpace
from sparsepo.types import LossOutput, TokenStats


@dataclass(frozen=True)
class SPPO(Method):
    """Squared distance of each summed log-ratio from ±1/(2β), for labels that are certain.

    L = c [(R_w − 1/(2β))² + (R_l + 1/(2β))²], R = Σ r. Implicit reward: β R.
    Source: arXiv 2405.00675, equation 4.7, with c = 1; the authors' code has c = ½.
    """

    name: ClassVar[str] = "sppo"
    title: ClassVar[str] = "SPPO"
    source: ClassVar[str] = "arXiv 2405.00675, equation 4.7"
    needs: ClassVar[Needs] = Needs()
    search_space: ClassVar[SearchSpace] = {"learning_rate": LEARNING_RATE, "beta": TARGET_BETA}

    beta: float = hyper_parameter(
        0.001,
        "Strength of the reference.",
        source="[via TRL] section 5; 1/η of the article",
        low=0,
        open_low=True,
    )
    factor: float = hyper_parameter(
        1.0,
        "Factor c: 1, or 0.5 as in the authors' code.",
        source="equation 4.7",
        low=0,
        open_low=True,
    )

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss; policy_logps and ref_logps are read."""
        chosen_ratio, rejected_ratio = log_ratio_sums(chosen, rejected)
        target = 1 / (2 * self.beta)
        per_pair = (chosen_ratio - target).square() + (rejected_ratio + target).square()
        return loss_output(
            self.factor * per_pair, self.beta * chosen_ratio, self.beta * rejected_ratio
        )


@dataclass(frozen=True)
class SPPOSoft(Method):
    """SPPO with the probability P that the chosen response wins, which comes with the data.

    L = ½ (R_w − (P − ½)/β)² + ½ (R_l + (P − ½)/β)², R = Σ r. Implicit reward: β R.
    Source: arXiv 2405.00675, as in the authors' code.
    """

    name: ClassVar[str] = "sppo-soft"
    title: ClassVar[str] = "SPPO (soft)"
    source: ClassVar[str] = "arXiv 2405.00675, authors' code"
    needs: ClassVar[Needs] = Needs(win_probability=True)
    search_space: ClassVar[SearchSpace] = {"learning_rate": LEARNING_RATE, "beta": TARGET_BETA}

    beta: float = hyper_parameter(
        0.001,
        "Strength of the reference.",
        source="[code] the authors' comment; 1/η of the article",
        low=0,
        open_low=True,
    )

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss; policy_logps, ref_logps and the chosen win_probability are read."""
        chosen_ratio, rejected_ratio = log_ratio_sums(chosen, rejected)
        target = (required(chosen.win_probability, "win_probability") - 0.5) / self.beta
        per_pair = (chosen_ratio - target).square() + (rejected_ratio + target).square()
        return loss_output(per_pair / 2, self.beta * chosen_ratio, self.beta * rejected_ratio)
