"""RolloutTrainer: preference optimization on samples of the policy itself."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sparsepo.batches.tokenize import encode_prompts
from sparsepo.data.prompts import Prompt, PromptData, prompts_of_rows
from sparsepo.distributed.processes import collected
from sparsepo.errors import UserError
from sparsepo.methods.base import Needs, log_ratio_sums
from sparsepo.methods.sampled import SampledMethod, Samples
from sparsepo.reference.cache import SideValues
from sparsepo.reference.online import ReferenceStates
from sparsepo.training.dataset import finite
from sparsepo.training.rewards import Reward
from sparsepo.training.rollout_config import RolloutConfig
from sparsepo.training.rollout_order import Block, RolloutOrder
from sparsepo.training.rollouts import (
    Rollout,
    best_and_worst,
    in_twos,
    measured,
    split_sides,
)
from sparsepo.training.sampling import SamplingTrainer
from sparsepo.types import LossOutput, PackedBatch, TokenizedPair, TokenStats

FIRST_PROMPTS = 16
"""Prompts of which samples are drawn for the start check and for new masks."""


class RolloutTrainer(SamplingTrainer):
    """Trains a policy on its own samples and their rewards.

    At the beginning of each block of steps, the current policy draws `samples_per_prompt` responses
    to each prompt of the block, and the reward scores them. A method of pairs (DPO, IPO, INPO …) is
    trained on the best and the worst of them; a method of single samples (PPO, GRPO, f-DPG, RTO)
    on all.
    A sample depends on the policy, its prompt, the seed and the step, and not on the batch that it
    is drawn in; a resumed run continues exactly.

    Args:
        model: the policy, as for POTrainer.
        reward: `(prompts, responses) -> rewards`, one finite number per response. Prompts come as
            they were given, as text or messages.
        ref_model: the reference; None uses the initial policy.
        args: the configuration.
        train_dataset: prompts: rows with the column `prompt` (others are ignored), texts, or what
            `read_prompts` returns.
        processing_class: the tokenizer; None loads it from the model's folder or id.
        further: arguments of POTrainer: `eval_dataset` (pairs), `oracle`, `callbacks` …

    Raises:
        UserError: as POTrainer; there are fewer prompts than a step draws; an option does not go
            with samples.
    """

    def __init__(
        self,
        model: str | PreTrainedModel,
        reward: Reward,
        ref_model: str | PreTrainedModel | None = None,
        args: RolloutConfig | None = None,
        train_dataset: Any = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        **further: Any,
    ) -> None:
        if args is None:
            args = RolloutConfig(output_dir="sparsepo-output")
        if not isinstance(args, RolloutConfig):
            raise UserError(
                f"args is a {type(args).__name__}; give RolloutConfig(method=…, …), which has the "
                "same fields and those of sampling."
            )
        if not callable(reward):
            raise UserError(
                f"The reward is of type {type(reward).__name__}; give a function of prompts and "
                "responses that returns a number for each response."
            )
        if train_dataset is None:
            raise UserError("train_dataset is missing; give the prompts.")
        method = args.make_method()
        exact = args.temperature == 1 and args.top_p == 1
        if method.needs.rollout and not exact:
            raise UserError(
                f"Method '{method.name}' reads the probabilities with which samples were drawn, "
                "which are the policy's own only at temperature=1 and top_p=1; leave them out."
            )
        if _of_samples_alone(method.needs) and further.get("eval_dataset") is not None:
            raise UserError(
                f"eval_dataset holds pairs, but method '{method.name}' reads what is known of its "
                "samples alone; leave it out."
            )
        self._reward = reward
        self._rollout: Rollout | None = None
        self._prompts = {}
        self._seconds = {"sampling": 0.0, "scoring": 0.0}
        self._since = time.perf_counter()
        super().__init__(
            model,
            ref_model,
            args,
            train_dataset,
            processing_class=processing_class,
            **further,
        )
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise UserError(
                "RolloutTrainer draws samples from whole weights, which FSDP and DeepSpeed divide "
                "among processes; use data parallelism alone."
            )

    # Data

    def _training_data(self, train_dataset: Any) -> Sequence[Prompt]:
        data = finite(
            train_dataset,
            "train_dataset",
            "a list of texts, rows with the column prompt, or what sparsepo.read_prompts(FILE) "
            "returns",
        )
        if not isinstance(data, PromptData):
            rows = [{"prompt": row} if isinstance(row, str) else row for row in data]
            wrong = next((row for row in rows if not isinstance(row, Mapping)), None)
            if wrong is not None:
                raise UserError(
                    f"train_dataset holds values of type {type(wrong).__name__}; give rows with "
                    "the column prompt, or texts."
                )
            data = prompts_of_rows(rows, "train_dataset", arrow=hasattr(data, "features"))
        return data

    def _tokenize_training(self, pairs: Sequence[Prompt]) -> list[TokenizedPair]:
        config = self._config
        step = self._step_prompts
        if len(pairs) < step:
            raise UserError(
                f"A step draws {step} prompts, and train_dataset has {len(pairs)}; lower "
                "per_device_train_batch_size or gradient_accumulation_steps."
            )
        room = self._max_length - config.max_new_tokens
        if config.max_prompt_length is not None:
            room = min(room, config.max_prompt_length)
        if room < 1:
            raise UserError(
                f"max_new_tokens {config.max_new_tokens} leaves no room for a prompt in "
                f"{self._max_length} tokens; lower it."
            )
        encoded = encode_prompts(
            [prompt.content for prompt in pairs],
            self._tokenizer,
            room,
            [prompt.chat_template_kwargs for prompt in pairs],
        )
        empty = [prompt.prompt_id for prompt, ids in zip(pairs, encoded, strict=True) if not ids]
        if empty:
            raise UserError(
                f"Prompt {empty[0]} has no tokens, and the tokenizer has no BOS token to begin "
                "with; remove the prompt."
            )
        self._prompts = {prompt.prompt_id: prompt for prompt in pairs}
        return [
            TokenizedPair(prompt.prompt_id, ids, [], [])
            for prompt, ids in zip(pairs, encoded, strict=True)
        ]

    def _first_pairs(self, tokenized: Any) -> list[TokenizedPair]:
        """Return two samples of the initial policy to each of the first prompts."""
        drawn = self._draw(tokenized[:FIRST_PROMPTS], "start", 2, score=False)
        pairs = [pair for own in drawn for pair in in_twos(own, own.prompt_id)]
        self._seconds = dict.fromkeys(self._seconds, 0.0)
        # A pair of equal responses says nothing to a start check.
        return [pair for pair in pairs if pair.chosen_ids != pair.rejected_ids] or pairs

    @property
    def _step_prompts(self) -> int:
        config = self._config
        prompts: int = config.train_batch_size * config.gradient_accumulation_steps
        return prompts * int(config.world_size)

    def hook_sampler(self, dataset: Any) -> RolloutOrder:
        """Return the order of the prompts."""
        config = self._config
        seed = config.seed if config.data_seed is None else config.data_seed
        self._order = RolloutOrder(
            len(dataset),
            self._step_prompts,
            config.steps_per_rollout,
            config.rollout_epochs,
            seed,
        )
        return self._order

    # Steps

    def hook_step(
        self, drawn: list[Any], device: torch.device
    ) -> tuple[list[dict[str, Any]], Tensor]:
        """Draw samples where a block begins; return the pairs of the step's prompts."""
        if not drawn:
            return super().hook_step(drawn, device)
        step = self.state.global_step
        start = self._order.start_of(step)
        prompts = [prompt for sample in drawn for prompt in sample["pairs"]]
        if self._rollout is None or self._rollout.start != start:
            self._rollout = self._roll_out(self._order.block_at(step), prompts)
        pairs = self._rollout.pairs
        groups = [
            {"pairs": [pair for prompt in sample["pairs"] for pair in pairs[prompt.pair_id]]}
            for sample in drawn
        ]
        rows = [self._rollout.metrics[prompt.pair_id] for prompt in prompts]
        table = {name: torch.tensor([row[name] for row in rows], device=device) for name in rows[0]}
        self._means.record(table, torch.ones(len(rows), device=device))
        samples, count = super().hook_step(groups, device)
        # A step of ties alone changes nothing.
        return samples, count.clamp(min=1)

    def _weights(self, pairs: Sequence[TokenizedPair]) -> Float[Tensor, " pairs"]:
        """Return 0 for pairs whose responses have equal rewards, 1 for the others."""
        assert self._rollout is not None
        tied = self._rollout.tied
        return torch.tensor([float(pair.pair_id not in tied) for pair in pairs])

    def _repeated(self, size: int) -> int:
        """Return 0: the order has whole steps only."""
        del size
        return 0

    def _sampled_values(self, batch: PackedBatch) -> dict[str, Tensor]:
        """Return the rollout's further statistics.

        Raises:
            UserError: the method needs them, and the responses are none of its samples.
        """
        if not _of_samples_alone(self.needs):
            return {}
        drawn = {} if self._rollout is None else next(iter(self._rollout.values.values()))
        if self._rollout is None or not drawn.keys() >= set(batch.pair_ids):
            raise UserError(
                f"Method '{self.method.name}' reads what is known of its samples alone and cannot "
                "score other pairs; compare policies by the rewards of their samples."
            )
        return self._rollout.of_batch(batch)

    # Rollouts

    def _roll_out(self, block: Block, prompts: Sequence[TokenizedPair]) -> Rollout:
        """Draw and score the samples of a block.

        Args:
            block: the steps.
            prompts: those of this process's next step; those of a longer block are looked up.
        """
        config = self._config
        if self.state.global_step != block.start:
            raise UserError(
                f"This checkpoint lies between two steps of the rollout of step {block.start}, "
                "which it does not contain; resume from another one."
            )
        if config.steps_per_rollout > 1:
            dataset: Any = self.train_dataset
            prompts = [dataset[item] for item in block.items]
        drawn = self._draw(prompts, str(block.start), config.samples_per_prompt)
        rollout = Rollout(block.start, {})
        for own in drawn:
            name = f"{own.prompt_id}@{block.start}"
            metrics = measured(own)
            if self.needs.rollout:
                rollout.pairs[own.prompt_id] = in_twos(own, name)
            else:
                pair, tied = best_and_worst(own, name)
                rollout.pairs[own.prompt_id] = [pair]
                rollout.tied |= {name} if tied else set()
                metrics["rollout/ties"] = float(tied)
            rollout.metrics[own.prompt_id] = metrics
        self._add_values(rollout, [score for own in drawn for score in own.scores])
        return rollout

    def _add_values(self, rollout: Rollout, scores: Sequence[float]) -> None:
        """Compute the statistics that depend on the policy that drew the samples."""
        if not _of_samples_alone(self.needs):
            if self._third_models is not None:
                self._read_third_models(rollout.all_pairs())
            return
        pairs = rollout.all_pairs()
        known = self._read_samples(pairs)
        before = known["policy_logps"]
        if self._third_models is not None:
            self._read_third_models(pairs)
            if "oracle" in self.needs.models:
                known["oracle_logps"] = self._third_models.of_pairs("oracle", pairs)
        ids = [pair.pair_id for pair in pairs]
        if "history" in self.needs.models:
            rollout.values["history_logps"] = dict(zip(ids, before, strict=True))
        if not isinstance(self.method, SampledMethod):
            return
        # Means are those of the whole rollout, of which each process has drawn a part.
        parts = collected(self.accelerator, [(list(scores), known)])
        tables = {name: _padded([part[1][name] for part in parts]) for name in known}
        samples = Samples(
            torch.tensor([score for part in parts for score in part[0]]),
            self._config.samples_per_prompt,
            tables["policy_logps"],
            _inside(
                [len(side) for _, own in parts for pair in own["policy_logps"] for side in pair]
            ),
            tables.get("ref_logps"),
            tables.get("oracle_logps"),
            tables.get("values"),
        )
        values = {"sampling_logps": samples.logps, **self.method.from_rollout(samples)}
        first = self.args.process_index * len(scores)
        own = slice(first, first + len(scores))
        lengths = [len(side) for pair in before for side in pair]
        rollout.values |= {
            name: dict(zip(ids, split_sides(value[own], lengths), strict=True))
            for name, value in values.items()
        }

    def _read_third_models(self, pairs: Sequence[TokenizedPair]) -> None:
        """Have the further models read a rollout, in place of the one before."""
        assert self._third_models is not None
        self._third_models.forget()
        self._third_models.fill(pairs)

    # Checkpoints and metrics

    def hook_save(self, directory: Path, gathered: dict[str, Tensor] | None) -> None:
        """Write the model; and the rollout, if the next step is trained on it too."""
        super().hook_save(directory, gathered)
        rollout = self._rollout
        if self._in_checkpoint and rollout is not None:
            step = self.state.global_step
            if self._order.start_of(step) == rollout.start:
                rollout.save(directory)

    def hook_load(self, checkpoint: Path, model: torch.nn.Module) -> None:
        """Read the model, and the rollout if there is one."""
        super().hook_load(checkpoint, model)
        self._rollout = Rollout.load(checkpoint)
        if self._rollout is not None and self._third_models is not None:
            self._read_third_models(self._rollout.all_pairs())

    def _metrics(
        self,
        batch: PackedBatch,
        reference: ReferenceStates | None,
        chosen: TokenStats,
        rejected: TokenStats | None,
        output: LossOutput,
    ) -> dict[str, Tensor]:
        found = super()._metrics(batch, reference, chosen, rejected, output)
        if self.needs.rollout:
            # Two samples have no order.
            unordered = ("rewards/", "logps/")
            found = {key: value for key, value in found.items() if not key.startswith(unordered)}
        if self.needs.ref_logps and rejected is not None:
            of_chosen, of_rejected = log_ratio_sums(chosen, rejected)
            found["rollout/kl"] = ((of_chosen + of_rejected) / 2).detach()
        return found

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log also how the seconds since the last entry were spent."""
        if "loss" in logs:
            now = time.perf_counter()
            spent = {f"seconds/{name}": value for name, value in self._seconds.items()}
            rest = now - self._since - sum(spent.values())
            logs = {**logs, **spent, "seconds/training": rest}
            self._seconds = dict.fromkeys(self._seconds, 0.0)
            self._since = now
        super().log(logs, start_time)

    def begin(self) -> None:
        """Prepare for the first step."""
        super().begin()
        self._since = time.perf_counter()
        self._seconds = dict.fromkeys(self._seconds, 0.0)


def _of_samples_alone(needs: Needs) -> bool:
    """Whether values are read that depend on the policy that drew the responses."""
    return bool(needs.rollout) or "history" in needs.models


def _padded(parts: Sequence[Sequence[SideValues]]) -> Float[Tensor, "S T"]:
    rows = [side for part in parts for pair in part for side in pair]
    return pad_sequence(rows, batch_first=True)


def _inside(lengths: Sequence[int]) -> Bool[Tensor, "S T"]:
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
