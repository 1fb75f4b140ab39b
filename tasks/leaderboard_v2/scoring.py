"""Leaf tasks, chance levels and the normalisation of the Open LLM Leaderboard v2.

All functions are pure functions of per-row scores; a bootstrap can pass thousands of resampled row
weights at once.

The rules are those of the leaderboard's page "Scores Normalization"
(https://huggingface.co/docs/leaderboards/open_llm_leaderboard/normalization), which has three
groups of benchmarks:

- with sub-tasks (BBH, MuSR): every sub-task is normalised with its own chance level and floored
  at 0, and the column is the unweighted mean of the sub-tasks;
- without sub-tasks (GPQA, MMLU-Pro): all rows are pooled, normalised once and floored at 0. GPQA's
  three lm-eval tasks are weighted by their number of rows, as in lm-eval's group score;
- generative (IFEval, MATH): chance is 0; MATH's seven subjects are weighted by their number of
  rows.

The published tables confirm that GPQA and MATH are pooled: 0.78 is 305 of GPQA's 1,192 questions,
normalised, and 0.30 is 4 of the 1,324 problems of MATH level 5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Benchmark = Literal["bbh", "math_hard", "gpqa", "musr", "mmlu_pro", "ifeval"]
FloatArray = NDArray[np.float64]

BENCHMARKS: tuple[Benchmark, ...] = ("bbh", "math_hard", "gpqa", "musr", "mmlu_pro", "ifeval")
COLUMNS: tuple[str, ...] = (
    "bbh",
    "math_hard",
    "gpqa",
    "musr",
    "mmlu_pro",
    "ifeval_inst",
    "ifeval_prom",
)
COLUMN_BENCHMARK: dict[str, Benchmark] = {
    "bbh": "bbh",
    "math_hard": "math_hard",
    "gpqa": "gpqa",
    "musr": "musr",
    "mmlu_pro": "mmlu_pro",
    "ifeval_inst": "ifeval",
    "ifeval_prom": "ifeval",
}
# Benchmarks whose column is the mean of normalised sub-tasks; the others pool their rows.
AVERAGED_BENCHMARKS: frozenset[str] = frozenset({"bbh", "musr"})


@dataclass(frozen=True, slots=True)
class LeafTask:
    """One lm-eval leaf task of the leaderboard.

    Attributes:
        benchmark: the benchmark that it belongs to.
        key: the name of its rows in the data: BBH subset, GPQA config, MATH subject, MuSR split,
            otherwise the data split.
        yaml: path of lm-eval's definition, relative to its folder ``tasks/leaderboard``.
        metric: the per-row metric that the leaderboard shows.
        choices: number of answers to choose from; None for generative tasks.
    """

    benchmark: Benchmark
    key: str
    yaml: str
    metric: str
    choices: int | None

    @property
    def chance(self) -> float:
        """The expected score of a uniform guess: 1 / choices, 0 for generative tasks."""
        return 0.0 if self.choices is None else 1.0 / self.choices


_BBH_CHOICES: dict[str, int] = {
    "boolean_expressions": 2,
    "causal_judgement": 2,
    "date_understanding": 6,
    "disambiguation_qa": 3,
    "formal_fallacies": 2,
    "geometric_shapes": 11,
    "hyperbaton": 2,
    "logical_deduction_five_objects": 5,
    "logical_deduction_seven_objects": 7,
    "logical_deduction_three_objects": 3,
    "movie_recommendation": 6,
    "navigate": 2,
    "object_counting": 19,
    "penguins_in_a_table": 5,
    "reasoning_about_colored_objects": 18,
    "ruin_names": 6,
    "salient_translation_error_detection": 6,
    "snarks": 2,
    "sports_understanding": 2,
    "temporal_sequences": 4,
    "tracking_shuffled_objects_five_objects": 5,
    "tracking_shuffled_objects_seven_objects": 7,
    "tracking_shuffled_objects_three_objects": 3,
    "web_of_lies": 2,
}
_MUSR_CHOICES: dict[str, int] = {
    "murder_mysteries": 2,
    "object_placements": 5,
    "team_allocation": 3,
}
_MATH_SUBJECTS: dict[str, str] = {  # file stem in lm-eval → config name on the hub
    "algebra": "algebra",
    "counting_and_prob": "counting_and_probability",
    "geometry": "geometry",
    "intermediate_algebra": "intermediate_algebra",
    "num_theory": "number_theory",
    "prealgebra": "prealgebra",
    "precalculus": "precalculus",
}


def _leaf_tasks() -> dict[str, LeafTask]:
    leaves: dict[str, LeafTask] = {}
    for name, choices in _BBH_CHOICES.items():
        leaves[f"leaderboard_bbh_{name}"] = LeafTask(
            "bbh", name, f"bbh_mc/{name}.yaml", "acc_norm", choices
        )
    for name, subject in _MATH_SUBJECTS.items():
        leaves[f"leaderboard_math_{name}_hard"] = LeafTask(
            "math_hard", subject, f"math/math_{name}.yaml", "exact_match", None
        )
    for name in ("main", "diamond", "extended"):
        leaves[f"leaderboard_gpqa_{name}"] = LeafTask(
            "gpqa", f"gpqa_{name}", f"gpqa/gpqa_{name}_zeroshot.yaml", "acc_norm", 4
        )
    for name, choices in _MUSR_CHOICES.items():
        leaves[f"leaderboard_musr_{name}"] = LeafTask(
            "musr", name, f"musr/musr_{name}.yaml", "acc_norm", choices
        )
    leaves["leaderboard_mmlu_pro"] = LeafTask(
        "mmlu_pro", "test", "mmlu_pro/mmlu_pro.yaml", "acc", 10
    )
    leaves["leaderboard_ifeval"] = LeafTask(
        "ifeval", "train", "ifeval/ifeval.yaml", "prompt_level_strict_acc", None
    )
    return leaves


LEAF_TASKS: dict[str, LeafTask] = _leaf_tasks()


def normalise(raw: ArrayLike, chance: ArrayLike) -> FloatArray:
    """Return accuracies rescaled from chance → 0 and perfect → 100.

    100 · max(0, (raw − chance) / (1 − chance))

    Args:
        raw: accuracies in [0, 1], any shape.
        chance: expected accuracy of a uniform guess in [0, 1), broadcast against `raw`.

    Returns:
        Normalised scores in [0, 100], of the broadcast shape.

    Raises:
        ValueError: a chance level is not in [0, 1).

    Source: Open LLM Leaderboard, "Scores Normalization".
    """
    raw_array = np.asarray(raw, dtype=np.float64)
    chance_array = np.asarray(chance, dtype=np.float64)
    if np.any(chance_array < 0) or np.any(chance_array >= 1):
        raise ValueError(f"The chance level must be in [0, 1), not {chance!r}.")
    return np.maximum((raw_array - chance_array) / (1.0 - chance_array), 0.0) * 100.0


def option_chance(option_counts: Sequence[int]) -> float:
    """Return the chance level of MMLU-Pro rows, whose numbers of options differ.

    The leaderboard uses 0.1 for the benchmark, which has up to ten options per question, although
    some of its questions have fewer. If no row has ten options, the rows are not the benchmark's,
    and the chance level is the mean of 1 / number of options.

    Args:
        option_counts: number of options of each row.

    Raises:
        ValueError: there are no rows.
    """
    if not option_counts:
        raise ValueError("There are no rows to compute a chance level from.")
    if max(option_counts) >= 10:
        return LEAF_TASKS["leaderboard_mmlu_pro"].chance
    return float(np.mean([1.0 / count for count in option_counts]))


def resample_weights(
    tasks: Mapping[str, Mapping[str, Any]], replicates: int, seed: int | Sequence[int]
) -> dict[str, NDArray[np.int64]]:
    """Draw bootstrap row weights, stratified by leaf task.

    The same weights for two systems evaluated on the same rows make a paired bootstrap.

    Args:
        tasks: the part ``tasks`` of a leaderboard result.
        replicates: number of bootstrap replicates R.
        seed: seed of the generator.

    Returns:
        For each leaf task the number of times that each of its n rows was drawn, (R, n); the sum
        over n is n.
    """
    generator = np.random.default_rng(seed)
    weights: dict[str, NDArray[np.int64]] = {}
    for leaf in sorted(tasks):
        count = len(tasks[leaf]["scores"])
        weights[leaf] = generator.multinomial(count, np.full(count, 1.0 / count), size=replicates)
    return weights


def _weighted(values: ArrayLike, weights: FloatArray) -> FloatArray:
    # (R, n) weights · (n,) values → (R,)
    result: FloatArray = weights @ np.asarray(values, dtype=np.float64)
    return result


def columns_from_scores(
    tasks: Mapping[str, Mapping[str, Any]],
    weights: Mapping[str, ArrayLike] | None = None,
    *,
    normalised: bool = True,
) -> dict[str, FloatArray]:
    """Compute the leaderboard's columns from per-row scores, for many row weightings at once.

    BBH and MuSR: the mean of the normalised scores of the sub-tasks. GPQA, MATH, MMLU-Pro: pooled
    rows, normalised. ``ifeval_inst`` is correct instructions / all instructions, ``ifeval_prom``
    correct prompts / all prompts. ``avg`` is the unweighted mean of the columns that are present;
    it is comparable only between results with the same columns.

    Args:
        tasks: ``{leaf: {"scores": (n,), "chance": float}}``; IFEval's leaf also has
            ``"instructions": {"correct": (n,), "total": (n,)}``.
        weights: for each leaf the weights of its rows, (R, n) or (n,), for example of
            `resample_weights`; None weights all rows equally, R = 1.
        normalised: return normalised scores in [0, 100]; otherwise raw accuracies in [0, 1], for
            which every benchmark pools its rows, as in lm-eval's group scores.

    Returns:
        ``{column: (R,)}`` for the columns that have rows, and ``avg``.

    Raises:
        ValueError: there are no tasks, or a leaf has another number of weights than of rows.
        KeyError: a leaf is not a leaf task of the leaderboard.
    """
    if not tasks:
        raise ValueError("There is no leaderboard task to compute columns from.")
    correct: dict[str, list[tuple[FloatArray, FloatArray, float]]] = {}
    for leaf, task in tasks.items():
        benchmark = LEAF_TASKS[leaf].benchmark
        count = len(task["scores"])
        row_weights = np.ones((1, count)) if weights is None else np.asarray(weights[leaf], float)
        row_weights = np.atleast_2d(row_weights)
        if row_weights.shape[1] != count:
            raise ValueError(
                f"{leaf} has {count} rows but {row_weights.shape[1]} weights per replicate."
            )
        chance = float(task["chance"])
        hits, total = _weighted(task["scores"], row_weights), row_weights.sum(axis=1)
        if benchmark == "ifeval":
            correct["ifeval_prom"] = [(hits, total, chance)]
            instructions = task["instructions"]
            correct["ifeval_inst"] = [
                (
                    _weighted(instructions["correct"], row_weights),
                    _weighted(instructions["total"], row_weights),
                    chance,
                )
            ]
        else:
            correct.setdefault(benchmark, []).append((hits, total, chance))

    columns: dict[str, FloatArray] = {}
    for column in COLUMNS:
        if column not in correct:
            continue
        parts = correct[column]
        pooled = sum(part[0] for part in parts) / sum(part[1] for part in parts)
        if not normalised:
            columns[column] = np.asarray(pooled, dtype=np.float64)
        elif COLUMN_BENCHMARK[column] in AVERAGED_BENCHMARKS:
            columns[column] = np.mean(
                [normalise(hits / total, chance) for hits, total, chance in parts], axis=0
            )
        else:
            # The parts of a pooled benchmark share one chance level.
            columns[column] = normalise(pooled, parts[0][2])
    columns["avg"] = np.mean(list(columns.values()), axis=0)
    return columns
