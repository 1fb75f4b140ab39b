"""Means of logged values over pairs that count and pairs that do not."""

from __future__ import annotations

import torch

from sparsepo.training.metrics import RunningMeans


def test_means_are_over_the_pairs_that_count_and_absent_without_any() -> None:
    means = RunningMeans()
    # Such as a step all of whose pairs are ties.
    none = torch.zeros(2)
    means.record({"margins": torch.tensor([5.0, 7.0])}, none)
    means.record({"reward": torch.tensor([1.0, 4.0])}, torch.tensor([1.0, 0.0]))
    assert means.take(lambda table: table) == {"reward": 1.0}
    means.record({"margins": torch.tensor([5.0, 7.0])}, none)
    means.record({"margins": torch.tensor([2.0, 3.0])}, torch.ones(2))
    assert means.take(lambda table: table) == {"margins": 2.5}
    assert means.take(lambda table: table) == {}
