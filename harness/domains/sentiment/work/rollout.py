"""The stage that trains a method on samples of its policy, with evaluations."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from harness.domains.common.work.files import read_pairs_file, starting_model
from harness.domains.common.work.generation import batch_size
from harness.domains.common.work.train import (
    further_models,
    remove_checkpoints,
    train_to_end,
    training_arguments,
)
from harness.domains.sentiment.work.reward import reward_of
from harness.domains.sentiment.work.train import Evaluations
from harness.graph.cost import SamplingCost
from harness.graph.report import Report
from harness.graph.stages import StageContext
from sparsepo.data.pairs import Content
from sparsepo.errors import UserError
from sparsepo.training.rewards import Reward
from sparsepo.training.rollout_config import RolloutConfig
from sparsepo.training.rollout_trainer import RolloutTrainer


def train_on_samples(context: StageContext) -> None:
    """Train on samples of the policy to the prompts of the training pairs, and evaluate it.

    Configuration: that of train_and_evaluate, `reward` (make_reward's arguments) and `rollout`
    (fields of RolloutConfig). Inputs: "pairs", of which the training prompts are used, "model", and
    "oracle", a run whose model the method reads. Options: those of the generation engine.

    It takes as many steps as training on the pairs themselves. An interrupted run resumes from its
    last checkpoint. Writes the files of train_and_evaluate, without held-out scores and tokens.
    """
    config = context.config
    pairs = read_pairs_file(context.inputs["pairs"] / "train.jsonl")
    prompts = list(dict.fromkeys(str(pair.prompt) for pair in pairs))
    training = config["training"]
    if len(prompts) < training["batch_size"]:
        raise UserError(
            f"A step samples po.batch_size={training['batch_size']} prompts, and there are "
            f"{len(prompts)} training prompts; lower it, or raise data.train_prompts."
        )
    cost = SamplingCost(context)
    trainer = RolloutTrainer(
        str(starting_model(context)),
        _text_reward(context),
        args=RolloutConfig(
            max_steps=offline_steps(len(pairs), training["batch_size"], training["epochs"]),
            sampling_batch_size=batch_size(context),
            **config["rollout"],
            **training_arguments(context),
        ),
        train_dataset=prompts,
        callbacks=[cost, Report(context)],
        **further_models(context),
    )
    trainer.add_callback(RolloutEvaluations(context, trainer, cost))
    train_to_end(context, trainer, cost)
    remove_checkpoints(context.work)


def offline_steps(pairs: int, batch_size: int, epochs: float) -> int:
    """Return how many optimizer steps training on pairs takes.

    Args:
        pairs: number of pairs.
        batch_size: pairs in a step; the last step of an epoch may have fewer.
        epochs: number of epochs.
    """
    return math.ceil(epochs * math.ceil(pairs / batch_size))


def _text_reward(context: StageContext) -> Reward:
    """Return the reward of prompt and response as one text, as the evaluation has it."""
    reward = reward_of(context)

    def score(prompts: Sequence[Content], responses: Sequence[str]) -> list[float]:
        return reward([f"{p}{r}" for p, r in zip(prompts, responses, strict=True)])

    return score


@dataclass
class RolloutEvaluations(Evaluations):
    """Evaluations whose time does not count as training."""

    cost: SamplingCost

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Evaluate the start; of a resumed run, keep the evaluations before its checkpoint."""
        if state.global_step:
            self._forget_after(state.global_step)
        super().on_train_begin(args, state, control, **kwargs)

    def _evaluate(self, step: int) -> None:
        super()._evaluate(step)
        self.cost.restart()

    def _forget_after(self, step: int) -> None:
        kept = []
        for line in self._file.read_text(encoding="utf-8").splitlines():
            # The last line of a killed run may be incomplete.
            with suppress(ValueError):
                if json.loads(line)["step"] <= step:
                    kept.append(line + "\n")
        new = self._file.with_suffix(".new")
        new.write_text("".join(kept), encoding="utf-8")
        new.replace(self._file)
