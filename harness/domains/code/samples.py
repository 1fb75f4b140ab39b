"""Samples of Table 2: a program of every row for each problem, and the verdict on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.domains.code.pipeline import Graph
from harness.domains.code.profile import CodeProfile
from harness.domains.common.finished import FinishedRun
from harness.domains.common.samples import Response, Sample, SampleSet
from harness.graph.stages import Stage
from harness.graph.store import Store
from sparsepo.data.jsonl import read_jsonl

BENCHMARKS = {"humaneval": "HumanEval", "mbpp_test": "MBPP"}
SCORES = {
    "verdict": "verdict on this program",
    "passed": "programs for the problem that pass (%)",
}


def code_samples(run: FinishedRun[CodeProfile, Graph]) -> SampleSet | None:
    """Return the first program that each row's model wrote for each problem; None for a figure.

    Args:
        run: an experiment whose stages are in the store.
    """
    graph, store = run.graph, run.store
    if not graph.systems:
        return None
    chains = [
        (
            own[0].seed,
            {row: system.verdicts for row, system in zip(graph.systems, own, strict=True)},
        )
        for own in zip(*graph.systems.values(), strict=True)
    ]
    return SampleSet(
        rows={row.id: row.label for row in run.rows},
        scores=SCORES,
        sources=[verdicts for _, rows in chains for verdicts in rows.values()],
        read=lambda: (
            sample
            for seed, rows in chains
            for benchmark in BENCHMARKS
            for sample in _samples(store, seed, rows, benchmark)
        ),
    )


def _samples(
    store: Store, seed: int, rows: Mapping[str, Stage], benchmark: str
) -> Iterator[Sample]:
    if any(benchmark not in verdicts.config["benchmarks"] for verdicts in rows.values()):
        return
    found = {row: _responses(store, row, verdicts, benchmark) for row, verdicts in rows.items()}
    problems = next(iter(rows.values())).inputs["problems"]
    for problem in read_jsonl(store.folder(problems.address) / f"{benchmark}.jsonl"):
        id = str(problem["task_id"])
        own = [responses[id] for responses in found.values() if id in responses]
        if own:
            yield Sample(id, seed, BENCHMARKS[benchmark], *_texts(problem, own))


def _texts(
    problem: Mapping[str, Any], own: list[Response]
) -> tuple[str, list[Response], dict[str, str]]:
    """Return what a sample shows of a problem: its prompt, the responses, and references."""
    if "prompt" in problem and "canonical_solution" in problem:
        return (
            problem["prompt"],
            own,
            {"solution": problem["canonical_solution"], "tests": problem["test"]},
        )
    prompt = str(problem.get("text") or problem.get("prompt"))
    tests = "\n".join(problem.get("test_list", ()))
    return prompt, own, {"solution": str(problem.get("code", "")), "tests": tests}


def _responses(store: Store, row: str, verdicts: Stage, benchmark: str) -> dict[str, Response]:
    """Return the first program for each problem, by the problem's id."""
    samples = verdicts.inputs["samples"]
    texts: dict[str, str] = {}
    first: dict[str, str] = {}
    results: dict[str, list[bool]] = {}
    for sample, verdict in zip(
        read_jsonl(store.folder(samples.address) / f"{benchmark}.jsonl"),
        read_jsonl(store.folder(verdicts.address) / f"{benchmark}.jsonl"),
        strict=True,
    ):
        id = str(sample["task_id"])
        texts.setdefault(id, sample["completion"])
        first.setdefault(id, verdict["verdict"])
        results.setdefault(id, []).append(verdict["verdict"] == "passed")
    return {
        id: Response(
            row,
            text,
            {"verdict": first[id], "passed": 100.0 * sum(results[id]) / len(results[id])},
        )
        for id, text in texts.items()
    }
