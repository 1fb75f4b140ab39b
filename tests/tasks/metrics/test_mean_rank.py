"""Mean ranks: ties, fewer systems, and intervals that contain the truth."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.metrics.mean_rank import chain_ranks, mean_ranks, spread_ranks, task_ranks


def test_the_best_has_rank_one_and_ties_share_theirs() -> None:
    values = np.array([[1.0, 3.0], [2.0, 3.0], [3.0, 1.0]])
    assert chain_ranks(values, True).tolist() == [[3.0, 1.5], [2.0, 1.5], [1.0, 3.0]]
    assert chain_ranks(values, False).tolist() == [[1.0, 2.5], [2.0, 2.5], [3.0, 1.0]]


def test_ranks_among_fewer_systems_reach_the_same_end() -> None:
    assert spread_ranks(np.array([[1.0], [2.0], [3.0]]), 9).tolist() == [[1.0], [5.0], [9.0]]
    assert spread_ranks(np.array([[1.0], [2.0]]), 2).tolist() == [[1.0], [2.0]]


def test_one_task_has_the_interval_of_its_chains() -> None:
    task = {"a": np.array([1.0, 1.0, 2.0]), "b": np.array([2.0, 2.0, 1.0])}
    alone, over = task_ranks(task, 2), mean_ranks([task], 2)
    assert over["a"].mean == pytest.approx(4 / 3)
    assert over["a"].interval == alone["a"].interval
    assert (alone["a"].count, over["a"].count) == (3, 1)


def test_one_chain_of_one_task_has_no_interval() -> None:
    task = {"a": np.array([1.0]), "b": np.array([2.0])}
    assert mean_ranks([task], 2)["a"].interval is None
    # A second task tells how much ranks change, for an entry that is in one of them too.
    other = {"a": np.array([2.0]), "b": np.array([1.0]), "c": np.array([3.0])}
    found = mean_ranks([task, other], 3)
    assert found["a"].interval is not None and found["c"].interval is not None
    assert found["c"].count == 1
    low, high = found["a"].interval
    assert 1.0 <= low < 1.5 < high <= 3.0


def test_an_entry_of_one_task_is_less_sure_than_one_of_all() -> None:
    generator = np.random.default_rng(0)
    tasks = [
        {name: generator.normal(level, 0.8, 4) for name, level in {"a": 3.0, "b": 4.0}.items()}
        for _ in range(4)
    ]
    tasks[0]["c"] = np.array([3.5, 3.6, 3.4, 3.5])
    found = mean_ranks(tasks, 8)
    lengths = {name: np.ptp(one.interval) for name, one in found.items() if one.interval}
    assert lengths["c"] > 1.5 * max(lengths["a"], lengths["b"])


def test_agreement_of_tasks_by_chance_does_not_hide_the_spread_of_chains() -> None:
    chains = np.array([1.0, 5.0, 3.0])
    found = mean_ranks([{"a": chains, "b": chains}, {"a": chains[::-1], "b": chains[::-1]}], 5)
    assert found["a"].mean == 3.0
    assert found["a"].interval is not None
    assert np.ptp(found["a"].interval) > 2.0
