"""What a rehearsal changes in a profile: fewer rows, samples and steps, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.config.assign import has_key
from harness.config.profiles import Profile

_VALUES: dict[str, Any] = {
    # Rows: a few optimizer steps in each run.
    "data.train_pairs": 16,
    "data.test_pairs": 8,
    "data.train_prompts": 16,
    "data.test_prompts": 8,
    "masks.pairs": 4,
    # Samples.
    "evaluation.limit": 1,
    "evaluation.limits.bbh": 1,
    "evaluation.limits.math_hard": 1,
    "evaluation.limits.gpqa": 1,
    "evaluation.limits.musr": 1,
    "evaluation.limits.mmlu_pro": 1,
    "evaluation.limits.ifeval": 1,
    "evaluation.math_tokens": 8,
    "evaluation.ifeval_tokens": 8,
    "evaluation.win_rate_prompts": 4,
    "evaluation.response_tokens": 8,
    "evaluation.steps": 1,
    "sampling.new_tokens": 8,
    "sampling.max_new_tokens": 8,
    "sampling.train_samples": 4,
    "sampling.test_samples": 2,
    "sampling.prompts": 3,
    "sampling.samples": 2,
    "sampling.temperatures": "0,0.5",
    "sampling.win_rate_prompts": 4,
    "sampling.limit": 3,
    "tuning.problems": 2,
    "tuning.samples": 2,
    "judge.label_pairs": 4,
    "statistics.replicates": 50,
    # A checkpoint after the first step, where the profile writes any.
    "sft.save_steps": 1,
    "po.save_steps": 1,
    "po.validation_steps": 1,
    "po.logging_steps": 1,
}
_WHERE_SET = (
    *(key for key in _VALUES if key.startswith("evaluation.limits.")),
    "sft.save_steps",
    "po.save_steps",
    "po.validation_steps",
)
"""Values that are left at none."""
_SWEEPS = ("sweep.beta", "sweep.simpo_beta", "sweep.simpo_gamma", "tuning.betas", "noise.shares")
"""Values of a sweep: the first and the last are kept, and the one that maps of tokens show."""


def reductions(profile: Profile, judged: bool, answers: Path | None) -> Iterator[str]:
    """Yield the changes of a profile as `--set` takes them.

    Args:
        profile: with the user's changes.
        judged: whether a judge compares responses.
        answers: solutions that stand in for those that a code model would sample; a model of
            random weights writes no program that passes.
    """
    for key, value in _VALUES.items():
        unused = key.startswith("judge.") and not judged
        unset = key in _WHERE_SET and _get(profile, key) is None
        if has_key(profile, key) and not unused and not unset:
            yield f"{key}={value}"
    for key in _SWEEPS:
        if has_key(profile, key):
            yield f"{key}={','.join(_few(profile, key))}"
    if answers is not None and has_key(profile, "data.answers"):
        yield f"data.answers={answers}"
        yield "data.epochs=1"


def _few(profile: Profile, key: str) -> list[str]:
    values = _get(profile, key)
    kept = {values[0], values[-1]}
    if key == "sweep.beta":
        kept.add(_get(profile, "sweep.map_beta"))
    return [f"{value:g}" for value in values if value in kept]


def _get(profile: Profile, key: str) -> Any:
    value: Any = profile
    for name in key.split("."):
        value = getattr(value, name, None)
    return value
