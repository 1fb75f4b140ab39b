"""Several processes, one run: what every process has to know of the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

Item = TypeVar("Item")
Result = TypeVar("Result")


def maximum(accelerator: Accelerator, values: Tensor) -> float:
    """Return the largest of some numbers over all processes, the same on each.

    An error that one process alone raised would leave the others waiting for it for ever; what
    decides about an error is therefore asked of all of them.

    Args:
        accelerator: connects the processes.
        values: at least one number, on the process's device.
    """
    largest = values.detach().float().max()
    if accelerator.num_processes > 1:
        largest = accelerator.gather(largest).max()
    return float(largest)


def collected(accelerator: Accelerator, items: Sequence[Item]) -> list[Item]:
    """Return every process's items, the main process's first, the same on each."""
    if accelerator.num_processes == 1:
        return list(items)
    found: list[Item] = gather_object(list(items))
    return found


def spread(
    accelerator: Accelerator, items: Sequence[Item], work: Callable[[int, Item], Result]
) -> list[Result]:
    """Return `work` of every item in order; the processes share the items out among them.

    Each process calls `work` equally often, because a sharded model is gathered by all of them at
    each call: one that has nothing left repeats an item and drops the result.

    Args:
        accelerator: connects the processes.
        items: the same on every process.
        work: is given an item's number and the item; its result must be picklable.
    """
    size, rank = accelerator.num_processes, accelerator.process_index
    own: list[tuple[int, Result]] = []
    for first in range(0, len(items), size):
        number = first + rank
        result = work(min(number, len(items) - 1), items[min(number, len(items) - 1)])
        if number < len(items):
            own.append((number, result))
    pairs: list[Any] = sorted(collected(accelerator, own), key=lambda entry: entry[0])
    return [result for _, result in pairs]


def seed_apart(accelerator: Accelerator, seed: int) -> None:
    """Give each process its own random numbers for dropout and random masks; one keeps its own."""
    if accelerator.num_processes > 1:
        torch.manual_seed(seed + accelerator.process_index)
