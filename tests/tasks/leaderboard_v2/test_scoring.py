from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from lm_eval.tasks import TaskManager

from tasks.leaderboard_v2.rows import read_benchmark
from tasks.leaderboard_v2.scoring import (
    BENCHMARKS,
    COLUMN_BENCHMARK,
    COLUMNS,
    LEAF_TASKS,
    columns_from_scores,
    normalise,
    option_chance,
    resample_weights,
)
from tasks.leaderboard_v2.suite import UPSTREAM, build_suite, upstream_config


def test_leaf_tasks_are_those_of_lm_eval() -> None:
    manager = TaskManager(include_path=str(UPSTREAM), include_defaults=False)
    theirs = {name for name in manager.all_subtasks if name.startswith("leaderboard_")}
    assert len(LEAF_TASKS) == 39
    assert set(LEAF_TASKS) == theirs
    assert {leaf.benchmark for leaf in LEAF_TASKS.values()} == set(BENCHMARKS)


@pytest.mark.parametrize("name", LEAF_TASKS)
def test_definition_and_metric_are_lm_evals(name: str) -> None:
    leaf, config = LEAF_TASKS[name], upstream_config(name)
    assert config["task"] == name
    assert leaf.metric in [metric["metric"] for metric in config["metric_list"]]
    assert (config["output_type"] == "generate_until") == (leaf.choices is None)
    if leaf.benchmark in ("bbh", "gpqa", "math_hard"):
        assert config["dataset_name"] == leaf.key
    if leaf.benchmark == "musr":
        assert config["test_split"] == leaf.key


@pytest.mark.parametrize("name", [n for n, leaf in LEAF_TASKS.items() if leaf.choices])
def test_chance_is_one_over_lm_evals_choices(name: str, data: dict[str, Any]) -> None:
    leaf, choices = LEAF_TASKS[name], upstream_config(name)["doc_to_choice"]
    if isinstance(choices, list):
        counts = {len(choices)}
    elif leaf.benchmark == "mmlu_pro":
        counts = {len(choices({"options": ["text"] * 10}))}
    else:  # MuSR's choices are in its rows
        suite = build_suite({"musr": read_benchmark("musr", data["musr"])}, seed=0)
        task = suite.tasks[name]
        counts = {len(task.doc_to_choice(document)) for document in task.eval_docs}
    assert counts == {leaf.choices}
    assert leaf.chance == pytest.approx(1 / counts.pop())


def test_generative_tasks_have_no_chance() -> None:
    generative = [leaf for leaf in LEAF_TASKS.values() if leaf.choices is None]
    assert {leaf.benchmark for leaf in generative} == {"math_hard", "ifeval"}
    assert all(leaf.chance == 0 for leaf in generative)


@pytest.mark.parametrize(
    ("raw", "chance", "expected"),
    [
        (1.0, 0.5, 100.0),
        (0.5, 0.5, 0.0),
        (0.2, 0.25, 0.0),  # floored
        (0.75, 0.5, 50.0),
        (0.3, 0.0, 30.0),
        # Published values: GPQA's 1,192 questions, MATH level 5's 1,324 problems.
        (305 / 1192, 0.25, 0.78),
        (312 / 1192, 0.25, 1.57),
        (4 / 1324, 0.0, 0.30),
        (12 / 1324, 0.0, 0.91),
    ],
)
def test_normalise(raw: float, chance: float, expected: float) -> None:
    assert float(normalise(raw, chance)) == pytest.approx(expected, abs=0.005)


def test_normalise_is_vectorised() -> None:
    raw = np.array([[0.1, 0.5], [0.9, 1.0]])
    np.testing.assert_allclose(normalise(raw, 0.5), [[0.0, 0.0], [80.0, 100.0]])
    np.testing.assert_allclose(normalise(raw, [0.0, 0.5]), [[10.0, 0.0], [90.0, 100.0]])


@pytest.mark.parametrize("chance", [-0.1, 1.0])
def test_normalise_refuses_impossible_chance(chance: float) -> None:
    with pytest.raises(ValueError, match="chance"):
        normalise(0.5, chance)


def test_option_chance() -> None:
    assert option_chance([3, 10, 9]) == 0.1  # the real benchmark's form: the documented value
    assert option_chance([2, 4]) == pytest.approx(0.375)
    with pytest.raises(ValueError, match="no rows"):
        option_chance([])


def example_tasks() -> dict[str, dict[str, Any]]:
    return {
        "leaderboard_bbh_navigate": {"scores": [1, 1, 1, 0], "chance": 0.5},  # 0.75 → 50
        "leaderboard_bbh_snarks": {"scores": [0, 0], "chance": 0.5},  # 0 → floored 0
        "leaderboard_math_algebra_hard": {"scores": [1, 0, 0], "chance": 0.0},
        "leaderboard_math_geometry_hard": {"scores": [1], "chance": 0.0},  # pooled 2/4
        "leaderboard_gpqa_main": {"scores": [1, 1, 1, 0], "chance": 0.25},
        "leaderboard_gpqa_diamond": {"scores": [0], "chance": 0.25},  # pooled 0.6
        "leaderboard_musr_team_allocation": {"scores": [1, 0], "chance": 1 / 3},
        "leaderboard_mmlu_pro": {"scores": [1, 0], "chance": 0.25},
        "leaderboard_ifeval": {
            "scores": [1, 0],
            "chance": 0.0,
            "instructions": {"correct": [1, 2], "total": [1, 3]},
        },
    }


EXPECTED = {
    "bbh": 25.0,
    "math_hard": 50.0,
    "gpqa": (0.6 - 0.25) / 0.75 * 100,
    "musr": 25.0,
    "mmlu_pro": (0.5 - 0.25) / 0.75 * 100,
    "ifeval_inst": 75.0,
    "ifeval_prom": 50.0,
}


def test_columns_by_hand() -> None:
    columns = columns_from_scores(example_tasks())
    assert list(columns) == [*COLUMNS, "avg"]
    for name, value in EXPECTED.items():
        assert columns[name] == pytest.approx(np.array([value])), name
    assert columns["avg"][0] == pytest.approx(sum(EXPECTED.values()) / 7)


def test_raw_columns_pool_all_rows() -> None:
    raw = columns_from_scores(example_tasks(), normalised=False)
    assert raw["bbh"][0] == pytest.approx(3 / 6)
    assert raw["gpqa"][0] == pytest.approx(3 / 5)
    assert raw["ifeval_inst"][0] == pytest.approx(3 / 4)


def test_average_is_over_present_columns_only() -> None:
    tasks = {n: t for n, t in example_tasks().items() if "bbh" in n or "ifeval" in n}
    columns = columns_from_scores(tasks)
    assert set(columns) == {"bbh", "ifeval_inst", "ifeval_prom", "avg"}
    assert columns["avg"][0] == pytest.approx((25 + 75 + 50) / 3)


def test_weights_equal_evaluating_the_resampled_rows() -> None:
    tasks = example_tasks()
    weights = resample_weights(tasks, replicates=40, seed=3)
    columns = columns_from_scores(tasks, weights)
    for replicate in range(40):
        resampled: dict[str, dict[str, Any]] = {}
        for leaf, task in tasks.items():
            rows = np.repeat(np.arange(len(task["scores"])), weights[leaf][replicate])
            resampled[leaf] = {
                "scores": [task["scores"][i] for i in rows],
                "chance": task["chance"],
            }
            if "instructions" in task:
                resampled[leaf]["instructions"] = {
                    part: [task["instructions"][part][i] for i in rows]
                    for part in ("correct", "total")
                }
        one = columns_from_scores(resampled)
        for name, values in columns.items():
            assert values[replicate] == pytest.approx(one[name][0]), name


def test_resampling_is_seeded_and_keeps_the_number_of_rows() -> None:
    tasks = example_tasks()
    first, again = resample_weights(tasks, 50, seed=1), resample_weights(tasks, 50, seed=1)
    other = resample_weights(tasks, 50, seed=2)
    for leaf, task in tasks.items():
        assert first[leaf].shape == (50, len(task["scores"]))
        assert (first[leaf].sum(axis=1) == len(task["scores"])).all()
        np.testing.assert_array_equal(first[leaf], again[leaf])
    leaf = "leaderboard_gpqa_main"
    assert (first[leaf] != other[leaf]).any()


def test_wrong_weights_and_empty_results_are_refused() -> None:
    tasks = {"leaderboard_mmlu_pro": {"scores": [1, 0], "chance": 0.1}}
    with pytest.raises(ValueError, match="2 rows but 3 weights"):
        columns_from_scores(tasks, {"leaderboard_mmlu_pro": [1, 1, 1]})
    with pytest.raises(ValueError, match="There is no leaderboard task"):
        columns_from_scores({})
    with pytest.raises(KeyError):
        columns_from_scores({"leaderboard_other": {"scores": [1], "chance": 0}})


def test_every_column_has_a_benchmark() -> None:
    assert set(COLUMN_BENCHMARK) == set(COLUMNS)
    assert set(COLUMN_BENCHMARK.values()) == set(BENCHMARKS)
