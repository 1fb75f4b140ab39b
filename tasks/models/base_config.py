"""The configuration of a tiny base model, without importing a training library."""

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
    """Share of each head's dimensions with rotary embedding, by default Pythia's; GPT-NeoX only."""
    initializer_range: float = 0.08
    """Standard deviation of the initial weights. Pythia's 0.02 is meant for much wider models; at
    this width attention would stay uniform for hundreds of steps."""
    steps: int = 1000
    """Steps, after the first ones if there are any."""
    batch_size: int = 16
    """Windows per step."""
    learning_rate: float = 4e-3
    warmup_steps: int = 50
    weight_decay: float = 0.05
    adam_beta2: float = 0.98
    gradient_clipping: float = 1.0
    answer_weight: float = 8.0
    """Weight of an answer's tokens in the loss; other tokens have weight 1. The content of
    questions is random, so without this most of the gradient would be noise."""
    leading_bos: bool = False
    """Begin each window with BOS, as for prompts of plain text; chat prompts have none."""
    first_steps: int = 0
    """Most steps, before `steps`, that read only the documents that the corpus marks `first`. What
    a model learns in a jump, such as choosing among lettered options, it then learns in every
    run."""
    first_loss: float = 0.35
    """Loss of an answer's tokens, in nats, below which these steps end; a running mean."""
    first_share: float = 0.0
    """Share of the first documents' windows in each later batch."""
    seed: int = 0
