"""What one stage computes, and the samples that it draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from harness.commands.plan.cost_model import (
    FLOAT32,
    HALF,
    Decoding,
    Memory,
    Shape,
    decoding,
    forward_flops,
)
from harness.commands.plan.sizes import Sizes, drawn_length
from harness.graph.stages import Stage

NO_DECODING = Decoding()


@dataclass(frozen=True)
class Work:
    """What one stage computes."""

    flops: float = 0.0
    """Of forward and training passes."""
    precision: str = "float32"
    decoded: Decoding = NO_DECODING
    units: Mapping[str, float] = field(default_factory=dict)
    """Work of the processor, by name; see `processor.UNITS`."""
    memory: Memory | None = None
    """On a GPU, of a training run."""
    disk: float = 0.0
    """Bytes that stay in the store."""
    checkpoints: float = 0.0
    """Bytes on disk while it runs."""
    unknown: str | None = None
    """Why its FLOPs are not known."""
    kind: str = "data and choices"
    """The row of the plan that it counts in."""


Reader = Callable[[Stage, Sizes], Work]
"""Returns the work of a stage; raises UnknownSizeError."""
Readers = Mapping[str, Mapping[str, Reader]]
"""Row of the plan → stage function, without `harness.domains.` → its reader."""


def sampled(
    stage: Stage, shape: Shape, count: float, prompt: float, new: float, distinct: float
) -> tuple[float, Decoding]:
    """Return the FLOPs of the passes over prompts, and the decoding.

    Args:
        stage: the stage that samples.
        shape: its model.
        count: samples.
        prompt: mean tokens of a prompt.
        new: the most tokens of a sample.
        distinct: prompts, each of which is passed through the model once.
    """
    size = HALF if stage.config.get("dtype") == "bfloat16" else FLOAT32
    batch = int(stage.options.get("batch_size", 64))
    new = drawn_length(stage, new)
    flops = forward_flops(shape, distinct * prompt, prompt, distinct)
    return flops, decoding(shape, count, prompt, new, batch, size)


def precision_of(dtype: str) -> str:
    """Return the precision of products with weights of a dtype; "auto" is taken for float32."""
    return "bfloat16" if dtype in ("bfloat16", "float16") else "float32"
