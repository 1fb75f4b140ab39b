"""FSDP and DeepSpeed: what a model that is split over processes asks of the training.

FSDP2 gathers a block's weights when the block runs. Embeddings, final norm and output projection
stand outside the blocks; they belong to the root unit, which stays gathered from the policy's
forward to its backward pass, so that the fused operation can read the projection as a whole.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import nn
from transformers import TrainingArguments

from sparsepo.errors import UserError


def uses_fsdp(args: TrainingArguments) -> bool:
    """Return whether weights are going to be split over processes by FSDP."""
    launched = os.environ.get("ACCELERATE_USE_FSDP", "false").lower()
    return bool(args.fsdp) or launched in ("1", "true", "yes")


def check_sharding(accelerator: Accelerator, quantized: bool) -> None:
    """Refuse what cannot work.

    Args:
        accelerator: knows the launcher's configuration.
        quantized: whether the policy's weights are in 4 or 8 bits.

    Raises:
        UserError: a configuration in which the run would fail or save nothing.
    """
    plugin: Any = getattr(accelerator.state, "fsdp_plugin", None)
    deepspeed: Any = getattr(accelerator.state, "deepspeed_plugin", None)
    if quantized and (plugin is not None or deepspeed is not None):
        raise UserError(
            "4-bit and 8-bit weights are not split over processes; start the run with "
            "configs/accelerate/ddp.yaml."
        )
    if deepspeed is not None and deepspeed.zero_stage == 3:
        raise UserError(
            "ZeRO-3 splits the output projection, which the loss reads as a whole; set zero_stage "
            "to 2, or use configs/accelerate/fsdp.yaml."
        )
    if plugin is None:
        return
    if plugin.fsdp_version != 2:
        raise UserError("FSDP version 1 is not supported; set fsdp_version to 2.")
    if "FULL_STATE_DICT" not in str(plugin.state_dict_type):
        raise UserError(
            "With sharded state dicts no model would be saved that from_pretrained reads; set "
            "fsdp_state_dict_type to FULL_STATE_DICT."
        )
    if plugin.cpu_ram_efficient_loading:
        raise UserError(
            "With fsdp_cpu_ram_efficient_loading only the first process would have a reference and "
            "masks; set it to false."
        )


def keep_precision(accelerator: Accelerator) -> None:
    """Have FSDP cast weights alone for mixed precision, not what goes in and out of the model.

    In goes what the reference said, out come log-probabilities that are summed over a response;
    gradients are summed over processes. All of that stays float32.
    """
    plugin: Any = getattr(accelerator.state, "fsdp_plugin", None)
    policy = None if plugin is None else plugin.mixed_precision_policy
    if policy is not None:
        plugin.mixed_precision_policy = dataclasses.replace(
            policy, reduce_dtype=torch.float32, output_dtype=None, cast_forward_inputs=False
        )


def shard_masks(masks: nn.ModuleDict) -> None:
    """Make each mask a unit of FSDP of its own, in float32 whatever the policy computes in."""
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    for mask in masks.values():
        if list(mask.parameters()) and not isinstance(mask, FSDPModule):
            fully_shard(mask, mp_policy=MixedPrecisionPolicy(param_dtype=torch.float32))


def forward_dtype(accelerator: Accelerator) -> torch.dtype | None:
    """Return the dtype that the policy's weights have while it runs, if it is not their own.

    FSDP and DeepSpeed cast the weights themselves for mixed precision; autocast leaves them.
    """
    if accelerator.distributed_type not in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        return None
    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(accelerator.mixed_precision)
