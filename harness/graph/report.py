"""What a training stage tells the run's display."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from harness.graph.stages import StageContext


class Report(TrainerCallback):
    """Tells the run's display how far a training or its reference cache is."""

    def __init__(self, context: StageContext) -> None:
        self._context = context

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Tell the steps."""
        self._context.progress(state.global_step, state.max_steps, "steps")

    def on_reference_cache(self, done: int, total: int) -> Any:
        """Tell the pairs of the reference cache."""
        self._context.progress(done, total, "pairs")
