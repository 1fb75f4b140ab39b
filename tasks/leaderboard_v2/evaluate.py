"""Evaluate a saved model on the Open LLM Leaderboard v2 and write one JSON file."""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from lm_eval.models.utils import resolve_max_length

from sparsepo.data.hub import require_model
from sparsepo.errors import UserError, first_line
from tasks.leaderboard_v2.backend import LeaderboardLM, Progress
from tasks.leaderboard_v2.rows import (
    BenchmarkRows,
    check_benchmark_names,
    read_benchmark,
)
from tasks.leaderboard_v2.scoring import (
    BENCHMARKS,
    COLUMN_BENCHMARK,
    COLUMNS,
    LEAF_TASKS,
    Benchmark,
    columns_from_scores,
)
from tasks.leaderboard_v2.sources import fingerprint_source
from tasks.leaderboard_v2.suite import Suite, build_suite, compiled_templates, quiet, seeded
from tasks.metrics.sentences import ensure_sentence_splitter

RESULT_FILE = "leaderboard.json"
_VERSIONED = ("lm_eval", "transformers", "tokenizers", "torch", "math-verify", "nltk", "langdetect")


@dataclass(frozen=True, slots=True)
class LeaderboardSettings:
    """How the leaderboard is run.

    Attributes:
        limit: Largest number of rows of each leaf task (39 in all), one number or one for each
            benchmark; the rows are evenly spaced. ``None`` for all rows.
        batch_size: Rows in a batch of generation, and of scoring where `pack_tokens` is ``None``.
        max_length: Context in tokens; longer prompts lose tokens on their left side, which is
            counted. ``None`` for the model's own context.
        max_gen_toks: Cap on new tokens, one number or one for each benchmark; lm-eval's own limits
            are 1024 (math_hard) and 1280 (ifeval). Never more than half of the context, so that
            the prompt keeps the other half.
        pack_tokens: Requests with a common prefix are packed into one row, which takes this many
            tokens beyond its first request; ``None`` scores each request apart, as lm-eval does.
        device: Where the model runs.
        dtype: The model's type, or ``"auto"`` for the one that it was saved in.
        seed: Of GPQA's shuffled answers and of lm-eval's generators.
        trust_remote_code: Whether a model may bring its own code.
    """

    limit: int | Mapping[str, int] | None = None
    batch_size: int = 16
    max_length: int | None = None
    max_gen_toks: int | Mapping[str, int] | None = None
    pack_tokens: int | None = 512
    device: str = "cpu"
    dtype: str = "float32"
    seed: int = 0
    trust_remote_code: bool = False

    def limit_of(self, benchmark: str) -> int | None:
        """Row cap for each leaf task of a benchmark."""
        return (
            self.limit
            if self.limit is None or isinstance(self.limit, int)
            else self.limit.get(benchmark)
        )

    def generation_cap(self, context: int, benchmark: str, upstream: int) -> int:
        """Cap on new tokens of a generative benchmark.

        ``min(upstream's limit, the setting, context / 2)``

        Args:
            context: Context in tokens.
            benchmark: Which benchmark.
            upstream: lm-eval's own limit.

        Returns:
            The cap.
        """
        caps = self.max_gen_toks
        cap = caps if caps is None or isinstance(caps, int) else caps.get(benchmark)
        return max(1, min(upstream, context // 2, upstream if cap is None else cap))


@dataclass(slots=True)
class _Prepared:
    benchmarks: dict[Benchmark, BenchmarkRows]
    suite: Suite = field(default_factory=Suite)


# Worker processes evaluate many models on the same rows: an entry for each chain of an experiment,
# as stages of different chains alternate.
_prepared: OrderedDict[str, _Prepared] = OrderedDict()
_PREPARED_ENTRIES = 12


def prepare(
    data: Mapping[str, Path | str | None], settings: LeaderboardSettings, context: int
) -> _Prepared:
    """Read the rows and build lm-eval's tasks, or return those of an equal earlier call.

    Args:
        data: Benchmark → source, see `tasks.leaderboard_v2.rows`.
        settings: How the leaderboard is run.
        context: Context of the model in tokens.

    Returns:
        Rows and tasks; sources that have changed since are read again.

    Raises:
        UserError: If a source cannot be read.
    """
    check_benchmark_names(data)
    sources = {name: data.get(name) for name in BENCHMARKS}
    key = json.dumps(
        [
            [name, fingerprint_source(source), settings.limit_of(name)]
            for name, source in sources.items()
        ]
        + [[settings.seed, repr(settings.max_gen_toks), context]]
    )
    if key not in _prepared:
        benchmarks = {
            name: read_benchmark(name, source, settings.limit_of(name))
            for name, source in sources.items()
        }
        suite = build_suite(benchmarks, settings.seed, partial(settings.generation_cap, context))
        _prepared[key] = _Prepared(benchmarks, suite)
        while len(_prepared) > _PREPARED_ENTRIES:
            _prepared.popitem(last=False)
    _prepared.move_to_end(key)
    return _prepared[key]


def evaluate_leaderboard(
    model_dir: Path | str,
    data: Mapping[str, Path | str | None],
    settings: LeaderboardSettings,
    output: Path | str,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run lm-eval's leaderboard tasks on a saved model.

    Args:
        model_dir: Folder (or hub id) of a causal model and its tokenizer.
        data: Benchmark → ``"hub"``, a file, a folder, or ``None``; benchmarks without usable rows
            are listed as missing.
        settings: How to run it.
        output: The JSON file to write, or the folder to write ``leaderboard.json`` in.
        progress: Called with (done, total, what).

    Returns:
        What was written: ``tasks`` (per leaf task the benchmark, metric, n, chance, raw and
        normalised score, per-row scores and row ids, and of multiple choice the place of each row's
        right option), ``columns`` (raw, normalised, n, and ``avg``
        over the columns present), ``missing`` (benchmark and reason), ``skipped``,
        ``truncated_prompts``, ``settings``, ``sentence_splitter``, ``versions``.

    Raises:
        UserError: If the model or a source cannot be read, or no benchmark has rows.
    """
    if settings.batch_size < 1:
        raise UserError(f"The batch size must be at least 1, not {settings.batch_size}.")
    with quiet():
        model, tokenizer = _load(model_dir, settings)
        lm = LeaderboardLM(
            model,
            tokenizer,
            batch_size=settings.batch_size,
            max_length=settings.max_length,
            pack_tokens=settings.pack_tokens,
            progress=progress,
        )
        _check_context(settings, resolve_max_length(model.config, tokenizer))
        prepared = prepare(data, settings, lm.max_length)
        if not prepared.suite.tasks:
            reasons = "; ".join(f"{n}: {b.missing}" for n, b in prepared.benchmarks.items())
            raise UserError(f"No leaderboard benchmark has rows to evaluate ({reasons}).")
        tasks = run_suite(lm, prepared.suite, settings.seed)
    result = _result(prepared, tasks, lm, settings)
    _write(result, Path(output))
    return result


def run_suite(lm: LeaderboardLM, suite: Suite, seed: int) -> dict[str, dict[str, Any]]:
    """Evaluate a suite's tasks with lm-eval's own `evaluate`.

    Args:
        lm: The model.
        suite: The tasks.
        seed: Of the generators that lm-eval's tasks draw from.

    Returns:
        Leaf task → the ``tasks`` entry of a leaderboard result.
    """
    import langdetect
    from lm_eval.evaluator import evaluate

    # IFEval's language checks sample; upstream leaves them unseeded.
    langdetect.DetectorFactory.seed = seed
    chat = {n: t for n, t in suite.tasks.items() if LEAF_TASKS[n].benchmark == "ifeval"}
    plain = {n: t for n, t in suite.tasks.items() if n not in chat}
    found: dict[str, dict[str, Any]] = {}
    add_bos = lm.add_bos_token
    for tasks, template in ((plain, False), (chat, True)):
        if not tasks:
            continue
        for task in tasks.values():
            task.request_key = lm.fingerprint
        # The template writes the whole prompt, as in training, so no BOS is added.
        lm.add_bos_token = False if template else add_bos
        with seeded(str(seed)), compiled_templates():
            results = evaluate(
                lm=lm,
                task_dict={"tasks": tasks, "groups": {}},
                bootstrap_iters=0,
                log_samples=True,
                apply_chat_template=template,
                fewshot_as_multiturn=template,
            )
        for leaf in tasks:
            found[leaf] = _leaf_result(leaf, suite, results)
    lm.add_bos_token = add_bos
    return {leaf: found[leaf] for leaf in suite.tasks}


def _leaf_result(leaf: str, suite: Suite, results: Mapping[str, Any]) -> dict[str, Any]:
    definition = LEAF_TASKS[leaf]
    rows = suite.rows[leaf]
    samples = sorted(results["samples"][leaf], key=lambda sample: int(sample["doc_id"]))
    task = suite.tasks[leaf]
    entry: dict[str, Any] = {
        "benchmark": definition.benchmark,
        "metric": definition.metric,
        "n": len(samples),
        "available": rows.available,
        "chance": suite.chance[leaf],
        "raw": float(results["results"][leaf][f"{definition.metric},none"]),
        "scores": [float(sample[definition.metric]) for sample in samples],
        "row_ids": rows.row_ids,
        "num_fewshot": int(task.config.num_fewshot),
        "task_version": str(results["versions"].get(leaf)),
    }
    if rows.examples_from is not None:
        entry["examples_from"] = rows.examples_from
    if leaf in suite.max_gen_toks:
        entry["max_gen_toks"] = suite.max_gen_toks[leaf]
        entry["responses"] = [str(sample["filtered_resps"][0]) for sample in samples]
    if task.OUTPUT_TYPE == "multiple_choice":
        entry["right_options"] = [_right_option(task, sample["doc"]) for sample in samples]
    if definition.benchmark == "ifeval":
        followed = [sample["inst_level_strict_acc"] for sample in samples]
        entry["instructions"] = {
            "correct": [int(sum(row)) for row in followed],
            "total": [len(row) for row in followed],
        }
    return entry


def _right_option(task: Any, doc: Mapping[str, Any]) -> int | None:
    """Return the place of a row's right answer among its options; None if it is not among them."""
    target, options = task.doc_to_target(doc), list(task.doc_to_choice(doc))
    if isinstance(target, str):
        return options.index(target) if target in options else None
    return int(target) if 0 <= int(target) < len(options) else None


def _result(
    prepared: _Prepared,
    tasks: dict[str, dict[str, Any]],
    lm: LeaderboardLM,
    settings: LeaderboardSettings,
) -> dict[str, Any]:
    for leaf, task in tasks.items():
        alone = columns_from_scores({leaf: task})
        task["normalised"] = float(
            alone["ifeval_prom" if task["benchmark"] == "ifeval" else task["benchmark"]][0]
        )
        task["truncated_prompts"] = sum(1 for name, _ in lm.truncated if name == leaf)
    normalised = columns_from_scores(tasks)
    raw = columns_from_scores(tasks, normalised=False)
    present = [column for column in COLUMNS if column in normalised]
    columns: dict[str, dict[str, Any]] = {}
    for column in present:
        leaves = [
            leaf for leaf, task in tasks.items() if task["benchmark"] == COLUMN_BENCHMARK[column]
        ]
        counts = [
            sum(tasks[leaf]["instructions"]["total"])
            if column == "ifeval_inst"
            else tasks[leaf]["n"]
            for leaf in leaves
        ]
        columns[column] = {
            "raw": float(raw[column][0]),
            "normalised": float(normalised[column][0]),
            "n": sum(counts),
            "tasks": len(leaves),
            "tasks_of_benchmark": sum(
                leaf.benchmark == COLUMN_BENCHMARK[column] for leaf in LEAF_TASKS.values()
            ),
        }
    columns["avg"] = {
        "raw": float(raw["avg"][0]),
        "normalised": float(normalised["avg"][0]),
        "n": sum(task["n"] for task in tasks.values()),
        "columns": present,
        "complete": len(present) == len(COLUMNS),
    }
    return {
        "tasks": tasks,
        "columns": columns,
        "missing": [
            {"benchmark": name, "reason": rows.missing}
            for name, rows in prepared.benchmarks.items()
            if rows.missing is not None
        ],
        "skipped": {n: rows.skipped for n, rows in prepared.benchmarks.items() if rows.skipped},
        "sources": {
            name: {"source": rows.source, "fingerprint": rows.fingerprint}
            for name, rows in prepared.benchmarks.items()
            if rows.missing is None
        },
        "truncated_prompts": len(lm.truncated),
        "max_length": int(lm.max_length),
        "packed": lm.pack_tokens is not None,
        "settings": _plain(asdict(settings)),
        "sentence_splitter": ensure_sentence_splitter(),
        "versions": {name: metadata.version(name) for name in _VERSIONED},
    }


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    return {
        name: dict(value) if isinstance(value, Mapping) else value
        for name, value in settings.items()
    }


def _load(model_dir: Path | str, settings: LeaderboardSettings) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    name = os.fspath(model_dir)
    remote = settings.trust_remote_code
    require_model(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=remote)
        model: Any = AutoModelForCausalLM.from_pretrained(
            name, dtype=settings.dtype, trust_remote_code=remote
        )
    except (OSError, ValueError) as error:
        reason = first_line(error).rstrip(".")
        raise UserError(
            f"'{name}' is not a readable causal model with tokenizer ({reason}); give the folder "
            "or hub id of one."
        ) from error
    if tokenizer.chat_template is None:
        from sparsepo.batches.chat import CHAT_TEMPLATE

        tokenizer.chat_template = CHAT_TEMPLATE
    return model.to(settings.device), tokenizer


def _check_context(settings: LeaderboardSettings, context: int) -> None:
    # Below this, lm-eval has no room for a prompt and an answer.
    smallest = 16
    if settings.max_length is not None and not smallest <= settings.max_length <= context:
        raise UserError(
            f"max_length must be between {smallest} and the model's context of {context} tokens, "
            f"not {settings.max_length}."
        )


def _write(result: Mapping[str, Any], output: Path) -> None:
    path = output if output.suffix == ".json" else output / RESULT_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(result, file, ensure_ascii=False, indent=1, allow_nan=False)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
