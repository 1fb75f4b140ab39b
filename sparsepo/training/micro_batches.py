"""The micro-batches of a step: which pairs are in each, and what a CPU computes at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import chain
from typing import Any

import torch
from accelerate.utils import DistributedType
from jaxtyping import Float
from torch import Tensor

from sparsepo.batches.pack import PADDING, packed_length
from sparsepo.batches.parts import in_parts, tokens_at_once
from sparsepo.batches.regroup import LengthGrouped, as_drawn, regroup
from sparsepo.reference.online import unwrap_peft
from sparsepo.training.dataset import Stream
from sparsepo.training.hooks import joined
from sparsepo.training.mismatched import mismatched
from sparsepo.training.scoring import ScoringTrainer
from sparsepo.types import TokenizedPair

MISMATCHED = "mismatched"
"""Key of a micro-batch's responses with other pairs' prompts."""


class StepTrainer(ScoringTrainer):
    """A ScoringTrainer that packs the pairs of a step."""

    def hook_sampler(self, dataset: Any) -> Any:
        """Return a sampler that groups pairs by packed length, if the configuration asks for it."""
        if self.args.train_sampling_strategy != "group_by_length":
            return None
        lengths = [packed_length(pair, self.needs.rejected) for pair in dataset]
        step = self.args.train_batch_size * self.args.gradient_accumulation_steps
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return LengthGrouped(step, lengths, seed)

    def hook_step(
        self, drawn: list[Any], device: torch.device
    ) -> tuple[list[dict[str, Any]], Tensor]:
        """Pack the micro-batches of one step; count their pairs over all processes.

        The mean over all pairs of a step does not depend on how they are split.
        """
        batches = [sample["pairs"] for sample in drawn]
        pairs = list(chain.from_iterable(batches))
        weights = self._weights(pairs)
        if batches:
            weights[len(pairs) - self._repeated(len(batches[-1])) :] = 0
        lengths = [packed_length(pair, self.needs.rejected) for pair in pairs]
        samples = []
        for group in self._groups(lengths, [len(batch) for batch in batches]):
            parts = [self._inputs(pairs, weights, part) for part in self._parts(lengths, group)]
            samples.append(parts[0] if len(parts) == 1 else joined(parts))
        count = weights.sum().to(device)
        if self.args.world_size > 1:
            count = self.accelerator.gather(count).sum()
        return samples, count

    def _inputs(
        self, pairs: list[TokenizedPair], weights: Float[Tensor, " pairs"], group: list[int]
    ) -> dict[str, Any]:
        """Return what `compute_loss` reads of some of a step's pairs."""
        own = [pairs[item] for item in group]
        batch = self._pack(own, self.needs.rejected)
        inputs = {**vars(batch), "weights": weights[group]}
        if self.needs.mismatched and (others := mismatched(own, self._max_length)):
            inputs[MISMATCHED] = vars(self._pack(others, rejected=True))
        if self.args.include_num_input_tokens_seen == "non_padding":
            # transformers counts the tokens of a mask by this name.
            inputs["attention_mask"] = batch.part != PADDING
        return inputs

    def _parts(self, lengths: list[int], group: list[int]) -> list[list[int]]:
        """Return the parts of a micro-batch that are computed one after the other."""
        if self._tokens_at_once is None:
            return [group]
        own = [lengths[item] for item in group]
        parts = in_parts(own, self._tokens_at_once, self._config.tokens_per_row)
        return [[group[item] for item in part] for part in parts]

    @cached_property
    def _tokens_at_once(self) -> int | None:
        """What a CPU computes at once; None for whole micro-batches."""
        needs_others = self.needs.whole_step or self.needs.mismatched
        alone = self.accelerator.distributed_type == DistributedType.NO
        packed = self._module.computation == "packed"
        if needs_others or not alone or not packed or self.args.device.type != "cpu":
            return None
        return tokens_at_once(unwrap_peft(self.policy).config)

    def _weights(self, pairs: Sequence[TokenizedPair]) -> Float[Tensor, " pairs"]:
        """Return 1 for each pair that counts."""
        return torch.ones(len(pairs))

    def _groups(self, lengths: list[int], sizes: list[int]) -> list[list[int]]:
        """Return which of a step's pairs make up each micro-batch."""
        if not self._config.length_bucketed:
            return as_drawn(sizes)
        return regroup(lengths, sizes, self._config.tokens_per_row)

    def _repeated(self, size: int) -> int:
        """Return how many pairs at the end of a micro-batch of that size are repeated.

        At the end of an epoch accelerate fills up the processes' batches with the epoch's first
        pairs; these must not count twice.
        """
        world, dataset = self.args.world_size, self.train_dataset
        if world == 1 or self.args.dataloader_drop_last or isinstance(dataset, Stream):
            return 0
        over = len(dataset) % (size * world)  # type: ignore[arg-type]
        if over == 0 or not self.accelerator.gradient_state.end_of_dataloader:
            return 0
        return size - int(min(max(over - self.args.process_index * size, 0), size))
