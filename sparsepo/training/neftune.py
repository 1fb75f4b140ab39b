"""NEFTune (arXiv 2310.05914): noise on the policy's token embeddings during training.

transformers' own hook scales the noise by the length of a row. A packed row contains several
sequences, so the length of each token's own sequence is used here, as in the paper; training then
does not depend on how pairs are packed. The trainer adds the hook itself: transformers would need
`get_input_embeddings` on the trained module, and accelerate would then shard the embeddings
separately from an output projection that shares their weights.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from sparsepo.batches.pack import PADDING
from sparsepo.reference.online import unwrap_peft
from sparsepo.training.policy import PolicyWithMasks
from sparsepo.types import PackedBatch


def sequence_lengths(batch: PackedBatch) -> Int[Tensor, "rows length"]:
    """Return, for each token of a batch, the length of its prompt and response together.

    A prompt that both responses share has the length of the chosen sequence; padding has 1.
    """
    sides = batch.response_mask.shape[0]
    # A response's positions continue from its prompt's, so the last one gives the total length.
    group = batch.pair_index * 3 + batch.part.clamp(min=1)
    group = torch.where(batch.pair_index == PADDING, 0, group)
    ends = torch.zeros(
        batch.response_mask.shape[1] * 3, dtype=batch.position_ids.dtype, device=group.device
    )
    if sides and batch.position_ids.numel():
        ends.scatter_reduce_(0, group.flatten(), batch.position_ids.flatten(), "amax")
    return torch.where(batch.pair_index == PADDING, 1, ends[group] + 1)


class NoiseSwitch:
    """Whether noise is currently added."""

    def __init__(self) -> None:
        self.on = False

    @contextlib.contextmanager
    def paused(self) -> Iterator[bool]:
        """Add no noise inside the block; yield whether noise was on."""
        was_on, self.on = self.on, False
        try:
            yield was_on
        finally:
            self.on = was_on


@contextlib.contextmanager
def noisy_embeddings(
    module: PolicyWithMasks, alpha: float | None, switch: NoiseSwitch
) -> Iterator[None]:
    """Inside the block, add noise to a policy's embeddings whenever it runs in training mode.

    e + u · α/√(L d) with u uniform in [−1, 1], L the tokens of the sequence, d the embeddings'
    width. The reference and evaluation get no noise.

    Args:
        module: the policy with its masks.
        alpha: α ≥ 0; None or 0 adds nothing.
        switch: turned on inside the block; it can pause the noise.

    Source: arXiv 2310.05914, section 2.
    """
    if not alpha:
        yield
        return
    running: list[PackedBatch] = []

    def begin(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
        running[:] = [inputs[0]]

    def end(_module: nn.Module, _inputs: Any, _output: Any) -> None:
        running.clear()

    def add_noise(embeddings: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        # A reference within the policy shares the embeddings but does not run through the module.
        if not running or not embeddings.training or not switch.on:
            return output
        lengths = sequence_lengths(running[0]).to(output.dtype)
        scale = alpha / (lengths * output.shape[-1]).sqrt()
        return output + torch.empty_like(output).uniform_(-1, 1) * scale[..., None]

    embeddings = unwrap_peft(module.policy).get_input_embeddings()
    hooks = [
        module.register_forward_pre_hook(begin),
        module.register_forward_hook(end, always_call=True),
        embeddings.register_forward_hook(add_noise),
    ]
    switch.on = True
    try:
        yield
    finally:
        switch.on = False
        for hook in hooks:
            hook.remove()
