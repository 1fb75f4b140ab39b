"""The order in which prompts are sampled and trained on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.utils.data import Sampler


@dataclass(frozen=True)
class Block:
    """The steps that are trained on one rollout."""

    start: int
    """Number of its first optimizer step, from 0."""
    items: list[int]
    """Indices of the prompts that are sampled."""


class RolloutOrder(Sampler[int]):
    """Draws prompts in blocks: the prompts of some steps, several times over.

    Each epoch is a permutation of the prompts, without the few at its end that do not fill a step.
    It depends only on seed and epoch, so that a resumed run finds its place.
    """

    def __init__(
        self, prompts: int, step: int, steps_per_rollout: int, epochs: int, seed: int
    ) -> None:
        """Fix the order.

        Args:
            prompts: number of prompts, at least `step`.
            step: prompts of an optimizer step, over all processes.
            steps_per_rollout: steps whose prompts are sampled together.
            epochs: how often a rollout is trained on.
            seed: of the permutations.
        """
        self._prompts, self._step = prompts, step
        self._steps, self._repeats, self._seed = steps_per_rollout, epochs, seed
        self._epoch = 0

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch."""
        return self._prompts // self._step * self._repeats

    def __len__(self) -> int:
        """Return how many prompts an epoch draws, repeated ones included."""
        return self.steps_per_epoch * self._step

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch for the order of the next iteration."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        """Yield the indices of the epoch's prompts."""
        for block in self._blocks(self._epoch):
            for _ in range(self._repeats):
                yield from block.items

    def start_of(self, step: int) -> int:
        """Return the first step of an optimizer step's block, both counted over all epochs."""
        within = step % self.steps_per_epoch
        return step - within % (self._steps * self._repeats)

    def block_at(self, step: int) -> Block:
        """Return the block of an optimizer step, counted from 0 over all epochs."""
        start = self.start_of(step)
        blocks = self._blocks(step // self.steps_per_epoch)
        return next(block for block in blocks if block.start == start)

    def _blocks(self, epoch: int) -> Iterator[Block]:
        generator = torch.Generator().manual_seed(self._seed + epoch)
        order: list[int] = torch.randperm(self._prompts, generator=generator).tolist()
        whole = self._prompts // self._step
        for first in range(0, whole, self._steps):
            last = min(first + self._steps, whole)
            start = epoch * self.steps_per_epoch + first * self._repeats
            yield Block(start, order[first * self._step : last * self._step])
