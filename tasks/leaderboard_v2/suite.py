"""lm-eval's leaderboard tasks over given rows, built once per process.

The upstream YAML definitions stay in force: prompts, few-shot samples, choices, filters, metrics
and stop strings are lm-eval's. Only three things are replaced: where the rows come from, how often
GPQA's shuffle runs (once per split and seeded, where upstream's depends on the state of the global
generator and on datasets' disk cache), and how many tokens a generative task may produce.
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
from tasks.leaderboard_v2.sentences import ensure_sentence_splitter

UPSTREAM = Path(lm_eval.__path__[0]) / "tasks" / "leaderboard"
# The seed that `lm_eval.simple_evaluate` gives to few-shot samplers.
FEWSHOT_SEED = 1234


class Documents(list[Row]):
    """A list of documents with the ``features`` that lm-eval asks of a dataset."""

    @property
    def features(self) -> dict[str, None]:
        """Column names, as the keys of a dictionary."""
        return dict.fromkeys(self[0]) if self else {}


class RowsTask(ConfigurableTask):
    """An lm-eval task over rows that are in memory already.

    Attributes:
        request_key: Requests are rebuilt when this changes; set it to something that knows the
            tokenizer and its chat template.
    """

    def __init__(self, config: dict[str, Any], splits: Mapping[str, list[Row]], seed: int) -> None:
        self._splits = splits
        self._seed = seed
        self._processed: dict[str, Documents] = {}
        self._built_for: tuple[Any, ...] | None = None
        self.request_key = ""
        super().__init__(config=config)
        # As `simple_evaluate` does for a task that does not say.
        if self.config.num_fewshot is None:
            self.set_config(key="num_fewshot", value=0)
        self.set_fewshot_seed(seed=FEWSHOT_SEED)

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Take the rows given at construction instead of downloading anything."""
        self.dataset = {name: Documents(rows) for name, rows in self._splits.items()}

    def _documents(self, split: str | None) -> Documents:
        # lm-eval asks for the documents several times in one evaluation and relies on getting the
        # same ones: a second run of GPQA's shuffle would score answers against other letters.
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
        """Documents of the training split."""
        return self._documents(self.config.training_split)

    def validation_docs(self) -> Documents:
        """Documents of the validation split."""
        return self._documents(self.config.validation_split)

    def test_docs(self) -> Documents:
        """Documents of the test split."""
        return self._documents(self.config.test_split)

    def build_all_requests(self, **kwargs: Any) -> None:
        """Build lm-eval's requests, or reuse the last ones if nothing that they depend on changed.

        Args:
            **kwargs: As lm-eval's method takes.
        """
        # `request_key` stands for the tokenizer; its name, a path, differs between equal ones.
        settings = {k: v for k, v in kwargs.items() if k != "tokenizer_name" and not callable(v)}
        plain = tuple(sorted((k, repr(v)) for k, v in settings.items()))
        key = (self.request_key, plain)
        if self.request_key and key == self._built_for:
            for instance in self._instances:
                instance.resps = []
                instance.filtered_resps = {}
            return
        with contextlib.redirect_stderr(io.StringIO()):  # a progress bar that has no switch
            super().build_all_requests(**kwargs)
        self._built_for = key


@dataclass(slots=True)
class Suite:
    """Tasks that are ready to be evaluated.

    Attributes:
        tasks: Leaf task → lm-eval task.
        rows: Leaf task → the rows behind it.
        chance: Leaf task → chance level.
        max_gen_toks: Generative leaf task → its cap on new tokens.
    """

    tasks: dict[str, RowsTask] = field(default_factory=dict)
    rows: dict[str, LeafRows] = field(default_factory=dict)
    chance: dict[str, float] = field(default_factory=dict)
    max_gen_toks: dict[str, int] = field(default_factory=dict)


def upstream_config(leaf: str) -> dict[str, Any]:
    """lm-eval's own definition of a leaf task, includes and functions resolved.

    Args:
        leaf: Name of the leaf task.

    Returns:
        A copy that may be changed.
    """
    ensure_sentence_splitter()
    config: dict[str, Any] = copy.deepcopy(load_yaml(UPSTREAM / LEAF_TASKS[leaf].yaml))
    config.pop("group", None)
    config.pop("tag", None)
    return config


def build_task(
    leaf: str, rows: LeafRows, seed: int, cap: Callable[[int], int] | None = None
) -> RowsTask:
    """One of lm-eval's leaderboard tasks over given rows.

    Args:
        leaf: Name of the leaf task.
        rows: Its rows.
        seed: Seed of GPQA's shuffle.
        cap: Maps upstream's limit on new tokens to the one that applies.

    Returns:
        The task.

    Raises:
        RuntimeError: If lm-eval makes another number of documents of the rows.
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
        # Fewer examples than upstream's five only if the source has no more.
        config["num_fewshot"] = min(int(config["num_fewshot"]), len(rows.examples))
        if not rows.examples:
            config.pop("fewshot_split", None)
    task = RowsTask(config, splits, seed)
    if len(task.eval_docs) != len(rows.rows):
        raise RuntimeError(
            f"lm-eval made {len(task.eval_docs)} documents of {len(rows.rows)} rows of {leaf}"
        )
    return task


def build_suite(
    benchmarks: Mapping[Benchmark, BenchmarkRows],
    seed: int,
    cap: Callable[[str, int], int] | None = None,
) -> Suite:
    """Build every leaf task that has rows.

    Args:
        benchmarks: Benchmark → rows.
        seed: Seed of GPQA's shuffle.
        cap: (benchmark, upstream's limit on new tokens) → the limit that applies.

    Returns:
        The suite, in lm-eval's order of tasks.
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
    """Seed Python's global generator and put its state back afterwards.

    Args:
        seed: The seed.
    """
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
    """Let lm-eval compile each prompt template once instead of once per document."""
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
    """Silence logs below errors and progress bars; what matters of them is in the result."""
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
