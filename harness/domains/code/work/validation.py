"""The stage that measures a trial of a method's tuning on MBPP's validation problems."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.domains.code.work.judge import judge_samples
from harness.domains.code.work.samples import sample
from harness.domains.common.work.outcome import Outcome, write_outcome
from harness.graph.stages import StageContext
from tasks.metrics.pass_at_k import pass_at_k_of_problems


def measure_trial(context: StageContext) -> None:
    """Write trial.json: pass@k in percent, pass@1 between equal ones, and the samples and verdicts.

    Configuration: `k`, `sampling` (of `samples.sample`), `judging` (of `judge.judge_samples`).
    Inputs: "run" (of the trial) and "problems".
    """
    write_outcome(context, lambda: _measure(context))


def _measure(context: StageContext) -> Outcome:
    inputs = {**context.inputs, "model": context.inputs["run"]}
    samples = _within(context, "samples", context.config["sampling"], inputs)
    sample(samples)
    verdicts = _within(
        context, "verdicts", context.config["judging"], {**inputs, "samples": samples.work}
    )
    judge_samples(verdicts)
    report = json.loads((verdicts.work / "report.json").read_text(encoding="utf-8"))
    counts = [
        (drawn, passed)
        for benchmark in report["benchmarks"].values()
        for drawn, passed in benchmark["problems"].values()
    ]
    first, second = (
        100.0 * float(pass_at_k_of_problems(counts, k).mean()) for k in (context.config["k"], 1)
    )
    return Outcome("complete", value=first, second=second)


def _within(
    context: StageContext, name: str, config: Mapping[str, Any], inputs: Mapping[str, Path]
) -> StageContext:
    """Return the context of another stage's function, which writes to a folder of its own."""
    work = context.work / name
    work.mkdir(exist_ok=True)
    return replace(context, config=config, inputs=inputs, work=work)
