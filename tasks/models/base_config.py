"""The values of a tiny base model; nothing that imports a training library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Architecture = Literal["gpt_neox", "gpt2", "gpt_bigcode"]


@dataclass(frozen=True, slots=True)
class BaseModelConfig:
    """Architecture and training of the base model."""

    architecture: Architecture = "gpt_neox"
    layers: int = 3
    width: int = 96
    heads: int = 4
    vocabulary_size: int = 1024
    context: int = 128
    """Longest sequence of the model, and the length of its training windows, in tokens."""
    rotary_share: float = 0.25
    """Share of each head's dimensions that carry the position, Pythia's; GPT-NeoX only."""
    initializer_range: float = 0.08
    """Standard deviation of the first weights. Pythia's 0.02 is for far wider models: at this width
    it leaves attention flat for hundreds of steps."""
    steps: int = 1500
    batch_size: int = 16
    """Windows a step."""
    learning_rate: float = 4e-3
    warmup_steps: int = 50
    weight_decay: float = 0.05
    adam_beta2: float = 0.98
    gradient_clipping: float = 1.0
    answer_weight: float = 8.0
    """Weight of an answer's tokens in the loss; the other tokens count 1. A question's content is
    random, so without this nearly all of the gradient would be noise."""
    leading_bos: bool = False
    """Begin each window with BOS, as a plain text's prompt does; a chat's begins without one."""
    seed: int = 0
