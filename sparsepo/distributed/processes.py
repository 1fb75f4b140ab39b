"""Communication between the processes of one run."""

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

    If only one process raised an error, the others would wait for it forever. Values that decide
    whether an error is raised are therefore gathered from all of them.

    Args:
        accelerator: connects the processes.
        values: at least one number, on the process's device.
    """
    largest = values.detach().float().max()
    if accelerator.num_processes > 1:
        largest = accelerator.gather(largest).max()
    return float(largest)


def collected(accelerator: Accelerator, items: Sequence[Item]) -> list[Item]:
    """Return the items of all processes in order of rank, the same list on each."""
    if accelerator.num_processes == 1:
        return list(items)
    found: list[Item] = gather_object(list(items))
    return found


def spread(
    accelerator: Accelerator, items: Sequence[Item], work: Callable[[int, Item], Result]
) -> list[Result]:
    """Return `work` of every item, in order, with the items divided among the processes.

    Each process calls `work` equally often, because all of them gather a sharded model at each
    call: a process that has no items left repeats one and drops the result.

    Args:
        accelerator: connects the processes.
        items: the same on every process.
        work: called with an item's index and the item; its result must be picklable.
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
    """Seed each process differently for dropout and random masks, if there are several."""
    if accelerator.num_processes > 1:
        torch.manual_seed(seed + accelerator.process_index)
