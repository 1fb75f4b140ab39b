"""Sources of benchmark rows: the hub, a local file or a folder, with the columns used on the hub.

A source is one of

- ``"hub"``: lm-eval's own dataset on the Hugging Face hub;
- a file: JSON Lines (may be gzipped) or Parquet, with the hub's columns and one that replaces its
  configs or splits: ``subset`` for BBH and (optional) GPQA, ``split`` for MuSR and (optional)
  MMLU-Pro; MATH rows are assigned by their ``type``;
- a folder with the layout of the hub repository, read by ``datasets.load_dataset``.

The readers return rows by group (BBH subset, GPQA config, MATH subject, MuSR split, otherwise the
data split), each with its position in the file or split.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from sparsepo.data.rows import Row, read_rows
from sparsepo.errors import UserError
from tasks.leaderboard_v2.scoring import LEAF_TASKS, Benchmark

GroupedRows = dict[str, list[tuple[str, Row]]]

HUB: Final = "hub"

# The columns that lm-eval's prompts and scoring read.
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


def fingerprint_source(source: str | Path | None) -> str:
    """Return a short string that changes with the content of a local source.

    Args:
        source: see the module's docstring; None for no source.

    Returns:
        A hash of a file's bytes, or of the names and bytes of a folder's files; ``"hub"`` and
        ``"None"`` for the others.

    Raises:
        UserError: a file or folder does not exist.
    """
    if source is None or source == HUB:
        return str(source)
    path = existing(source)
    digest = hashlib.sha256()
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.is_file():
                digest.update(f"{file.relative_to(path)}\0{file.stat().st_size}\0".encode())
                digest.update(file.read_bytes())
    else:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:24]


def existing(source: str | Path) -> Path:
    """Return the path of a local source.

    Args:
        source: a file or folder.

    Raises:
        UserError: it does not exist.
    """
    path = Path(source)
    if not path.exists():
        raise UserError(
            f"Benchmark data '{source}' does not exist; give a file, a folder or 'hub'."
        )
    return path


def read_file(benchmark: Benchmark, path: Path) -> GroupedRows:
    """Read the rows of a local file.

    Args:
        benchmark: the benchmark that the file contains.
        path: the file.

    Returns:
        Rows by group, which a column of each row gives.

    Raises:
        UserError: the file cannot be read, or a row lacks a column.
    """
    grouped: GroupedRows = {}
    for number, row in enumerate(read_rows(path)):
        _check_columns(benchmark, row, REQUIRED_FIELDS[benchmark], f"Row {number} of '{path}'")
        grouped.setdefault(_group(benchmark, row), []).append((str(number), row))
    return grouped


def _check_columns(benchmark: str, row: Row, names: tuple[str, ...], where: str) -> None:
    absent = [name for name in names if name not in row]
    if absent:
        raise UserError(
            f"{where} lacks the column '{absent[0]}' that {benchmark} needs; "
            f"it has {', '.join(map(str, row)) or 'none'}."
        )


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
    """Yield group, config name and split of each part of a benchmark's hub repository."""
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


def read_hub(benchmark: Benchmark) -> GroupedRows:
    """Read the rows of lm-eval's own dataset on the hub.

    Args:
        benchmark: the benchmark.

    Returns:
        Rows by group.

    Raises:
        UserError: the rows lack a column.
        Exception: of any type that `datasets` raises if the hub cannot be read.
    """
    import datasets
    import lm_eval
    from lm_eval.tasks._yaml_loader import load_yaml

    # lm-eval's definition names the repository.
    leaf = next(leaf for leaf in LEAF_TASKS.values() if leaf.benchmark == benchmark)
    definition = Path(lm_eval.__path__[0]) / "tasks" / "leaderboard" / leaf.yaml
    repository = str(load_yaml(definition, resolve_func=False)["dataset_path"])
    return {
        group: _plain_rows(
            benchmark, datasets.load_dataset(repository, config, split=split), repository
        )
        for group, config, split in _hub_layout(benchmark)
    }


def read_folder(benchmark: Benchmark, path: Path) -> GroupedRows:
    """Read the rows of a folder with the layout of the benchmark's hub repository.

    Args:
        benchmark: the benchmark.
        path: the folder.

    Returns:
        Rows by group; groups that are not in the folder are absent.

    Raises:
        UserError: the folder has none of the groups, a file in it cannot be read, or rows lack a
            column.
    """
    import datasets

    grouped: GroupedRows = {}
    failures: list[str] = []
    # With its usual cache, datasets would return the earlier content of a folder whose files have
    # changed.
    cache = tempfile.mkdtemp(prefix="sparsepo-rows-")
    bars = datasets.utils.logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        for group, config, split in _hub_layout(benchmark):
            try:
                rows = datasets.load_dataset(
                    os.fspath(path.resolve()), config, split=split, cache_dir=cache
                )
            except datasets.exceptions.DatasetGenerationError as error:
                cause = str(error.__cause__ or error).splitlines()[0]
                raise UserError(
                    f"A file of folder '{path}' cannot be read: {cause.rstrip('.')}."
                ) from error
            except (ValueError, FileNotFoundError) as error:
                failures.append(str(error).splitlines()[0])
                continue
            grouped[group] = _plain_rows(benchmark, rows, f"folder '{path}'")
    finally:
        if bars:
            datasets.enable_progress_bars()
        shutil.rmtree(cache, ignore_errors=True)
    if not grouped:
        raise UserError(
            f"Folder '{path}' does not have the layout of the hub repository of {benchmark}: "
            f"{failures[0].rstrip('.') if failures else 'it contains no data files'}."
        )
    return grouped


def _plain_rows(benchmark: Benchmark, dataset: Any, where: str) -> list[tuple[str, Row]]:
    # Configs and splits take the place of these columns.
    names = tuple(
        name for name in REQUIRED_FIELDS[benchmark] if name not in ("subset", "split", "type")
    )
    rows = [(str(index), dict(row)) for index, row in enumerate(dataset)]
    if rows:
        _check_columns(benchmark, rows[0][1], names, f"Row 0 of {where}")
    return rows
