"""The stage that runs model-generated programs in the sandbox."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

from harness.domains.code.work.common import problems_of, samples_of
from harness.domains.code.work.verdicts import write_verdicts
from harness.domains.common.work.files import write_json
from harness.graph.stages import StageContext
from tasks.code.conventions import get_convention
from tasks.code.judging import Judged, Result, judge
from tasks.code.problems import task_key
from tasks.code.samples import Sample
from tasks.sandbox import choose_tier, run_programs


def judge_samples(context: StageContext) -> None:
    """Write <benchmark>.jsonl of each benchmark, one verdict per sample, and report.json.

    Configuration: `benchmarks`, `convention`, `programs_at_once` (None for one per core). Inputs:
    "problems" and "samples". The report contains the isolation's name, and for each benchmark the
    counts of verdicts, suspected forgeries, (samples, passed) of every problem, and the number of
    programs that were run (identical ones run once).
    """
    config = context.config
    tier = choose_tier(None)
    workers = config["programs_at_once"] or len(os.sched_getaffinity(0))
    report: dict[str, Any] = {"tier": tier, "benchmarks": {}}
    for name in config["benchmarks"]:
        problems = problems_of(context, name)
        samples = samples_of(context, name, problems)
        convention = get_convention(config["convention"], problems)
        found: dict[int, Result] = {}
        programs = 0
        events = judge(
            samples, convention, partial(run_programs, workers=workers, tier=tier), {}, {}
        )
        for event in events:
            if isinstance(event, Judged):
                found[event.index] = event.result
                programs += not event.copied
                context.progress(len(found), len(samples), f"programs of {name}")
        results = [found[index] for index in range(len(samples))]
        write_verdicts(results, context.work / f"{name}.jsonl")
        report["benchmarks"][name] = {**summary(samples, results), "programs": programs}
    write_json(report, context.work / "report.json")


def summary(samples: Sequence[Sample], results: Sequence[Result]) -> dict[str, Any]:
    """Return the summary of a benchmark's verdicts that a table needs.

    Args:
        samples: the benchmark's samples.
        results: one result per sample, in order.
    """
    problems: dict[str, list[int]] = {}
    for sample, result in zip(samples, results, strict=True):
        counts = problems.setdefault(task_key(sample.problem.task_id), [0, 0])
        counts[0] += 1
        counts[1] += result.verdict == "passed"
    return {
        "verdicts": dict(Counter(result.verdict for result in results)),
        "suspected_forgeries": sum(result.suspect for result in results),
        "problems": problems,
    }
