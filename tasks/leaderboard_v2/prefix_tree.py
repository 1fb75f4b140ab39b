"""Token sequences packed as a prefix tree, in which what several of them begin with occurs once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(slots=True)
class PackedRow:
    """Sequences packed into one row as a prefix tree.

    Attributes:
        token_ids: Tokens of the tree, S of them, parents before children.
        positions: Position of each token in its own sequences.
        parents: Index of each token's predecessor, −1 for a first token.
        paths: For each packed sequence (by its index in the input) where its tokens are.
    """

    token_ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    paths: dict[int, list[int]] = field(default_factory=dict)

    def visible(self) -> NDArray[np.bool_]:
        """Return the tokens that each token attends to, itself and its ancestors, (S, S)."""
        count = len(self.token_ids)
        visible = np.zeros((count, count), dtype=np.bool_)
        start = 0
        while start < count:
            # A run is a stretch in which each token follows the one before it.
            end = start + 1
            while end < count and self.parents[end] == end - 1:
                end += 1
            parent = self.parents[start]
            if parent >= 0:
                visible[start:end, :start] = visible[parent, :start]
            visible[start:end, start:end] = np.tri(end - start, dtype=np.bool_)
            start = end
        return visible


def pack_prefix_trees(sequences: Sequence[Sequence[int]], budget: int) -> list[PackedRow]:
    """Pack token sequences into rows in which a common prefix occurs once.

    Sequences are processed in lexicographic order, in which neighbours have the longest common
    prefixes. A row starts with one sequence and ends when the next one would add more than
    ``budget`` tokens in total, which leaves room for the choices of a long prompt.

    Args:
        sequences: Token ids; none empty.
        budget: Largest number of tokens of a row beyond its first sequence.

    Returns:
        Rows; every sequence is in exactly one of them.
    """
    rows: list[PackedRow] = []
    row = PackedRow()
    room = 0
    previous: Sequence[int] = ()
    path: list[int] = []
    for index in sorted(range(len(sequences)), key=lambda i: tuple(sequences[i])):
        sequence = sequences[index]
        shared = 0
        for left, right in zip(previous, sequence, strict=False):
            if left != right:
                break
            shared += 1
        if row.token_ids and len(row.token_ids) + len(sequence) - shared > room:
            rows.append(row)
            row, path, shared = PackedRow(), [], 0
        first = len(row.token_ids)
        if not first:
            room = len(sequence) + budget
        path = path[:shared] + list(range(first, first + len(sequence) - shared))
        for position in range(shared, len(sequence)):
            row.token_ids.append(sequence[position])
            row.positions.append(position)
            row.parents.append(path[position - 1] if position else -1)
        row.paths[index] = path
        previous = sequence
    if row.token_ids:
        rows.append(row)
    return rows
