"""FSDP and DeepSpeed: requirements of training with weights sharded over processes.

FSDP2 gathers a block's weights when the block runs. Embeddings, final norm and output projection
are outside the blocks. They belong to the root unit, which stays gathered from the policy's forward
to its backward pass; this lets the fused operation read the whole projection.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import nn
from transformers import TrainingArguments

from sparsepo.errors import UserError

DEEPSPEED = "python -m pip install 'deepspeed>=0.18,<0.20'"
"""Installs DeepSpeed, with the bounds of pyproject.toml."""


def uses_fsdp(args: TrainingArguments) -> bool:
    """Return whether FSDP will shard the weights over processes."""
    launched = os.environ.get("ACCELERATE_USE_FSDP", "false").lower()
    return bool(args.fsdp) or launched in ("1", "true", "yes")


def uses_deepspeed(args: TrainingArguments) -> bool:
    """Return whether the run is configured, or was launched, to train with DeepSpeed."""
    launched = os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower()
    return bool(args.deepspeed) or launched == "true"


def check_deepspeed(args: TrainingArguments) -> None:
    """Check, before transformers resolves the options, that DeepSpeed can be used.

    Raises:
        UserError: DeepSpeed is not installed, or accelerate would train without it.
    """
    if not uses_deepspeed(args):
        return
    if importlib.util.find_spec("deepspeed") is None:
        raise UserError(
            f"DeepSpeed is not installed; run `{DEEPSPEED}`, or launch the run with "
            "configs/accelerate/fsdp.yaml."
        )
    if args.use_cpu:
        raise UserError(
            "With use_cpu=true accelerate leaves DeepSpeed out; set ddp_backend=gloo instead."
        )


def check_joined(args: TrainingArguments) -> None:
    """Check that the processes of a DeepSpeed run know of each other.

    Without a GPU accelerate chooses no backend under DeepSpeed, and every process would train on
    its own, on all pairs.

    Raises:
        UserError: this process sees fewer processes than were launched.
    """
    if uses_deepspeed(args) and args.world_size < int(os.environ.get("WORLD_SIZE", "1")):
        raise UserError(
            "DeepSpeed finds no GPU, and its processes are not connected; set ddp_backend=gloo to "
            "train on CPUs."
        )


def check_sharding(accelerator: Accelerator, quantized: bool) -> None:
    """Reject sharding configurations that cannot work.

    Args:
        accelerator: holds the launcher's configuration.
        quantized: whether the policy's weights are in 4 or 8 bits.

    Raises:
        UserError: the run would fail, or save no usable model.
    """
    plugin: Any = getattr(accelerator.state, "fsdp_plugin", None)
    deepspeed: Any = getattr(accelerator.state, "deepspeed_plugin", None)
    if quantized and (plugin is not None or deepspeed is not None):
        raise UserError(
            "4-bit and 8-bit weights cannot be sharded over processes; launch the run with "
            "configs/accelerate/ddp.yaml."
        )
    if deepspeed is not None and deepspeed.zero_stage == 3:
        raise UserError(
            "ZeRO-3 shards the output projection, but the loss needs the whole projection; set "
            "zero_stage to 2, or use configs/accelerate/fsdp.yaml."
        )
    if plugin is None:
        return
    if plugin.fsdp_version != 2:
        raise UserError("FSDP version 1 is not supported; set fsdp_version to 2.")
    if "FULL_STATE_DICT" not in str(plugin.state_dict_type):
        raise UserError(
            "A model saved as a sharded state dict cannot be read by from_pretrained; set "
            "fsdp_state_dict_type to FULL_STATE_DICT."
        )
    if plugin.cpu_ram_efficient_loading:
        raise UserError(
            "With fsdp_cpu_ram_efficient_loading only the first process would have the reference "
            "and the masks; set it to false."
        )


def keep_precision(accelerator: Accelerator) -> None:
    """Have FSDP cast only weights for mixed precision, not the model's inputs and outputs.

    The inputs include the reference's statistics, the outputs are log-probabilities that are summed
    over a response, and gradients are summed over processes. All of these stay in float32.
    """
    plugin: Any = getattr(accelerator.state, "fsdp_plugin", None)
    policy = None if plugin is None else plugin.mixed_precision_policy
    if policy is not None:
        plugin.mixed_precision_policy = dataclasses.replace(
            policy, reduce_dtype=torch.float32, output_dtype=None, cast_forward_inputs=False
        )


def shard_masks(masks: nn.ModuleDict) -> None:
    """Make each mask a separate FSDP unit, in float32 regardless of the policy's dtype."""
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    for mask in masks.values():
        if list(mask.parameters()) and not isinstance(mask, FSDPModule):
            fully_shard(mask, mp_policy=MixedPrecisionPolicy(param_dtype=torch.float32))


def forward_dtype(accelerator: Accelerator) -> torch.dtype | None:
    """Return the dtype that the policy's weights are cast to while it runs; None without a cast.

    FSDP and DeepSpeed cast the weights themselves for mixed precision; autocast does not.
    """
    if accelerator.distributed_type not in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        return None
    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(accelerator.mixed_precision)
