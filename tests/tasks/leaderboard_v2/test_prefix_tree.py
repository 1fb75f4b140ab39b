from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tasks.leaderboard_v2.prefix_tree import pack_prefix_trees

SEQUENCES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), min_size=1, max_size=12)


@given(SEQUENCES, st.integers(1, 20))
def test_prefix_trees_hold_every_sequence_once(sequences: list[list[int]], budget: int) -> None:
    rows = pack_prefix_trees(sequences, budget)
    packed = [index for row in rows for index in row.paths]
    assert sorted(packed) == list(range(len(sequences)))
    for row in rows:
        visible = row.visible()
        reached = set()
        for index, path in row.paths.items():
            assert [row.token_ids[place] for place in path] == sequences[index]
            assert [row.positions[place] for place in path] == list(range(len(path)))
            for end, place in enumerate(path, start=1):
                assert set(visible[place].nonzero()[0]) == set(path[:end])
            reached |= set(path)
        assert reached == set(range(len(row.token_ids)))
        assert len(row.token_ids) <= budget + max(len(sequences[index]) for index in row.paths)


def test_a_common_prefix_occurs_once() -> None:
    (row,) = pack_prefix_trees([[1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 3], [1, 2, 3, 4]], budget=9)
    assert len(row.token_ids) == 5
    assert len(pack_prefix_trees([[1, 2, 3, 4], [2, 2, 3, 5]], budget=3)) == 2
