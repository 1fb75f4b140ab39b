"""Benchmark rows: read from the hub, a local file or a folder, checked, assigned to leaf tasks.

A source is

- ``"hub"``: lm-eval's own dataset on the Hugging Face hub;
- a file: JSON Lines (gzip or not) or Parquet, in the hub's schema, with one column more where the
  hub has configs or splits: ``subset`` for BBH and (optional) GPQA, ``split`` for MuSR and
  (optional) MMLU-Pro; MATH rows are assigned by their ``type``;
- a folder laid out as the hub repository (``datasets.load_dataset`` reads it).

Row cap: at most ``limit`` rows of each leaf task, evenly spaced over the rows that can be used, so
that the choice does not depend on a random generator.

MMLU-Pro's five examples come from its ``validation`` rows. A source without them (the published
test samples) gives its first five usable test rows as examples, which are then not evaluated.
"""

from __future__ import annotations

import ast
import gzip
import hashlib
import json
import os
import shutil
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sparsepo.errors import UserError, did_you_mean
from tasks.leaderboard_v2.scoring import BENCHMARKS, LEAF_TASKS, Benchmark

Row = dict[str, Any]

HUB: Final = "hub"
MMLU_PRO_SHOTS: Final = 5

# What lm-eval's prompts and scoring read.
REQUIRED_FIELDS: dict[Benchmark, tuple[str, ...]] = {
    "bbh": ("subset", "input", "target"),
    "math_hard": ("problem", "solution", "level", "type"),
    "gpqa": (
        "Question",
        "Correct Answer",
        "Incorrect Answer 1",
        "Incorrect Answer 2",
        "Incorrect Answer 3",
    ),
    "musr": ("split", "narrative", "question", "choices", "answer_choice"),
    "mmlu_pro": ("question", "options", "answer"),
    "ifeval": ("key", "prompt", "instruction_id_list", "kwargs"),
}
_MATH_TYPES: dict[str, str] = {  # value of `type` → config name
    "Algebra": "algebra",
    "Counting & Probability": "counting_and_probability",
    "Geometry": "geometry",
    "Intermediate Algebra": "intermediate_algebra",
    "Number Theory": "number_theory",
    "Prealgebra": "prealgebra",
    "Precalculus": "precalculus",
}
_NATURAL_IDS: tuple[str, ...] = ("id", "key", "question_id", "Record ID")


@dataclass(frozen=True, slots=True)
class LeafRows:
    """The rows of one leaf task.

    Attributes:
        rows: Rows to evaluate, in the source's order.
        row_ids: Their names: the row's own id where it has one, its position in the source if not.
        examples: Rows for the few-shot prompt (MMLU-Pro only).
        available: Usable rows before the cap.
        examples_from: Where the examples come from.
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
        source: Where they come from, as the user gave it.
        fingerprint: Changes whenever the source's content does.
        leaves: Leaf task → rows; leaf tasks without rows are absent.
        skipped: Reason → number of rows that could not be used.
        missing: Why there is nothing to evaluate, or ``None``.
    """

    source: str
    fingerprint: str
    leaves: dict[str, LeafRows] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    missing: str | None = None


def evenly_spaced(count: int, limit: int | None) -> list[int]:
    """Positions of at most ``limit`` of ``count`` rows, evenly spaced and increasing.

    ``⌊i · count / limit⌋`` for i = 0 … limit − 1

    Args:
        count: Number of rows.
        limit: Largest number of positions; ``None`` for all.

    Returns:
        The positions.
    """
    if limit is None or limit >= count:
        return list(range(count))
    return [index * count // limit for index in range(limit)]


def fingerprint_source(source: str | Path | None) -> str:
    """A short string that changes with the content of a source.

    Args:
        source: As in the module's docstring; ``None`` for no source.

    Returns:
        For a file a hash of its bytes, for a folder a hash of its files' names, sizes and times.

    Raises:
        UserError: If a file or folder does not exist.
    """
    if source is None or source == HUB:
        return str(source)
    path = _existing(source)
    digest = hashlib.sha256(str(path.resolve()).encode())
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.is_file():
                stat = file.stat()
                entry = f"{file.relative_to(path)}|{stat.st_size}|{stat.st_mtime_ns}"
                digest.update(entry.encode())
    else:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:24]


def read_benchmark(
    benchmark: Benchmark, source: str | Path | None, limit: int | None = None
) -> BenchmarkRows:
    """Read one benchmark's rows and assign them to lm-eval's leaf tasks.

    Args:
        benchmark: Which one.
        source: ``"hub"``, a file, a folder, or ``None`` for no data.
        limit: Row cap for each leaf task.

    Returns:
        The rows; ``missing`` says why if there are none.

    Raises:
        UserError: If a local source does not exist, cannot be read, or lacks a column.
    """
    if benchmark not in BENCHMARKS:
        raise UserError(
            f"Unknown benchmark '{benchmark}'; the leaderboard has {', '.join(BENCHMARKS)}."
            + did_you_mean(benchmark, BENCHMARKS)
        )
    if limit is not None and limit < 1:
        raise UserError(f"The row cap must be at least 1, not {limit}; leave it out for all rows.")
    if source is None:
        return BenchmarkRows("none", "None", missing="no data given")
    fingerprint = fingerprint_source(source)
    if source == HUB:
        try:
            grouped = _read_hub(benchmark)
        except Exception as error:  # the hub raises a dozen kinds; each means "no data here"
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            return BenchmarkRows(HUB, fingerprint, missing=f"not readable from the hub: {reason}")
        name = HUB
    else:
        path = _existing(source)
        name = path.name
        grouped = _read_folder(benchmark, path) if path.is_dir() else _read_file(benchmark, path)
    return _assign(benchmark, name, fingerprint, grouped, limit)


def describe_missing(data: Mapping[str, str | Path | None]) -> dict[str, str]:
    """Say for each benchmark that has nothing to evaluate why, without any download.

    Args:
        data: Benchmark → source; absent benchmarks count as ``None``.

    Returns:
        Benchmark → reason; a source on the hub is not looked at and counts as present.

    Raises:
        UserError: If a name is not a benchmark, or a local source cannot be read.
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
    """Raise a `UserError` for a name that is not one of the six benchmarks."""
    for name in data:
        if name not in BENCHMARKS:
            raise UserError(
                f"Unknown benchmark '{name}'; the leaderboard has {', '.join(BENCHMARKS)}."
                + did_you_mean(name, BENCHMARKS)
            )


def _existing(source: str | Path) -> Path:
    path = Path(source)
    if not path.exists():
        raise UserError(
            f"Benchmark data '{source}' does not exist; give a file, a folder or 'hub'."
        )
    return path


def read_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield (line number, row) of a JSON Lines (gzip or not) or Parquet file.

    Args:
        path: The file; Parquet is known by its suffix.

    Yields:
        Line numbers from 1 and rows.

    Raises:
        UserError: If the file cannot be read; names the line where there is one.
    """
    if path.suffix == ".parquet":
        import pyarrow.parquet

        try:
            rows = pyarrow.parquet.read_table(path).to_pylist()
        except (OSError, ValueError) as error:
            raise UserError(f"'{path}' is not a readable Parquet file: {error}") from error
        yield from enumerate(rows, start=1)
        return
    with path.open("rb") as probe:
        compressed = probe.read(2) == b"\x1f\x8b"
    number = 0
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8")
            if compressed
            else path.open(encoding="utf-8") as lines
        ):
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise UserError(f"Line {number} of '{path}' is not a JSON object.")
                yield number, row
    except json.JSONDecodeError as error:
        raise UserError(f"Line {number} of '{path}' is not valid JSON: {error.msg}.") from error
    except (EOFError, OSError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(
            f"'{path}' cannot be read after line {number} ({error}); the file may be cut off."
        ) from error


def _read_file(benchmark: Benchmark, path: Path) -> dict[str, list[tuple[str, Row]]]:
    """Rows of a file by group (subset, split, subject); the group decides the leaf task."""
    grouped: dict[str, list[tuple[str, Row]]] = {}
    for number, row in read_rows(path):
        absent = [name for name in REQUIRED_FIELDS[benchmark] if name not in row]
        if absent:
            raise UserError(
                f"Line {number} of '{path}' lacks the column '{absent[0]}' that {benchmark} needs; "
                f"it has {', '.join(map(str, row)) or 'none'}."
            )
        grouped.setdefault(_group(benchmark, row), []).append((str(number - 1), row))
    return grouped


def _group(benchmark: Benchmark, row: Row) -> str:
    if benchmark == "bbh":
        return str(row["subset"])
    if benchmark == "math_hard":
        return _MATH_TYPES.get(str(row["type"]), str(row["type"]))
    if benchmark == "gpqa":
        return "gpqa_" + str(row.get("subset") or "main").removeprefix("gpqa_")
    if benchmark == "musr":
        return str(row["split"])
    if benchmark == "mmlu_pro":
        return str(row.get("split") or "test")
    return "train"


def _hub_layout(benchmark: Benchmark) -> Iterator[tuple[str, str | None, str]]:
    """(group, config name, split) of each part of a benchmark's hub repository."""
    if benchmark == "mmlu_pro":
        yield from (("validation", None, "validation"), ("test", None, "test"))
        return
    for leaf in LEAF_TASKS.values():
        if leaf.benchmark != benchmark:
            continue
        if benchmark in ("bbh", "math_hard"):
            yield leaf.key, leaf.key, "test"
        elif benchmark == "gpqa":
            yield leaf.key, leaf.key, "train"
        else:
            yield leaf.key, None, leaf.key


def _read_hub(benchmark: Benchmark) -> dict[str, list[tuple[str, Row]]]:
    import datasets
    import lm_eval
    from lm_eval.tasks._yaml_loader import load_yaml

    # The repository's name is lm-eval's to say.
    leaf = next(leaf for leaf in LEAF_TASKS.values() if leaf.benchmark == benchmark)
    definition = Path(lm_eval.__path__[0]) / "tasks" / "leaderboard" / leaf.yaml
    repository = str(load_yaml(definition, resolve_func=False)["dataset_path"])
    grouped = {}
    for group, config, split in _hub_layout(benchmark):
        rows = datasets.load_dataset(repository, config, split=split)
        grouped[group] = [(str(index), dict(row)) for index, row in enumerate(rows)]
    return grouped


def _read_folder(benchmark: Benchmark, path: Path) -> dict[str, list[tuple[str, Row]]]:
    import datasets

    grouped: dict[str, list[tuple[str, Row]]] = {}
    failures: list[str] = []
    # A cache of its own, deleted at once: datasets would otherwise serve an earlier state of a
    # folder whose files have changed.
    cache = tempfile.mkdtemp(prefix="sparsepo-rows-")
    bars = datasets.utils.logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        for group, config, split in _hub_layout(benchmark):
            try:
                rows = datasets.load_dataset(
                    os.fspath(path.resolve()), config, split=split, cache_dir=cache
                )
            except (ValueError, FileNotFoundError) as error:
                failures.append(str(error).splitlines()[0])
                continue
            grouped[group] = [(str(index), dict(row)) for index, row in enumerate(rows)]
    finally:
        if bars:
            datasets.enable_progress_bars()
        shutil.rmtree(cache, ignore_errors=True)
    if not grouped:
        raise UserError(
            f"Folder '{path}' is not laid out as the hub's repository for {benchmark}: "
            f"{failures[0] if failures else 'it holds no data files'}"
        )
    return grouped


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
    # lm-eval's order, whatever the order of the file.
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
    """Why lm-eval could not evaluate a row, or ``None``.

    A target that is not among the choices is no problem: lm-eval scores such rows as wrong.
    """
    if benchmark == "math_hard":
        if row["level"] != "Level 5":
            return "not level 5, which is all that MATH-hard uses"
        if "\\boxed" not in str(row["solution"]) and "\\fbox" not in str(row["solution"]):
            return "solution without a boxed answer"
    elif benchmark == "gpqa":
        if not all(isinstance(row[name], str) for name in REQUIRED_FIELDS["gpqa"]):
            return "question or answer is not text"
    elif benchmark == "musr":
        try:
            choices = ast.literal_eval(row["choices"])
        except (ValueError, SyntaxError, TypeError):
            return "choices are not a Python list written as text"
        if (
            not isinstance(choices, list)
            or not choices
            or not all(isinstance(choice, str) and choice for choice in choices)
        ):
            return "choices are not a list of texts"
    elif benchmark == "mmlu_pro":
        options = row["options"]
        if not isinstance(options, list) or not 2 <= len(options) <= 26:
            return "options are not a list of 2 to 26"
        if str(row["answer"]) not in [chr(65 + index) for index in range(len(options))]:
            return "answer is not the letter of an option"
    elif benchmark == "ifeval":
        return _ifeval_problem(row)
    return None


def _ifeval_problem(row: Row) -> str | None:
    from tasks.leaderboard_v2.sentences import ensure_sentence_splitter

    ensure_sentence_splitter()
    from lm_eval.tasks.ifeval import instructions_registry

    names, kwargs = row["instruction_id_list"], row["kwargs"]
    if not isinstance(names, list) or not isinstance(kwargs, list) or len(names) != len(kwargs):
        return "instruction_id_list and kwargs differ in length"
    if not names:
        return "no instruction"
    if any(name not in instructions_registry.INSTRUCTION_DICT for name in names):
        return "unknown instruction"
    return None
