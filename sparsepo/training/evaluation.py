"""The final evaluation of a run, which the model card reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class EvaluateLast(TrainerCallback):
    """Requests an evaluation after the last step, whatever `eval_strategy` is.

    The evaluation is part of training, because trackers close their run when training ends.
    """

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Request an evaluation after the last step."""
        if state.global_step >= state.max_steps:
            control.should_evaluate = True


def final_evaluation(
    args: TrainingArguments, state: TrainerState
) -> tuple[int | None, dict[str, float]]:
    """Return the step of a run's final evaluation and its values by logged name.

    Args:
        args: the run's arguments.
        state: the trainer's state after training.

    Returns:
        The values of all evaluation sets at the step of the best checkpoint, if it was loaded at
        the end, otherwise at the last evaluated step; (None, {}) if there was no evaluation.
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
