"""Your own preference-optimization method in one file: the hinge loss on log-ratios.

Train with it from Python, as below (python examples/own_method.py [OUTPUT]), or use the same file
as a plug-in on the command line:

python -m sparsepo train --plugin examples/own_method.py --method margin-hinge --set margin=2 …
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from sparsepo import LossOutput, Method, Needs, TokenStats, register_method
from sparsepo.methods.base import log_ratios, require_range, response_sum


@register_method
@dataclass(frozen=True)
class MarginHinge(Method):
    """Hinge loss on the difference of the summed log-ratios, as in SLiC.

    L = max(0, δ − β[Σ r_w − Σ r_l]). Implicit reward: β Σ r. Source: arXiv 2305.10425.
    """

    name: ClassVar[str] = "margin-hinge"
    title: ClassVar[str] = "Hinge with a margin"
    source: ClassVar[str] = "arXiv 2305.10425"
    # Only the statistics named here are computed: no KL, no masks.
    needs: ClassVar[Needs] = Needs(ref_logps=True)

    # Hyper-parameters are fields; --set margin=2 sets one of them.
    beta: float = 0.1
    margin: float = 1.0

    def __post_init__(self) -> None:
        """Check the hyper-parameters."""
        require_range("beta", self.beta, inclusive=False)
        require_range("margin", self.margin)

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss of a batch of pairs."""
        chosen_rewards = self.beta * response_sum(log_ratios(chosen), chosen)
        rejected_rewards = self.beta * response_sum(log_ratios(rejected), rejected)
        per_pair = torch.relu(self.margin - (chosen_rewards - rejected_rewards))
        return LossOutput(
            loss=per_pair.mean(),
            per_pair=per_pair,
            chosen_rewards=chosen_rewards.detach(),
            rejected_rewards=rejected_rewards.detach(),
        )


def main() -> None:
    """Train a tiny model with the method."""
    import sys

    from tiny import PAIRS, tiny_model

    from sparsepo import POConfig, POTrainer

    trainer = POTrainer(
        model=tiny_model(),
        args=POConfig(
            output_dir=sys.argv[1] if len(sys.argv) > 1 else "hinge-model",
            method="margin-hinge",
            beta=0.5,
            method_args={"margin": 2.0},  # hyper-parameters that are not fields of POConfig
            learning_rate=1e-3,
            max_steps=6,
            logging_steps=2,
            report_to="none",
        ),
        train_dataset=PAIRS,
    )
    trainer.train()
    trainer.save_model()


if __name__ == "__main__":
    main()
