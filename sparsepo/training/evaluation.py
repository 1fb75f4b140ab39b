"""The evaluation that a trained model is described by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class EvaluateLast(TrainerCallback):
    """Asks for an evaluation after the last step, whatever `eval_strategy` says.

    It is part of training, because trackers close their run when training ends.
    """

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Ask for it."""
        if state.global_step >= state.max_steps:
            control.should_evaluate = True


def final_evaluation(
    args: TrainingArguments, state: TrainerState
) -> tuple[int | None, dict[str, float]]:
    """Return the step of the evaluation that a run ended with, and its values by logged name.

    Args:
        args: of the run.
        state: as it is after training.

    Returns:
        The values of all evaluation sets at the step of the best checkpoint, where that was loaded
        at the end, otherwise at the last step that was evaluated; (None, {}) where none was.
    """
    entries = [
        entry for entry in state.log_history if any(name.startswith("eval_") for name in entry)
    ]
    if not entries:
        return None, {}
    step = int(entries[-1]["step"])
    if args.load_best_model_at_end and state.best_model_checkpoint is not None:
        step = int(Path(state.best_model_checkpoint).name.rpartition("-")[2])
    values: dict[str, float] = {}
    for entry in entries:
        if entry["step"] == step:
            values |= {name: value for name, value in entry.items() if name.startswith("eval_")}
    return step, values
