"""Reports the progress of a training stage to the display."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from harness.graph.stages import StageContext


class Report(TrainerCallback):
    """Reports the progress of training, of its reference cache and of further models."""

    def __init__(self, context: StageContext) -> None:
        self._context = context

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Report the steps."""
        self._context.progress(state.global_step, state.max_steps, "steps")

    def on_reference_cache(self, done: int, total: int) -> Any:
        """Report the pairs of the reference cache."""
        self._context.progress(done, total, "pairs")

    def on_third_models(self, done: int, total: int) -> Any:
        """Report the pairs that the further models have been run on."""
        self._context.progress(done, total, "pairs")
