"""The stage that trains a method with evaluations: responses, masks, token rewards."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, TrainerCallback

from harness.domains.common.work.files import read_pairs_file, starting_model
from harness.domains.common.work.train import run_training
from harness.domains.sentiment.work.common import LENGTHS, RESPONSES, TOKENS
from harness.domains.sentiment.work.evaluation import encoded_prompts, write_responses
from harness.graph.stages import StageContext
from sparsepo.analysis.maps import token_maps
from sparsepo.analysis.trained import TrainedModel
from sparsepo.reference.online import Reference
from sparsepo.training.trainer import POTrainer

QUANTITIES = ("log_ratios", "reward_mask", "kl_mask")
"""Quantities of each response token in tokens.npz, if the method has them."""


def train_and_evaluate(context: StageContext) -> None:
    """Train as `train_policy` does, and evaluate the policy at regular steps.

    Configuration: that of train_policy, and `evaluations`: `steps` (between evaluations; the start
    and the end are evaluated too), `new_tokens`, `batch_size`, `seed`, `token_pairs`.

    Writes, besides train_policy's files, `responses.jsonl` (`step`, and for each prompt of
    prompts.json its token ids, `prompts`, the `ids` of one response sampled at temperature 1, and
    its log-probability under the policy, `logps`; `truncated_prompts`, the number of truncated
    prompts, and `unfinished`, the number of responses that reached the longest length) and, if
    token_pairs is above 0, `tokens.npz` (`<step>/<quantity>`, the values of all response tokens of
    the first test pairs in a row, chosen before rejected, and the responses' `lengths`).

    The input "start" has the responses of the initial model, which are not sampled again.
    """
    run_training(context, lambda trainer: Evaluations(context, trainer))


@dataclass
class Evaluations(TrainerCallback):
    """Evaluates the policy at the start, at regular steps, and at the end."""

    context: StageContext
    trainer: POTrainer

    def __post_init__(self) -> None:
        """Read the prompts, and the reference if the method has one."""
        pairs = self.context.inputs["pairs"]
        self._values = self.context.config["evaluations"]
        self._prompts, self._tokenizer = encoded_prompts(self.context)
        self._pairs = read_pairs_file(pairs / "test.jsonl")[: self._values["token_pairs"]]
        self._reference: Reference | None = None
        if self._pairs:
            start: Any = AutoModelForCausalLM.from_pretrained(
                starting_model(self.context), dtype="float32"
            )
            self._reference = Reference(start).to(self.trainer.args.device)
        self._tokens: dict[str, Any] = {}
        # A resumed run continues with the evaluations before its checkpoint.
        if self._file.is_file() and (self.context.work / TOKENS).is_file():
            self._tokens = dict(np.load(self.context.work / TOKENS))

    @property
    def _file(self) -> Path:
        return self.context.work / RESPONSES

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Evaluate the start."""
        if state.global_step == 0:
            self._evaluate(0)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Evaluate at regular steps, and at the end."""
        step = state.global_step
        if step % self._values["steps"] == 0 or step == state.max_steps:
            self._evaluate(step)

    def _evaluate(self, step: int) -> None:
        trainer = self.trainer
        module = trainer.accelerator.unwrap_model(trainer.model)
        training = module.training
        module.eval()
        try:
            with torch.random.fork_rng():
                if step == 0:
                    shutil.copyfile(self.context.inputs["start"] / RESPONSES, self._file)
                else:
                    write_responses(
                        self.context, trainer.policy, self._tokenizer, self._prompts, step
                    )
                if self._reference is not None:
                    self._read_tokens(step, module)
        finally:
            module.train(training)

    def _read_tokens(self, step: int, module: Any) -> None:
        training = self.context.config["training"]
        found = token_maps(
            TrainedModel(module, self.trainer.method, self._tokenizer, self._reference, "policy"),
            self._pairs,
            max_length=training["max_length"],
            max_prompt_length=training["max_prompt_length"],
            on_long_response="truncate",
            batch_size=self._values["batch_size"],
            accelerator=self.trainer.accelerator,
        ).maps
        responses = [side for pair in found.pairs for side in (pair.chosen, pair.rejected)]
        self._tokens[LENGTHS] = np.array([len(response.tokens) for response in responses])
        for name in QUANTITIES:
            columns = [getattr(response, name) for response in responses]
            if all(column is not None for column in columns):
                values = np.concatenate([np.asarray(c, dtype=np.float32) for c in columns])
                self._tokens[f"{step}/{name}"] = values
        np.savez_compressed(self.context.work / TOKENS, **self._tokens)
