"""Benchmark rows: checked, assigned to leaf tasks, capped.

Row cap: at most ``limit`` rows of each leaf task, evenly spaced over its usable rows instead of
drawn at random.

MMLU-Pro's five few-shot examples come from its ``validation`` rows. If a source has none (as the
published test samples), its first five usable test rows are the examples and are not evaluated.
"""

from __future__ import annotations

import ast
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sparsepo.data.rows import Row
from sparsepo.errors import UserError, did_you_mean
from tasks.leaderboard_v2.scoring import BENCHMARKS, LEAF_TASKS, Benchmark
from tasks.leaderboard_v2.sources import (
    HUB,
    REQUIRED_FIELDS,
    existing,
    fingerprint_source,
    read_file,
    read_folder,
    read_hub,
)

MMLU_PRO_SHOTS: Final = 5

_NATURAL_IDS: tuple[str, ...] = ("id", "key", "question_id", "Record ID")


@dataclass(frozen=True, slots=True)
class LeafRows:
    """The rows of one leaf task.

    Attributes:
        rows: the rows to evaluate, in the source's order.
        row_ids: a unique id of each row: its own if it has one, otherwise its position in the
            source.
        examples: the rows of the few-shot prompt (MMLU-Pro only).
        available: number of usable rows before the cap.
        examples_from: where the examples come from.
    """

    rows: list[Row]
    row_ids: list[str]
    examples: list[Row] = field(default_factory=list)
    available: int = 0
    examples_from: str | None = None


@dataclass(frozen=True, slots=True)
class BenchmarkRows:
    """All rows of one benchmark.

    Attributes:
        source: ``"hub"``, the name of a file or folder, or ``"none"``.
        fingerprint: see `fingerprint_source`.
        leaves: leaf task → rows; leaf tasks without rows are absent.
        skipped: reason → number of rows that could not be used.
        missing: why there is nothing to evaluate; None if there is.
    """

    source: str
    fingerprint: str
    leaves: dict[str, LeafRows] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    missing: str | None = None


def evenly_spaced(count: int, limit: int | None) -> list[int]:
    """Return evenly spaced positions of at most `limit` of `count` rows, in increasing order.

    ⌊i · count / limit⌋ for i = 0 … limit − 1

    Args:
        count: number of rows.
        limit: largest number of positions; None for all.
    """
    if limit is None or limit >= count:
        return list(range(count))
    return [index * count // limit for index in range(limit)]


def read_benchmark(
    benchmark: Benchmark, source: str | Path | None, limit: int | None = None
) -> BenchmarkRows:
    """Read the rows of a benchmark and assign them to lm-eval's leaf tasks.

    Args:
        benchmark: the benchmark.
        source: ``"hub"``, a file, a folder, or None for no data.
        limit: the row cap of each leaf task; None for all rows.

    Returns:
        The rows; `missing` gives the reason if there are none.

    Raises:
        UserError: the benchmark is unknown, the cap is below 1, or a local source does not exist,
            cannot be read, or lacks a column.
    """
    check_benchmark_names([benchmark])
    if limit is not None and limit < 1:
        raise UserError(f"The row cap must be at least 1, not {limit}; leave it out for all rows.")
    if source is None:
        return BenchmarkRows("none", "None", missing="no data given")
    fingerprint = fingerprint_source(source)
    if source == HUB:
        try:
            grouped = read_hub(benchmark)
        except Exception as error:  # the hub raises many types, and each means "no data"
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            return BenchmarkRows(HUB, fingerprint, missing=f"not readable from the hub: {reason}")
        name = HUB
    else:
        path = existing(source)
        name = path.name
        grouped = read_folder(benchmark, path) if path.is_dir() else read_file(benchmark, path)
    return _assign(benchmark, name, fingerprint, grouped, limit)


def describe_missing(data: Mapping[str, str | Path | None]) -> dict[str, str]:
    """Return why benchmarks have nothing to evaluate, without downloading anything.

    Args:
        data: benchmark → source; a benchmark that is absent has no data.

    Returns:
        Benchmark → reason, for those that have nothing to evaluate. The hub is not checked, and
        counts as having data.

    Raises:
        UserError: a name is not a benchmark, or a local source cannot be read.
    """
    check_benchmark_names(data)
    reasons = {}
    for benchmark in BENCHMARKS:
        source = data.get(benchmark)
        if source == HUB:
            continue
        missing = read_benchmark(benchmark, source).missing
        if missing is not None:
            reasons[str(benchmark)] = missing
    return reasons


def check_benchmark_names(data: Iterable[str]) -> None:
    """Check names of benchmarks.

    Raises:
        UserError: a name is not one of the six benchmarks.
    """
    for name in data:
        if name not in BENCHMARKS:
            raise UserError(
                f"Unknown benchmark '{name}'; the leaderboard has {', '.join(BENCHMARKS)}."
                + did_you_mean(name, BENCHMARKS)
            )


def _assign(
    benchmark: Benchmark,
    name: str,
    fingerprint: str,
    grouped: Mapping[str, list[tuple[str, Row]]],
    limit: int | None,
) -> BenchmarkRows:
    leaf_of = {leaf.key: task for task, leaf in LEAF_TASKS.items() if leaf.benchmark == benchmark}
    skipped: Counter[str] = Counter()
    usable: dict[str, list[tuple[str, Row]]] = {}
    for group, rows in grouped.items():
        if group not in leaf_of and not (benchmark == "mmlu_pro" and group == "validation"):
            skipped[f"'{group}' is not part of the leaderboard"] += len(rows)
            continue
        for row_id, row in rows:
            problem = _problem(benchmark, row)
            if problem is None:
                usable.setdefault(group, []).append((row_id, row))
            else:
                skipped[problem] += 1

    leaves: dict[str, LeafRows] = {}
    examples: list[Row] = []
    examples_from: str | None = None
    if benchmark == "mmlu_pro":
        validation = usable.pop("validation", [])
        test = usable.get("test", [])
        if validation:
            examples = [row for _, row in validation[:MMLU_PRO_SHOTS]]
            examples_from = "validation rows"
        elif test:
            held_out = min(MMLU_PRO_SHOTS, len(test) - 1)
            examples = [row for _, row in test[:held_out]]
            usable["test"] = test[held_out:]
            examples_from = f"first {held_out} test rows, not evaluated"
    for group, pairs in usable.items():
        chosen = [pairs[index] for index in evenly_spaced(len(pairs), limit)]
        leaves[leaf_of[group]] = LeafRows(
            rows=[row for _, row in chosen],
            row_ids=_row_ids(chosen),
            examples=examples,
            available=len(pairs),
            examples_from=examples_from,
        )
    # In lm-eval's order, not the file's.
    ordered = {task: leaves[task] for task in LEAF_TASKS if task in leaves}
    missing = None
    if not ordered:
        reasons = "; ".join(f"{reason} ({count})" for reason, count in skipped.items())
        missing = "no usable row" + (f": {reasons}" if reasons else "")
    return BenchmarkRows(name, fingerprint, ordered, dict(skipped), missing)


def _row_ids(pairs: list[tuple[str, Row]]) -> list[str]:
    ids = []
    seen: set[str] = set()
    for position, row in pairs:
        natural = next((row[key] for key in _NATURAL_IDS if row.get(key) is not None), None)
        row_id = position if natural is None else str(natural)
        if row_id in seen:
            row_id = f"{row_id}@{position}"
        seen.add(row_id)
        ids.append(row_id)
    return ids


def _problem(benchmark: Benchmark, row: Row) -> str | None:
    """Return why lm-eval cannot evaluate a row, or None if it can.

    A target that is not among the choices is allowed: lm-eval scores such rows as wrong.
    """
    if benchmark == "math_hard":
        if row["level"] != "Level 5":
            return "not level 5, the only level that MATH-hard uses"
        if "\\boxed" not in str(row["solution"]) and "\\fbox" not in str(row["solution"]):
            return "solution without a boxed answer"
    elif benchmark == "gpqa":
        if not all(isinstance(row[name], str) for name in REQUIRED_FIELDS["gpqa"]):
            return "question or answer is not a string"
    elif benchmark == "musr":
        try:
            choices = ast.literal_eval(row["choices"])
        except (ValueError, SyntaxError, TypeError):
            return "choices are not a string that contains a Python list"
        if (
            not isinstance(choices, list)
            or not choices
            or not all(isinstance(choice, str) and choice for choice in choices)
        ):
            return "choices are not a list of non-empty strings"
    elif benchmark == "mmlu_pro":
        options = row["options"]
        if not isinstance(options, list) or not 2 <= len(options) <= 26:
            return "options are not a list of 2 to 26 entries"
        if str(row["answer"]) not in [chr(65 + index) for index in range(len(options))]:
            return "answer is not the letter of an option"
    elif benchmark == "ifeval":
        return _ifeval_problem(row)
    return None


def _ifeval_problem(row: Row) -> str | None:
    from tasks.metrics.sentences import ensure_sentence_splitter

    ensure_sentence_splitter()
    from lm_eval.tasks.ifeval import instructions_registry

    names, kwargs = row["instruction_id_list"], row["kwargs"]
    if not isinstance(names, list) or not isinstance(kwargs, list) or len(names) != len(kwargs):
        return "instruction_id_list and kwargs differ in length"
    if not names:
        return "no instruction"
    if any(name not in instructions_registry.INSTRUCTION_DICT for name in names):
        return "unknown instruction"
    state = random.getstate()  # instructions draw missing arguments at random
    try:
        for name, arguments in zip(names, kwargs, strict=True):
            given = {key: value for key, value in arguments.items() if value}
            instructions_registry.INSTRUCTION_DICT[name](name).build_description(**given)
    except Exception:  # instruction classes raise any type
        return "kwargs are invalid for their instruction"
    finally:
        random.setstate(state)
    return None
