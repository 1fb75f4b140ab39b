"""Groups of an optimizer for what is trained beside the policy: masks and a critic."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import nn

MASK_GROUP = "masks"
"""Key of an optimizer's group whose weights are the masks'."""


def separate_masks(
    optimizer: torch.optim.Optimizer,
    module: nn.Module,
    decay: float,
    learning_rate: float | None = None,
) -> None:
    """Give the masks' weights groups of their own in an optimizer that holds a whole module's.

    Args:
        optimizer: changed in place.
        module: a PolicyWithMasks, wrapped or not.
        decay: weight decay of the masks' weights; their biases and norms have none.
        learning_rate: peak learning rate of the masks, None for the policy's.
    """
    masks = {id(weight): weight for name, weight in module.named_parameters() if "masks." in name}
    settings = _taken_out(optimizer, masks)
    if learning_rate is not None:
        settings["lr"] = learning_rate
    trained = [weight for weight in masks.values() if weight.requires_grad]
    for matrices, weight_decay in ((True, decay), (False, 0.0)):
        chosen = [weight for weight in trained if (weight.ndim > 1) is matrices]
        if chosen:
            group = {**settings, "params": chosen, "weight_decay": weight_decay, MASK_GROUP: True}
            optimizer.add_param_group(group)


def separate_critic(optimizer: torch.optim.Optimizer, critic: nn.Module, rate: float) -> None:
    """Give a critic's weights a group of their own, without weight decay.

    Args:
        optimizer: changed in place.
        critic: whose weights the optimizer may hold.
        rate: its learning rate, in multiples of the policy's.
    """
    weights = list(critic.parameters())
    settings = _taken_out(optimizer, [id(weight) for weight in weights])
    settings["lr"] *= rate
    optimizer.add_param_group({**settings, "params": weights, "weight_decay": 0.0})


def _taken_out(optimizer: torch.optim.Optimizer, weights: Collection[int]) -> dict[str, Any]:
    """Take weights, given by their ids, out of an optimizer; return its first group's settings."""
    settings = {k: v for k, v in optimizer.param_groups[0].items() if k != "params"}
    for group in optimizer.param_groups:
        group["params"] = [weight for weight in group["params"] if id(weight) not in weights]
    # Sharded optimizer states are saved by group, and cannot be where two of them are empty.
    optimizer.param_groups[:] = [group for group in optimizer.param_groups if group["params"]]
    return settings
