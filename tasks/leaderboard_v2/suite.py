"""lm-eval's leaderboard tasks on given rows, built once per process.

Prompts, few-shot samples, choices, filters, metrics and stop strings are those of lm-eval's YAML
definitions. Only three things are replaced: the source of the rows, GPQA's shuffle (once per split
and seeded, because lm-eval's depends on the state of the global generator and on the disk cache of
datasets), and the number of tokens that a generative task may produce.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import logging
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lm_eval
from lm_eval import utils
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml

from sparsepo.data.rows import Row
from tasks.leaderboard_v2.rows import BenchmarkRows, LeafRows
from tasks.leaderboard_v2.scoring import LEAF_TASKS, Benchmark, option_chance
from tasks.metrics.sentences import ensure_sentence_splitter

UPSTREAM = Path(lm_eval.__path__[0]) / "tasks" / "leaderboard"
# The seed that `lm_eval.simple_evaluate` gives to few-shot samplers.
FEWSHOT_SEED = 1234


class Documents(list[Row]):
    """A list of documents with the attribute `features`, which lm-eval reads of a dataset."""

    @property
    def features(self) -> dict[str, None]:
        """The column names, as keys of a dictionary."""
        return dict.fromkeys(self[0]) if self else {}


class RowsTask(ConfigurableTask):
    """An lm-eval task on rows in memory.

    Args:
        config: lm-eval's definition of the task.
        splits: split → rows.
        seed: seed of GPQA's shuffle.

    Attributes:
        request_key: identifies the tokenizer and its chat template; requests are rebuilt when it
            changes, and always if it is empty.
    """

    def __init__(self, config: dict[str, Any], splits: Mapping[str, list[Row]], seed: int) -> None:
        self._splits = splits
        self._seed = seed
        self._processed: dict[str, Documents] = {}
        self._built_for: tuple[Any, ...] | None = None
        self.request_key = ""
        super().__init__(config=config)
        # The default of `simple_evaluate`.
        if self.config.num_fewshot is None:
            self.set_config(key="num_fewshot", value=0)
        self.set_fewshot_seed(seed=FEWSHOT_SEED)

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Use the given rows instead of downloading any."""
        self.dataset = {name: Documents(rows) for name, rows in self._splits.items()}

    def _documents(self, split: str | None) -> Documents:
        # lm-eval requests the documents several times in an evaluation and expects the same ones:
        # after a second shuffle, GPQA's answers would be scored against different letters.
        if split is None:
            return Documents()
        if split not in self._processed:
            process = self.config.process_docs
            if process is None:
                self._processed[split] = Documents(self.dataset[split])
            else:
                import datasets

                with seeded(f"{self._seed}:{self.config.task}:{split}"), _quiet_datasets():
                    processed = process(datasets.Dataset.from_list(self.dataset[split]))
                self._processed[split] = Documents(processed)
        return self._processed[split]

    def training_docs(self) -> Documents:
        """Return the documents of the training split."""
        return self._documents(self.config.training_split)

    def validation_docs(self) -> Documents:
        """Return the documents of the validation split."""
        return self._documents(self.config.validation_split)

    def test_docs(self) -> Documents:
        """Return the documents of the test split."""
        return self._documents(self.config.test_split)

    def build_all_requests(self, **kwargs: Any) -> None:
        """Build lm-eval's requests, or reuse the last ones if what they depend on is unchanged.

        Args:
            **kwargs: the arguments of lm-eval's method.
        """
        # `request_key` identifies the tokenizer; equal ones differ in their name, a path.
        settings = {k: v for k, v in kwargs.items() if k != "tokenizer_name" and not callable(v)}
        plain = tuple(sorted((k, repr(v)) for k, v in settings.items()))
        key = (self.request_key, plain)
        if self.request_key and key == self._built_for:
            for instance in self._instances:
                instance.resps = []
                instance.filtered_resps = {}
            return
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bar cannot be disabled
            super().build_all_requests(**kwargs)
        self._built_for = key


@dataclass(slots=True)
class Suite:
    """Tasks that are ready to be evaluated.

    Attributes:
        tasks: leaf task → lm-eval task.
        rows: leaf task → its rows.
        chance: leaf task → chance level.
        max_gen_toks: generative leaf task → its limit on new tokens.
    """

    tasks: dict[str, RowsTask] = field(default_factory=dict)
    rows: dict[str, LeafRows] = field(default_factory=dict)
    chance: dict[str, float] = field(default_factory=dict)
    max_gen_toks: dict[str, int] = field(default_factory=dict)


def upstream_config(leaf: str) -> dict[str, Any]:
    """Return a copy of lm-eval's definition of a leaf task, with includes and functions resolved.

    Args:
        leaf: name of the leaf task.
    """
    ensure_sentence_splitter()
    config: dict[str, Any] = copy.deepcopy(load_yaml(UPSTREAM / LEAF_TASKS[leaf].yaml))
    config.pop("group", None)
    config.pop("tag", None)
    return config


def build_task(
    leaf: str, rows: LeafRows, seed: int, cap: Callable[[int], int] | None = None
) -> RowsTask:
    """Return one of lm-eval's leaderboard tasks on given rows.

    Args:
        leaf: name of the leaf task.
        rows: its rows.
        seed: seed of GPQA's shuffle.
        cap: maps lm-eval's limit on new tokens to the limit to use; None keeps it.

    Raises:
        RuntimeError: lm-eval did not make one document of each row.
    """
    config = upstream_config(leaf)
    if cap is not None and "generation_kwargs" in config:
        generation = config["generation_kwargs"]
        generation["max_gen_toks"] = cap(int(generation["max_gen_toks"]))
    benchmark, key = LEAF_TASKS[leaf].benchmark, LEAF_TASKS[leaf].key
    split = {"bbh": "test", "math_hard": "test", "gpqa": "train", "musr": key}.get(benchmark, key)
    splits = {split: rows.rows}
    if benchmark == "mmlu_pro":
        splits["validation"] = rows.examples
        # lm-eval uses five examples; a source may have fewer.
        config["num_fewshot"] = min(int(config["num_fewshot"]), len(rows.examples))
        if not rows.examples:
            config.pop("fewshot_split", None)
    task = RowsTask(config, splits, seed)
    if len(task.eval_docs) != len(rows.rows):
        raise RuntimeError(
            f"lm-eval made {len(task.eval_docs)} documents of the {len(rows.rows)} rows of {leaf}."
        )
    return task


def build_suite(
    benchmarks: Mapping[Benchmark, BenchmarkRows],
    seed: int,
    cap: Callable[[str, int], int] | None = None,
) -> Suite:
    """Build every leaf task that has rows.

    Args:
        benchmarks: benchmark → rows.
        seed: seed of GPQA's shuffle.
        cap: maps a benchmark and lm-eval's limit on new tokens to the limit to use; None keeps it.

    Returns:
        The suite, with each benchmark's tasks in lm-eval's order.

    Raises:
        RuntimeError: lm-eval did not make one document of each row.
    """
    suite = Suite()
    for benchmark, source in benchmarks.items():
        leaf_cap = None if cap is None else (lambda toks, name=benchmark: cap(name, toks))
        for leaf, rows in source.leaves.items():
            task = build_task(leaf, rows, seed, leaf_cap)
            suite.tasks[leaf] = task
            suite.rows[leaf] = rows
            suite.chance[leaf] = (
                option_chance([len(row["options"]) for row in rows.rows])
                if benchmark == "mmlu_pro"
                else LEAF_TASKS[leaf].chance
            )
            if task.OUTPUT_TYPE == "generate_until":
                suite.max_gen_toks[leaf] = int(task.config.generation_kwargs["max_gen_toks"])
    return suite


@contextlib.contextmanager
def seeded(seed: str) -> Iterator[None]:
    """Seed Python's global generator for a block, and restore its state afterwards."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


@contextlib.contextmanager
def _quiet_datasets() -> Iterator[None]:
    import datasets

    enabled = datasets.utils.logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if enabled:
            datasets.enable_progress_bars()


@contextlib.contextmanager
def compiled_templates() -> Iterator[None]:
    """Have lm-eval compile each prompt template once in a block, not once per document."""
    original = utils.apply_template
    compile_template = functools.lru_cache(maxsize=512)(utils.env.from_string)

    def apply_template(template: str, doc: dict[str, Any]) -> str:
        return str(compile_template(template).render(**doc))

    utils.apply_template = apply_template
    try:
        yield
    finally:
        utils.apply_template = original


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide progress bars and logs below errors in a block; the result records what matters."""
    from transformers.utils import logging as transformers_logging

    loggers = [logging.getLogger(name) for name in ("lm_eval", "math_verify", "transformers")]
    levels = [logger.level for logger in loggers]
    bars = transformers_logging.is_progress_bar_enabled()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            transformers_logging.enable_progress_bar()
