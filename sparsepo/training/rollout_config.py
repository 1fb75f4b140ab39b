"""RolloutConfig: POConfig plus how the policy is sampled."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from sparsepo.errors import UserError
from sparsepo.generation import Sampling
from sparsepo.training.config import AT_LEAST_1, POConfig, take_hyper_parameters


@dataclass
class RolloutConfig(POConfig):
    """Arguments of a RolloutTrainer: those of a POTrainer, and these.

    Batch sizes count prompts. Each gives one pair, or `samples_per_prompt / 2` of them with a
    method of single samples.
    """

    at_least_1: ClassVar[tuple[str, ...]] = (
        *AT_LEAST_1,
        "samples_per_prompt",
        "steps_per_rollout",
        "rollout_epochs",
        "max_new_tokens",
        "sampling_batch_size",
    )

    samples_per_prompt: int = field(
        default=2, metadata={"help": "Responses that are drawn for a prompt; an even number."}
    )
    steps_per_rollout: int = field(
        default=1,
        metadata={
            "help": "Optimizer steps whose prompts are sampled together, from the policy before "
            "the first of them."
        },
    )
    rollout_epochs: int = field(
        default=1, metadata={"help": "How often each rollout is trained on."}
    )
    max_new_tokens: int = field(
        default=64, metadata={"help": "Longest response that is drawn, in tokens."}
    )
    temperature: float = field(default=1.0, metadata={"help": "Temperature of sampling."})
    top_p: float = field(
        default=1.0, metadata={"help": "Share of probability of nucleus sampling."}
    )
    sampling_batch_size: int = field(
        default=64, metadata={"help": "Responses that are drawn side by side."}
    )

    def __post_init__(self) -> None:
        """Check ranges, and refuse what samples of the policy cannot have.

        Raises:
            UserError: a value is out of range, or an option does not go with samples.
        """
        super().__post_init__()
        if self.samples_per_prompt % 2:
            raise UserError(
                f"samples_per_prompt must be an even number, not {self.samples_per_prompt}: "
                "samples are trained on in twos."
            )
        # Written so that NaN is refused too.
        if not 0 < self.temperature < math.inf:
            raise UserError(
                f"The temperature must be above 0, not {self.temperature}: without chance all "
                "samples of a prompt are equal."
            )
        self.make_sampling()
        for name in ("reference_cache", "token_masks"):
            if getattr(self, name) is not None:
                raise UserError(
                    f"{name} holds values of given pairs, but samples are new at every step; leave "
                    "it out."
                )
        if self.train_sampling_strategy == "group_by_length":
            raise UserError(
                "train_sampling_strategy=group_by_length needs the lengths of responses before "
                "they are drawn; leave it out (length_bucketed=true works within a step)."
            )
        if self.world_size > 1 and self.steps_per_rollout * self.rollout_epochs > 1:
            raise UserError(
                "With several processes a rollout is one step; leave steps_per_rollout and "
                "rollout_epochs at 1, or use one process."
            )

    def make_sampling(self) -> Sampling:
        """Return how responses are drawn.

        Raises:
            UserError: a value is out of range.
        """
        return Sampling(self.max_new_tokens, self.temperature, self.top_p)


RolloutConfig.__init__ = take_hyper_parameters(RolloutConfig.__init__)  # type: ignore[method-assign]
