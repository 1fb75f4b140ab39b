"""Stand-ins for data sets on the hub: rows of the embedded worlds in each data set's own schema."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

from harness.commands.rehearse.models import COMMIT
from sparsepo.errors import UserError
from tasks.code.world import CodeWorldConfig
from tasks.code.world.problems import humaneval_row
from tasks.code.world.write import mbpp_rows, problem_sets
from tasks.dialogue.hh import parse_dialogue
from tasks.dialogue.world import WorldConfig
from tasks.dialogue.world.write import leaderboard_rows, pair_rows
from tasks.leaderboard_v2.scoring import LEAF_TASKS
from tasks.sentiment.world.config import ReviewWorldConfig
from tasks.sentiment.world.write import review_rows
from tasks.summarization.world.config import PostWorldConfig
from tasks.summarization.world.write import pair_rows as post_pair_rows
from tasks.summarization.world.write import post_rows

Row = dict[str, Any]
Subsets = Mapping[str, Mapping[str, list[Row]]]
"""Subset → split → rows."""

TRAIN, TEST = 64, 32
"""Rows of a split."""
_SHOTS = 5
"""Rows that lm-eval shows before a question, at most."""


def write_rows(name: str, cache: Path) -> None:
    """Write a stand-in where `datasets` looks for a data set that it has fetched.

    Args:
        name: the data set's id.
        cache: the cache of `datasets`.

    Raises:
        UserError: its schema is not known.
    """
    if name not in _MAKERS:
        raise UserError(
            f"There is no stand-in for the data set {name}, whose schema is not known; give a "
            "file, or a data set that a profile names."
        )
    for subset, splits in _MAKERS[name]().items():
        _write_subset(name, subset, splits, cache)


def texts_of(name: str) -> Iterator[str]:
    """Yield the texts of a data set, from which stand-ins' tokenizers learn."""
    for splits in _MAKERS[name]().values():
        for rows in splits.values():
            for row in rows:
                yield from (value for value in row.values() if isinstance(value, str))


def _write_subset(name: str, subset: str, splits: Mapping[str, list[Row]], cache: Path) -> None:
    import datasets
    from datasets.arrow_writer import ArrowWriter
    from datasets.naming import camelcase_to_snakecase, filename_prefix_for_split

    owner, _, own = name.rpartition("/")
    folder = cache / f"{owner}___{camelcase_to_snakecase(own)}" / subset / "0.0.0" / COMMIT
    folder.mkdir(parents=True)
    infos = datasets.SplitDict(dataset_name=own)
    features = None
    for split, rows in splits.items():
        made = datasets.Dataset.from_list(rows)
        features = made.features
        path = folder / f"{filename_prefix_for_split(own, split)}.arrow"
        with ArrowWriter(features=features, path=str(path)) as writer:
            writer.write_table(made.data.table)
            count, size = writer.finalize()
        infos.add(datasets.SplitInfo(split, num_bytes=size, num_examples=count))
    datasets.DatasetInfo(
        features=features,
        builder_name="cache",
        dataset_name=own,
        config_name=subset,
        version="0.0.0",
        splits=infos,
    ).write_to_directory(str(folder))


def _hh() -> Subsets:
    config = WorldConfig()
    return {
        "default": {
            "train": list(pair_rows(config, Random("train"), TRAIN, held_out=False)),
            "test": list(pair_rows(config, Random("test"), TEST, held_out=True)),
        }
    }


def _dpo_mix() -> Subsets:
    def chat(text: str) -> list[Row]:
        return [{"content": one["content"], "role": one["role"]} for one in parse_dialogue(text)]

    return {
        "default": {
            split: [
                {
                    "dataset": "stand-in",
                    "chosen": chat(row["chosen"]),
                    "rejected": chat(row["rejected"]),
                    "chosen_rating": 5.0,
                    "rejected_rating": 1.0,
                }
                for row in rows
            ]
            for split, rows in _hh()["default"].items()
        }
    }


def _imdb() -> Subsets:
    config = ReviewWorldConfig(train_reviews=4 * TRAIN, test_reviews=4 * TEST)
    return {
        "plain_text": {
            split: [
                {"text": row["text"], "label": row["label"]} for row in review_rows(config, split)
            ]
            for split in ("train", "test")
        }
    }


def _feedback() -> Subsets:
    """People's comparisons, and single summaries with ratings, which have no training split."""
    rows = {
        split: list(post_pair_rows(PostWorldConfig(), Random(split), count, split == "test"))
        for split, count in (("train", TRAIN), ("test", TEST))
    }

    def info(number: int, row: Row) -> Row:
        head, _, post = row["prompt"].partition("POST:")
        title = head.partition("TITLE:")[2].strip()
        return {
            "id": f"t3_{number}",
            "post": post.removesuffix("TL;DR:").strip(),
            "title": title,
            "subreddit": "relationships",
            "site": None,
            "article": None,
        }

    def comparison(number: int, row: Row) -> Row:
        summaries = [{"text": row[name], "policy": "sup", "note": ""} for name in _ANSWERS]
        return {
            "info": info(number, row),
            "summaries": summaries if number % 2 else summaries[::-1],
            "choice": 0 if number % 2 else 1,
            "worker": "worker",
            "batch": "batch",
            "split": "train",
        }

    def rated(number: int, row: Row) -> Iterator[Row]:
        for name, overall in zip(_ANSWERS, (6, 2), strict=True):
            axes = {"overall": overall, "accuracy": 5, "coverage": 4, "coherence": 7}
            yield {
                "info": info(number, row),
                "summary": {"text": row[name], "policy": "sup", "note": "", "axes": axes},
                "worker": "worker",
                "batch": "batch",
                "split": "test",
            }

    compared = {
        split: [comparison(number, row) for number, row in enumerate(own)]
        for split, own in rows.items()
    }
    of_axes = {
        split: [one for number, row in enumerate(own) for one in rated(number, row)]
        for split, own in rows.items()
    }
    return {
        "comparisons": {"train": compared["train"], "validation": compared["test"]},
        "axis": {"test": of_axes["test"], "validation": of_axes["train"]},
    }


_ANSWERS = ("chosen", "rejected")


def _tldr_prompts() -> Subsets:
    def rows(split: str, count: int) -> list[Row]:
        own = post_rows(PostWorldConfig(), Random(split), count, 0.0, held_out=split != "train")
        return [{"prompt": row["prompt"], "label": row["summary"]} for row in own]

    return {
        "default": {
            "train": rows("train", TRAIN),
            "valid": rows("valid", TEST),
            "test": rows("test", TEST),
        }
    }


def code_world() -> CodeWorldConfig:
    """Return the world whose problems stand in for HumanEval and MBPP."""
    return CodeWorldConfig(humaneval_problems=4, mbpp_test=4, mbpp_train=8, mbpp_validation=4)


def _humaneval() -> Subsets:
    problems = problem_sets(code_world())["humaneval"]
    rows = [humaneval_row(number, *problem) for number, problem in enumerate(problems)]
    return {"openai_humaneval": {"test": rows}}


def _mbpp() -> Subsets:
    rows = mbpp_rows(problem_sets(code_world()))

    def between(first: int, last: int) -> list[Row]:
        return [row for row in rows if first <= row["task_id"] <= last]

    return {
        "full": {
            "train": between(601, 974),
            "test": between(11, 510),
            "validation": between(511, 600),
            # The world has no examples for prompts.
            "prompt": [{**rows[0], "task_id": 1}],
        }
    }


def _benchmark(name: str) -> Callable[[], Subsets]:
    """Return the maker of one of the leaderboard's repositories."""
    columns = ("subset", "split")

    def rows() -> list[Row]:
        config = WorldConfig(rows={name: 2 * TEST}, fewshot_rows=_SHOTS)
        return leaderboard_rows(config, Random(name), name)

    def own(row: Row) -> Row:
        return {key: value for key, value in row.items() if key not in columns}

    def make() -> Subsets:
        found = rows()
        plain = [own(row) for row in found]
        keys = [leaf.key for leaf in LEAF_TASKS.values() if leaf.benchmark == name]
        if name == "bbh":
            return {key: {"test": _answered(plain[:TEST], key)} for key in keys}
        if name == "math_hard":
            return {key: {"test": plain[:TEST]} for key in keys}
        if name == "gpqa":
            return {key: {"train": plain[:TEST]} for key in keys}
        if name == "musr":
            return {"default": dict.fromkeys(keys, plain[:TEST])}
        if name == "mmlu_pro":
            shots = [own(row) for row in found if row["split"] == "validation"]
            return {"default": {"test": plain[:TEST], "validation": shots}}
        return {"default": {"train": plain[:TEST]}}

    return make


def _answered(rows: list[Row], subset: str) -> list[Row]:
    """Return rows of BBH with the answers that lm-eval knows for a subset, in turn."""
    import lm_eval
    from lm_eval.tasks._yaml_loader import load_yaml

    folder = Path(lm_eval.__path__[0]) / "tasks" / "leaderboard" / "bbh_mc"
    choices = load_yaml(folder / f"{subset}.yaml", resolve_func=False)["doc_to_choice"]
    answers = list(choices) if isinstance(choices, list) else ["(A)", "(B)"]
    return [{**row, "target": answers[i % len(answers)]} for i, row in enumerate(rows)]


_MAKERS: Mapping[str, Callable[[], Subsets]] = {
    "Anthropic/hh-rlhf": _hh,
    "argilla/dpo-mix-7k": _dpo_mix,
    "stanfordnlp/imdb": _imdb,
    "openai/summarize_from_feedback": _feedback,
    "CarperAI/openai_summarize_tldr": _tldr_prompts,
    "openai/openai_humaneval": _humaneval,
    "google-research-datasets/mbpp": _mbpp,
    "SaylorTwift/bbh": _benchmark("bbh"),
    "DigitalLearningGmbH/MATH-lighteval": _benchmark("math_hard"),
    "Idavidrein/gpqa": _benchmark("gpqa"),
    "TAUR-Lab/MuSR": _benchmark("musr"),
    "TIGER-Lab/MMLU-Pro": _benchmark("mmlu_pro"),
    "wis-k/instruction-following-eval": _benchmark("ifeval"),
}
