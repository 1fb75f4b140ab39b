"""The simulation of the leaderboard's intervals."""

from __future__ import annotations

from benchmarks.rank_coverage import simulate


def test_intervals_contain_the_expected_mean_rank() -> None:
    found = simulate("different", 4, 3, boards=200)
    # 1800 intervals, nine of them from the same leaderboard.
    assert 92.0 <= found.inside <= 99.0
    assert found.worst >= 85.0
    assert 1.5 < found.reach < 3.0
