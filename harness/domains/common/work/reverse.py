"""The stage that exchanges chosen and rejected responses, for a model of the opposite."""

from __future__ import annotations

from harness.domains.common.work.files import read_pairs_file, write_pairs
from harness.domains.common.work.flip import flip
from harness.graph.stages import StageContext


def reverse_pairs(context: StageContext) -> None:
    """Write train.jsonl, and validation.jsonl where there is one, with the responses exchanged.

    Input: "pairs".
    """
    for name in ("train.jsonl", "validation.jsonl"):
        file = context.inputs["pairs"] / name
        if file.is_file():
            pairs = read_pairs_file(file)
            write_pairs(flip(pairs, set(range(len(pairs)))), context.work / name)
