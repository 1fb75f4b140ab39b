"""What a training stage costs: seconds, memory, tokens and trained parameters.

None of it affects a result, and all of it varies from run to run, so it is kept in a file of its
own, which no later stage and no result reads.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from harness.graph.hardware import hardware
from harness.graph.stages import StageContext

COST = "cost.json"
_PARTS = "cost_parts.json"
"""The cost up to the last checkpoint, from which a resumed run goes on counting."""


class Cost(TrainerCallback):
    """Measures training steps; first among the callbacks, so that no other one is measured.

    The time is that of the optimizer steps alone, each once: loading, tokenizing, checkpoints,
    evaluations and steps that an interruption has undone are not in it.

    Args:
        context: the stage's; the device is in its configuration.
    """

    def __init__(self, context: StageContext) -> None:
        self._context = context
        self._file = context.work / _PARTS
        self._cuda = context.config["device"] == "cuda"
        self._seconds: list[float] = []
        self._peak = 0
        self._began = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Continue after the steps of the checkpoint."""
        with suppress(OSError, ValueError, KeyError):
            parts = json.loads(self._file.read_text(encoding="utf-8"))
            self._seconds = [float(one) for one in parts["seconds"]][: state.global_step]
            self._peak = int(parts["peak_memory_bytes"])
        _reset_peak(self._cuda)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self._began = self._now()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop the clock; before a checkpoint is written, write what has been measured."""
        self._seconds.append(self._now() - self._began)
        if control.should_save:
            self._peak = max(self._peak, _peak_bytes(self._cuda))
            parts = {"seconds": self._seconds, "peak_memory_bytes": self._peak}
            new = self._file.with_suffix(".new")
            new.write_text(json.dumps(parts), encoding="utf-8")
            new.replace(self._file)

    def write(self, trainer: Any) -> None:
        """Write cost.json after training.

        Args:
            trainer: a POTrainer that has trained; its pairs count with their prompt once and the
                responses that the method reads.
        """
        seconds = sum(self._seconds)
        tokens = self._tokens(trainer)
        cost = {
            "seconds": round(seconds, 3),
            **self._parts(trainer, seconds),
            "steps": len(self._seconds),
            "peak_memory_bytes": max(self._peak, _peak_bytes(self._cuda)),
            "memory_of": "GPU" if self._cuda else "process",
            "tokens": tokens,
            "tokens_per_second": round(tokens / seconds, 1) if seconds > 0.0 else None,
            "trained_parameters": sum(
                weight.numel() for weight in trainer.model.parameters() if weight.requires_grad
            ),
            "hardware": hardware(self._context.config["device"]),
            "threads": self._context.threads,
        }
        (self._context.work / COST).write_text(
            json.dumps(cost, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        self._file.unlink(missing_ok=True)

    def _parts(self, trainer: Any, seconds: float) -> dict[str, float]:
        """Return how the seconds of the steps were spent, where that is known."""
        return {}

    def _tokens(self, trainer: Any) -> int:
        """Return the tokens that were trained on."""
        rejected = trainer.needs.rejected
        of_epoch = sum(
            len(pair.prompt_ids)
            + len(pair.chosen_ids)
            + (len(pair.rejected_ids) if rejected else 0)
            for pair in trainer.train_dataset
        )
        epochs: float = trainer.state.epoch
        return round(of_epoch * epochs)

    def _now(self) -> float:
        if self._cuda:
            # Kernels that have been started are not done.
            torch.cuda.synchronize()
        return time.perf_counter()


class SamplingCost(Cost):
    """Measures the steps of a RolloutTrainer, which draw and score samples before they train.

    `cost.json` also has the `seconds_sampling`, `seconds_scoring` and `seconds_training` that make
    up `seconds`; its tokens are those of the prompts and of all samples that were drawn.
    """

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Continue after the steps of the checkpoint, and start the clock."""
        super().on_train_begin(args, state, control, **kwargs)
        self.restart()

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Let the clock run: the step's samples have been drawn already."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop the clock, and have the seconds logged that would otherwise be lost."""
        super().on_step_end(args, state, control, **kwargs)
        control.should_log |= control.should_save or state.global_step >= state.max_steps
        self.restart()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Leave the checkpoint out."""
        self.restart()

    def restart(self) -> None:
        """Leave out what was done since the end of the last step."""
        self._began = self._now()

    def _parts(self, trainer: Any, seconds: float) -> dict[str, float]:
        logged = {
            name: sum(entry.get(f"seconds/{name}", 0.0) for entry in trainer.state.log_history)
            for name in ("sampling", "scoring")
        }
        parts = {**logged, "training": seconds - sum(logged.values())}
        return {f"seconds_{name}": round(value, 3) for name, value in parts.items()}

    def _tokens(self, trainer: Any) -> int:
        args = trainer.args
        prompts = args.train_batch_size * args.gradient_accumulation_steps
        of_prompts = sum(len(one.prompt_ids) for one in trainer.train_dataset)
        drawn, before = 0.0, 0
        for entry in trainer.state.log_history:
            if "rollout/length" in entry:
                drawn += entry["rollout/length"] * (entry["step"] - before)
                before = entry["step"]
        of_a_prompt = before * of_prompts / len(trainer.train_dataset)
        samples: int = args.samples_per_prompt
        found: float = prompts * (drawn * samples + of_a_prompt)
        return round(found)


def _reset_peak(cuda: bool) -> None:
    """Forget the peak of memory before training, where that is allowed."""
    if cuda:
        torch.cuda.reset_peak_memory_stats()
        return
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_bytes(cuda: bool) -> int:
    """Return the peak of memory: allocated on the GPU, otherwise resident in the process."""
    if cuda:
        return int(torch.cuda.max_memory_allocated())
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
